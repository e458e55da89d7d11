"""File splits of Spark's own plan, for tasks that read Parquet themselves.

Spark's reader stays the rule. This module finds runs whose rows are the same if pyarrow reads them: plain
types, local files, and no option or property that changes values.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as t

from lakevec.pipeline.output.commit_log import InputFile
from lakevec.udfs.split_reader import FileSplit, InputColumn

# Reader options that choose files or schemas, and leave values alone.
_OPTIONS = {"recursivefilelookup", "pathglobfilter", "basepath", "mergeschema"}
# Values of these properties with which Spark reads what the file says.
_PLAIN_CONF = {
    "spark.sql.parquet.fieldId.read.enabled": "false",
    "spark.sql.execution.arrow.useLargeVarTypes": "false",
    "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
}
# The driver takes 0.3 ms to ask Spark for a file's splits.
_MOST_FILES = 20_000
_LIMITED_TEXT = "__CHAR_VARCHAR_TYPE_STRING"
_SCAN = "org.apache.spark.sql.execution.FileSourceScanExec"
_ARROW_TYPES: dict[type[t.DataType], pa.DataType] = {
    t.BinaryType: pa.binary(),
    t.BooleanType: pa.bool_(),
    t.ByteType: pa.int8(),
    t.ShortType: pa.int16(),
    t.IntegerType: pa.int32(),
    t.LongType: pa.int64(),
    t.FloatType: pa.float32(),
    t.DoubleType: pa.float64(),
    t.DateType: pa.date32(),
    t.TimestampNTZType: pa.timestamp("us"),
}
# How to take a partition column's value out of a row of Spark's.
_FOLDER_VALUES: dict[type[t.DataType], Callable[[Any, int], Any]] = {
    t.StringType: lambda row, place: row.getUTF8String(place).toString(),
    t.IntegerType: lambda row, place: row.getInt(place),
    t.LongType: lambda row, place: row.getLong(place),
    t.DateType: lambda row, place: row.getInt(place),  # days since 1970
}
# Types whose text is the same in Spark and in Arrow.
_TEXT_TYPES = (t.StringType, t.ByteType, t.ShortType, t.IntegerType, t.LongType, t.BooleanType, t.DateType)


class SparkOnlyError(Exception):
    """The reason why only Spark can read an input."""


def plan_splits(frame: DataFrame, files: Sequence[InputFile]) -> tuple[list[str], list[list[FileSplit]]]:
    """Return the input's partition columns, and the splits of each partition of Spark's plan.

    Parameters
    ----------
    frame : pyspark.sql.DataFrame
        The files as Spark would read them, without any transformation.
    files : sequence of InputFile
        The files as Spark listed them.

    Raises
    ------
    SparkOnlyError
        If Spark would not simply scan these files.
    """
    scan = frame._jdf.queryExecution().sparkPlan()
    if scan.nodeName() == "Project":
        scan = scan.child()
    is_scan = scan.getClass().getName() == _SCAN
    if not is_scan or scan.dataFilters().size() or scan.partitionFilters().size():
        raise SparkOnlyError(f"Spark plans {scan.nodeName().strip()!r}, and not a plain scan")
    folders = t.StructType.fromJson(json.loads(scan.relation().partitionSchema().json()))
    for column in folders:
        if type(column.dataType) not in _FOLDER_VALUES:
            raise _other_type(column)
    facts = {file.path: file for file in files}
    partitions = [
        [_describe_split(file, facts, folders) for file in partition.files()]
        for partition in scan.inputRDD().partitions()
    ]
    if facts.keys() != {split.path for partition in partitions for split in partition}:
        raise SparkOnlyError("Spark plans to read other files than it listed")
    return folders.names, partitions


def _describe_split(file: Any, facts: Mapping[str, InputFile], folders: t.StructType) -> FileSplit:
    path = file.toPath().toString()
    if path not in facts:
        raise SparkOnlyError("Spark plans to read other files than it listed")
    row, values = file.partitionValues(), []
    for place, column in enumerate(folders):
        take = _FOLDER_VALUES[type(column.dataType)]
        values.append(None if row.isNullAt(place) else take(row, place))
    listed = facts[path]
    return FileSplit(path, file.start(), file.length(), listed.bytes, int(listed.modified), tuple(values))


def check_reader(spark: SparkSession, options: Iterable[str], files: Sequence[InputFile]) -> None:
    """Raise SparkOnlyError if reader options, properties or the files' number or place leave no choice."""
    if other := [name for name in options if name.lower() not in _OPTIONS]:
        raise SparkOnlyError(f"option {other[0]!r} may change what is read")
    if len(files) > _MOST_FILES:
        raise SparkOnlyError(f"there are more than {_MOST_FILES:,} of them")
    for name, value in _PLAIN_CONF.items():
        if str(spark.conf.get(name)).lower() != value.lower():
            raise SparkOnlyError(f"property {name!r} changes what is read")
    if far := [file.path for file in files if not file.path.startswith("file:/")]:
        raise SparkOnlyError(f"only Spark reads {far[0].partition(':')[0]}:// here")


def describe_columns(
    schema: t.StructType, read: Iterable[str], partition_by: Iterable[str], zone: str
) -> list[InputColumn]:
    """Return the columns that tasks receive, in order.

    Parameters
    ----------
    schema : pyspark.sql.types.StructType
        Schema of the input.
    read, partition_by : iterable of str
        Columns to read, and columns whose values name folders.
    zone : str
        Time zone of the session.

    Raises
    ------
    SparkOnlyError
        If pyarrow might read other values than Spark.
    """
    columns = []
    for name in read:
        kind = arrow_type(schema[name].dataType, zone)
        if kind is None or _LIMITED_TEXT in schema[name].json():
            raise _other_type(schema[name])
        columns.append(InputColumn(name, kind))
    for name in partition_by:
        kind = arrow_type(schema[name].dataType, zone)
        if kind is None or type(schema[name].dataType) not in _TEXT_TYPES:
            raise _other_type(schema[name])
        columns.append(InputColumn(name, kind, is_text=True))
    return columns


def _other_type(column: t.StructField) -> SparkOnlyError:
    return SparkOnlyError(f"column {column.name!r} has type {column.dataType.simpleString()}")


def arrow_type(kind: t.DataType, zone: str) -> pa.DataType | None:
    """Return the type in which Spark hands values to Python; None if only Spark can read them."""
    if isinstance(kind, t.StringType):
        is_plain = type(kind) is t.StringType and kind.isUTF8BinaryCollation()
        return pa.string() if is_plain else None
    if isinstance(kind, t.DecimalType):
        return pa.decimal128(kind.precision, kind.scale)
    if isinstance(kind, t.TimestampType):
        return pa.timestamp("us", tz=zone)
    if not isinstance(kind, t.ArrayType | t.MapType | t.StructType):
        return _ARROW_TYPES.get(type(kind))
    if isinstance(kind, t.StructType):
        fields = [(field.name, arrow_type(field.dataType, zone)) for field in kind.fields]
        return None if any(part is None for _, part in fields) else pa.struct(fields)
    if isinstance(kind, t.ArrayType):
        element = arrow_type(kind.elementType, zone)
        return None if element is None else pa.list_(pa.field("element", element))
    key, value = arrow_type(kind.keyType, zone), arrow_type(kind.valueType, zone)
    return None if key is None or value is None else pa.map_(key, value)
