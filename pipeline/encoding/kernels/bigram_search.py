"""Find the listed pairs of neighbouring tokens in a hash table, and part their rows from other tokens."""

from __future__ import annotations

import numpy as np

from lakevec.pipeline.encoding.kernels.compilation import compile_inline, compile_loop
from lakevec.pipeline.encoding.kernels.simd import find_key, line_size

# Fibonacci hashing: 2**64 divided by the golden ratio, odd.
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)


@compile_inline
def _pack(first: int, second: int, keys: np.ndarray) -> int:
    """Pack two ids; a key has half of its bits for each."""
    return np.uint64(first) << np.uint64(256 // line_size(keys)) | np.uint64(second)


@compile_inline
def _find_bucket(key: int, shift: int, keys: np.ndarray) -> int:
    """Return the place at which the bucket of a key begins."""
    # The upper bits of the product depend on all bits of the key.
    return ((key * _FACTOR) >> np.uint64(shift)) * np.uint64(line_size(keys))


@compile_inline
def _is_free(place: int, keys: np.ndarray) -> bool:
    return np.uint64(keys[place]) == _ONES >> np.uint64(64 - 512 // line_size(keys))


@compile_loop
def fill_buckets(pairs: np.ndarray, shift: int, keys: np.ndarray, places: np.ndarray) -> None:
    """Put each pair into the first free place from its bucket on, and write its place.

    There are ``2**(64 - shift)`` buckets, and more places behind them. The last number of a bucket is no
    place. Pairs in the order of their places get the same places again.
    """
    size = line_size(keys)
    for pair in range(len(pairs)):
        key = _pack(pairs[pair, 0], pairs[pair, 1], keys)
        place = np.int64(_find_bucket(key, shift, keys))
        while place % size == size - 1 or not _is_free(place, keys):
            place += 1
        keys[place], places[pair] = key, place


@compile_loop
def split_texts(
    ids: np.ndarray,
    offsets: np.ndarray,
    weights: np.ndarray | None,
    shift: int,
    keys: np.ndarray,
    rows: np.ndarray,
    row_offsets: np.ndarray,
    factors: np.ndarray,
) -> None:
    """Do what `BigramTable.split` does."""
    # Unsigned numbers, since Numba lets negative ones count from the end.
    token = pairs = singles = np.uint64(0)
    end, size = np.uint64(line_size(keys) - 1), np.uint64(line_size(keys))
    for text in range(len(row_offsets) - 1):
        previous = np.int32(-1)  # no pair has it
        last = np.uint64(offsets[text + 1])
        while token < last:
            current = ids[token]
            key = _pack(previous, current, keys)
            bucket = _find_bucket(key, shift, keys)
            place = find_key(keys, bucket, key)
            while (place == end) & (not _is_free(bucket + end - np.uint64(1), keys)):
                bucket += size
                place = find_key(keys, bucket, key)
            # A choice, not a branch: the processor can't foresee which pairs are listed.
            is_pair = np.uint64(place != end)
            rows[pairs], ids[singles] = np.uint64(keys[bucket + end]) + place, current
            if weights is not None:
                factors[pairs], weights[singles] = weights[token], weights[token]
            pairs += is_pair
            singles += np.uint64(1) - is_pair
            previous = current
            token += np.uint64(1)
        offsets[text + 1], row_offsets[text + 1] = singles, pairs
