"""Files as input: Spark's streaming recognises new files, and each micro-batch of them is committed.

The stream holds the list of files (``binaryFile`` without its content). So a micro-batch is read like any
batch: with the reader's own options and column pruning, and without the files that can't be read.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import functions as f

from lakevec.jobs.embedding.context import EmbedContext, select
from lakevec.jobs.embedding.micro_batches import (
    batch_limit,
    has_rows,
    is_done_at_once,
    jvm_of,
    run_micro_batches,
)
from lakevec.jobs.spark.errors import SPARK_ERRORS, spark_errors
from lakevec.jobs.spark.input import WHOLE_FILES
from lakevec.jobs.spark.overlap import GLOB, read_option, refuse_files_of_output
from lakevec.pipeline.errors import DataError, InputError, UnreadableFileError
from lakevec.pipeline.output.commit_log import InputBatch, InputFile
from lakevec.pipeline.redaction import redact, redact_values
from lakevec.pipeline.storage import absolute_uri, canonical_uri, is_local_path

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

    from lakevec.pipeline.settings.embed import EmbedSettings

# By its full name: spark.sql.timestampType may make a plain timestamp one without a time zone.
_LISTING = "path string, modificationTime timestamp_ltz, length long, content binary"
# What decides which files there are; anything else is the reader's.
_LISTING_OPTIONS = ("recursivefilelookup", "pathglobfilter", "basepath")
# Formats whose files say which types their columns have.
_SELF_DESCRIBING = ("parquet", "orc", "avro")
# Spark's streaming has no such thing; the input is one batch then.
_BATCH_OPTIONS = ("modifiedbefore", "modifiedafter")


@dataclass(frozen=True)
class _File:
    path: str
    bytes: int
    modified: str


class FileSource:
    """The files of one input path.

    Parameters
    ----------
    context : EmbedContext
    path : str
        One of the inputs: a folder, a file or a glob.
    schema : pyspark.sql.types.StructType
        Of the whole input, partition columns included.
    """

    def __init__(self, context: EmbedContext, path: str, schema: StructType) -> None:
        given, settings = absolute_uri(path).rstrip("/"), context.settings
        self._context = context
        self._spark = context.spark
        self._settings = settings
        self._schema = schema
        # Spark knows files by their paths, so a local one is always read by its canonical name.
        self._uri = canonical_uri(given) if is_local_path(given) else given
        self._source = InputBatch(
            input=identify(settings.format, given, context.output.state.inputs),
            uri=redact(self._uri),
            format=settings.format,
            option=settings.to_record()["option"],
        )

    def append(self, *, is_stream: bool) -> None:
        """Commit all files that the output lacks.

        Parameters
        ----------
        is_stream : bool
            Whether Spark can recognise new files; otherwise the whole input is one micro-batch.

        Raises
        ------
        InputError
            If the input overlaps another input of the output, or is read in another way than before.
        OutputError
            If the output holds an input that can't be streamed.
        CommitError
            If Spark's checkpoint belongs to another output.
        """
        context, settings = self._context, self._settings
        self._refuse_overlap()
        if is_stream:
            known = context.output.state.inputs.get(self._source.input)
            if known is not None and not known.query:
                raise has_rows(context, "an input that was read at once before, without a list of its files")
            run_micro_batches(context, self._source, self._list(), self._commit)
            self._retake()
        elif not is_done_at_once(context, self._source):
            reader = self._spark.read.format(settings.format).options(**settings.option, **WHOLE_FILES)
            frame = reader.schema(self._schema).load(self._uri)
            refuse_files_of_output(map(unquote, frame.inputFiles()), settings.output)
            context.commit(self._source, *context.embed(select(frame, context.columns)))

    def _commit(self, batch: InputBatch, listed: DataFrame) -> None:
        files = _files(listed)
        refuse_files_of_output((file.path for file in files), self._settings.output)
        self._embed(batch, files)

    def _list(self) -> DataFrame:
        """Stream the list of files."""
        settings, path = self._settings, self._uri
        options = {name: value for name, value in settings.option.items() if name.lower() in _LISTING_OPTIONS}
        # Spark forgets, and then ignores, files much older than the newest; here none is too old.
        options |= {"maxFileAge": "36500d", **batch_limit(settings)}
        is_glob = GLOB.search(path) is not None
        if not is_glob and self._is_file():
            # Spark takes the path of a stream as a base path, which must be a folder, unless it is a glob.
            path = f"{path[:-1]}[{path[-1]}]"
        listed = self._spark.readStream.format("binaryFile").schema(_LISTING).options(**options).load(path)
        if is_glob and not read_option(settings.option, "basePath", "") and len(listed.columns) > 4:
            raise InputError(
                f"input {self._source.uri!r} is a pattern with partition folders beneath",
                expected="the folder above them, which gives their values",
                remedy="add --option basePath=FOLDER, or give the folder itself as --input",
            )
        return facts(listed)

    def _is_file(self) -> bool:
        path = jvm_of(self._spark).org.apache.hadoop.fs.Path(self._uri)
        filesystem = path.getFileSystem(self._spark._jsc.hadoopConfiguration())
        return bool(filesystem.exists(path) and filesystem.getFileStatus(path).isFile())

    def _refuse_overlap(self) -> None:
        """Refuse an input whose files may be in the output under another name."""
        for known in self._context.output.state.inputs.values():
            if known.input == self._source.input:
                # An earlier version may have masked less.
                if redact_values(known.option) != self._source.option:
                    raise InputError(
                        f"input {self._source.uri!r} was read with other options before",
                        got=f"--option {self._source.option}",
                        expected=str(redact_values(known.option)),
                        remedy="give those, or start over with --full-refresh",
                    )
                if _without_user(known.uri) != _without_user(self._source.uri):
                    raise InputError(
                        "an input was read under another name before",
                        got=self._source.uri,
                        expected=known.uri,
                        remedy="give that name, or start over with --full-refresh",
                    )
                continue
            if not known.uri:  # a table
                continue
            ours, theirs = _beginning(self._source.uri), _beginning(known.uri)
            if ours.startswith(theirs) or theirs.startswith(ours):
                raise InputError(
                    f"input {self._source.uri!r} may hold files that are in the output already",
                    got=f"an input that overlaps {known.uri!r}",
                    remedy="give the same --input as before, or start over with --full-refresh",
                )

    def _retake(self) -> None:
        """Try files again that could not be read: they may have changed, or their store may be well again."""
        skipped = self._context.output.state.skipped.values()
        good = []
        for file in (file for file in skipped if file.input == self._source.input):
            found = self._look_again(file.path)
            if found is not None and self._is_readable(found):
                good.append(found)
        if good:
            self._embed(self._source, good, retaken=[file.path for file in good])

    def _is_readable(self, file: _File) -> bool:
        try:
            with spark_errors():
                self._read_for_nothing([file])
        except UnreadableFileError:
            return False
        return True

    def _read_for_nothing(self, files: list[_File]) -> None:
        """Read what the run would read, and keep nothing."""
        self._select(files).write.format("noop").mode("overwrite").save()

    def _look_again(self, path: str) -> _File | None:
        try:
            listed = self._spark.read.format("binaryFile").load(escape(path))
        except AnalysisException:  # it is gone
            return None
        files = _files(facts(listed))
        return files[0] if files else None

    def _embed(self, batch: InputBatch, files: list[_File], *, retaken: Sequence[str] = ()) -> None:
        """Embed and commit files; with ``--on-bad-file skip`` without those that can't be read."""
        skipped: list[InputFile] = []
        while True:
            try:
                with spark_errors():
                    entries, rows = self._context.embed(self._select(files)) if files else ([], 0)
                break
            except UnreadableFileError as error:
                self._refuse_other_types(files, error)
                if self._settings.on_bad_file == "fail":
                    raise
                files, bad = self._sort_out(files, error)
                skipped += bad
        self._context.commit(batch, entries, rows, skipped=skipped, retaken=retaken)

    def _sort_out(
        self, files: list[_File], error: UnreadableFileError
    ) -> tuple[list[_File], list[InputFile]]:
        """Read until no file fails, without embedding; return the good files and the bad ones."""
        bad = []
        while True:
            worst = _find_named(files, error)
            if worst is None:
                raise error
            files = [file for file in files if file is not worst]
            bad.append(InputFile(input=self._source.input, reason="can't be read", **vars(worst)))
            if not files:
                return files, bad
            try:
                with spark_errors():
                    self._read_for_nothing(files)
                return files, bad
            except UnreadableFileError as another:
                self._refuse_other_types(files, another)
                error = another

    def _refuse_other_types(self, files: list[_File], error: UnreadableFileError) -> None:
        """Tell a damaged file from a sound one that holds a column in another type."""
        settings, file = self._settings, _find_named(files, error)
        if file is None or settings.format not in _SELF_DESCRIBING:
            return
        try:
            reader = self._spark.read.format(settings.format).options(**settings.option)
            found = reader.load(escape(file.path)).schema
        except SPARK_ERRORS:  # its footer can't be read either
            return
        kinds = {field.name: field.dataType.simpleString() for field in found.fields}
        needed = {name: self._schema[name].dataType.simpleString() for name in self._context.columns.read}
        other = [name for name in needed if kinds.get(name, needed[name]) != needed[name]]
        if other:
            raise DataError(
                f"{_list_columns(other)} another type in a file",
                got=f"{', '.join(kinds[name] for name in other)} in {file.path}",
                expected=", ".join(needed[name] for name in other),
                remedy="convert the file, or leave the column out with --keep",
            )

    def _select(self, files: list[_File]) -> DataFrame:
        """Select the run's columns of some files."""
        settings = self._settings
        reader = self._spark.read.format(settings.format).schema(self._schema).options(**settings.option)
        is_folder = not GLOB.search(self._uri) and not self._is_file()
        if is_folder and not read_option(settings.option, "basePath", ""):
            reader = reader.option("basePath", self._uri)
        frame = reader.options(**WHOLE_FILES).load([escape(file.path) for file in files])
        return select(frame, self._context.columns)


