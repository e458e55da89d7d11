"""Pooling: average or sum a table's rows over the tokens of each text.

``docs/decisions.md`` compares the speed with that of other libraries.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lakevec.pipeline.encoding.kernels.bigram_sums import add_strip, add_tile
from lakevec.pipeline.encoding.kernels.compilation import compile_inline, compile_loop, compile_part
from lakevec.pipeline.encoding.kernels.position_weights import weigh_positions
from lakevec.pipeline.encoding.kernels.simd import (
    STRIP,
    TILE,
    load_float,
    sum_squares,
    sum_strip,
    sum_tile,
)

# Blocks of this many tokens are summed in float32, and the blocks in float64. That is as fast as float32
# alone, and sums of millions of tokens stay precise. As many int8 numbers have a sum that fits into int16.
_BLOCK_TOKENS = 256
# For this many texts, one tile of columns is summed before the next, so that the tile's frequent rows stay in
# the processor's cache.
_GROUP_TEXTS = 32
_ONLY_ROW = np.int64(0)


class PairTerms(NamedTuple):
    """Terms that are rows of bigrams.

    Parameters
    ----------
    rows : int8 ndarray of shape (B, D)
    scales : float32 ndarray of shape (D,)
        Pair b has the row ``scales * rows[b]``.
    ids, offsets, weights : ndarray
        As in `Terms`.
    """

    rows: np.ndarray
    scales: np.ndarray
    ids: np.ndarray
    offsets: np.ndarray
    weights: np.ndarray | None = None


@compile_loop
def pool_texts(
    table: np.ndarray,
    ids: np.ndarray,
    offsets: np.ndarray,
    out: np.ndarray,
    normalize: bool,
    is_sum: bool,
    block: np.ndarray,
    total: np.ndarray,
    weights: np.ndarray | None,
    divisors: np.ndarray | None,
    pairs: PairTerms | None,
) -> int:
    """Pool texts for `pool_mean` and `pool_sum`; `block` (1, D) and `total` (D,) are scratch space.

    Numba compiles a loop of its own for each None, so pooling without weights multiplies nothing.
    """
    zeros = 0
    texts = len(offsets) - 1
    tiled = table.shape[1] // TILE * TILE
    for group in range(0, texts, _GROUP_TEXTS):
        behind = min(group + _GROUP_TEXTS, texts)
        for column in range(0, tiled, TILE):
            for text in range(group, behind):
                first, last = offsets[text], offsets[text + 1]
                begin, end = _pairs_of(pairs, text)
                if max(last - first, end - begin) <= _BLOCK_TOKENS:
                    _sum_tile(table, ids, weights, first, last, column, out, text, pairs, begin, end)
        for text in range(group, behind):
            first, last = offsets[text], offsets[text + 1]
            begin, end = _pairs_of(pairs, text)
            divisor = _divisor(divisors, text, last - first + end - begin)
            if max(last - first, end - begin) <= _BLOCK_TOKENS:
                _sum_columns(table, ids, weights, first, last, out, text, pairs, begin, end)
                is_zero = _scale_short(out, text, divisor, normalize, is_sum)
            else:
                _sum_blocks(table, ids, weights, first, last, block, total, pairs, begin, end)
                is_zero = _scale_long(total, out, text, divisor, normalize, is_sum)
            zeros += is_zero
    return zeros


@compile_inline
def _pairs_of(pairs: PairTerms | None, text: int) -> tuple[int, int]:
    """Return where a text's rows of bigrams begin and end."""
    return (0, 0) if pairs is None else (pairs.offsets[text], pairs.offsets[text + 1])


@compile_inline
def _sum_tile(
    table: np.ndarray,
    ids: np.ndarray,
    weights: np.ndarray | None,
    first: int,
    last: int,
    column: int,
    out: np.ndarray,
    text: int,
    pairs: PairTerms | None,
    begin: int,
    end: int,
) -> None:
    """Sum one tile of the rows ``ids[first:last]``, and of bigrams, ``pairs.ids[begin:end]``."""
    sum_tile(table, ids, weights, first, last, column, out, text)
    if pairs is not None:
        rows, scales, terms, _, factors = pairs
        add_tile(rows, scales, terms, factors, begin, end, column, out, text)


