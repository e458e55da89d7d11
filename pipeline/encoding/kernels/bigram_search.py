"""Bigrams: find the listed pairs of neighbouring tokens, and let their rows count in place of the tokens'."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lakevec.pipeline.encoding.kernels.alignment import CACHE_LINE, align
from lakevec.pipeline.encoding.kernels.compilation import compile_inline, compile_loop
from lakevec.pipeline.encoding.kernels.pooling import BLOCK_TOKENS, PairTerms
from lakevec.pipeline.encoding.kernels.simd import fetch_element, find_key, line_size
from lakevec.pipeline.model.bigrams import Bigrams

# How full buckets are on average: then few are full.
_LOAD = 0.6
# Fibonacci hashing: 2**64 divided by the golden ratio, odd.
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)
_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)


class BigramTable:
    """A hash table of bigrams, for texts whose tokens have the ids 0 to V - 1.

    Parameters
    ----------
    bigrams : Bigrams
        Copied into the order of the hash table, unless it has this order.
    tokens : int
        Number of tokens, V.

    Attributes
    ----------
    bigrams : Bigrams
        In the order of the hash table, read-only, with rows that begin with a cache line.

    Notes
    -----
    A bucket is a cache line of keys, and the number of its first row. One comparison searches all of it,
    without a branch that the processor can't foresee. A pair that finds its bucket full is in a later one. A
    key has 4 bytes if ids have 2, else 8.

    Examples
    --------
    >>> pairs, rows = np.array([[0, 1], [1, 1]], np.int32), np.array([[7], [8]], np.int8)
    >>> table = BigramTable(Bigrams(pairs, rows, np.ones(2, np.uint8), 0.5), tokens=2)
    >>> ids = np.array([0, 0, 1, 0, 1], np.int32)
    >>> terms = table.split(ids, np.array([0, 3, 5]))
    >>> terms.middles.tolist()
    [2, 4]
    >>> ids[:2].tolist(), terms.rows[ids[2]].tolist(), ids[3].tolist(), terms.rows[ids[4]].tolist()
    ([0, 0], [7], 0, [7])
    """

    def __init__(self, bigrams: Bigrams, tokens: int) -> None:
        # The key of all ones is an empty place.
        kind = np.uint32 if tokens < 1 << 16 else np.uint64
        size = CACHE_LINE // np.dtype(kind).itemsize
        buckets = int(len(bigrams) / size / _LOAD) + 1
        # Pairs that find the last buckets full go behind them.
        spare = len(bigrams) // (size - 1) + 1
        self._keys = align(np.full((buckets + spare) * size, ~kind(0)))
        self._buckets = buckets
        places = np.empty(len(bigrams), np.int64)
        fill_buckets(np.ascontiguousarray(bigrams.pairs), buckets, self._keys, places)
        used = np.bincount(places // size, minlength=buckets + spare)
        self._keys[size - 1 :: size] = np.cumsum(used) - used
        self.bigrams = _arrange(bigrams, np.argsort(places))
        # Mapped files are read-only, too, and Numba compiles once for each type.
        self._keys.flags.writeable = False

    def split(self, ids: np.ndarray, offsets: np.ndarray, weights: np.ndarray | None = None) -> PairTerms:
        """Replace the id of each listed pair's second token by the pair's row.

        Within each block of 256 tokens, the rows of pairs go behind the other ids; both keep their order.

        Parameters
        ----------
        ids : int32 ndarray of shape (T,)
            Replaced in place.
        offsets : int64 ndarray of shape (N + 1,)
            Text n has ``ids[offsets[n]:offsets[n + 1]]``; tokens of two texts are no pair.
        weights : float32 ndarray of shape (T,), optional
            Weight of each token, which keeps to its id.

        Returns
        -------
        PairTerms
            Which of the ids are now rows of pairs.
        """
        texts = len(offsets) - 1
        blocks, middles = np.empty(texts, np.int64), np.empty(texts + len(ids) // BLOCK_TOKENS, np.int64)
        scratch = [np.empty(BLOCK_TOKENS, kind) for kind in (np.uint64, np.int32, np.float32)]
        split_texts(ids, offsets, weights, self._buckets, self._keys, middles, blocks, *scratch)
        own = self.bigrams
        return PairTerms(own.embeddings, own.multipliers, np.float32(own.scale), middles, blocks)


def _arrange(bigrams: Bigrams, order: np.ndarray) -> Bigrams:
    """Return bigrams in another order, read-only and aligned; copy them if needed."""
    arrays = bigrams.pairs, bigrams.embeddings, bigrams.multipliers
    if (np.diff(order) < 0).any():
        arrays = tuple(array[order] for array in arrays)
    pairs, embeddings, multipliers = (align(array).view() for array in arrays)
    for array in (pairs, embeddings, multipliers):
        array.flags.writeable = False
    return replace(bigrams, pairs=pairs, embeddings=embeddings, multipliers=multipliers)


@compile_inline
def _pack(first: int, second: int, keys: np.ndarray) -> int:
    """Pack two ids; a key has half of its bits for each."""
    return np.uint64(first) << np.uint64(256 // line_size(keys)) | np.uint64(second)


@compile_inline
def _find_bucket(key: int, buckets: int, keys: np.ndarray) -> int:
    """Return the place at which the bucket of a key begins."""
    # The upper bits of the product depend on all bits of the key.
    mixed = (key * _FACTOR) >> _HALF
    return ((mixed * np.uint64(buckets)) >> _HALF) * np.uint64(line_size(keys))


@compile_inline
def _is_free(place: int, keys: np.ndarray) -> bool:
    return np.uint64(keys[place]) == _ONES >> np.uint64(64 - 512 // line_size(keys))


@compile_loop
def fill_buckets(pairs: np.ndarray, buckets: int, keys: np.ndarray, places: np.ndarray) -> None:
    """Put each pair into the first free place from its bucket on, and write its place.

    The last number of a bucket is no place. Pairs in the order of their places get the same places again.
    """
    size = line_size(keys)
    for pair in range(len(pairs)):
        key = _pack(pairs[pair, 0], pairs[pair, 1], keys)
        place = np.int64(_find_bucket(key, buckets, keys))
        while place % size == size - 1 or not _is_free(place, keys):
            place += 1
        keys[place], places[pair] = key, place


@compile_loop
def split_texts(
    ids: np.ndarray,
    offsets: np.ndarray,
    weights: np.ndarray | None,
    buckets: int,
    keys: np.ndarray,
    middles: np.ndarray,
    blocks: np.ndarray,
    found: np.ndarray,
    rows: np.ndarray,
    factors: np.ndarray,
) -> None:
    """Do what `BigramTable.split` does; `found`, `rows` and `factors` are scratch space for a block."""
    block = 0
    for text in range(len(offsets) - 1):
        blocks[text] = block
        first, last = offsets[text], offsets[text + 1]
        previous = -1
        for start in range(first, max(last, first + 1), BLOCK_TOKENS):
            own = ids[start : min(start + BLOCK_TOKENS, last)]
            factor = None if weights is None else weights[start : start + len(own)]
            following = own[-1] if len(own) else -1
            _fetch_buckets(own, previous, buckets, keys, found)
            middles[block] = start + _split_block(own, previous, factor, keys, found, rows, factors)
            previous = following
            block += 1


@compile_inline
def _fetch_buckets(ids: np.ndarray, previous: int, buckets: int, keys: np.ndarray, found: np.ndarray) -> None:
    """Find the bucket of each token and the one before, and fetch it into the processor's cache."""
    for token in range(len(ids)):
        bucket = _find_bucket(_pack(previous, ids[token], keys), buckets, keys)
        fetch_element(keys, bucket)
        found[token] = bucket
        previous = ids[token]


