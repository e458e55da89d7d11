"""Columns of Parquet files that pyarrow reads as Spark does: same type, same values.

A column qualifies if Parquet's own type says what Spark's type says. Types that readers interpret, such as
unsigned integers, don't, and neither do old calendars and rare encodings. INT96, in which Spark writes
timestamps, qualifies in files by Spark.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import partial
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

# What all versions of Spark 4 decode, with both of their readers.
_CODECS = {"UNCOMPRESSED", "SNAPPY", "GZIP", "ZSTD"}
_ENCODINGS = {"PLAIN", "PLAIN_DICTIONARY", "RLE_DICTIONARY", "RLE", "BIT_PACKED"} | {
    f"DELTA_{kind}" for kind in ("BINARY_PACKED", "BYTE_ARRAY", "LENGTH_BYTE_ARRAY")
}
_SAME_VALUES = {
    pa.large_string(): pa.string(),
    pa.string_view(): pa.string(),
    pa.large_binary(): pa.binary(),
    pa.binary_view(): pa.binary(),
}
# Footer keys by which Spark recognises dates and times of the Julian calendar.
_SPARK_VERSION = b"org.apache.spark.version"
_OLD_CALENDAR = b"org.apache.spark.legacyDateTime"
_OLD_INT96 = b"org.apache.spark.legacyINT96"
_INTEGERS = {
    pa.int8(): ("INT32", 8),
    pa.int16(): ("INT32", 16),
    pa.int32(): ("INT32", 32),
    pa.int64(): ("INT64", 64),
}
_WITHOUT_ANNOTATION = {
    pa.binary(): "BYTE_ARRAY",
    pa.bool_(): "BOOLEAN",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.int32(): "INT32",
    pa.int64(): "INT64",
}


def open_file(source: Any, *, read_bytes: int) -> pq.ParquetFile:
    """Open a file for `find_difference` and `convert`; it reads `read_bytes` of a column at a time."""
    return pq.ParquetFile(source, buffer_size=read_bytes, pre_buffer=False, coerce_int96_timestamp_unit="us")


def find_difference(file: pq.ParquetFile, wanted: pa.Schema) -> str | None:
    """Return why Spark might read a file's columns otherwise; None if it reads the same.

    Parameters
    ----------
    file : pyarrow.parquet.ParquetFile
        From `open_file`.
    wanted : pyarrow.Schema
        The columns to read, with the types in which Spark hands them to Python.

    Returns
    -------
    str or None
        Names a column and types, and never a value.
    """
    names, leaves = file.schema_arrow.names, _leaves(file)
    folded = Counter(name.lower() for name in names)
    metadata = file.metadata.metadata or {}
    has_int96 = _is_int96_of_spark(metadata)
    for field in wanted:
        if field.name not in names or folded[field.name.lower()] != 1:
            return f"column {field.name!r} is not there exactly once"
        stored = file.schema_arrow.field(field.name).type
        found = [leaf for _, leaf in leaves[field.name]]
        expected = list(_expected_leaves((field.name,), field.type))
        is_same = _plain(stored) == _plain(field.type) and len(found) == len(expected)
        if not is_same or not all(map(partial(_is_leaf, has_int96), found, expected)):
            types = ", ".join(f"{leaf.physical_type} {leaf.logical_type.type}" for leaf in found)
            return f"column {field.name!r} is stored as {types}"
    if any(_has_days(field.type) for field in wanted) and _has_old_calendar(metadata):
        return "its dates and times follow the old calendar of Spark 2"
    return None


def find_chunks(file: pq.ParquetFile, groups: list[int], wanted: pa.Schema) -> list[Any]:
    """Return the metadata of some row groups' chunks of these columns."""
    leaves = _leaves(file)
    numbers = [number for name in wanted.names for number, _ in leaves[name]]
    return [file.metadata.row_group(group).column(number) for group in groups for number in numbers]


def find_odd_pages(chunks: list[Any]) -> str | None:
    """Return a codec or encoding that some version of Spark 4 can't read; None if there is none."""
    for chunk in chunks:
        if odd := {chunk.compression, *chunk.encodings} - _CODECS - _ENCODINGS:
            return f"column {chunk.path_in_schema!r} is stored with {', '.join(sorted(odd))}"
    return None


