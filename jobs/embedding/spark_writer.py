"""``--sink spark``: Spark's own writer, for formats and storage that tasks can't write to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyarrow import fs as pafs
from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as f
from pyspark.sql import types as t

from lakevec.jobs.embedding.plan import RunPlan, leave_to_spark
from lakevec.jobs.spark.column_types import has_strings, is_valid_utf8, quoted
from lakevec.jobs.spark.input import Columns, label_fields
from lakevec.jobs.spark.partition_columns import folder_value
from lakevec.pipeline.errors import DataError
from lakevec.pipeline.heads.columns import prefix_of
from lakevec.pipeline.output.output_folder import OpenOutput
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.settings.embed import EmbedSettings
from lakevec.pipeline.storage import Location, absolute_uri
from lakevec.udfs.distribution import is_local
from lakevec.udfs.embed_task import WriteProbe


def must_leave_to_spark(spark: SparkSession, settings: EmbedSettings, output: OpenOutput) -> bool:
    """Return whether executors on other machines can't write the output themselves.

    Raises
    ------
    OutputError
        If so, and `sink` is "direct".
    """
    reason = "" if is_local(spark) else probe_output(spark, output.staging)
    if reason:
        leave_to_spark(settings, reason)
    return bool(reason)


def probe_output(spark: SparkSession, staging: Location) -> str:
    """Let a task write a file to staging; return the reason if that fails, or an empty string."""
    probe = WriteProbe(staging)
    [result] = spark.range(1).mapInArrow(probe, "error string").collect()
    if result.error:
        return f"a task can't write to the output ({result.error})"
    written = staging / probe.name
    if written.type() != pafs.FileType.File:
        return "the driver can't see the file that a task wrote to the output"
    written.delete()
    return ""


def write_with_spark(
    spark: SparkSession, plan: RunPlan, frame: DataFrame, columns: Columns
) -> dict[str, Any]:
    """Embed with the column function, let Spark write, and return the run's record."""
    # It imports pandas, which other runs do without.
    from lakevec.udfs.column_functions import make_embed_udf, make_signs_udf

    settings, table = plan.settings, plan.artifact.table
    make: Callable[..., Callable[..., Column]] = (
        make_signs_udf if settings.vector_type == "binary" else make_embed_udf
    )
    embed = make(
        spark,
        table,
        max_tokens=settings.max_tokens,
        dimensions=settings.dimensions,
        node_dir=settings.node_dir,
    )
    plain = [_checked(frame, columns, name) for name in (*columns.kept, *columns.partition_by)]
    # Copy the texts under new names, since a written column may have a text column's name.
    texts = {column: f"lakevec text {number}" for number, column in enumerate(columns.embeddings)}
    copies = [quoted(column).alias(copy) for column, copy in texts.items()]
    vectors = []
    for column, name in columns.embeddings.items():
        vectors.append(embed(quoted(column)).alias(name, metadata=columns.schema[name].metadata))
        vectors += _labels_of(spark, plan, columns, column)
    is_zero = _has_no_bit if settings.vector_type == "binary" else _is_zero
    counts = [f.count(f.lit(1)).alias("rows")]
    for column, name in columns.embeddings.items():
        counts += _counts_of(column, quoted(texts[column]), is_zero(quoted(name)))
    observation = Observation("lakevec output")
    embedded = frame.select(*plain, *copies, *vectors).observe(observation, *counts).drop(*texts.values())
    # An output that this process can reach is new or empty. Otherwise let Spark refuse an existing folder.
    mode = "errorifexists" if plan.output is None else "append"
    writer = embedded.write.format(settings.output_format).mode(mode)
    if settings.output_format == "parquet":
        writer = writer.option("compression", settings.compression)
    if columns.partition_by:
        writer = writer.partitionBy(*columns.partition_by)
    writer.save(absolute_uri(settings.output))
    observed = observation.get
    by_column = {
        column: {
            "embedding": name,
            "rows": observed["rows"],
            **{kind: observed[f"{kind} of {column}"] for kind in ("nulls", "empties", "zero_vectors")},
        }
        for column, name in columns.embeddings.items()
    }
    return {
        "rows": observed["rows"],
        "columns": by_column,
        "output": redact(settings.output),
        "seconds": plan.timer.seconds(),
    }


def _labels_of(spark: SparkSession, plan: RunPlan, columns: Columns, column: str) -> list[Column]:
    """Return the columns of heads for a text column."""
    from lakevec.udfs.label_function import make_label_udf  # imports pandas

    settings = plan.settings
    fields = label_fields(plan.heads, prefix_of(column, columns.embeddings))
    if not fields:
        return []
    table, tokens = plan.artifact.table, settings.max_tokens
    label = make_label_udf(spark, table, plan.heads, fields, max_tokens=tokens, node_dir=settings.node_dir)
    labelled = label(quoted(column)).getItem(0)
    return [labelled.getField(field.name).alias(field.name) for field in fields]


def _is_zero(vector: Column) -> Column:
    return f.forall(vector, lambda x: x == 0)


def _has_no_bit(vector: Column) -> Column:
    return f.regexp_like(f.hex(vector), f.lit("^0*$"))


def _counts_of(column: str, text: Column, is_zero: Column) -> list[Column]:
    """Return the counts that a run's record has of a text column."""
    return [
        f.count_if(text.isNull()).alias(f"nulls of {column}"),
        f.count_if(f.length(text) == 0).alias(f"empties of {column}"),
        f.count_if(is_zero).alias(f"zero_vectors of {column}"),
    ]


def _checked(frame: DataFrame, columns: Columns, name: str) -> Column:
    """Make a column fail the run at invalid UTF-8, which few readers accept."""
    column, kind = quoted(name), frame.schema[name].dataType
    if name in columns.partition_by and isinstance(kind, t.TimestampType):
        return folder_value(frame, name).cast("timestamp_ltz").alias(name)
    if not has_strings(kind):
        return column
    error = DataError(
        f"column {name!r} holds text that is not valid UTF-8",
        remedy="clean the column, or leave it out with --keep",
    )
    refused = f.raise_error(f.lit(f"lakevec.pipeline.errors.DataError: {error}")).cast(kind)
    return f.when(is_valid_utf8(column, kind), column).otherwise(refused).alias(name)
