"""A hash table of bigrams, whose rows count in place of those of the second tokens."""

from __future__ import annotations

from math import ceil, log2

import numpy as np

from lakevec.pipeline.encoding.kernels.alignment import CACHE_LINE, align
from lakevec.pipeline.encoding.kernels.bigram_search import fill_buckets, split_texts
from lakevec.pipeline.encoding.kernels.pooling import PairTerms, Terms
from lakevec.pipeline.model.bigrams import Bigrams

# How full buckets are on average, at most: then few are full.
_LOAD = 0.5


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
    >>> table = BigramTable(Bigrams(pairs, rows, np.ones(1, np.float32)), tokens=2)
    >>> ids = np.array([0, 0, 1, 0, 1], np.int32)
    >>> terms, listed = table.split(Terms(ids, np.array([0, 3, 5])))
    >>> terms.ids.tolist(), terms.offsets.tolist()
    ([0, 0, 0], [0, 2, 3])
    >>> listed.rows[listed.ids].tolist(), listed.offsets.tolist()
    ([[7], [7]], [0, 1, 2])
    """

    def __init__(self, bigrams: Bigrams, tokens: int) -> None:
        # The key of all ones is an empty place.
        kind = np.uint32 if tokens < 1 << 16 else np.uint64
        size = CACHE_LINE // np.dtype(kind).itemsize
        bits = max(1, ceil(log2(len(bigrams) / size / _LOAD)))
        buckets, self._shift = 1 << bits, 64 - bits
        # Pairs that find the last buckets full go behind them.
        spare = len(bigrams) // (size - 1) + 1
        self._keys = align(np.full((buckets + spare) * size, ~kind(0)))
        places = np.empty(len(bigrams), np.int64)
        # Mapped files are read-only, too, and Numba compiles once for each type.
        pairs = np.ascontiguousarray(bigrams.pairs).view()
        pairs.flags.writeable = False
        fill_buckets(pairs, self._shift, self._keys, places)
        used = np.bincount(places // size, minlength=buckets + spare)
        self._keys[size - 1 :: size] = np.cumsum(used) - used
        self.bigrams = _arrange(bigrams, np.argsort(places))
        self._keys.flags.writeable = False

    def split(self, terms: Terms) -> tuple[Terms, PairTerms]:
        """Take the second token of each listed pair out of the terms, and return the pairs' rows instead.

        Parameters
        ----------
        terms : Terms
            Its ids and weights are overwritten. Tokens of two texts are no pair.

        Returns
        -------
        Terms
            The other tokens, in order; `divisors` are kept.
        PairTerms
            The rows of pairs, in order, each with the weight of its second token.
        """
        ids, offsets, weights, divisors = terms
        rows, factors = np.empty_like(ids), None if weights is None else np.empty_like(weights)
        offsets, row_offsets = offsets.copy(), np.zeros_like(offsets)
        split_texts(ids, offsets, weights, self._shift, self._keys, rows, row_offsets, factors)
        singles, pairs = offsets[-1], row_offsets[-1]
        own = self.bigrams
        if weights is not None and factors is not None:
            weights, factors = weights[:singles], factors[:pairs]
        listed = PairTerms(own.embeddings, own.scales, rows[:pairs], row_offsets, factors)
        return Terms(ids[:singles], offsets, weights, divisors), listed


def _arrange(bigrams: Bigrams, order: np.ndarray) -> Bigrams:
    """Return bigrams in another order, read-only and aligned; copy them if needed."""
    pairs, embeddings = bigrams.pairs, bigrams.embeddings
    if (np.diff(order) < 0).any():
        pairs, embeddings = pairs[order], embeddings[order]
    arrays = tuple(align(array).view() for array in (pairs, embeddings, bigrams.scales))
    for array in arrays:
        array.flags.writeable = False
    return Bigrams(*arrays)
