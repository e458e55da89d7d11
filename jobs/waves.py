"""Input files as waves: Spark's streaming decides which files are new, and each batch of them is committed.

What is streamed is the list of files (``binaryFile`` without its content), so that a wave is read like any
batch: with the reader's own options and column pruning, and without the files that can't be read.
"""

from __future__ import annotations

import hashlib
import re
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from py4j.protocol import Py4JError
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import functions as f

from jobs.embed_run import EmbedRun, select
from jobs.lake_input import WHOLE_FILES
from jobs.spark_errors import translated
from pipeline.errors import CommitError, InputError, OutputError, SetupError, UnreadableFileError
from pipeline.location import absolute_uri, is_local_path, one_name, without_credentials
from pipeline.output.history import InputFile, Wave

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

    from pipeline.settings import EmbedSettings

_LISTING = "path string, modificationTime timestamp, length long, content binary"
# What decides which files there are; anything else is the reader's.
_LISTING_OPTIONS = ("recursivefilelookup", "pathglobfilter", "basepath")
# Spark's streaming has no such thing; the input is one batch then.
_BATCH_OPTIONS = ("modifiedbefore", "modifiedafter")
_GLOB = re.compile(r"[\[\]{}*?\\]")
_DEFAULT_WAVE_BYTES = "32g"
_STREAMING_CONF = {
    # Batches that a checkpoint keeps; one is replayed after a crash.
    "spark.sql.streaming.minBatchesToRetain": "10",
}


@dataclass(frozen=True)
class _File:
    path: str
    bytes: int
    modified: str


def can_stream_files(spark: SparkSession, settings: EmbedSettings) -> bool:
    """Say whether Spark can tell new files of the input from those that were taken.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
    settings : EmbedSettings

    Returns
    -------
    bool
        False for tables, for formats that are no files, and on Spark Connect.
    """
    options = {name.lower() for name in settings.option}
    if settings.format == "table" or not hasattr(spark, "_jvm") or options & set(_BATCH_OPTIONS):
        return False
    try:
        (spark.readStream.format(settings.format).schema("x string").load(absolute_uri(settings.input[0])))
    except PySparkException as error:
        if "stream" in str(error).lower():
            return False
        raise
    return True


class _Waves:
    """The batches of one stream, each committed once."""

    def __init__(self, run: EmbedRun, wave: Wave) -> None:
        self._run = run
        self._settings = run.settings
        self._spark = run.spark
        self._wave = wave
        self._query = ""
        self._query_is_known = threading.Event()

    def _stream(self, rows: DataFrame) -> None:
        """Take every batch that is not committed yet."""
        checkpoint = f"{self._settings.checkpoint or self._run.output.checkpoint}".rstrip("/")
        if self._settings.checkpoint:
            checkpoint = f"{absolute_uri(checkpoint)}/{self._run.output.generation}"
        checkpoint = self._check_checkpoint(f"{checkpoint}/{self._wave.input}")
        failure: list[BaseException] = []

        def take(batch: DataFrame, number: int) -> None:
            try:
                self._query_is_known.wait()
                wave = self._wave.model_copy(update={"batch": number, "query": self._query})
                state = self._run.output.state
                state.check_follows(wave)
                if not state.has(wave):  # it is there if a crash came between our commit and Spark's
                    self._commit(wave, batch)
            except BaseException as error:
                failure.append(error)
                # A plain exception, which is what Java's side can be told.
                raise RuntimeError("a wave failed") from None

        for name, value in _STREAMING_CONF.items():
            self._spark.conf.set(name, value)
        writer = rows.writeStream.foreachBatch(take).option("checkpointLocation", checkpoint)
        query = writer.trigger(availableNow=True).queryName("lakevec embed").start()
        self._query = query.id
        self._query_is_known.set()
        try:
            query.awaitTermination()
        except Exception as error:
            # What the wave raised is in the stream's error as text only.
            raise failure[0] if failure else error from None
        finally:
            with suppress(PySparkException, Py4JError, ConnectionError):  # of a JVM that has died
                query.stop()

    def _commit(self, wave: Wave, batch: DataFrame) -> None:
        raise NotImplementedError

    def _check_checkpoint(self, uri: str) -> str:
        """Make sure that Spark reaches its checkpoint, and that the one that is needed is there."""
        is_known = self._run.output.state.inputs.get(self._wave.input) is not None
        jvm, configuration = _jvm(self._spark), self._spark._jsc.hadoopConfiguration()
        if uri.startswith("s3://") and configuration.get("fs.s3.impl") is None:
            uri = f"s3a://{uri.removeprefix('s3://')}"
        try:
            path = jvm.org.apache.hadoop.fs.Path(f"{uri}/metadata")
            is_there = bool(path.getFileSystem(configuration).exists(path))
        except Exception as error:
            raise SetupError(
                f"Spark can't keep its checkpoint at {without_credentials(uri)!r}",
                got=type(error).__name__,
                expected="a place that Spark's own file systems reach",
                remedy="give such a folder as --checkpoint, the same one in every run",
            ) from None
        if is_known and not is_there:
            raise CommitError(
                f"Spark's checkpoint of input {self._wave.uri!r} is gone",
                got=f"nothing at {without_credentials(uri)!r}",
                expected="the folder that the earlier runs used",
                remedy="restore it or give its --checkpoint; or start over with --full-refresh",
            )
        return uri


