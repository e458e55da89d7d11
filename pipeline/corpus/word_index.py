"""Numbered words with their counters, and sequences of word numbers."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import NamedTuple

import numpy as np

from lakevec.pipeline.corpus.word_extraction import Words
from lakevec.pipeline.encoding.kernels.count_kernels import COUNT, DOCUMENTS, make_counters


class TermCounts(NamedTuple):
    """Counts of terms: tokens, words or phrases.

    Parameters
    ----------
    names : list of str
    counts : int64 ndarray
        Occurrences of each term.
    documents : int64 ndarray
        Number of texts that contain each term.
    """

    names: list[str]
    counts: np.ndarray
    documents: np.ndarray


NOTHING = TermCounts([], np.empty(0, np.int64), np.empty(0, np.int64))


def take_counts(counters: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows that were counted, their counts and documents, and reset the counters."""
    seen = np.flatnonzero(counters[:, COUNT])
    counts, documents = counters[seen, COUNT], counters[seen, DOCUMENTS]
    counters[:, [COUNT, DOCUMENTS]] = 0
    return seen, counts, documents


class WordIndex:
    """Words, numbered in order of first occurrence, with their counters.

    Attributes
    ----------
    counters : int64 ndarray of shape (at least W, 3)
        See `lakevec.pipeline.encoding.kernels.count_kernels`.
    """

    def __init__(self) -> None:
        self._numbers: dict[str | None, int] = {None: -1}  # a break between words
        self.counters = make_counters(1 << 12)

    def __len__(self) -> int:
        """Return the number of words."""
        return len(self._numbers) - 1

    def number(self, words: Iterable[str | None]) -> np.ndarray:
        """Return the numbers of words (int32), -1 for a break; new words get the next number."""
        known = self._numbers
        numbers = np.array([known.setdefault(word, len(known) - 1) for word in words], dtype=np.int32)
        while len(self) > len(self.counters):
            self.counters = np.concatenate([self.counters, make_counters(len(self.counters))])
        return numbers

    def names(self) -> list[str]:
        """Return all words, in the order of their numbers."""
        return [word for word in self._numbers if word is not None]

    def take(self) -> TermCounts:
        """Return the counts of words that occurred and reset them."""
        seen, counts, documents = take_counts(self.counters)
        names = self.names()
        return TermCounts([names[number] for number in seen], counts, documents)


class WordSequences:
    """Concatenated sequences of word numbers.

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
        """Return the number of sequences."""
        return len(self.starts) - 1

    def extend(self, sequences: Iterable[Words], index: WordIndex) -> None:
        """Append sequences of words, which `index` numbers."""
        sequences = list(sequences)
        if sequences:
            ends = self.starts[-1] + np.cumsum(list(map(len, sequences)), dtype=np.int64)
            self.starts = np.append(self.starts, ends)
            self.words = np.append(self.words, index.number(chain.from_iterable(sequences)))

    def keep(self, sequences: int) -> None:
        """Keep the first sequences, and drop the others."""
        self.starts = self.starts[: sequences + 1]
        self.words = self.words[: self.starts[-1]]
