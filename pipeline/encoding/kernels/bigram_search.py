"""Bigrams: find the listed pairs of neighbouring tokens, and let their rows count in place of the tokens'."""

from __future__ import annotations

import numpy as np

from lakevec.pipeline.encoding.kernels.compilation import compile_inline, compile_loop
from lakevec.pipeline.encoding.kernels.simd import BUCKET, fetch_element, find_key

# Places of the hash table per pair, at least: then few buckets are full.
_PLACES_PER_PAIR = 2
# Buckets are fetched into the processor's cache this many tokens before they are read.
_TOKENS_AHEAD = 16
_CACHE_LINE = 64
# Fibonacci hashing: 2**64 divided by the golden ratio, odd.
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)
# No pair is packed as this, since ids are below 2**31.
_EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)


class BigramTable:
    """A hash table of pairs, for texts whose tokens have the rows 0 to V - 1.

    Parameters
    ----------
    pairs : int32 ndarray of shape (B, 2)
        Each pair once.
    first_row : int
        Row of the first pair, V; the others follow.

    Notes
    -----
    A bucket is a cache line of keys. One comparison searches all of it, without a branch that the processor
    can't foresee. A pair of a full bucket is in the next one.

    Examples
    --------
    >>> ids = np.array([0, 0, 1, 0, 1], np.int32)
    >>> BigramTable(np.array([[0, 1]], np.int32), 3).replace(ids, np.array([0, 3, 4, 5]))
    >>> ids.tolist()
    [0, 0, 3, 0, 1]
    """

    def __init__(self, pairs: np.ndarray, first_row: int) -> None:
        places = max(BUCKET, 1 << (_PLACES_PER_PAIR * len(pairs) - 1).bit_length())
        room = np.full(places + _CACHE_LINE // 8, _EMPTY)
        start = -room.ctypes.data % _CACHE_LINE // 8
        self._keys, self._rows = room[start : start + places], np.zeros(places, np.int32)
        fill_buckets(np.ascontiguousarray(pairs), first_row, self._keys, self._rows)

    def replace(self, ids: np.ndarray, offsets: np.ndarray) -> None:
        """Replace the id of each listed pair's second token by the pair's row, in `ids`.

        Parameters
        ----------
        ids : int32 ndarray of shape (T,)
        offsets : int64 ndarray of shape (N + 1,)
            Text n has ``ids[offsets[n]:offsets[n + 1]]``; tokens of two texts are no pair.
        """
        replace_ids(ids, offsets, self._keys, self._rows)


@compile_inline
def _pack(first: int, second: int) -> int:
    return np.uint64(first) << _HALF | np.uint64(second)


@compile_inline
def _find_bucket(key: int, keys: np.ndarray) -> int:
    """Return the place at which the bucket of a key begins."""
    # The upper bits of the product depend on all bits of the key.
    return np.int64((key * _FACTOR) >> _HALF) & (len(keys) - BUCKET)


@compile_loop
def fill_buckets(pairs: np.ndarray, first_row: int, keys: np.ndarray, rows: np.ndarray) -> None:
    """Put each pair and its row into the first free place from its bucket on."""
    for pair in range(len(pairs)):
        key = _pack(pairs[pair, 0], pairs[pair, 1])
        place = _find_bucket(key, keys)
        while keys[place] != _EMPTY:
            place = (place + 1) & (len(keys) - 1)
        keys[place], rows[place] = key, first_row + pair


@compile_loop
def replace_ids(ids: np.ndarray, offsets: np.ndarray, keys: np.ndarray, rows: np.ndarray) -> None:
    """Do what `BigramTable.replace` does."""
    last = len(ids) - 1
    for text in range(len(offsets) - 1):
        first = offsets[text]
        if offsets[text + 1] == first:
            continue
        previous = ids[first]
        for token in range(first + 1, offsets[text + 1]):
            ahead = min(token + _TOKENS_AHEAD, last)
            bucket = _find_bucket(_pack(ids[ahead - 1], ids[ahead]), keys)
            fetch_element(keys, bucket)
            fetch_element(rows, bucket)
            current = ids[token]
            key = _pack(previous, current)
            bucket = _find_bucket(key, keys)
            found = find_key(keys, bucket, key)
            while found == BUCKET and keys[bucket + BUCKET - 1] != _EMPTY:
                bucket = (bucket + BUCKET) & (len(keys) - 1)
                found = find_key(keys, bucket, key)
            # A choice, not a branch: the processor can't foresee which pairs are listed.
            row = rows[bucket + (found & (BUCKET - 1))]
            ids[token] = current if found == BUCKET else row
            previous = current