class RowWaves(_Waves):
    """The rows of a table, from Spark's checkpoint to committed waves.

    Parameters
    ----------
    run : EmbedRun
    rows : pyspark.sql.DataFrame
        Streaming.
    """

    def __init__(self, run: EmbedRun, rows: DataFrame) -> None:
        super().__init__(run, _table_wave(run))
        self._rows = select(rows, run.columns)

    def run(self) -> None:
        """Commit every wave of rows that are not in the output yet."""
        self._stream(self._rows)

    def _commit(self, wave: Wave, batch: DataFrame) -> None:
        entries, rows = self._run.embed_selected(batch)
        self._run.commit(wave, entries, rows_read=rows)


class FileWaves(_Waves):
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
        self._uri = one_name(given) if is_local_path(given) else given
        self._schema = schema
        uri, settings = without_credentials(self._uri), run.settings
        identity = hashlib.sha256(f"{settings.format} {one_name(given)}".encode()).hexdigest()[:12]
        option = settings.to_record()["option"]
        super().__init__(run, Wave(input=identity, uri=uri, format=settings.format, option=option))

    def run(self) -> None:
        """Commit every wave of files that are not in the output yet.

        Raises
        ------
        InputError
            If the input overlaps another one that is in the output, or is read in another way.
        CommitError
            If Spark's checkpoint is not the one that the output was written with.
        """
        self._refuse_overlap()
        known = self._run.output.state.inputs.get(self._wave.input)
        if known is not None and not known.query:
            raise self._taken("it was read at once before, so that new files can't be told from old ones")
        self._stream(self._list())
        self._retake()

    def run_at_once(self) -> None:
        """Commit the whole input as one wave, once.

        Raises
        ------
        OutputError
            If the output has its rows already.
        """
        if self._wave.input in self._run.output.state.inputs:
            raise self._taken(
                "an input that Spark can't stream, so that new rows can't be told from old ones"
            )
        self._refuse_overlap()
        settings = self._settings
        reader = self._spark.read.format(settings.format).options(**settings.option, **WHOLE_FILES)
        entries, rows = self._run.embed(reader.schema(self._schema).load(self._uri))
        self._run.commit(self._wave, entries, rows_read=rows)

    def _taken(self, got: str) -> OutputError:
        return _has_rows(self._run, got)

    def _commit(self, wave: Wave, batch: DataFrame) -> None:
        self._embed(wave, _files(batch))

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
            reader = reader.option("maxBytesPerTrigger", _wave_bytes(settings))
        path = self._uri
        is_glob = _GLOB.search(path) is not None
        if not is_glob and self._is_file():
            # Spark takes the path of a stream as a base path, which must be a folder, unless it is a glob.
            path = f"{path[:-1]}[{path[-1]}]"
        listed = reader.load(path)
        if is_glob and "basePath" not in settings.option and len(listed.columns) > 4:
            raise InputError(
                f"input {self._wave.uri!r} is a pattern with partition folders beneath",
                expected="the folder above them, so that their values can be told",
                remedy="add --option basePath=FOLDER, or give the folder itself as --input",
            )
        return _facts(listed)

    def _is_file(self) -> bool:
        path = _jvm(self._spark).org.apache.hadoop.fs.Path(self._uri)
        filesystem = path.getFileSystem(self._spark._jsc.hadoopConfiguration())
        return bool(filesystem.exists(path) and filesystem.getFileStatus(path).isFile())

    def _refuse_overlap(self) -> None:
        """Refuse an input whose files may be in the output under another name, or be the output's own."""
        option = {name.lower(): value.lower() for name, value in self._settings.option.items()}
        place = f"{one_name(absolute_uri(self._settings.output))}/"
        if option.get("recursivefilelookup") == "true" and place.startswith(_beginning(self._wave.uri)):
            raise InputError(
                f"input {self._wave.uri!r} holds the output",
                got="recursiveFileLookup, which would read what was written",
                remedy="choose an --output elsewhere",
            )
        for known in self._run.output.state.inputs.values():
            if known.input == self._wave.input:
                if known.option != self._wave.option:
                    raise InputError(
                        f"input {self._wave.uri!r} was read with other options before",
                        got=f"--option {self._wave.option}",
                        expected=str(known.option),
                        remedy="give those, or start over with --full-refresh",
                    )
                if known.uri != self._wave.uri:
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
            with translated():
                self._read_for_nothing([file])
        except UnreadableFileError:
            return False
        return True

    def _read_for_nothing(self, files: list[_File]) -> None:
        """Read what the run would read, and keep nothing."""
        select(self._read(files), self._run.columns).write.format("noop").mode("overwrite").save()

    def _look_again(self, path: str) -> _File | None:
        try:
            listed = self._spark.read.format("binaryFile").load(_escape(path))
        except AnalysisException:  # it is gone
            return None
        files = _files(_facts(listed))
        return files[0] if files else None

    def _embed(self, wave: Wave, files: list[_File], *, retaken: list[str] | None = None) -> None:
        """Embed and commit files; those that can't be read are left out if that is wished."""
        skipped: list[InputFile] = []
        while True:
            try:
                with translated():
                    entries, rows = self._run.embed(self._read(files)) if files else ([], 0)
                break
            except UnreadableFileError as error:
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
            # The longest, since one file's name may be the beginning of another's.
            named = [file for file in files if _is_named(file.path, error.told)]
            if not named:
                raise error
            same = [max(named, key=lambda file: len(file.path))]
            files = [file for file in files if file not in same]
            bad += [
                InputFile(
                    input=self._wave.input,
                    path=file.path,
                    bytes=file.bytes,
                    modified=file.modified,
                    reason="can't be read",
                )
                for file in same
            ]
            if not files:
                return files, bad
            try:
                with translated():
                    self._read_for_nothing(files)
                return files, bad
            except UnreadableFileError as another:
                error = another

    def _read(self, files: list[_File]) -> DataFrame:
        settings = self._settings
        reader = self._spark.read.format(settings.format).schema(self._schema).options(**settings.option)
        is_folder = not _GLOB.search(self._uri) and not self._is_file()
        if is_folder and "basePath" not in settings.option:
            reader = reader.option("basePath", self._uri)
        return reader.options(**WHOLE_FILES).load([_escape(file.path) for file in files])


