"""A table as input: new rows if Spark can stream it, otherwise all rows once."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pyspark.errors import PySparkException

from lakevec.jobs.embedding.context import EmbedContext, select
from lakevec.jobs.embedding.micro_batches import batch_limit, is_done_at_once, run_micro_batches
from lakevec.pipeline.output.commit_log import InputBatch

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def append_table(context: EmbedContext, table: DataFrame) -> None:
    """Commit the table rows that the output lacks.

    Parameters
    ----------
    context : EmbedContext
    table : pyspark.sql.DataFrame
        The whole table, for the case that Spark can't stream it.

    Raises
    ------
    OutputError
        If Spark can't stream the table and the output holds its rows.
    """
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
    options = {**batch_limit(settings), "maxFileAge": "36500d", **settings.option}
    try:
        rows = context.spark.readStream.options(**options).table(settings.input[0])
    except PySparkException:
        # Spark has no single error class for this. If an earlier run streamed the
        # table, streaming is possible and the error has another cause.
        known = context.output.state.inputs.get(source.input)
        if known is not None and known.query:
            raise
        return None
    # For files in SQL syntax, such as parquet.`/path`, Spark returns a batch without an error.
    return rows if rows.isStreaming else None


def _identify(context: EmbedContext) -> str:
    """Return the id of a table, by its full name in the catalog."""
    name = context.settings.input[0]
    try:
        table = context.spark.catalog.getTable(name)
        name = ".".join([table.catalog or "", *(table.namespace or []), table.name]).lower()
    except PySparkException:  # such as parquet.`/path`, whose case matters
        # Earlier versions ignored case. The prefix keeps their ids apart from these.
        if (old := _digest(name.lower())) in context.output.state.inputs:
            return old
        name = f"exactly {name}"
    return _digest(name)


def _digest(name: str) -> str:
    return hashlib.sha256(f"table {name}".encode()).hexdigest()[:12]