@compile_inline
def _split_block(
    ids: np.ndarray,
    previous: int,
    weights: np.ndarray | None,
    keys: np.ndarray,
    buckets: np.ndarray,
    rows: np.ndarray,
    factors: np.ndarray,
) -> int:
    """Put the rows of pairs behind the other ids; return the number of these."""
    # Unsigned numbers, since Numba lets negative ones count from the end.
    pairs = singles = np.uint64(0)
    last, size = np.uint64(line_size(keys) - 1), np.uint64(line_size(keys))
    for token in range(len(ids)):
        current, bucket = ids[token], buckets[token]
        key = _pack(previous, current, keys)
        place = find_key(keys, bucket, key)
        while (place == last) & (not _is_free(bucket + last - np.uint64(1), keys)):
            bucket += size
            place = find_key(keys, bucket, key)
        # A choice, not a branch: the processor can't foresee which pairs are listed.
        is_pair = np.uint64((place != last) & (previous >= 0))
        rows[pairs], ids[singles] = np.uint64(keys[bucket + last]) + place, current
        if weights is not None:
            factors[pairs], weights[singles] = weights[token], weights[token]
        pairs += is_pair
        singles += np.uint64(1) - is_pair
        previous = current
    for pair in range(len(ids) - np.int64(singles)):
        ids[np.int64(singles) + pair] = rows[pair]
        if weights is not None:
            weights[np.int64(singles) + pair] = factors[pair]
    return np.int64(singles)
