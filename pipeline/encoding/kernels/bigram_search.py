"""Find the listed pairs of neighbouring tokens in a hash table; their rows replace the second tokens."""

from __future__ import annotations

import numpy as np

from lakevec.pipeline.encoding.kernels.compilation import compile_inline, compile_loop
from lakevec.pipeline.encoding.kernels.pooling import BLOCK_TOKENS
from lakevec.pipeline.encoding.kernels.simd import fetch_element, find_key, line_size

# Fibonacci hashing: 2**64 divided by the golden ratio, odd.
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)
_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)


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
