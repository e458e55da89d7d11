"""Words by number, and which words tokens and chunks stand for."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from pipeline.counting.spelling import Words
from pipeline.encoding.tallying import COUNT, DOCUMENTS, make_tallies

_BREAK = -1


class Lexicon:
    """Words, numbered as they come, and how often each was seen.

    Attributes
    ----------
    tallies : int64 ndarray of shape (at least W, 3)
        See `pipeline.encoding.tallying`.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self.tallies = make_tallies(1 << 12)

    def __len__(self) -> int:
        """Return how many words there are."""
        return len(self._numbers)

    def number(self, words: Words) -> list[int]:
        """Return the numbers of words, -1 for a break; words that are new get one."""
        numbers = self._numbers
        found = [_BREAK if word is None else numbers.setdefault(word, len(numbers)) for word in words]
        if len(numbers) > len(self.tallies):
            self.tallies = np.concatenate([self.tallies, make_tallies(len(self.tallies))])
        return found

    def names(self) -> list[str]:
        """Return all words, in the order of their numbers."""
        return list(self._numbers)

    def take(self) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Return words that were seen, their counts and documents, and count from 0 again."""
        seen = np.flatnonzero(self.tallies[: len(self), COUNT])
        counts, documents = self.tallies[seen, COUNT].copy(), self.tallies[seen, DOCUMENTS].copy()
        self.tallies[:, [COUNT, DOCUMENTS]] = 0
        names = self.names()
        return [names[number] for number in seen], counts, documents


class Sequences:
    """Sequences of word numbers, one after the other.

    Attributes
    ----------
    starts : int64 ndarray of shape (S + 1,)
    words : int32 ndarray
        Sequence s is ``words[starts[s]:starts[s + 1]]``.
    """

    def __init__(self) -> None:
        self.starts = np.zeros(1, dtype=np.int64)
        self.words = np.empty(0, dtype=np.int32)

    def __len__(self) -> int:
        """Return how many sequences there are."""
        return len(self.starts) - 1

    def extend(self, sequences: Iterable[list[int]]) -> None:
        """Add sequences behind the last."""
        added = list(sequences)
        if not added:
            return
        lengths = np.fromiter(map(len, added), np.int64, len(added))
        self.starts = np.concatenate([self.starts, self.starts[-1] + np.cumsum(lengths)])
        flat = np.fromiter((word for sequence in added for word in sequence), np.int32, int(lengths.sum()))
        self.words = np.concatenate([self.words, flat])