def can_stream(spark: SparkSession, settings: EmbedSettings) -> bool:
    """Return whether Spark can recognise new files: only of file formats, and not on Spark Connect."""
    options = {name.lower() for name in settings.option}
    if not hasattr(spark, "_jvm") or options & set(_BATCH_OPTIONS):
        return False
    try:
        spark.readStream.format(settings.format).schema("x string").load(absolute_uri(settings.input[0]))
    except PySparkException as error:
        if "stream" in str(error).lower():
            return False
        raise
    return True


def facts(listed: DataFrame) -> DataFrame:
    """Select path, ``modified`` (microseconds, as a string) and ``length`` (bytes) of ``binaryFile`` rows."""
    modified = f.unix_micros("modificationTime").cast("string").alias("modified")
    return listed.select("path", modified, "length")


def _files(listed: DataFrame) -> list[_File]:
    return [_File(row.path, row.length, row.modified) for row in listed.collect()]


def escape(path: str) -> str:
    """Escape the name of one file where Spark takes patterns."""
    return GLOB.sub(lambda found: f"\\{found[0]}", path)


def _beginning(uri: str) -> str:
    """Return the part of a path before its first pattern, as a folder where there is none."""
    name = canonical_uri(uri)
    fixed = GLOB.split(name)[0]
    return fixed if fixed != name else f"{name}/"


