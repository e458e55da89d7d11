"""Exact search: the cosine of every vector of an output with a query, on all cores."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakevec.pipeline.arrow_arrays import from_numpy, from_strings
from lakevec.pipeline.errors import DataError, SettingsError
from lakevec.pipeline.reading.vector_reader import RowGroup, VectorReader, in_threads

# Vectors that are still in a core's cache when they are read a second time.
_BLOCK_BYTES = 1 << 18
# A key that stands more often is no key, and each of its rows costs another pass over all vectors.
_MOST_ROWS = 1_000
# More than the error of a cosine in float32.
_MARGIN = 1e-5


class Place(NamedTuple):
    """A row of an output: the position of its row group among all, and its row there."""

    group: int
    row: int


class Hit(NamedTuple):
    """A row that was found, and its cosine with the query."""

    score: float
    place: Place


def find_nearest(
    reader: VectorReader, queries: np.ndarray, limit: int, *, without: Collection[Place] = ()
) -> list[Hit]:
    """Find the rows with the largest cosines.

    Parameters
    ----------
    reader : VectorReader
    queries : float ndarray of shape (Q, D)
        No vector is zero. With several, a row counts by its largest cosine.
    limit : int
        Maximum number of rows.
    without : collection of Place, optional
        Rows to leave out.

    Returns
    -------
    list of Hit
        Best first; rows of equal score in the order of the output. Rows whose vector is null or zero have no
        cosine, and are never found.

    Notes
    -----
    Every vector is compared in float32, and all that may be among the best are compared again in float64,
    which decides. Lengths are computed, since a model may not normalise. A common factor changes no cosine,
    so int8 needs no scales.
    """
    units = queries / np.linalg.norm(queries.astype(np.float64), axis=1, keepdims=True)
    units_float32 = units.astype(np.float32)
    rows_without: defaultdict[int, list[int]] = defaultdict(list)
    for place in without:
        rows_without[place.group].append(place.row)

    def search(numbered: tuple[int, RowGroup]) -> list[Hit]:
        number, group = numbered
        left_out = rows_without.get(number)
        found: list[Hit] = []
        for matrix, rows in reader.read_blocks(group):
            scores = _cosines(matrix, units_float32)
            if left_out:
                scores[np.isin(rows, left_out)] = -np.inf
            best = _candidates(scores, limit)
            exact = _cosines(matrix[best].astype(np.float64), units).tolist()
            places = (Place(number, row) for row in rows[best].tolist())
            found = _best([*found, *map(Hit, exact, places)], limit)
        return found

    found = [hit for hits in in_threads(search, list(enumerate(reader.groups))) for hit in hits]
    return _best(found, limit)


def find_rows(reader: VectorReader, key: str, value: str) -> list[Place]:
    """Find the rows that have a value in a column.

    Parameters
    ----------
    reader : VectorReader
    key : str
        Name of the column.
    value : str
        The value as text, which is read as the column's type.

    Raises
    ------
    SettingsError
        If the column's type has no such value, or no row has it, or more than 1,000 rows have it.
    """

    def search(numbered: tuple[int, RowGroup]) -> list[Place]:
        number, group = numbered
        column = reader.read_columns(group, [key]).column(0)
        is_same = pc.equal(column, _read_as(value, key, column.type))
        return [Place(number, row) for row in pc.indices_nonzero(is_same).to_pylist()]

    found = [place for places in in_threads(search, list(enumerate(reader.groups))) for place in places]
    if not found:
        raise SettingsError(
            f"no row has the --key-of given in column {key!r}",
            remedy="check the value, or name another column with --key",
        )
    if len(found) > _MOST_ROWS:
        raise SettingsError(
            f"too many rows have the --key-of given in column {key!r}",
            got=f"{len(found):,}",
            expected=f"at most {_MOST_ROWS:,}",
            remedy="name another column with --key",
        )
    return found


def vectors_at(reader: VectorReader, places: Sequence[Place]) -> np.ndarray:
    """Return the vectors at some places that are neither null nor zero: float32 of shape (N, D).

    Raises
    ------
    DataError
        If there is none.
    """
    found = []
    for number in sorted({place.group for place in places}):
        matrix, rows = reader.read_vectors(reader.groups[number])
        found.append(matrix[np.isin(rows, [place.row for place in places if place.group == number])])
    vectors = np.concatenate(found).astype(np.float32)
    vectors = vectors[vectors.any(axis=1)]
    if not len(vectors):
        raise DataError(
            "the row of --key-of has no neighbours",
            got="a null vector or zeros",
            expected="the vector of a text with a known token",
        )
    return vectors


def read_hits(reader: VectorReader, hits: Sequence[Hit], columns: Sequence[str]) -> list[dict[str, Any]]:
    """Return the values of some columns for each hit."""
    if not columns:  # a table without columns has no rows
        return [{} for _ in hits]
    values: dict[Place, dict[str, Any]] = {}
    for number in sorted({hit.place.group for hit in hits}):
        places = [hit.place for hit in hits if hit.place.group == number]
        rows = from_numpy(np.array([place.row for place in places]))
        table = reader.read_columns(reader.groups[number], columns).take(rows)
        values.update(zip(places, table.to_pylist(), strict=True))
    return [values[hit.place] for hit in hits]


def _best(hits: list[Hit], limit: int) -> list[Hit]:
    return sorted(hits, key=lambda hit: (-hit.score, hit.place))[:limit]


def _candidates(scores: np.ndarray, limit: int) -> np.ndarray:
    """Return the positions of all scores that may be among the best, were they exact."""
    known = np.flatnonzero(scores > -np.inf)
    if len(known) <= limit:
        return known
    lowest = np.partition(scores[known], -limit)[-limit]
    near: np.ndarray = known[scores[known] >= lowest - _MARGIN]
    return near


def _cosines(matrix: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Return each vector's largest cosine with queries of length 1; -infinity for zeros.

    Parameters
    ----------
    matrix : ndarray of shape (N, D)
    units : float ndarray of shape (Q, D)
        Its type is that of the arithmetic.

    Returns
    -------
    ndarray of shape (N,)
    """
    scores = np.full(len(matrix), -np.inf, dtype=units.dtype)
    step = max(1, _BLOCK_BYTES // (matrix.shape[1] * units.itemsize))
    for start in range(0, len(matrix), step):
        block = matrix[start : start + step].astype(units.dtype, copy=False)
        lengths = np.sqrt(np.einsum("ij,ij->i", block, block))
        products = reduce(np.maximum, [np.einsum("ij,j->i", block, unit) for unit in units])
        np.divide(products, lengths, out=scores[start : start + step], where=lengths > 0)
    return scores


def _read_as(value: str, key: str, kind: pa.DataType) -> pa.Scalar:
    try:
        return from_strings([value]).cast(kind)[0]
    except pa.ArrowException:
        raise SettingsError(
            "--key-of", expected=f"a value of column {key!r}, which has the type {kind}"
        ) from None
