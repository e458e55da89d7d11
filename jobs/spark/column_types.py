"""Which types of Spark's columns an output can hold: what Spark, Arrow and Parquet all keep without loss."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import types as t

# Every other type is refused by name.
PLAIN_TYPES = (
    t.BinaryType,
    t.BooleanType,
    t.ByteType,
    t.DateType,
    t.DecimalType,
    t.DoubleType,
    t.FloatType,
    t.IntegerType,
    t.LongType,
    t.ShortType,
    t.StringType,
    t.CharType,
    t.VarcharType,
    t.TimestampType,
    t.TimestampNTZType,
)
# Readers of Parquet built on Arrow take a schema of 100 levels; the file's root is one of them.
_MOST_LEVELS = 99


def unfit_type(kind: t.DataType) -> str | None:
    """Say why a column's type doesn't survive the trip to Parquet and back.

    Parameters
    ----------
    kind : pyspark.sql.types.DataType

    Returns
    -------
    str or None
        The first type inside `kind` that is unfit; None if all are fit.
    """
    if _levels(kind) > _MOST_LEVELS:
        return f"{kind.typeName()} of more than {_MOST_LEVELS} levels in Parquet"
    return _unfit_part(kind)


def clashing_fields(kind: t.DataType) -> str | None:
    """Name a struct inside a type that has two fields which most readers can't tell apart.

    Parameters
    ----------
    kind : pyspark.sql.types.DataType

    Returns
    -------
    str or None
    """
    if isinstance(kind, t.StructType) and (twins := same_names(kind.names)) is not None:
        return f"struct with two fields of one name, {twins[0]!r} and {twins[1]!r}"
    return next((found for part in _parts(kind) if (found := clashing_fields(part))), None)


def same_names(names: Sequence[str]) -> tuple[str, str] | None:
    """Find two names that differ in case at most.

    Parameters
    ----------
    names : sequence of str

    Returns
    -------
    (str, str) or None

    Examples
    --------
    >>> same_names(["id", "n", "ID"])
    ('id', 'ID')
    """
    seen: dict[str, str] = {}
    for name in names:
        if name.lower() in seen:
            return seen[name.lower()], name
        seen[name.lower()] = name
    return None


def _unfit_part(kind: t.DataType) -> str | None:
    if isinstance(kind, t.StructType) and not kind.fields:
        return "struct without fields"
    if parts := _parts(kind):
        return clashing_fields(kind) or next((name for part in parts if (name := _unfit_part(part))), None)
    return None if isinstance(kind, PLAIN_TYPES) else kind.simpleString()


def _parts(kind: t.DataType) -> list[t.DataType]:
    """Return the types that a nested type is made of."""
    if isinstance(kind, t.ArrayType):
        return [kind.elementType]
    if isinstance(kind, t.MapType):
        return [kind.keyType, kind.valueType]
    return [field.dataType for field in kind.fields] if isinstance(kind, t.StructType) else []


def _levels(kind: t.DataType) -> int:
    """Count Parquet's levels of a column: two for an array or a map, one for anything else."""
    own = 2 if isinstance(kind, t.ArrayType | t.MapType) else 1
    return own + max(map(_levels, _parts(kind)), default=0)
