"""Counts of bigrams: pairs of neighbouring known tokens of a text."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lakevec.pipeline.encoding.kernels.pair_kernels import COUNT, PAIR, add_pairs, make_slots
from lakevec.pipeline.encoding.tokenization import TokenIds

_FIRST_SLOTS = 1 << 12
_ONCE = np.ones(1, dtype=np.int64)
_SECOND = (1 << 32) - 1


class Bigrams(NamedTuple):
    """Bigrams and their counts.

    Parameters
    ----------
    pairs : int32 ndarray of shape (B, 2)
        Ids of first and second token, each pair once, in increasing order.
    counts : int64 ndarray of shape (B,)
    """

    pairs: np.ndarray
    counts: np.ndarray


class BigramCounter:
    """Exact counts of bigrams; a pair takes 32 to 64 bytes."""

    def __init__(self) -> None:
        self._slots = make_slots(_FIRST_SLOTS)
        self._used = 0

    def __len__(self) -> int:
        """Return the number of distinct pairs."""
        return self._used

    def add(self, ids: np.ndarray, offsets: np.ndarray) -> None:
        """Count the bigrams of texts; text n has the token ids ``ids[offsets[n]:offsets[n + 1]]``."""
        if len(ids) < 2:
            return
        pairs = ids[:-1].astype(np.int64) << 32 | ids[1:]
        ends = offsets[(offsets > 0) & (offsets < len(ids))]
        pairs[ends - 1] = -1  # the last token of a text has no neighbour
        self._add(pairs, _ONCE)

    def take(self) -> Bigrams:
        """Return the counts so far and reset them."""
        found = self._slots[self._slots[:, PAIR] >= 0]
        self._slots, self._used = make_slots(_FIRST_SLOTS), 0
        found = found[np.argsort(found[:, PAIR])]
        return Bigrams(unpack_pairs(found[:, PAIR]), found[:, COUNT].copy())

    def _add(self, pairs: np.ndarray, counts: np.ndarray) -> None:
        position = 0
        while True:
            most = len(self._slots) // 2
            position, self._used = add_pairs(pairs, counts, position, self._slots, self._used, most)
            if position == len(pairs):
                return
            old = self._slots[self._slots[:, PAIR] >= 0].T.copy()
            self._slots, self._used = make_slots(2 * len(self._slots)), 0
            _, self._used = add_pairs(old[PAIR], old[COUNT], 0, self._slots, 0, len(self._slots) // 2)


def count_bigrams(tokens: TokenIds, most: int) -> Bigrams:
    """Count the bigrams of texts.

    Parameters
    ----------
    tokens : TokenIds
    most : int
        Maximum number of bigrams B; see `take_telling`.

    Examples
    --------
    >>> tokens = TokenIds(np.array([3, 1, 2, 3, 1], np.int32), np.array([0, 3, 5]), unknown=0, truncated=0)
    >>> pairs, counts = count_bigrams(tokens, most=9)
    >>> pairs.tolist(), counts.tolist()
    ([[1, 2], [3, 1]], [1, 2])
    """
    counter = BigramCounter()
    counter.add(tokens.ids, tokens.offsets)
    return take_telling(counter.take(), most)


def unpack_pairs(packed: np.ndarray) -> np.ndarray:
    """Return the pairs that `lakevec.pipeline.model.bigrams.pack_pairs` packed: int32 of shape (B, 2)."""
    return np.stack([packed >> 32, packed & _SECOND], axis=1).astype(np.int32)


def take_telling(bigrams: Bigrams, most: int) -> Bigrams:
    """Return the bigrams that tell most, still in increasing order.

    Parameters
    ----------
    bigrams : Bigrams
    most : int
        Maximum number of bigrams to keep. If there are no more, those below chance are kept, too. Of those
        that tell the same, those of the lowest ids are kept.

    Notes
    -----
    A bigram with the count c tells ``c * log(c * n / (f * s))``, where f and s are the counts of its first
    token as first and of its second as second, and n that of all bigrams. This is its part of the mutual
    information of neighbours (Church and Hanks, "Word Association Norms, Mutual Information, and
    Lexicography", 1990, times the count). So tokens that are neighbours by chance, such as two frequent ones,
    tell little.

    Examples
    --------
    The pair of 1 and 1 is as frequent as its tokens are, and that of 7 and 8 is frequent for its tokens:

    >>> pairs = np.array([[1, 1], [1, 2], [2, 1], [7, 8]], np.int32)
    >>> take_telling(Bigrams(pairs, np.array([9, 9, 9, 5])), most=1).pairs.tolist()
    [[7, 8]]
    """
    pairs, counts = bigrams.pairs, bigrams.counts.astype(np.float64)
    firsts, seconds = (_count_of(column, counts) for column in pairs.T)
    tells = counts * np.log(counts * counts.sum() / (firsts * seconds))
    # Stable: of equal ones, the lowest ids come first.
    kept = np.sort(np.argsort(-tells, kind="stable")[:most])
    return Bigrams(pairs[kept], bigrams.counts[kept])


def _count_of(ids: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the sum of the counts of each element's id."""
    _, places = np.unique(ids, return_inverse=True)
    found: np.ndarray = np.bincount(places, counts)[places]
    return found
