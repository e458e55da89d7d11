"""Columns of the Parquet files that hold tasks, checked before anything is embedded."""

from __future__ import annotations

from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakevec.pipeline.errors import InputError
from lakevec.pipeline.storage import Location

Kind = Literal["text", "number", "texts"]

_TYPES = {"text": pa.string(), "number": pa.float64(), "texts": pa.list_(pa.string())}


def column_names(file: Location) -> list[str]:
    """Return the names of a file's columns.

    Parameters
    ----------
    file : Location
        A Parquet file.

    Returns
    -------
    list of str

    Raises
    ------
    InputError
        If it can't be read.
    """
    try:
        names: list[str] = pq.read_schema(file.path, filesystem=file.filesystem).names
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(file, error) from None
    return names


def read_columns(file: Location, kinds: dict[str, Kind]) -> dict[str, list[Any]]:
    """Read columns of a task.

    Parameters
    ----------
    file : Location
        A Parquet file.
    kinds : dict of str to {"text", "number", "texts"}
        The columns and what they hold; what a file holds besides is left alone.

    Returns
    -------
    dict of str to list
        Strings, floats or lists of strings, none of them null.

    Raises
    ------
    InputError
        If the file can't be read, lacks a column, holds no row, or a null or another type.
    """
    missing = [name for name in kinds if name not in (present := column_names(file))]
    if missing:
        raise InputError(
            f"task file {file.path!r} lacks {', '.join(map(repr, missing))}",
            got=f"columns {', '.join(map(repr, present))}",
            expected=f"{', '.join(map(repr, kinds))}",
        )
    try:
        table = pq.read_table(file.path, columns=list(kinds), filesystem=file.filesystem)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(file, error) from None
    if table.num_rows == 0:
        raise InputError(f"task file {file.path!r} holds no row", expected="at least one")
    return {name: _read_column(file, name, table[name], kind) for name, kind in kinds.items()}


def read_scores(file: Location, columns: dict[str, list[Any]], name: str = "score") -> list[float]:
    """Return what people scored; a column of one value correlates with nothing.

    Parameters
    ----------
    file : Location
        Where the columns come from.
    columns : dict of str to list
        From `read_columns`.
    name : str, default="score"

    Returns
    -------
    list of float

    Raises
    ------
    InputError
    """
    scores: list[float] = columns[name]
    if len(set(scores)) < 2:
        raise InputError(
            f"task file {file.path!r}: column {name!r}", got="one value only", expected="scores that differ"
        )
    return scores


def _read_column(file: Location, name: str, column: pa.ChunkedArray, kind: Kind) -> list[Any]:
    where = f"task file {file.path!r}: column {name!r}"
    try:
        cast = pc.cast(column, _TYPES[kind])
    except pa.ArrowException:  # its message would show a value
        expected = {"text": "strings", "number": "numbers, or strings of them", "texts": "lists of strings"}
        raise InputError(where, got=str(column.type), expected=expected[kind]) from None
    if cast.null_count or (kind == "texts" and pc.list_flatten(cast).null_count):
        raise InputError(where, got="nulls", expected="none")
    if kind == "texts" and pc.min(pc.list_value_length(cast)).as_py() == 0:
        raise InputError(where, got="an empty list", expected="at least one text in each")
    if kind == "number" and not pc.all(pc.is_finite(cast)).as_py():
        raise InputError(where, got="NaN or infinity", expected="finite numbers")
    values: list[Any] = cast.to_pylist()
    return values


def _unreadable(file: Location, error: Exception) -> InputError:
    return InputError(
        f"task file {file.path!r} can't be read",
        got=" ".join(str(error).split())[:200],
        expected="Parquet as docs/evaluation.md tells it",
    )
