"""``--sink spark``: Spark's own writer, for formats and storage that tasks can't write to."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Any

from pyarrow import fs as pafs
from pyspark.sql import Observation
from pyspark.sql import functions as f
from pyspark.sql import types as t

from lakevec.jobs.spark.input import Columns, quoted
from lakevec.jobs.spark.partition_columns import folder_value
from lakevec.pipeline.errors import DataError, OutputError
from lakevec.pipeline.output.output_folder import OpenOutput, OutputFolder
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.settings.base import DIRECT, has_flag
from lakevec.pipeline.settings.embed import EmbedSettings
from lakevec.pipeline.storage import Location, absolute_uri
from lakevec.udfs.column_functions import make_embed_udf
from lakevec.udfs.distribution import is_local
from lakevec.udfs.embed_task import WriteProbe

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from lakevec.pipeline.model.table import StaticTable


def find_output(settings: EmbedSettings, run_id: str, on_step: Callable[[str], None]) -> OutputFolder | None:
    """Inspect and return the output; None if this process has no file system for it."""
    try:
        output = OutputFolder(absolute_uri(settings.output), run_id, on_step=on_step)
    except OutputError as error:
        if settings.sink == "direct" or settings.output_format == "parquet":
            _leave_to_spark(settings, f"tasks can't write there themselves ({error})")
        return None
    output.inspect()
    return output


def is_direct(settings: EmbedSettings) -> bool:
    """Return whether tasks write the output themselves, if this process can reach it.

    Raises
    ------
    OutputError
        If `sink` is "direct" and Spark must write.
    """
    if settings.output_format == "parquet":
        return settings.sink != "spark"
    _leave_to_spark(settings, f"format {settings.output_format} is written by Spark")
    return False


def must_leave_to_spark(spark: SparkSession, settings: EmbedSettings, output: OpenOutput) -> bool:
    """Return whether executors on other machines can't write the output themselves.

    Raises
    ------
    OutputError
        If so, and `sink` is "direct".
    """
    reason = "" if is_local(spark) else probe_output(spark, output.staging)
    if reason:
        _leave_to_spark(settings, reason)
    return bool(reason)


def _leave_to_spark(settings: EmbedSettings, reason: str) -> None:
    """Print why Spark writes the output; raise OutputError if `sink` is "direct"."""
    if settings.sink == "direct":
        raise OutputError(
            "sink 'direct' can't write this output", got=reason, remedy="use --sink spark"
        ) from None
    if settings.sink == "auto":
        print(redact(f"sink: Spark's own writer, since {reason}"), flush=True)


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


def check_spark_sink(settings: EmbedSettings, output: OutputFolder | None) -> None:
    """Refuse an existing output, and settings that only the direct sink supports.

    Parameters
    ----------
    settings : EmbedSettings
    output : OutputFolder or None
        None if this process can't reach it.

    Raises
    ------
    OutputError
    """
    if output is not None and output.is_begun:
        raise OutputError(
            f"output {redact(settings.output)!r} exists",
            expected="a new or empty folder for Spark's own writer",
            remedy="choose another --output, or use --sink direct to continue it",
        )
    direct = {name: field for name, field in EmbedSettings.model_fields.items() if has_flag(field, DIRECT)}
    if refused := [name for name, field in direct.items() if getattr(settings, name) != field.default]:
        raise OutputError(
            "Spark's own writer writes everything once",
            got=", ".join(f"--{name.replace('_', '-')}" for name in refused),
            remedy="leave that out, or use --sink direct",
        )
    if settings.vector_type != "float32":
        raise OutputError(
            "Spark's own writer stores vectors as float32",
            got=f"vector type {settings.vector_type}",
            remedy="use --sink direct, or leave --vector-type out",
        )


def write_with_spark(
    spark: SparkSession,
    frame: DataFrame,
    columns: Columns,
    settings: EmbedSettings,
    table: StaticTable,
    *,
    is_free: bool,
) -> dict[str, Any]:
    """Embed with the column function and let Spark write.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
    frame : pyspark.sql.DataFrame
        The input.
    columns : Columns
    settings : EmbedSettings
    table : StaticTable
    is_free : bool
        Whether the output is known to be new or empty. If not, Spark refuses any existing folder.

    Returns
    -------
    dict
        ``rows``, and ``columns`` with the counts of each text column.
    """
    embed = make_embed_udf(spark, table, max_tokens=settings.max_tokens, node_dir=settings.node_dir)
    plain = [_checked(frame, columns, name) for name in (*columns.kept, *columns.partition_by)]
    # Copy the texts under new names, since a written column may have a text column's name.
    texts = {column: f"lakevec text {number}" for number, column in enumerate(columns.embeddings)}
    copies = [quoted(column).alias(copy) for column, copy in texts.items()]
    vectors = [embed(quoted(column)).alias(name) for column, name in columns.embeddings.items()]
    counts = [f.count(f.lit(1)).alias("rows")]
    for column, name in columns.embeddings.items():
        text, vector = quoted(texts[column]), quoted(name)
        counts += [
            f.count_if(text.isNull()).alias(f"nulls of {column}"),
            f.count_if(f.length(text) == 0).alias(f"empties of {column}"),
            f.count_if(f.forall(vector, lambda x: x == 0)).alias(f"zero_vectors of {column}"),
        ]
    observation = Observation("lakevec output")
    embedded = frame.select(*plain, *copies, *vectors).observe(observation, *counts).drop(*texts.values())
    writer = embedded.write.format(settings.output_format).mode("append" if is_free else "errorifexists")
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
    return {"rows": observed["rows"], "columns": by_column}


def _checked(frame: DataFrame, columns: Columns, name: str) -> Any:
    """Return a column that fails the run at invalid UTF-8, which few readers accept."""
    column = quoted(name)
    if name in columns.partition_by and isinstance(frame.schema[name].dataType, t.TimestampType):
        return folder_value(frame, name).cast("timestamp_ltz").alias(name)
    is_valid = _is_valid(column, frame.schema[name].dataType)
    if is_valid is None:
        return column
    error = DataError(
        f"column {name!r} holds text that is not valid UTF-8",
        remedy="clean the column, or leave it out with --keep",
    )
    message = f"lakevec.pipeline.errors.DataError: {error}"
    refused = f.raise_error(f.lit(message)).cast(frame.schema[name].dataType)
    return f.when(column.isNull() | is_valid, column).otherwise(refused).alias(name)


def _is_valid(column: Any, kind: Any) -> Any:
    """Return the condition that all strings of a column are UTF-8; None for a type without strings."""
    if isinstance(kind, t.StringType):
        return f.is_valid_utf8(column)
    if isinstance(kind, t.ArrayType):
        inner = _is_valid(f.lit(""), kind.elementType)
        if inner is None:
            return None
        return f.forall(column, lambda value: f.coalesce(_is_valid(value, kind.elementType), f.lit(True)))
    if isinstance(kind, t.MapType):
        parts = [
            _is_valid(f.map_keys(column), t.ArrayType(kind.keyType)),
            _is_valid(f.map_values(column), t.ArrayType(kind.valueType)),
        ]
    elif isinstance(kind, t.StructType):
        parts = [_is_valid(column.getField(field.name), field.dataType) for field in kind.fields]
    else:
        return None
    checks = [f.coalesce(part, f.lit(True)) for part in parts if part is not None]
    return reduce(and_, checks) if checks else None