def _find_named(files: list[_File], error: UnreadableFileError) -> _File | None:
    """Return the file that an error names: the longest, since a name may be the beginning of another."""
    named = [file for file in files if _is_named(file.path, error.told)]
    return max(named, key=lambda file: len(file.path), default=None)


def _list_columns(names: list[str]) -> str:
    quoted = ", ".join(map(repr, names))
    return f"column {quoted} has" if len(names) == 1 else f"columns {quoted} have"


def identify(form: str, uri: str, known: Container[str]) -> str:
    """Return the id of an input; an input that an earlier version began keeps its old id.

    Parameters
    ----------
    form : str
        Format of its files.
    uri : str
        From `absolute_uri`.
    known : container of str
        Ids of the inputs that the output holds.
    """
    # Earlier versions took an Azure container for a user's name.
    places = (canonical_uri(uri), re.sub(r"://[^/@\s]+@", "://", uri).rstrip("/"))
    names = [hashlib.sha256(f"{form} {place}".encode()).hexdigest()[:12] for place in places]
    return next((name for name in names if name in known), names[0])


def _without_user(uri: str) -> str:
    """Write a recorded URI as every version of lakevec would have."""
    return re.sub(r"://[^/@\s]+@", "://***@", redact(uri))


def _is_named(path: str, told: str) -> bool:
    """Say whether an error of Spark's names a file, in one of the ways in which it writes paths."""
    bare = re.sub(r"^\w+:/*", "/", path)
    return bare in told or bare in unquote(told)
