"""Counts of phrases: pairs and triples of neighbouring words."""

from __future__ import annotations

import numpy as np

from lakevec.pipeline.corpus.word_index import NOTHING, TermCounts
from lakevec.pipeline.errors import DataError

# A phrase is packed into 63 bits: 21 bits for each word's number plus 1.
_BITS = 21
MOST_WORDS = (1 << _BITS) - 2


class NgramCounts:
    """Counts of phrases in texts.

    Parameters
    ----------
    longest : int
        Maximum number of words in a phrase, 2 or 3.
    """

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def __len__(self) -> int:
        """Return the number of stored counts; a phrase has one per batch that contains it."""
        return sum(len(phrases) for phrases, _, _ in self._parts)

    def add(self, words: np.ndarray, offsets: np.ndarray) -> None:
        """Count the phrases of texts; text n has ``words[offsets[n]:offsets[n + 1]]``, with -1 for a break.

        Raises
        ------
        DataError
            If a word's number exceeds 21 bits.
        """
        texts = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        numbers = words.astype(np.int64)
        if len(numbers) and numbers.max() >= MOST_WORDS:
            raise DataError(
                "too many different words at a time to count phrases",
                got=f"more than {MOST_WORDS:,}",
                remedy="take the counts more often, or count without --phrases",
            )
        for length in range(2, self._longest + 1):
            last = len(numbers) - length + 1
            if last <= 0:
                return
            is_whole = texts[:last] == texts[length - 1 :]
            phrases = np.zeros(last, dtype=np.int64)
            for position in range(length):
                word = numbers[position : position + last]
                is_whole &= word >= 0
                phrases = phrases << _BITS | word + 1
            if is_whole.any():
                self._parts.append(_count_terms(phrases[is_whole], texts[:last][is_whole]))

    def take(self, names: list[str]) -> TermCounts:
        """Return the counts of phrases and reset them; `names` are the words by number."""
        if not self._parts:
            return NOTHING
        phrases, counts, documents = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        self._parts = []
        order = np.argsort(phrases, kind="stable")
        phrases, firsts = np.unique(phrases[order], return_index=True)
        spelled = [_spell(int(phrase), names) for phrase in phrases]
        sums = np.add.reduceat(counts[order], firsts), np.add.reduceat(documents[order], firsts)
        return TermCounts(spelled, *sums)


def _count_terms(phrases: np.ndarray, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the distinct phrases, the occurrences of each, and the number of texts with it."""
    order = np.argsort(phrases, kind="stable")  # stable: keeps the texts of a phrase in order
    phrases, texts = phrases[order], texts[order]
    is_new = np.append(True, phrases[1:] != phrases[:-1])
    is_new_text = is_new | np.append(True, texts[1:] != texts[:-1])
    firsts = np.flatnonzero(is_new)
    counts = np.diff(firsts, append=len(phrases))
    return phrases[firsts], counts, np.add.reduceat(is_new_text.astype(np.int64), firsts)


def _spell(phrase: int, names: list[str]) -> str:
    words = []
    while phrase:
        words.append(names[(phrase & ((1 << _BITS) - 1)) - 1])
        phrase >>= _BITS
    return " ".join(reversed(words))
