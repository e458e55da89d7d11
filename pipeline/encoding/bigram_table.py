"""A hash table of bigrams, whose rows count in place of those of the second tokens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lakevec.pipeline.encoding.kernels.alignment import CACHE_LINE, align
from lakevec.pipeline.encoding.kernels.bigram_search import fill_buckets, split_texts
from lakevec.pipeline.encoding.kernels.pooling import BLOCK_TOKENS, PairTerms
from lakevec.pipeline.model.bigrams import Bigrams

# How full buckets are on average: then few are full.
_LOAD = 0.6


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
