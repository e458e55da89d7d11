"""Input files as waves: Spark's streaming decides which files are new, and each batch of them is committed.

What is streamed is the list of files (``binaryFile`` without its content), so that a wave is read like any
batch: with the reader's own options and column pruning, and without the files that can't be read.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import functions as f

from lakevec.jobs.embedding.context import EmbedRun, select
from lakevec.jobs.embedding.micro_batches import Waves, jvm_of, wave_bytes
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

    from lakevec.pipeline.settings import EmbedSettings

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


def run_files(run: EmbedRun, schema: StructType) -> None:
    """Commit the files of all inputs that are not in the output yet.

    Parameters
    ----------
    run : EmbedRun
    schema : pyspark.sql.types.StructType
        Of the whole input.
    """
    can_stream = _can_stream(run.spark, run.settings)
    for path in run.settings.input:
        FileWaves(run, path, schema).run(can_stream=can_stream)


class FileWaves(Waves):
    """The files of one input path, from Spark's checkpoint to committed waves.

    Parameters
    ----------
    run : EmbedRun
    path : str
        One of the inputs: a folder, a file or a glob.
    schema : pyspark.sql.types.StructType
        Of the whole input, partition columns included.
    """

    def __init__(self, run: EmbedRun, path: str, schema: StructType) -> None:
        given = absolute_uri(path).rstrip("/")
        # Spark knows files by their paths: a local one is read by one name, whatever it was given as.
        self._uri = canonical_uri(given) if is_local_path(given) else given
        self._schema = schema
        uri, settings = redact(self._uri), run.settings
        identity = identify(settings.format, given, run.output.state.inputs)
        option = settings.to_record()["option"]
        super().__init__(run, InputBatch(input=identity, uri=uri, format=settings.format, option=option))

    def run(self, *, can_stream: bool) -> None:
        """Commit every wave of files that are not in the output yet.

        Parameters
        ----------
        can_stream : bool
            Whether Spark can tell new files from others; the whole input is one wave else.

        Raises
        ------
        InputError
            If the input overlaps another one that is in the output, or is read in another way.
        OutputError
            If an input that can't be streamed is in the output already.
        CommitError
            If Spark's checkpoint is not the one that the output was written with.
        """
        self._refuse_overlap()
        if can_stream:
            known = self._run.output.state.inputs.get(self._wave.input)
            if known is not None and not known.query:
                raise self._has_rows("one that was read at once before, so that new files can't be told")
            self._stream(self._list())
            self._retake()
        elif not self._is_done_at_once():
            settings = self._settings
            reader = self._spark.read.format(settings.format).options(**settings.option, **WHOLE_FILES)
            frame = reader.schema(self._schema).load(self._uri)
            refuse_files_of_output(map(unquote, frame.inputFiles()), settings.output)
            entries, rows = self._run.embed(frame)
            self._run.commit(self._wave, entries, rows_read=rows)

    def _commit(self, wave: InputBatch, batch: DataFrame) -> None:
        files = _files(batch)
        refuse_files_of_output((file.path for file in files), self._settings.output)
        self._embed(wave, files)

    def _list(self) -> DataFrame:
        """Stream the list of files."""
        settings = self._settings
        options = {name: value for name, value in settings.option.items() if name.lower() in _LISTING_OPTIONS}
        # Spark forgets, and then ignores, files much older than the newest; here none is too old.
        reader = self._spark.readStream.format("binaryFile").schema(_LISTING).options(**options)
        reader = reader.option("maxFileAge", "36500d")
        if settings.wave_files is not None:
            reader = reader.option("maxFilesPerTrigger", settings.wave_files)
        else:
            reader = reader.option("maxBytesPerTrigger", wave_bytes(settings))
        path = self._uri
        is_glob = GLOB.search(path) is not None
        if not is_glob and self._is_file():
            # Spark takes the path of a stream as a base path, which must be a folder, unless it is a glob.
            path = f"{path[:-1]}[{path[-1]}]"
        listed = reader.load(path)
        if is_glob and not read_option(settings.option, "basePath", "") and len(listed.columns) > 4:
            raise InputError(
                f"input {self._wave.uri!r} is a pattern with partition folders beneath",
                expected="the folder above them, so that their values can be told",
                remedy="add --option basePath=FOLDER, or give the folder itself as --input",
            )
        return facts(listed)

    def _is_file(self) -> bool:
        path = jvm_of(self._spark).org.apache.hadoop.fs.Path(self._uri)
        filesystem = path.getFileSystem(self._spark._jsc.hadoopConfiguration())
        return bool(filesystem.exists(path) and filesystem.getFileStatus(path).isFile())

    def _refuse_overlap(self) -> None:
        """Refuse an input whose files may be in the output under another name."""
        for known in self._run.output.state.inputs.values():
            if known.input == self._wave.input:
                # An earlier version may have masked less.
                if redact_values(known.option) != self._wave.option:
                    raise InputError(
                        f"input {self._wave.uri!r} was read with other options before",
                        got=f"--option {self._wave.option}",
                        expected=str(redact_values(known.option)),
                        remedy="give those, or start over with --full-refresh",
                    )
                if _without_user(known.uri) != _without_user(self._wave.uri):
                    raise InputError(
                        "an input was read under another name before",
                        got=self._wave.uri,
                        expected=known.uri,
                        remedy="give that name, or start over with --full-refresh",
                    )
                continue
            if not known.uri:  # a table
                continue
            ours, theirs = _beginning(self._wave.uri), _beginning(known.uri)
            if ours.startswith(theirs) or theirs.startswith(ours):
                raise InputError(
                    f"input {self._wave.uri!r} may hold files that are in the output already",
                    got=f"an input that overlaps {known.uri!r}",
                    remedy="give the same --input as before, or start over with --full-refresh",
                )

    def _retake(self) -> None:
        """Try files again that could not be read: they may have changed, or their store may be well again."""
        skipped = [file for file in self._run.output.state.skipped.values() if file.input == self._wave.input]
        good = []
        for file in skipped:
            found = self._look_again(file.path)
            if found is not None and self._is_readable(found):
                good.append(found)
        if good:
            self._embed(self._wave, good, retaken=[file.path for file in good])

    def _is_readable(self, file: _File) -> bool:
        try:
            with spark_errors():
                self._read_for_nothing([file])
        except UnreadableFileError:
            return False
        return True

    def _read_for_nothing(self, files: list[_File]) -> None:
        """Read what the run would read, and keep nothing."""
        select(self._read(files), self._run.columns).write.format("noop").mode("overwrite").save()

    def _look_again(self, path: str) -> _File | None:
        try:
            listed = self._spark.read.format("binaryFile").load(escape(path))
        except AnalysisException:  # it is gone
            return None
        files = _files(facts(listed))
        return files[0] if files else None

    def _embed(self, wave: InputBatch, files: list[_File], *, retaken: list[str] | None = None) -> None:
        """Embed and commit files; those that can't be read are left out if that is wished."""
        skipped: list[InputFile] = []
        while True:
            try:
                with spark_errors():
                    entries, rows = self._run.embed(self._read(files)) if files else ([], 0)
                break
            except UnreadableFileError as error:
                self._refuse_other_types(files, error)
                if self._settings.on_bad_file == "fail":
                    raise
                files, bad = self._sort_out(files, error)
                skipped += bad
        self._run.commit(wave, entries, rows_read=rows, skipped=skipped, retaken=retaken or ())

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
            bad.append(InputFile(input=self._wave.input, reason="can't be read", **vars(worst)))
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
        needed = {name: self._schema[name].dataType.simpleString() for name in self._run.columns.read}
        other = [name for name in needed if kinds.get(name, needed[name]) != needed[name]]
        if other:
            raise DataError(
                f"{_list_columns(other)} another type in a file",
                got=f"{', '.join(kinds[name] for name in other)} in {file.path}",
                expected=", ".join(needed[name] for name in other),
                remedy="convert the file, or leave the column out with --keep",
            )

    def _read(self, files: list[_File]) -> DataFrame:
        settings = self._settings
        reader = self._spark.read.format(settings.format).schema(self._schema).options(**settings.option)
        is_folder = not GLOB.search(self._uri) and not self._is_file()
        if is_folder and not read_option(settings.option, "basePath", ""):
            reader = reader.option("basePath", self._uri)
        return reader.options(**WHOLE_FILES).load([escape(file.path) for file in files])


def _can_stream(spark: SparkSession, settings: EmbedSettings) -> bool:
    """Say whether Spark can tell new files: not of formats that are no files, and not on Spark Connect."""
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
    """Take what Spark knows about files without reading them.

    Parameters
    ----------
    listed : pyspark.sql.DataFrame
        Files in the format ``binaryFile``.

    Returns
    -------
    pyspark.sql.DataFrame
        Columns ``path``, ``modified`` (microseconds, as a string) and ``length`` (bytes).
    """
    modified = f.unix_micros("modificationTime").cast("string").alias("modified")
    return listed.select("path", modified, "length")


def _files(listed: DataFrame) -> list[_File]:
    return [_File(row.path, row.length, row.modified) for row in listed.collect()]


def escape(path: str) -> str:
    """Name one file, whatever characters its name has, where Spark takes patterns.

    Parameters
    ----------
    path : str

    Returns
    -------
    str
    """
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
    """Return the id of an input. An input that an earlier version began keeps its old id.

    Parameters
    ----------
    form : str
        Format of its files.
    uri : str
        As `absolute_uri` returns it.
    known : container of str
        Names of the inputs that the output holds.

    Returns
    -------
    str
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
