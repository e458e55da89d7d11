"""Files as input: Spark's streaming finds new files, and the run commits each micro-batch of them.

The stream lists the files (``binaryFile`` without content). The run then reads each micro-batch as a plain
batch, with the reader's own options and column pruning, and without unreadable files.
"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from contextlib import suppress
from functools import partial
from urllib.parse import unquote

from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f
from pyspark.sql.types import StructType

from lakevec.jobs.embedding.context import EmbedContext, select
from lakevec.jobs.embedding.direct_read import DirectRead, read_directly
from lakevec.jobs.embedding.micro_batches import (
    has_rows,
    input_id,
    is_done_at_once,
    run_micro_batches,
    stream_options,
)
from lakevec.jobs.embedding.row_total import estimate_rows
from lakevec.jobs.spark.errors import SPARK_ERRORS, spark_errors
from lakevec.jobs.spark.file_systems import hadoop_path
from lakevec.jobs.spark.input import WHOLE_FILES, local_listing
from lakevec.jobs.spark.overlap import GLOB, read_option, refuse_files_of_output
from lakevec.jobs.spark.session import changed_conf
from lakevec.pipeline.errors import DataError, InputError, UnreadableFileError
from lakevec.pipeline.output.commit_log import InputBatch, InputFile
from lakevec.pipeline.output.file_entry import FileEntry
from lakevec.pipeline.redaction import redact, redact_values
from lakevec.pipeline.settings.embed import EmbedSettings
from lakevec.pipeline.storage import absolute_uri, canonical_uri, is_local_path

# With the full type name, since spark.sql.timestampType may turn "timestamp" into timestamp_ntz.
_LISTING = "path string, modificationTime timestamp_ltz, length long, content binary"
# Options that choose files; all others belong to the reader.
_LISTING_OPTIONS = ("recursivefilelookup", "pathglobfilter", "basepath")
# Formats whose files store the types of their columns.
_SELF_DESCRIBING = ("parquet", "orc", "avro")
# Options that Spark's streaming lacks; with them the input is one batch.
_BATCH_OPTIONS = ("modifiedbefore", "modifiedafter")


class FileSource:
    """The files of one input path.

    Parameters
    ----------
    context : EmbedContext
    path : str
        A folder, file or glob of the inputs.
    schema : pyspark.sql.types.StructType
        Schema of the whole input, partition columns included.
    """

    def __init__(self, context: EmbedContext, path: str, schema: StructType) -> None:
        given, settings = absolute_uri(path).rstrip("/"), context.settings
        self._context = context
        self._spark = context.spark
        self._settings = settings
        self._schema = schema
        # Spark identifies files by path, so give it the canonical name of a local one.
        self._uri = canonical_uri(given) if is_local_path(given) else given
        self._is_glob = GLOB.search(self._uri) is not None
        self._has_base = bool(read_option(settings.option, "basePath", ""))
        self._source = InputBatch(
            input=identify(settings.format, given, context.output.state.inputs),
            uri=redact(self._uri),
            format=settings.format,
            option=settings.to_record()["option"],
        )

    def append(self, *, is_stream: bool) -> None:
        """Commit all input files that the output lacks.

        Parameters
        ----------
        is_stream : bool
            Whether Spark can find new files. Otherwise the whole input is one micro-batch.

        Raises
        ------
        InputError
            If the input overlaps another one, or if an earlier run read it with other options.
        OutputError
            If the output holds an input that can't be streamed.
        CommitError
            If Spark's checkpoint belongs to another output.
        """
        self._refuse_overlap()
        with changed_conf(self._spark, local_listing(self._spark, [self._uri])):
            self._append(is_stream=is_stream)

    def _append(self, *, is_stream: bool) -> None:
        context, settings = self._context, self._settings
        if is_stream:
            known = context.output.state.inputs.get(self._source.input)
            if known is not None and not known.query:
                raise has_rows(context, "an input that an earlier run read without a list of its files")
            run_micro_batches(context, self._source, self._list(), self._commit)
            self._retry_skipped()
        elif not is_done_at_once(context, self._source):
            reader = self._spark.read.format(settings.format).options(**settings.option, **WHOLE_FILES)
            frame = reader.schema(self._schema).load(self._uri)
            refuse_files_of_output(map(unquote, frame.inputFiles()), settings.output)
            context.commit(self._source, *context.embed(select(frame, context.columns)))

    def _commit(self, batch: InputBatch, listed: DataFrame) -> None:
        files = self._files(listed)
        refuse_files_of_output((file.path for file in files), self._settings.output)
        self._embed(batch, files)

    def _list(self) -> DataFrame:
        """Return the stream of listed files."""
        settings, path = self._settings, self._uri
        options = {name: value for name, value in settings.option.items() if name.lower() in _LISTING_OPTIONS}
        options |= stream_options(settings)
        if not self._is_glob and self._is_file():
            # Spark treats a stream's path as a folder unless it is a glob, so turn the file into a glob.
            path = f"{path[:-1]}[{path[-1]}]"
        listed = self._spark.readStream.format("binaryFile").schema(_LISTING).options(**options).load(path)
        if self._is_glob and not self._has_base and len(listed.columns) > 4:
            raise InputError(
                f"input {self._source.uri!r} is a pattern above partition folders",
                expected="the folder that the partition folders begin in",
                remedy="add --option basePath=FOLDER, or give the folder itself as --input",
            )
        return facts(listed)

    def _is_file(self) -> bool:
        path, file_system = hadoop_path(self._spark, self._uri)
        return bool(file_system.exists(path) and file_system.getFileStatus(path).isFile())

    def _files(self, listed: DataFrame) -> list[InputFile]:
        """Collect listed files as the entries that the commit log has for unreadable files."""
        source = self._source.input
        return [InputFile(input=source, reason="can't be read", **row.asDict()) for row in listed.collect()]

    def _refuse_overlap(self) -> None:
        """Refuse an input whose files the output may hold under another name."""
        source, inputs = self._source, self._context.output.state.inputs
        if (known := inputs.get(source.input)) is not None:
            # Mask the recorded options again, since earlier versions masked fewer values.
            if redact_values(known.option) != source.option:
                raise InputError(
                    f"input {source.uri!r} was read with other options before",
                    got=f"--option {source.option}",
                    expected=str(redact_values(known.option)),
                    remedy="give the same options, or start over with --full-refresh",
                )
            if _without_user(known.uri) != _without_user(source.uri):
                raise InputError(
                    "an input was read under another name before",
                    got=source.uri,
                    expected=known.uri,
                    remedy="give the expected name, or start over with --full-refresh",
                )
        ours = _fixed_prefix(source.uri)
        for other in inputs.values():
            if other.input == source.input or not other.uri:  # a table has no URI
                continue
            theirs = _fixed_prefix(other.uri)
            if ours.startswith(theirs) or theirs.startswith(ours):
                raise InputError(
                    f"input {source.uri!r} may hold files that are in the output already",
                    got=f"an input that overlaps {other.uri!r}",
                    remedy="give the same --input as before, or start over with --full-refresh",
                )

    def _retry_skipped(self) -> None:
        """Retry skipped files, since they or their store may have recovered."""
        readable: list[InputFile] = []
        for skipped in self._context.output.state.skipped.values():
            if skipped.input != self._source.input:
                continue
            # Leave out a file that is gone, or still unreadable.
            with suppress(AnalysisException, UnreadableFileError):
                found = self._spark.read.format("binaryFile").load(escape(skipped.path))
                for file in self._files(facts(found)):
                    self._read_all([file])
                    readable.append(file)
        if readable:
            self._embed(self._source, readable, retaken=[file.path for file in readable])

    def _read_all(self, files: list[InputFile]) -> None:
        """Read all rows and discard them."""
        with spark_errors():
            self._select(files).write.format("noop").mode("overwrite").save()

    def _embed(self, batch: InputBatch, files: list[InputFile], *, retaken: Sequence[str] = ()) -> None:
        """Embed and commit files; ``--on-bad-file skip`` leaves out unreadable ones."""
        context, form = self._context, self._settings.format
        context.progress.begin_batch(context.micro_batches, partial(estimate_rows, form, list(files)))
        direct = self._read_directly(files)
        files = direct.left
        entries, rows, skipped = list[FileEntry](), 0, list[InputFile]()
        is_sound = True  # until Spark reports an unreadable file
        while files:
            try:
                if is_sound:
                    with spark_errors():
                        entries, rows = self._context.embed(self._select(files))
                    break
                # Find the other unreadable files without embedding.
                self._read_all(files)
                is_sound = True
            except UnreadableFileError as error:
                unreadable = _find_named(files, error)
                if unreadable is not None:
                    self._refuse_other_types(unreadable)
                if unreadable is None or self._settings.on_bad_file == "fail":
                    raise
                files = [file for file in files if file is not unreadable]
                skipped.append(unreadable)
                is_sound = False
        entries += direct.entries
        self._context.commit(batch, entries, rows + direct.rows, skipped=skipped, retaken=retaken)

    def _read_directly(self, files: list[InputFile]) -> DirectRead:
        """Let tasks read the files that they can read themselves."""
        if self._settings.format != "parquet" or not files:
            return DirectRead(files)
        with spark_errors():
            return read_directly(self._context, self._load(files), files)

    def _refuse_other_types(self, file: InputFile) -> None:
        """Raise DataError if the file is sound but has a column of another type."""
        settings = self._settings
        if settings.format not in _SELF_DESCRIBING:
            return
        try:
            reader = self._spark.read.format(settings.format).options(**settings.option)
            stored = reader.load(escape(file.path)).schema
        except SPARK_ERRORS:  # its footer can't be read either
            return
        kinds = {field.name: field.dataType.simpleString() for field in stored.fields}
        needed = {name: self._schema[name].dataType.simpleString() for name in self._context.columns.read}
        if other := [name for name in needed if kinds.get(name, needed[name]) != needed[name]]:
            names = ", ".join(map(repr, other))
            have = f"column {names} has" if len(other) == 1 else f"columns {names} have"
            raise DataError(
                f"{have} another type in a file",
                got=f"{', '.join(kinds[name] for name in other)} in {file.path}",
                expected=", ".join(needed[name] for name in other),
                remedy="convert the file, or leave the column out with --keep",
            )

    def _select(self, files: list[InputFile]) -> DataFrame:
        """Select the run's columns of some files."""
        return select(self._load(files), self._context.columns)

    def _load(self, files: list[InputFile]) -> DataFrame:
        """Return all columns of some files."""
        settings = self._settings
        reader = self._spark.read.format(settings.format).schema(self._schema).options(**settings.option)
        if not (self._is_glob or self._has_base or self._is_file()):
            reader = reader.option("basePath", self._uri)
        return reader.options(**WHOLE_FILES).load([escape(file.path) for file in files])


