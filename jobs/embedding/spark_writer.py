"""``--sink spark``: Spark's own writer, for formats and places that tasks don't write to themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pyarrow import fs as pafs

from lakevec.jobs.spark.input import Columns, quoted
from lakevec.jobs.spark.partition_columns import folder_value
from lakevec.pipeline.errors import DataError, OutputError
from lakevec.pipeline.output.output_folder import OpenOutput, OutputFolder
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.settings.base import DIRECT, has_flag
from lakevec.pipeline.settings.embed import EmbedSettings
from lakevec.pipeline.storage import Location, absolute_uri

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from lakevec.pipeline.model.table import StaticTable


def find_output(settings: EmbedSettings, run_id: str, on_step: Callable[[str], None]) -> OutputFolder | None:
    """Return the output, inspected; None if this process has no file system for it."""
    try:
        output = OutputFolder(absolute_uri(settings.output), run_id, on_step=on_step)
    except OutputError as error:
        if settings.sink == "direct":
            raise _not_direct(f"tasks can't write there themselves ({error})") from None
        if settings.sink == "auto" and settings.output_format == "parquet":
            _announce(f"tasks can't write there themselves ({error})")
        return None
    output.inspect()
    return output


def is_direct(settings: EmbedSettings) -> bool:
    """Return whether tasks write an output that this process can reach.

    Raises
    ------
    OutputError
        If `sink` is "direct" and Spark must write.
    """
    if settings.output_format == "parquet":
        return settings.sink != "spark"
    reason = f"format {settings.output_format} is written by Spark"
    if settings.sink == "direct":
        raise _not_direct(reason)
    if settings.sink == "auto":
        _announce(reason)
    return False


def must_leave_to_spark(spark: SparkSession, settings: EmbedSettings, output: OpenOutput) -> bool:
    """Return whether executors on other machines can't write the output themselves.

    Raises
    ------
    OutputError
        If so, and `sink` is "direct".
    """
    from lakevec.udfs.distribution import is_local

    reason = "" if is_local(spark) else probe_output(spark, output.staging)
    if reason and settings.sink == "direct":
        raise _not_direct(reason)
    if reason:
        _announce(reason)
    return bool(reason)


def _not_direct(reason: str) -> OutputError:
    return OutputError("sink 'direct' can't write this output", got=reason, remedy="use --sink spark")


def _announce(reason: str) -> None:
    print(redact(f"sink: Spark's own writer, since {reason}"), flush=True)


def probe_output(spark: SparkSession, staging: Location) -> str:
    """Write a file to the output's staging in a task; return why that fails, or an empty string."""
    from lakevec.udfs.embed_task import WriteProbe

    probe = WriteProbe(staging)
    [answer] = spark.range(1).mapInArrow(probe, "error string").collect()
    if answer.error:
        return f"a task can't write to the output ({answer.error})"
    written = staging / probe.name
    if written.type() != pafs.FileType.File:
        return "the driver can't see what a task writes to the output"
    written.delete()
    return ""


def check_spark_sink(settings: EmbedSettings, output: OutputFolder | None) -> None:
    """Refuse an output that exists, and settings of the direct sink only.

    Parameters
    ----------
    settings : EmbedSettings
    output : OutputFolder or None
        None if this process can't look at it.

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
    if asked := [name for name, field in direct.items() if getattr(settings, name) != field.default]:
        raise OutputError(
            "Spark's own writer writes everything once",
            got=", ".join(f"--{name.replace('_', '-')}" for name in asked),
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
        Whether the output is known to be free. Otherwise Spark refuses an existing folder, even an empty one.

    Returns
    -------
    dict
        ``rows``, and rows, nulls, empties and zero vectors of each text column.
    """
    from pyspark.sql import Observation
    from pyspark.sql import functions as f

    from lakevec.udfs import make_embed_udf

    embed = make_embed_udf(spark, table, max_tokens=settings.max_tokens, node_dir=settings.node_dir)
    chosen = [_checked(frame, columns, name) for name in (*columns.kept, *columns.partition_by)]
    # Under names of their own, since a column that is written may have a text column's name.
    texts = {column: f"lakevec text {number}" for number, column in enumerate(columns.embeddings)}
    copies = [quoted(column).alias(copy) for column, copy in texts.items()]
    vectors = [embed(quoted(column)).alias(name) for column, name in columns.embeddings.items()]
    read = [f.count(f.lit(1)).alias("rows")]
    for number, (column, name) in enumerate(columns.embeddings.items()):
        text, vector = quoted(texts[column]), quoted(name)
        read += [
            f.count_if(text.isNull()).alias(f"nulls{number}"),
            f.count_if(f.length(text) == 0).alias(f"empties{number}"),
            f.count_if(f.forall(vector, lambda x: x == 0)).alias(f"zeros{number}"),
        ]
    seen = Observation("lakevec output")
    embedded = frame.select(*chosen, *copies, *vectors).observe(seen, *read).drop(*texts.values())
    writer = embedded.write.format(settings.output_format).mode("append" if is_free else "errorifexists")
    if settings.output_format == "parquet":
        writer = writer.option("compression", settings.compression)
    if columns.partition_by:
        writer = writer.partitionBy(*columns.partition_by)
    writer.save(absolute_uri(settings.output))
    counted = seen.get
    return {
        "rows": counted["rows"],
        "columns": {
            column: {
                "embedding": name,
                "rows": counted["rows"],
                "nulls": counted[f"nulls{number}"],
                "empties": counted[f"empties{number}"],
                "zero_vectors": counted[f"zeros{number}"],
            }
            for number, (column, name) in enumerate(columns.embeddings.items())
        },
    }


def _checked(frame: DataFrame, columns: Columns, name: str) -> Any:
    """Return a column that ends the run at a string that is not UTF-8, which few readers would take."""
    from pyspark.sql import functions as f
    from pyspark.sql import types as t

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
    """Say in Spark's terms whether all strings of a column are UTF-8; None for a type without strings."""
    from functools import reduce

    from pyspark.sql import functions as f
    from pyspark.sql import types as t

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
    return reduce(lambda one, other: one & other, checks) if checks else None
