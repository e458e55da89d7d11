"""The batches of a stream as waves: each committed once, whatever Spark replays."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lakevec.jobs.embedding.context import EmbedRun
from lakevec.jobs.spark.errors import SPARK_ERRORS, describe_java_error
from lakevec.jobs.spark.file_systems import explain_file_system
from lakevec.jobs.spark.session import changed_conf
from lakevec.pipeline.errors import DamagedOutputError, OutputError, SetupError
from lakevec.pipeline.output.commit_log import InputBatch
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.storage import absolute_uri

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from lakevec.pipeline.settings import EmbedSettings

_DEFAULT_WAVE_BYTES = "32g"
_STREAMING_CONF = {
    # Batches that a checkpoint keeps; one is replayed after a crash.
    "spark.sql.streaming.minBatchesToRetain": "10",
}


class Waves(ABC):
    """The waves of one input.

    Parameters
    ----------
    run : EmbedRun
    wave : InputBatch
        What all of them have in common.
    """

    def __init__(self, run: EmbedRun, wave: InputBatch) -> None:
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

        with changed_conf(self._spark, _STREAMING_CONF):
            self._run_stream(rows, checkpoint, take, failure)

    def _run_stream(
        self,
        rows: DataFrame,
        checkpoint: str,
        take: Callable[[DataFrame, int], None],
        failure: list[BaseException],
    ) -> None:
        """Run the query until nothing is left; raise what a batch raised."""
        writer = rows.writeStream.foreachBatch(take).option("checkpointLocation", checkpoint)
        query = writer.trigger(availableNow=True).queryName("lakevec embed").start()
        self._query = query.id
        self._query_is_known.set()
        try:
            query.awaitTermination()
        except Exception:
            # What the wave raised is in the stream's error as text only.
            if not failure:
                raise
        finally:
            with suppress(*SPARK_ERRORS, ConnectionError):  # of a JVM that has died
                query.stop()
        if failure:
            raise failure[0]  # here, where it keeps its own cause

    @abstractmethod
    def _commit(self, wave: InputBatch, batch: DataFrame) -> None:
        """Embed and commit one batch of the stream."""

    def _is_done_at_once(self) -> bool:
        """Say whether an input that can't be streamed is in the output: from the run that was cut off.

        Raises
        ------
        OutputError
            If an earlier run ended with it.
        """
        if self._wave.input not in self._run.output.state.inputs:
            return False
        if not self._run.output.was_cut_off:
            raise self._has_rows(
                "an input that Spark can't stream, so that new rows can't be told from old ones"
            )
        return True

    def _has_rows(self, got: str) -> OutputError:
        return OutputError(
            f"output {redact(self._settings.output)!r} has the rows of this input",
            got=got,
            remedy="write everything anew with --full-refresh, or keep one row a key with --key",
        )

    def _check_checkpoint(self, uri: str) -> str:
        """Make sure that Spark reaches its checkpoint, and that the one that is needed is there."""
        is_known = self._run.output.state.inputs.get(self._wave.input) is not None
        jvm, configuration = jvm_of(self._spark), self._spark._jsc.hadoopConfiguration()
        if uri.startswith("s3://") and configuration.get("fs.s3.impl") is None:
            uri = f"s3a://{uri.removeprefix('s3://')}"
        try:
            path = jvm.org.apache.hadoop.fs.Path(f"{uri}/metadata")
            is_there = bool(path.getFileSystem(configuration).exists(path))
        except Exception as error:
            if (missing := explain_file_system(str(error))) is not None:
                raise missing from None
            raise SetupError(
                f"Spark can't keep its checkpoint at {redact(uri)!r}",
                got=describe_java_error(error),
                expected="a place that Spark's own file systems reach",
                remedy="give such a folder as --checkpoint, the same one in every run",
            ) from None
        if is_known and not is_there:
            raise DamagedOutputError(
                f"Spark's checkpoint of input {self._wave.uri!r} is gone",
                got=f"nothing at {redact(uri)!r}",
                expected="the folder that the earlier runs used",
                remedy="restore it or give its --checkpoint; or start over with --full-refresh",
            )
        return uri


def jvm_of(spark: SparkSession) -> Any:
    """Return Java's side, which a session of Spark Connect has none of.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
        Classic.

    Returns
    -------
    py4j.java_gateway.JVMView
    """
    return spark._jvm


def wave_bytes(settings: EmbedSettings) -> int:
    """Return how many bytes of input make a wave.

    Parameters
    ----------
    settings : EmbedSettings

    Returns
    -------
    int
    """
    asked = settings.wave_bytes or _DEFAULT_WAVE_BYTES
    return int(asked.rstrip("kmgt")) << 10 * " kmgt".index(asked[-1] if asked[-1] in "kmgt" else " ")