def _jvm(spark: SparkSession) -> Any:
    """Return Java's side; `can_stream_files` made sure that there is one."""
    return spark._jvm


def _wave_bytes(settings: EmbedSettings) -> int:
    asked = settings.wave_bytes or _DEFAULT_WAVE_BYTES
    return int(asked.rstrip("kmgt")) << 10 * " kmgt".index(asked[-1] if asked[-1] in "kmgt" else " ")


def _facts(listed: DataFrame) -> DataFrame:
    """Take what Spark knows about files without reading them."""
    modified = f.unix_micros("modificationTime").cast("string").alias("modified")
    return listed.select("path", modified, "length")


def _files(listed: DataFrame) -> list[_File]:
    return [_File(row.path, row.length, row.modified) for row in listed.collect()]


def _escape(path: str) -> str:
    """Name one file, whatever characters its name has, where Spark takes patterns."""
    return _GLOB.sub(lambda found: f"\\{found[0]}", path)


def _beginning(uri: str) -> str:
    """Return the part of a path before its first pattern, as a folder where there is none."""
    name = one_name(uri)
    fixed = _GLOB.split(name)[0]
    return fixed if fixed != name else f"{name}/"


def _is_named(path: str, told: str) -> bool:
    """Say whether an error of Spark's names a file, in one of the ways in which it writes paths."""
    bare = re.sub(r"^\w+:/*", "/", path)
    return bare in told or bare in unquote(told)