@compile_part
def _divisor(divisors: np.ndarray | None, text: int, tokens: int) -> float:
    return np.float64(tokens) if divisors is None else divisors[text]


@compile_part
def _sum_columns(
    table: np.ndarray,
    ids: np.ndarray,
    weights: np.ndarray | None,
    first: int,
    last: int,
    out: np.ndarray,
    text: int,
    pairs: PairTerms | None,
    begin: int,
    end: int,
) -> None:
    """Sum the columns after the last whole tile."""
    width = table.shape[1]
    whole = width // STRIP * STRIP
    for column in range(width // TILE * TILE, whole, STRIP):
        sum_strip(table, ids, weights, first, last, column, out, text)
    out[text, whole:] = 0.0
    for position in range(first, last):
        row = ids[position]
        for column in range(whole, width):
            out[text, column] += load_float(table, row, column, weights, position)
    if pairs is not None:
        _add_columns(pairs, pairs.weights, begin, end, out, text)


@compile_part
def _add_columns(
    pairs: PairTerms, weights: np.ndarray | None, first: int, last: int, out: np.ndarray, text: int
) -> None:
    # Numba leaves a branch out if an argument is None, but not if a field is.
    rows, scales, ids, _, _ = pairs
    width = rows.shape[1]
    whole = width // STRIP * STRIP
    for column in range(width // TILE * TILE, whole, STRIP):
        add_strip(rows, scales, ids, weights, first, last, column, out, text)
    for column in range(whole, width):
        total = np.float32(0.0)
        for position in range(first, last):
            value = np.float32(rows[ids[position], column])
            if weights is not None:
                value *= weights[position]
            total += value
        out[text, column] += scales[column] * total


@compile_part
def _sum_blocks(
    table: np.ndarray,
    ids: np.ndarray,
    weights: np.ndarray | None,
    first: int,
    last: int,
    block: np.ndarray,
    total: np.ndarray,
    pairs: PairTerms | None,
    begin: int,
    end: int,
) -> None:
    """Sum the rows of a long text into `total`, block by block."""
    total[:] = 0.0
    for _ in range(0, max(last - first, end - begin), _BLOCK_TOKENS):
        stop, until = min(first + _BLOCK_TOKENS, last), min(begin + _BLOCK_TOKENS, end)
        for column in range(0, table.shape[1] // TILE * TILE, TILE):
            _sum_tile(table, ids, weights, first, stop, column, block, _ONLY_ROW, pairs, begin, until)
        _sum_columns(table, ids, weights, first, stop, block, _ONLY_ROW, pairs, begin, until)
        first, begin = stop, until
        for column in range(len(total)):
            total[column] += block[0, column]


@compile_part
def _scale_short(out: np.ndarray, text: int, divisor: float, normalize: bool, is_sum: bool) -> bool:
    """Turn the sum of a short text, in `out`, into its vector; return whether it is zero."""
    width = out.shape[1]
    whole = width // STRIP * STRIP
    squares = sum_squares(out, text, whole)
    for column in range(whole, width):
        squares += np.float64(out[text, column]) * np.float64(out[text, column])
    factor = _factor(np.sqrt(squares), divisor, normalize, is_sum)
    for column in range(width):
        out[text, column] = np.float32(out[text, column] * factor)
    return squares == 0.0


@compile_part
def _scale_long(
    total: np.ndarray, out: np.ndarray, text: int, divisor: float, normalize: bool, is_sum: bool
) -> bool:
    """Write the vector of a long text, whose sum is in `total`; return whether it is zero."""
    squares = 0.0
    for column in range(len(total)):
        squares += total[column] * total[column]
    factor = _factor(np.sqrt(squares), divisor, normalize, is_sum)
    for column in range(len(total)):
        out[text, column] = np.float32(total[column] * factor)
    return squares == 0.0


@compile_part
def _factor(length: float, divisor: float, normalize: bool, is_sum: bool) -> float:
    # The sum is zero if a text has no tokens, or if its rows cancel out exactly.
    if length == 0.0:
        return 0.0
    if is_sum:
        return 1.0
    return 1.0 / (length if normalize else divisor)


class Terms(NamedTuple):
    """What is added up for each text.

    Parameters
    ----------
    ids : int32 ndarray of shape (T,)
        Rows to add up, each in ``[0, V)``.
    offsets : int64 ndarray of shape (N + 1,)
        Text n has ``ids[offsets[n]:offsets[n + 1]]``.
    weights : float32 ndarray of shape (T,), optional
        How much each row counts. Default: 1.
    divisors : float64 ndarray of shape (N,), optional
        Divisor of each text's mean. Default: the number of its rows.
    """

    ids: np.ndarray
    offsets: np.ndarray
    weights: np.ndarray | None = None
    divisors: np.ndarray | None = None


def pool_mean(
    table: np.ndarray,
    ids: np.ndarray,
    offsets: np.ndarray,
    out: np.ndarray,
    *,
    normalize: bool,
    position_scale: float | None = None,
) -> int:
    """Average the table's rows over each text's tokens.

    Parameters
    ----------
    table : float32 or float16 ndarray of shape (V, D)
        C-contiguous and finite; may be read-only. float16 needs a processor that `widens_halves`.
    ids, offsets : ndarray
        As in `Terms`.
    out : float32 ndarray of shape (N, D)
        Receives the vectors; zeros for a text without tokens.
    normalize : bool
        Whether vectors are scaled to length 1.
    position_scale : float, optional
        Scale of the tokens' weights, see `weigh_positions`. Default: all tokens count alike.

    Returns
    -------
    int
        Number of zero vectors.

    Notes
    -----
    With S the sum of a text's rows and n their number, the result is ``S / n``, or ``S / |S|`` when
    normalised. With weights w, S is the sum of ``w * row``, each product rounded to float32, and n the sum of
    the weights. Rows are added in token order, so the bits depend on the text alone, never on the other
    texts of a batch.

    Examples
    --------
    >>> table = np.array([[1, 0], [0, 1], [1, 1]], dtype=np.float32)
    >>> ids, offsets = np.array([0, 1, 1, 2], dtype=np.int32), np.array([0, 4, 4])
    >>> out = np.empty((2, 2), dtype=np.float32)
    >>> pool_mean(table, ids, offsets, out, normalize=False)
    1
    >>> out
    array([[0.5 , 0.75],
           [0.  , 0.  ]], dtype=float32)
    """
    weights, divisors = (None, None) if position_scale is None else weigh_positions(offsets, position_scale)
    return pool(table, Terms(ids, offsets, weights, divisors), out, normalize=normalize, is_sum=False)


def pool_sum(table: np.ndarray, ids: np.ndarray, offsets: np.ndarray, out: np.ndarray) -> int:
    """Sum the table's rows over each text's tokens; return the number of zero sums. See `pool_mean`.

    Notes
    -----
    Rows are added in float32 in blocks of 256 tokens, in token order, and blocks in float64; the sum is
    rounded to float32 once. An element is off by at most ``256 * 2**-24`` of the sum of the rows' absolute
    values there.

    Examples
    --------
    >>> table = np.array([[1, 0], [0, 1], [1, 1]], dtype=np.float32)
    >>> ids, offsets = np.array([0, 1, 1, 2], dtype=np.int32), np.array([0, 4, 4])
    >>> out = np.empty((2, 2), dtype=np.float32)
    >>> pool_sum(table, ids, offsets, out)
    1
    >>> out
    array([[2., 3.],
           [0., 0.]], dtype=float32)
    """
    return pool(table, Terms(ids, offsets), out, normalize=False, is_sum=True)


def pool(
    table: np.ndarray,
    terms: Terms,
    out: np.ndarray,
    *,
    normalize: bool,
    is_sum: bool,
    pairs: PairTerms | None = None,
) -> int:
    """Average or sum weighted rows; return the number of zero vectors. See `pool_mean` and `pool_sum`."""
    width = table.shape[1]
    block, total = np.empty((1, width), np.float32), np.empty(width, np.float64)
    if table.dtype == np.float16:
        table = table.view(np.int16)  # Numba knows no float16
    ids, offsets, *weighting = terms
    return int(pool_texts(table, ids, offsets, out, normalize, is_sum, block, total, *weighting, pairs))