def convert(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return a column in the type in which Spark hands it to Python.

    Raises
    ------
    pyarrow.ArrowInvalid
        If a value does not fit the type; Spark raises an error or gives null then.
    """
    if array.type != kind:
        array = array.cast(kind)
    _check_decimals(array)
    return array


def _check_decimals(array: pa.Array) -> None:
    """Raise ArrowInvalid for a number with more digits than its type has, at any depth."""
    kind = array.type
    if pa.types.is_decimal(kind):
        array.validate(full=True)
    elif pa.types.is_map(kind):
        _check_decimals(array.keys)
        _check_decimals(array.items)
    elif pa.types.is_list(kind):
        _check_decimals(array.values)
    elif pa.types.is_struct(kind):
        for number in range(kind.num_fields):
            _check_decimals(array.field(number))


def _leaves(file: pq.ParquetFile) -> dict[str, list[tuple[int, Any]]]:
    """Map each path to the leaf columns at or below it, with their numbers."""
    leaves: dict[str, list[tuple[int, Any]]] = defaultdict(list)
    for number in range(len(file.schema)):
        leaf = file.schema.column(number)
        for path in accumulate(leaf.path.split("."), "{}.{}".format):
            leaves[path].append((number, leaf))
    return leaves


def _is_int96_of_spark(metadata: dict[bytes, bytes]) -> bool:
    """Return whether INT96 holds timestamps as Spark 3.1 and later write them by default."""
    return metadata.get(_SPARK_VERSION, b"") >= b"3.1.0" and _OLD_INT96 not in metadata


def _expected_leaves(
    path: tuple[str, ...], kind: pa.DataType
) -> Iterator[tuple[tuple[str, ...], pa.DataType]]:
    """Yield path and type of each leaf column in Parquet's standard layout."""
    if pa.types.is_struct(kind):
        for field in kind:
            yield from _expected_leaves((*path, field.name), field.type)
    elif pa.types.is_map(kind):
        yield from _expected_leaves((*path, "key_value", "key"), kind.key_type)
        yield from _expected_leaves((*path, "key_value", "value"), kind.item_type)
    elif pa.types.is_list(kind):
        yield from _expected_leaves((*path, "list", "element"), kind.value_type)
    else:
        yield path, kind


def _is_leaf(has_int96: bool, leaf: Any, expected: tuple[tuple[str, ...], pa.DataType]) -> bool:
    path, kind = expected
    if leaf.physical_type == "INT96":
        is_type = has_int96 and pa.types.is_timestamp(kind) and kind.tz is not None
    else:
        is_type = _holds(leaf, kind)
    # pyarrow called the elements of lists "item" before version 15.
    return is_type and leaf.path.replace(".list.item", ".list.element") == ".".join(path)


def _holds(leaf: Any, kind: pa.DataType) -> bool:
    """Return whether Parquet's physical and logical types are those of `kind`."""
    logical = json.loads(leaf.logical_type.to_json())
    name, physical = logical["Type"], leaf.physical_type
    if name == "None":
        return bool(_WITHOUT_ANNOTATION.get(kind) == physical)
    if name == "Int":
        return bool(logical["isSigned"] and _INTEGERS.get(kind) == (physical, logical["bitWidth"]))
    if name == "Decimal":
        return bool(kind == pa.decimal128(logical["precision"], logical["scale"]))
    if name == "Timestamp":
        is_fine = logical["timeUnit"] in ("milliseconds", "microseconds")
        return pa.types.is_timestamp(kind) and is_fine and logical["isAdjustedToUTC"] == (kind.tz is not None)
    return bool({"String": pa.string(), "Date": pa.date32()}.get(name) == kind)


def _plain(kind: pa.DataType) -> pa.DataType:
    """Reduce a type to what its values are: without nullability, widths of offsets and names of parts."""
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _plain(field.type)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_plain(kind.key_type), _plain(kind.item_type))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_plain(kind.value_type))
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_timestamp(kind) and kind.unit in ("ms", "us"):
        return pa.timestamp("us")  # `_holds` compares time zones, which INT96 lacks
    return _SAME_VALUES.get(kind, kind)


def _has_days(kind: pa.DataType) -> bool:
    """Return whether a type holds dates or timestamps, at any depth."""
    if pa.types.is_nested(kind):
        return any(_has_days(kind.field(number).type) for number in range(kind.num_fields))
    return bool(pa.types.is_date(kind) or pa.types.is_timestamp(kind))


def _has_old_calendar(metadata: dict[bytes, bytes]) -> bool:
    """Decide as Spark does, which compares versions as text."""
    return metadata.get(_SPARK_VERSION, b"3.0.0") < b"3.0.0" or _OLD_CALENDAR in metadata
