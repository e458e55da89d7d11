"""Schemas of Iceberg tables: from Spark's types, and compared with what files hold."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lakevec.pipeline.errors import DamagedOutputError
from lakevec.pipeline.output.field_ids import FieldIds

if TYPE_CHECKING:
    from pyiceberg.schema import Schema
    from pyiceberg.table import Transaction
    from pyiceberg.types import IcebergType, NestedField

# Key of a column's metadata: the number of bits of a binary vector. Iceberg has a type of fixed size for it.
BITS = "lakevec.bits"
_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")
# Spark's types and pyiceberg's classes. Iceberg has no integers of 8 and 16 bits.
_PLAIN = {
    "string": "StringType",
    "binary": "BinaryType",
    "boolean": "BooleanType",
    "byte": "IntegerType",
    "short": "IntegerType",
    "integer": "IntegerType",
    "long": "LongType",
    "float": "FloatType",
    "double": "DoubleType",
    "date": "DateType",
    "timestamp": "TimestamptzType",
    "timestamp_ntz": "TimestampType",
}


def to_iceberg(schema: str) -> Schema:
    """Return the Iceberg schema of columns in Spark's JSON; the catalog gives the fields their final ids.

    Examples
    --------
    >>> fields = [{"name": "v", "type": {"type": "array", "elementType": "byte"}}]
    >>> to_iceberg(json.dumps({"type": "struct", "fields": fields})).find_type("v.element")
    IntegerType()
    """
    from pyiceberg.schema import Schema

    numbers = iter(range(1, 1 << 30))
    return Schema(*_fields(json.loads(schema)["fields"], numbers))


def _fields(fields: list[dict[str, Any]], numbers: Iterator[int]) -> list[NestedField]:
    from pyiceberg.types import NestedField

    return [
        NestedField(next(numbers), field["name"], _type_of(field, numbers), required=False)
        for field in fields
    ]


def _type_of(field: dict[str, Any], numbers: Iterator[int]) -> IcebergType:
    from pyiceberg.types import FixedType

    if bits := field.get("metadata", {}).get(BITS):
        return FixedType(-(-bits // 8))
    return _type(field["type"], numbers)


def _type(kind: Any, numbers: Iterator[int]) -> IcebergType:
    from pyiceberg import types as t

    if isinstance(kind, str):
        if found := _DECIMAL.fullmatch(kind):
            return t.DecimalType(int(found[1]), int(found[2]))
        name = "string" if kind.startswith(("char(", "varchar(")) else kind
        plain: IcebergType = getattr(t, _PLAIN[name])()
        return plain
    if kind["type"] == "array":
        element = _type(kind["elementType"], numbers)
        return t.ListType(next(numbers), element, element_required=False)
    if kind["type"] == "map":
        key, value = _type(kind["keyType"], numbers), _type(kind["valueType"], numbers)
        return t.MapType(next(numbers), key, next(numbers), value, value_required=False)
    return t.StructType(*_fields(kind["fields"], numbers))


def find_field_ids(wanted: Schema, table: Schema) -> FieldIds:
    """Return the table's ids of the columns that files hold.

    Parameters
    ----------
    wanted : pyiceberg.schema.Schema
        The columns of lakevec's files.
    table : pyiceberg.schema.Schema
        The table's columns. It may have more, and wider types.

    Raises
    ------
    DamagedOutputError
        If the table lacks a column, or has it with a type that readers can't widen the files' type to.
    """
    return dict(_pair(wanted.as_struct(), table.as_struct(), ()))


def _pair(
    wanted: IcebergType, table: IcebergType, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], int]]:
    from pyiceberg.exceptions import ResolveError
    from pyiceberg.schema import promote

    ours, theirs = _parts(wanted), _parts(table)
    if not ours:
        if wanted == table:
            return
        try:
            promote(wanted, table)
        except ResolveError:
            raise _changed(path, str(table), str(wanted)) from None
        return
    if type(wanted) is not type(table):
        raise _changed(path, str(table), str(wanted))
    for name, part in ours.items():
        below = (*path, name)
        if name not in theirs:
            raise _changed(below, "no such column", str(part.field_type))
        yield below, theirs[name].field_id
        yield from _pair(part.field_type, theirs[name].field_type, below)


def _parts(kind: IcebergType) -> dict[str, NestedField]:
    """Return the fields of a struct, list or map, by name."""
    from pyiceberg.types import ListType, MapType

    fields: tuple[NestedField, ...] = getattr(kind, "fields", ())
    if isinstance(kind, ListType):
        fields = (kind.element_field,)
    elif isinstance(kind, MapType):
        fields = (kind.key_field, kind.value_field)
    return {field.name: field for field in fields}


def change_schema(transaction: Transaction, wanted: Schema) -> Schema:
    """Give a table the wanted columns, and return its schema; equal columns keep their ids."""
    fields = {field.name: field for field in wanted.fields}
    stored = {field.name: field for field in transaction.table_metadata.schema().fields}
    kept = {name for name in fields if name in stored and _is_same(fields[name], stored[name])}
    if stored.keys() == kept == fields.keys():
        return transaction.table_metadata.schema()
    with transaction.update_schema(allow_incompatible_changes=True) as update:
        for name in stored.keys() - kept:
            update.delete_column((name,))
        for name, field in fields.items():
            if name not in kept:
                update.add_column((name,), field.field_type)
    return transaction.table_metadata.schema()


def _is_same(wanted: NestedField, table: NestedField) -> bool:
    """Return whether a file's column fits a column of the table."""
    try:
        list(_pair(wanted.field_type, table.field_type, (wanted.name,)))
    except DamagedOutputError:
        return False
    return True


def _changed(path: tuple[str, ...], got: str, expected: str) -> DamagedOutputError:
    return DamagedOutputError(
        f"another program changed column {'.'.join(path)!r} of the Iceberg table",
        got=got,
        expected=expected,
        remedy="change it back, or rewrite the output with --full-refresh",
    )
