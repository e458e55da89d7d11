"""Sentences and words by Unicode's rules (UAX 29), as the library ICU finds them.

ICU also has dictionaries for scripts without spaces between words: Chinese, Japanese, Thai, Lao, Khmer and
Burmese.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate

import numpy as np

from lakevec.pipeline.encoding.words import NOTHING, PARAGRAPH, SENTENCE, Words, as_sequence, may_divide
from lakevec.pipeline.errors import requires_extra

# Bytes of a long line that are searched at a time.
_STEP = 1 << 14
# Many texts are wrapped, so a line break alone is white space here; only an empty line ends a paragraph.
_UNWRAP = bytes.maketrans(b"\r\n", b"  ")
# Whether a full stop ends a sentence may depend on the letters after it.
_LOOK_AHEAD = 1 << 10


def check_segmentation() -> None:
    """Raise SetupError if ICU is not installed."""
    with requires_extra("chunk", "splitting texts into chunks"):
        import icu4py.breakers  # noqa: F401


def find_sentence_ends(text: bytes) -> list[int]:
    """Return the byte after each sentence of a paragraph; the last is the length of the paragraph.

    Examples
    --------
    >>> find_sentence_ends("你好。How are you? Fine".encode())
    [9, 22, 26]
    """
    from icu4py.breakers import SentenceBreaker

    return _ends(SentenceBreaker, text.translate(_UNWRAP))


def find_word_ends(text: bytes) -> list[int]:
    """Return the byte after each word or other segment; the last is the length of the text."""
    from icu4py.breakers import WordBreaker

    return _ends(WordBreaker, text)


def _ends(breaker: type, text: bytes) -> list[int]:
    string = text.decode()
    # Positions are in UTF-16, but segments are strings.
    segments = iter(breaker(string, "root"))
    is_ascii = len(string) == len(text)
    return list(accumulate(map(len, segments if is_ascii else map(str.encode, segments))))


class ParagraphSentences:
    """The sentences of one paragraph, found from its beginning as far as they are asked for.

    No sentence goes on in another paragraph. One of more than 16 kilobytes may be divided.
    """

    def __init__(self, data: np.ndarray, start: int, end: int) -> None:
        self._data = data
        self._end = end
        self._resume = self._upto = start
        self._ends: list[int] = []

    def find(self, place: int) -> list[int]:
        """Return the ends of sentences up to byte `place` or further."""
        while self._upto < min(place + 1, self._end):
            stop = self._round(max(place, self._upto + _STEP) + _LOOK_AHEAD)
            found = find_sentence_ends(self._data[self._resume : stop].tobytes())
            known = stop if stop == self._end else self._round(stop - _LOOK_AHEAD)
            ends = (self._resume + end for end in found)
            self._ends += [end for end in ends if self._upto < end <= known]
            self._upto = known
            # From the end of a sentence on, the search finds what it would find from the beginning.
            is_near = bool(self._ends) and known - self._ends[-1] < _STEP
            self._resume = self._ends[-1] if is_near else known
        return self._ends

    def _round(self, place: int) -> int:
        """Return the end of the paragraph, or the first byte of the character at `place`."""
        if place >= self._end:
            return self._end
        while self._data[place] & 0xC0 == 0x80:
            place -= 1
        return place


class SentenceSearch:
    """Search for the beginnings of sentences among the words of one text.

    Parameters
    ----------
    data : uint8 ndarray
    words : Words
        Of one text.
    """

    def __init__(self, data: np.ndarray, words: Words) -> None:
        self._data = data
        self._starts = as_sequence(words.starts)
        self._paragraphs = [0, *(np.flatnonzero(words.levels == PARAGRAPH) + 1).tolist()]
        self._end = int(words.ends[-1]) if len(words) else 0
        self._number = -1
        self._sentences = ParagraphSentences(data, 0, 0)

    def last(self, low: int, high: int) -> int | None:
        """Return the last word after `low`, and up to `high`, that begins a sentence; None if none does.

        No paragraph begins in this range.
        """
        place = self._starts[high]
        ends = self._find(high, place)
        for index in range(bisect_right(ends, place) - 1, -1, -1):
            word = bisect_left(self._starts, ends[index])
            if word <= low:
                break
            if self._starts[word] == ends[index]:
                return word
        return None

    def first(self, low: int, high: int) -> int | None:
        """Return the first word from `low` on, but before `high`, that begins a sentence; None if none does.

        No paragraph begins in this range.
        """
        ends = self._find(low, self._starts[high])
        for index in range(bisect_left(ends, self._starts[low]), len(ends)):
            word = bisect_left(self._starts, ends[index])
            if word >= high:
                break
            if self._starts[word] == ends[index]:
                return word
        return None

    def _find(self, word: int, place: int) -> list[int]:
        """Return the ends of sentences in the paragraph of a word, up to byte `place` or further."""
        number = bisect_right(self._paragraphs, word) - 1
        if number != self._number:
            self._number = number
            first, later = self._paragraphs[number : number + 2]
            end = self._starts[later] if later < len(self._starts) else self._end
            self._sentences = ParagraphSentences(self._data, self._starts[first], end)
        return self._sentences.find(place)


def divide_at_sentences(data: np.ndarray, words: Words) -> Words:
    """Divide words of scripts without spaces where a sentence ends inside of them."""
    if not words.is_unspaced.any():
        return words
    paragraph = np.append(0, np.cumsum(words.levels == PARAGRAPH)[:-1])
    cuts: list[int] = []
    for number in np.unique(paragraph[words.is_unspaced]):
        first, last = np.searchsorted(paragraph, [number, number + 1])
        start, end = int(words.starts[first]), int(words.ends[last - 1])
        cuts += ParagraphSentences(data, start, end).find(end)
    return words.divided(_choose(data, words, np.array(cuts, dtype=np.int64)), SENTENCE)


def divide_at_words(data: np.ndarray, words: Words, chosen: np.ndarray) -> Words:
    """Divide the chosen words of scripts without spaces, by the words of their languages."""
    cuts: list[int] = []
    for number in np.flatnonzero(chosen & words.is_unspaced):
        start, end = int(words.starts[number]), int(words.ends[number])
        cuts += [start + cut for cut in find_word_ends(data[start:end].tobytes())]
    return words.divided(_choose(data, words, np.array(cuts, dtype=np.int64)), NOTHING)


def _choose(data: np.ndarray, words: Words, cuts: np.ndarray) -> np.ndarray:
    """Return the cuts that lie inside of words of scripts without spaces."""
    if not len(cuts):
        return cuts
    word = np.searchsorted(words.starts, cuts, side="right") - 1
    is_inside = (cuts > words.starts[word]) & (cuts < words.ends[word]) & words.is_unspaced[word]
    return np.array([cut for cut in cuts[is_inside].tolist() if may_divide(data, cut)], dtype=np.int64)
