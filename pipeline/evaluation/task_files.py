"""Read columns of tasks' Parquet files, and check them before anything is embedded."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import AbstractContextManager
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakevec.pipeline.errors import InputError, rephrase
from lakevec.pipeline.storage import Location

Kind = Literal["text", "number", "texts", "numbers"]

_TYPES = {
    "text": pa.string(),
    "number": pa.float64(),
    "texts": pa.list_(pa.string()),
    "numbers": pa.list_(pa.float64()),
}
_EXPECTED = {
    "text": "strings",
    "number": "numbers, or strings of them",
    "texts": "lists of strings",
    "numbers": "lists of numbers",
}


def column_names(file: Location) -> list[str]:
    """Return the names of a file's columns."""
    with _readable(file):
        names: list[str] = pq.read_schema(file.path, filesystem=file.filesystem).names
    return names


def read_columns(file: Location, kinds: dict[str, Kind]) -> dict[str, list[Any]]:
    """Read columns of a task as strings, floats or lists of them, without nulls.

    Raises
    ------
    InputError
        If the file can't be read, lacks a column or has no row, or if a column has nulls or another type.
    """
    present = column_names(file)
    if missing := [name for name in kinds if name not in present]:
        raise InputError(
            f"task file {file.path!r} lacks {_quoted(missing)}",
            got=f"columns {_quoted(present)}",
            expected=_quoted(kinds),
        )
    with _readable(file):
        table = pq.read_table(file.path, columns=list(kinds), filesystem=file.filesystem)
    if table.num_rows == 0:
        raise InputError(f"task file {file.path!r} holds no row", expected="at least one")
    return {name: _check_column(file, name, table[name], kind) for name, kind in kinds.items()}


def check_varies(file: Location, name: str, values: Collection[Any]) -> None:
    """Raise an InputError if all values of a column are equal, since then any model would score the same."""
    if len(set(values)) < 2:
        raise InputError(
            f"task file {file.path!r}: column {name!r}",
            got="one value only",
            expected=f"{name}s that differ",
        )


def check_filled(file: Location, name: str, lists: Iterable[Collection[Any]]) -> None:
    """Raise an InputError if a list of a column is empty."""
    if not all(lists):
        raise InputError(
            f"task file {file.path!r}: column {name!r}",
            got="an empty list",
            expected="at least one text in each",
        )


def _check_column(file: Location, name: str, column: pa.ChunkedArray, kind: Kind) -> list[Any]:
    where = f"task file {file.path!r}: column {name!r}"
    try:
        cast = pc.cast(column, _TYPES[kind])
    except pa.ArrowException:  # its message would quote a value
        raise InputError(where, got=str(column.type), expected=_EXPECTED[kind]) from None
    parts = pc.list_flatten(cast) if pa.types.is_list(cast.type) else cast
    if cast.null_count or parts.null_count:
        raise InputError(where, got="nulls", expected="none")
    if pa.types.is_floating(parts.type) and not pc.all(pc.is_finite(parts), min_count=0).as_py():
        raise InputError(where, got="NaN or infinity", expected="finite numbers")
    values: list[Any] = cast.to_pylist()
    return values


def _readable(file: Location) -> AbstractContextManager[None]:
    return rephrase(
        InputError,
        f"task file {file.path!r} can't be read",
        on=(OSError, pa.ArrowException),
        expected="Parquet as described in docs/evaluation.md",
    )


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))
