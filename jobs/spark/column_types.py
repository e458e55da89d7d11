"""Columns by exact name, and the types that Spark, Arrow and Parquet all keep without loss."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import and_

from pyspark.sql import Column
from pyspark.sql import functions as f
from pyspark.sql import types as t

# `unfit_type` names every other type in its error.
PLAIN_TYPES = (
    t.BinaryType,
    t.BooleanType,
    t.DateType,
    t.NumericType,
    t.StringType,
    t.CharType,
    t.VarcharType,
    t.TimestampType,
    t.TimestampNTZType,
)
# Parquet readers built on Arrow accept schemas of 100 levels, and the root counts as a level.
_MAX_LEVELS = 99


def quoted(name: str) -> Column:
    """Return the column with exactly this name, dots and backticks included."""
    return f.col(f"`{name.replace('`', '``')}`")


def has_strings(kind: t.DataType) -> bool:
    """Return whether a value of this type is a string, or holds strings at any depth."""
    return isinstance(kind, t.StringType) or any(map(has_strings, _parts(kind)))


def is_valid_utf8(column: Column, kind: t.DataType) -> Column:
    """Return the condition that all strings of a column, nested ones too, are valid UTF-8; nulls are."""
    if isinstance(kind, t.StringType):
        valid = f.is_valid_utf8(column)
    elif not has_strings(kind):
        valid = f.lit(True)
    elif isinstance(kind, t.ArrayType):
        valid = f.forall(column, lambda value: is_valid_utf8(value, kind.elementType))
    elif isinstance(kind, t.MapType):
        entry = t.StructType().add("key", kind.keyType).add("value", kind.valueType)
        valid = is_valid_utf8(f.map_entries(column), t.ArrayType(entry))
    else:
        fields = kind.fields if isinstance(kind, t.StructType) else []
        parts = (is_valid_utf8(column.getField(field.name), field.dataType) for field in fields)
        valid = reduce(and_, parts, f.lit(True))
    return f.coalesce(valid, f.lit(True))


def unfit_type(kind: t.DataType) -> str | None:
    """Name the first type inside `kind` that Parquet can't store without loss; None if there is none."""
    if _levels(kind) > _MAX_LEVELS:
        return f"{kind.typeName()} of more than {_MAX_LEVELS} levels in Parquet"
    return _unfit_part(kind)


def clashing_fields(kind: t.DataType) -> str | None:
    """Describe a struct inside `kind` with two fields whose names differ in case at most."""
    if isinstance(kind, t.StructType) and (twins := same_names(kind.names)) is not None:
        return f"struct with two fields of one name, {twins[0]!r} and {twins[1]!r}"
    return next((found for part in _parts(kind) if (found := clashing_fields(part))), None)


def same_names(names: Sequence[str]) -> tuple[str, str] | None:
    """Find two names that differ in case at most.

    Examples
    --------
    >>> same_names(["id", "n", "ID"])
    ('id', 'ID')
    """
    earlier: dict[str, str] = {}
    for name in names:
        if name.lower() in earlier:
            return earlier[name.lower()], name
        earlier[name.lower()] = name
    return None


def _unfit_part(kind: t.DataType) -> str | None:
    if isinstance(kind, t.StructType) and not kind.fields:
        return "struct without fields"
    if parts := _parts(kind):
        return clashing_fields(kind) or next((name for part in parts if (name := _unfit_part(part))), None)
    return None if isinstance(kind, PLAIN_TYPES) else kind.simpleString()


def _parts(kind: t.DataType) -> list[t.DataType]:
    """Return the types directly inside a nested type."""
    if isinstance(kind, t.ArrayType):
        return [kind.elementType]
    if isinstance(kind, t.MapType):
        return [kind.keyType, kind.valueType]
    return [field.dataType for field in kind.fields] if isinstance(kind, t.StructType) else []


def _levels(kind: t.DataType) -> int:
    """Count a column's levels in Parquet: two for an array or a map, one for any other type."""
    own = 2 if isinstance(kind, t.ArrayType | t.MapType) else 1
    return own + max(map(_levels, _parts(kind)), default=0)
