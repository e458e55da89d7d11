"""``lakevec embed`` without a key: append new files, or new rows of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakevec.jobs.embedding.context import EmbedContext
from lakevec.jobs.embedding.file_source import FileSource, can_stream
from lakevec.jobs.embedding.table_source import append_table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

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
    """
    settings = context.settings
    context.output.begin(metadata, schema, refresh=settings.full_refresh)
    if settings.format == "table":
        append_table(context, frame)
        return
    is_stream = can_stream(context.spark, settings)
    for path in settings.input:
        FileSource(context, path, frame.schema).append(is_stream=is_stream)
