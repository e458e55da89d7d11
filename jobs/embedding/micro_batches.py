"""Micro-batches of Spark's streaming: commit each one once, even if Spark replays it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress

from pyspark.sql import DataFrame

from lakevec.jobs.embedding.context import EmbedContext
from lakevec.jobs.spark.errors import SPARK_ERRORS, describe_java_error
from lakevec.jobs.spark.file_systems import check_file_system, hadoop_path
from lakevec.jobs.spark.session import changed_conf
from lakevec.pipeline.errors import DamagedOutputError, OutputError, SetupError
from lakevec.pipeline.output.commit_log import InputBatch
from lakevec.pipeline.settings.embed import EmbedSettings
from lakevec.pipeline.storage import absolute_uri

OnBatch = Callable[[InputBatch, DataFrame], None]

_DEFAULT_BYTES = "32g"
# Batches that a checkpoint keeps; Spark replays at most one after a crash.
_STREAMING_CONF = {"spark.sql.streaming.minBatchesToRetain": "10"}


def input_id(form: str, name: str) -> str:
    """Return the id of an input in the commit log."""
    return hashlib.sha256(f"{form} {name}".encode()).hexdigest()[:12]


def run_micro_batches(context: EmbedContext, source: InputBatch, rows: DataFrame, on_batch: OnBatch) -> None:
    """Run a stream to its end, and call `on_batch` for each uncommitted micro-batch.

    Parameters
    ----------
    context : EmbedContext
    source : InputBatch
        Fields that all micro-batches of the input share.
    rows : pyspark.sql.DataFrame
        The stream.
    on_batch : callable
        Embeds and commits one micro-batch.
    """
    query_id, failure = Future[str](), list[BaseException]()

    def commit_batch(frame: DataFrame, number: int) -> None:
        try:
            batch = source.model_copy(update={"batch": number, "query": query_id.result()})
            state = context.output.state
            state.check_follows(batch)
            if not state.has(batch):  # Spark replays it if the last run died before Spark's commit
                on_batch(batch, frame)
        except BaseException as error:
            failure.append(error)
            # Py4J passes only plain exceptions to Java.
            raise RuntimeError("a micro-batch failed") from None

    checkpoint = _find_checkpoint(context, source)
    with changed_conf(context.spark, _STREAMING_CONF):
        writer = rows.writeStream.foreachBatch(commit_batch).option("checkpointLocation", checkpoint)
        query = writer.trigger(availableNow=True).queryName("lakevec embed").start()
        query_id.set_result(query.id)
        try:
            query.awaitTermination()
        except Exception:
            # Prefer the error of the micro-batch, which the stream's error holds as text only.
            if not failure:
                raise
        finally:
            with suppress(*SPARK_ERRORS, ConnectionError):  # if the JVM has died
                query.stop()
    if failure:
        raise failure[0]  # outside the handler, so that it keeps its own cause


def is_done_at_once(context: EmbedContext, source: InputBatch) -> bool:
    """Return whether an interrupted run has committed an input that Spark can't stream.

    Raises
    ------
    OutputError
        If a finished run has committed the input.
    """
    if source.input not in context.output.state.inputs:
        return False
    if not context.output.was_cut_off:
        raise has_rows(context, "an input that Spark can't stream, so lakevec can't recognise new rows")
    return True


def has_rows(context: EmbedContext, got: str) -> OutputError:
    """Return the error for an input whose rows the output holds."""
    return OutputError(
        f"output {context.settings.output!r} already has the rows of this input",
        got=got,
        remedy="rewrite the output with --full-refresh, or keep one row per key with --key",
    )


def _find_checkpoint(context: EmbedContext, source: InputBatch) -> str:
    """Return the folder of Spark's checkpoint; raise an error if it is lost or out of reach."""
    output, root = context.output, context.settings.checkpoint
    folder = f"{absolute_uri(root)}/{output.generation}" if root else output.checkpoint
    uri = f"{folder.rstrip('/')}/{source.input}"
    if uri.startswith("s3://") and context.spark._jsc.hadoopConfiguration().get("fs.s3.impl") is None:
        uri = f"s3a://{uri.removeprefix('s3://')}"
    check_file_system(context.spark, uri)
    try:
        path, file_system = hadoop_path(context.spark, f"{uri}/metadata")
        exists = bool(file_system.exists(path))
    except Exception as error:
        raise SetupError(
            f"Spark can't keep its checkpoint at {uri!r}",
            got=describe_java_error(error),
            expected="a place that Spark itself can reach",
            remedy="set --checkpoint to a folder there, and use it in all runs",
        ) from None
    if source.input in output.state.inputs and not exists:
        raise DamagedOutputError(
            f"Spark's checkpoint of input {source.uri!r} is gone",
            got=f"nothing at {uri!r}",
            expected="the folder that the earlier runs used",
            remedy="restore it, give the earlier --checkpoint, or start over with --full-refresh",
        )
    return uri


def stream_options(settings: EmbedSettings) -> dict[str, str]:
    """Return Spark's options that accept files of any age and limit the size of a micro-batch."""
    # Spark ignores files much older than the newest one; this age disables that.
    options = {"maxFileAge": "36500d"}
    if settings.wave_files:
        return {**options, "maxFilesPerTrigger": str(settings.wave_files)}
    size = settings.wave_bytes or _DEFAULT_BYTES
    unit = size[-1] if size[-1] in "kmgt" else " "
    limit = int(size.rstrip("kmgt")) << 10 * " kmgt".index(unit)
    return {**options, "maxBytesPerTrigger": str(limit)}