def can_stream(spark: SparkSession, settings: EmbedSettings) -> bool:
    """Return whether Spark can find new files; it needs a file format and a classic session."""
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
    """Select path, ``modified`` (microseconds, as a string) and ``bytes`` of ``binaryFile`` rows."""
    modified = f.unix_micros("modificationTime").cast("string").alias("modified")
    return listed.select("path", modified, f.col("length").alias("bytes"))


def escape(path: str) -> str:
    """Escape the special characters of a pattern in a file's name."""
    return GLOB.sub(lambda found: f"\\{found[0]}", path)


def _fixed_prefix(uri: str) -> str:
    """Return a path up to the first part with a pattern; without a pattern, the whole path."""
    name = canonical_uri(uri)
    fixed = GLOB.split(name)[0]
    return fixed if fixed != name else f"{name}/"


def _find_named(files: list[InputFile], error: UnreadableFileError) -> InputFile | None:
    """Return the named file with the longest path, since one path may begin with another."""

    def is_named(path: str) -> bool:
        bare = re.sub(r"^\w+:/*", "/", path)  # Spark spells paths in several ways
        return bare in error.told or bare in unquote(error.told)

    named = [file for file in files if is_named(file.path)]
    return max(named, key=lambda file: len(file.path), default=None)


def identify(form: str, uri: str, known: Container[str]) -> str:
    """Return the id of an input; keep the id that an earlier version gave it.

    Parameters
    ----------
    form : str
        Format of the files.
    uri : str
        From `absolute_uri`.
    known : container of str
        Ids of the inputs that the output holds.
    """
    # Earlier versions mistook an Azure container for a user name.
    places = (canonical_uri(uri), re.sub(r"://[^/@\s]+@", "://", uri).rstrip("/"))
    ids = [input_id(form, place) for place in places]
    return next((name for name in ids if name in known), ids[0])


def _without_user(uri: str) -> str:
    """Mask the user name in a URI, since earlier versions recorded it in another way."""
    return re.sub(r"://[^/@\s]+@", "://***@", redact(uri))