def _table_wave(run: EmbedRun) -> Wave:
    """Name a table by what the catalog calls it, however it was given."""
    name = run.settings.input[0]
    try:
        table = run.spark.catalog.getTable(name)
        parts = [table.catalog or "", *(table.namespace or []), table.name]
    except PySparkException:  # a file's path, for one, in quotes behind a format
        parts = [name]
    identity = ".".join(parts).lower()
    return Wave(input=hashlib.sha256(f"table {identity}".encode()).hexdigest()[:12], format="table")


def _has_rows(run: EmbedRun, got: str) -> OutputError:
    return OutputError(
        f"output {without_credentials(run.settings.output)!r} has the rows of this input",
        got=got,
        remedy="write everything anew with --full-refresh, or keep one row a key with --key",
    )


def run_row_waves(run: EmbedRun) -> bool:
    """Commit the new rows of a table, batch by batch, if Spark can stream it.

    Parameters
    ----------
    run : EmbedRun

    Returns
    -------
    bool
        Whether it can.
    """
    settings, spark = run.settings, run.spark
    if settings.format != "table" or not hasattr(spark, "_jvm"):
        return False
    limit = {"maxFilesPerTrigger": str(settings.wave_files)} if settings.wave_files else {}
    if not limit:
        limit = {"maxBytesPerTrigger": str(_wave_bytes(settings))}
    options = {**limit, "maxFileAge": "36500d", **settings.option}
    try:
        rows = spark.readStream.options(**options).table(settings.input[0])
    except PySparkException as error:
        if re.search("stream|batch", str(error), re.IGNORECASE):
            return False
        raise
    RowWaves(run, rows).run()
    return True


def run_at_once(run: EmbedRun, frame: DataFrame) -> None:
    """Embed an input that Spark can't stream in one wave, once.

    Parameters
    ----------
    run : EmbedRun
    frame : pyspark.sql.DataFrame

    Raises
    ------
    OutputError
        If the output has its rows already.
    """
    if run.settings.format != "table":
        for path in run.settings.input:
            FileWaves(run, path, frame.schema).run_at_once()
        return
    wave = _table_wave(run)
    if wave.input in run.output.state.inputs:
        raise _has_rows(run, "an input that Spark can't stream, so that new rows can't be told from old ones")
    entries, rows = run.embed(frame)
    run.commit(wave, entries, rows_read=rows)
