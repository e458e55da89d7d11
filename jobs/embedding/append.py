"""``lakevec embed`` without a key: append new files, or new rows of a table."""

from __future__ import annotations

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame

from lakevec.jobs.embedding.context import EmbedContext, select
from lakevec.jobs.embedding.file_source import FileSource, can_stream
from lakevec.jobs.embedding.micro_batches import input_id, is_done_at_once, run_micro_batches, stream_options
from lakevec.pipeline.output.commit_log import InputBatch
from lakevec.pipeline.output.table_metadata import TableMetadata


def append_rows(context: EmbedContext, frame: DataFrame, metadata: TableMetadata, schema: str) -> None:
    """Begin the output, and commit all input rows that it lacks.

    Parameters
    ----------
    context : EmbedContext
    frame : pyspark.sql.DataFrame
        The whole input.
    metadata : TableMetadata
    schema : str
        See `OpenOutput.begin`.

    Raises
    ------
    OutputError
        If Spark can't stream the input and the output holds its rows.
    """
    settings = context.settings
    context.output.begin(metadata, schema, refresh=settings.full_refresh)
    if settings.format == "table":
        _append_table(context, frame)
        return
    is_stream = can_stream(context.spark, settings)
    for path in settings.input:
        FileSource(context, path, frame.schema).append(is_stream=is_stream)


def _append_table(context: EmbedContext, table: DataFrame) -> None:
    """Commit new rows of a table if Spark can stream it, otherwise all rows once."""
    source = InputBatch(input=_identify(context), format="table")

    def commit(batch: InputBatch, rows: DataFrame) -> None:
        context.commit(batch, *context.embed(rows))

    stream = _open_stream(context, source)
    if stream is not None:
        run_micro_batches(context, source, select(stream, context.columns), commit)
    elif not is_done_at_once(context, source):
        commit(source, select(table, context.columns))


def _open_stream(context: EmbedContext, source: InputBatch) -> DataFrame | None:
    """Stream the table; None if Spark can't."""
    if not hasattr(context.spark, "_jvm"):
        return None
    settings = context.settings
    options = {**stream_options(settings), **settings.option}
    try:
        rows = context.spark.readStream.options(**options).table(settings.input[0])
    except PySparkException:
        # Spark has no single error class for this. If an earlier run streamed the
        # table, streaming is possible and the error has another cause.
        known = context.output.state.inputs.get(source.input)
        if known is not None and known.query:
            raise
        return None
    # For files named in SQL, such as parquet.`/path`, Spark returns a batch instead of an error.
    return rows if rows.isStreaming else None


def _identify(context: EmbedContext) -> str:
    """Return the id of a table, by its full name in the catalog."""
    name = context.settings.input[0]
    try:
        table = context.spark.catalog.getTable(name)
    except PySparkException:  # such as parquet.`/path`, whose case matters
        # Earlier versions ignored case. The prefix gives exact names other ids.
        old = input_id("table", name.lower())
        return old if old in context.output.state.inputs else input_id("table", f"exactly {name}")
    parts = [table.catalog or "", *(table.namespace or []), table.name]
    return input_id("table", ".".join(parts).lower())
