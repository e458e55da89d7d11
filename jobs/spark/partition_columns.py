"""Partition columns of an output: the values that can name folders, and how Spark writes them."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as f
from pyspark.sql import types as t

from lakevec.jobs.spark.column_types import PLAIN_TYPES, quoted
from lakevec.pipeline.errors import DataError, InputError
from lakevec.pipeline.output.time_zones import has_fixed_offset
from lakevec.pipeline.settings.embed import EmbedSettings


def check_partition_columns(schema: t.StructType, settings: EmbedSettings) -> None:
    """Raise InputError for partition columns whose values can't name folders as Spark would."""
    partition_by = tuple(settings.partition_by or ())
    for number, column in enumerate(partition_by):
        kind = schema[column].dataType
        if not column or column.startswith("."):
            raise InputError(
                f"partition column {column!r} can't name folders",
                got="an empty name" if not column else "a name that begins with a dot",
                expected="a name whose folders readers don't skip",
                remedy="rename it in a view or table first",
            )
        is_collated = isinstance(kind, t.StringType) and not kind.isUTF8BinaryCollation()
        stamps = (t.TimestampType, t.TimestampNTZType)
        refused = {"delta": stamps, "iceberg": (*stamps, t.FloatType, t.DoubleType)}
        if isinstance(kind, refused.get(settings.table_format, ())):
            raise InputError(
                f"partition column {column!r} of a table of format {settings.table_format}",
                got=kind.simpleString(),
                expected="a date or a string, which mean the same in every time zone",
            )
        is_plain = isinstance(kind, PLAIN_TYPES) and not isinstance(kind, t.BinaryType) and not is_collated
        if not is_plain or column in settings.text or column in partition_by[:number]:
            raise InputError(
                f"partition column {column!r}",
                got=kind.simpleString(),
                expected="a column that is not nested, not embedded and listed once",
            )


def folder_value(frame: DataFrame, name: str) -> Column:
    """Return a partition column as the text that names its folder.

    The run fails at a timestamp whose text Spark would read back as another instant.
    """
    column = quoted(name)
    text = column.cast("string")
    if not isinstance(frame.schema[name].dataType, t.TimestampType):
        return text
    error = DataError(
        f"partition column {name!r} holds an hour that occurs twice in the session's time zone",
        expected="timestamps that read back unchanged",
        remedy="partition by a date or a string, or write a new --output in UTC",
    )
    refused = f.raise_error(f.lit(f"lakevec.pipeline.errors.DataError: {error}")).cast("string")
    return f.when(column.isNull() | (text.try_cast("timestamp_ltz") == column), text).otherwise(refused)


def partition_zone(
    spark: SparkSession, schema: t.StructType, partition_by: Sequence[str], *, is_new: bool
) -> str:
    """Return the time zone in which timestamps name folders; empty if none do.

    Raises
    ------
    InputError
        If `is_new`, and two instants would share a folder's name.
    """
    stamps = [name for name in partition_by if isinstance(schema[name].dataType, t.TimestampType)]
    if not stamps:
        return ""
    zone = str(spark.conf.get("spark.sql.session.timeZone"))
    if is_new and not has_fixed_offset(zone):
        raise InputError(
            f"partition column {stamps[0]!r} can't name folders in time zone {zone}",
            got="a time zone with repeated hours, in which two instants would share a folder",
            expected="a time zone with a fixed offset",
            remedy="run with --conf spark.sql.session.timeZone=UTC, or partition by a date or a string",
        )
    return zone
