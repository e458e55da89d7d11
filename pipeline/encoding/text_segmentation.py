"""Sentences and words by Unicode's rules (UAX 29), as the library ICU finds them.

ICU also has dictionaries for scripts without spaces between words: Chinese, Japanese, Thai, Lao, Khmer and
Burmese.
"""

from __future__ import annotations

import string
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from lakevec.pipeline.encoding.words import (
    NOTHING,
    PARAGRAPH,
    SENTENCE,
    Words,
    may_divide,
    unspaced_stretches,
)
from lakevec.pipeline.errors import requires_extra

# Many texts are wrapped, so a line break alone is white space here; only an empty line ends a paragraph.
_UNWRAP = bytes.maketrans(b"\r\n", b"  ")
# A paragraph separator always ends a sentence, and nothing before it matters behind it.
_SEPARATOR = "\u2029".encode()

_LETTERS, _ANCHORS = (np.zeros(256, dtype=bool) for _ in range(2))
_LETTERS[[*string.ascii_letters.encode()]] = True
_ANCHORS[[*(string.ascii_letters + string.digits).encode()]] = True
# A sentence may end at these bytes, and these may follow before its white space.
_TERMINATORS, _CLOSERS = (np.zeros(256, dtype=bool) for _ in range(2))
_TERMINATORS[[*b".?!", *range(0x80, 0x100)]] = True
_CLOSERS[[*b"\"'()[]{}"]] = True
# Most closers of a word that are looked at.
_MOST_CLOSERS = 8


def check_segmentation() -> None:
    """Raise SetupError if ICU is not installed."""
    with requires_extra("chunk", "splitting texts into chunks"):
        import icu4py.breakers  # noqa: F401


def find_sentence_ends(text: bytes) -> np.ndarray:
    """Return the byte after each sentence of a paragraph; the last is the length of the paragraph.

    Examples
    --------
    >>> find_sentence_ends("你好。How are you? Fine".encode()).tolist()
    [9, 22, 26]
    """
    from icu4py.breakers import SentenceBreaker

    return _ends(SentenceBreaker, text.translate(_UNWRAP))


def find_word_ends(text: bytes) -> np.ndarray:
    """Return the byte after each word or other segment; the last is the length of the text."""
    from icu4py.breakers import WordBreaker

    return _ends(WordBreaker, text)


def _ends(breaker: type, text: bytes) -> np.ndarray:
    decoded = text.decode()
    # Positions are in UTF-16, but segments are strings.
    segments: Iterable[str | bytes] = breaker(decoded, "root")
    is_ascii = len(decoded) == len(text)
    sizes = map(len, segments if is_ascii else map(str.encode, segments))  # type: ignore[arg-type]
    return np.cumsum(np.fromiter(sizes, dtype=np.int64))


def mark_sentences(data: np.ndarray, words: Words) -> Words:
    """Mark the words that end a sentence, and divide words of scripts without spaces where one ends in them.

    Only the places where a sentence may end are looked at, each with the words that decide it.
    """
    windows = _windows(data, words)
    if not len(windows):
        return words
    starts, ends = words.starts[windows[:, 0]], words.ends[windows[:, 1]]
    content = data.tobytes()
    pieces = [content[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    places = find_sentence_ends(_SEPARATOR.join(pieces))
    sizes = ends - starts + len(_SEPARATOR)
    begins = np.cumsum(sizes) - sizes
    window = np.searchsorted(begins, places, side="right") - 1
    places = places - begins[window] + starts[window]
    places = places[(places > starts[window]) & (places < ends[window])]
    word = np.searchsorted(words.starts, places)
    is_start = words.starts[np.minimum(word, len(words) - 1)] == places
    levels = words.levels.copy()
    levels[word[is_start] - 1] = np.maximum(levels[word[is_start] - 1], SENTENCE)
    marked = replace(words, levels=levels)
    return marked.divided(_choose(data, words, places[~is_start]), SENTENCE)


def _windows(data: np.ndarray, words: Words) -> np.ndarray:
    """Return the first and last words of stretches that hold all ends of sentences: int64 of shape (M, 2).

    Whether a sentence ends before a word depends on what follows up to the next letter, and on what precedes
    it from some letter or digit on. Paragraphs of scripts without spaces are whole.
    """
    last = np.flatnonzero(words.levels == PARAGRAPH)
    first = np.append(0, last[:-1] + 1)
    unspaced = np.unique(np.searchsorted(last, np.flatnonzero(words.is_unspaced)))
    begins = np.flatnonzero(_may_begin_sentence(data, words))
    paragraph = np.searchsorted(last, begins)
    initial = data[words.starts]  # most words with a letter begin with it
    letters = np.append(np.flatnonzero(_LETTERS[initial]), len(words))
    anchors = np.append(-1, np.flatnonzero(_ANCHORS[initial]))
    low = np.maximum(anchors[np.searchsorted(anchors, begins) - 1], first[paragraph])
    high = np.minimum(letters[np.searchsorted(letters, begins)], last[paragraph])
    low, high = np.append(low, first[unspaced]), np.append(high, last[unspaced])
    order = np.argsort(low, kind="stable")
    low, high = low[order], np.maximum.accumulate(high[order])
    # Join those that overlap.
    is_apart = low[1:] > high[:-1]
    return np.stack(
        [low[np.append(True, is_apart)[: len(low)]], high[np.append(is_apart, True)[: len(high)]]], axis=1
    )


def _may_begin_sentence(data: np.ndarray, words: Words) -> np.ndarray:
    """Return which words follow a byte that may end a sentence, in their paragraph."""
    at = words.ends - 1
    open_ = np.flatnonzero(_CLOSERS[data[at]])
    for _ in range(_MOST_CLOSERS):
        at[open_] = np.maximum(at[open_] - 1, words.starts[open_])
        open_ = open_[_CLOSERS[data[at[open_]]]]
    may_end = _TERMINATORS[data[at]]
    may_end[open_] = True
    may_end[:-1] |= data[words.starts[1:] - 1] >= 0x80  # white space may end one, too
    may_end[words.levels == PARAGRAPH] = False
    return np.append(False, may_end[:-1])


def divide_at_words(data: np.ndarray, words: Words, chosen: np.ndarray) -> Words:
    """Divide the chosen words of scripts without spaces, by the words of their languages."""
    cuts = [np.zeros(0, dtype=np.int64)]
    for number in np.flatnonzero(chosen & words.is_unspaced):
        for start, end in unspaced_stretches(data, int(words.starts[number]), int(words.ends[number])):
            cuts.append(start + find_word_ends(data[start:end].tobytes()))
    return words.divided(_choose(data, words, np.concatenate(cuts)), NOTHING)


def _choose(data: np.ndarray, words: Words, cuts: np.ndarray) -> np.ndarray:
    """Return the cuts that lie inside of words of scripts without spaces."""
    word = np.searchsorted(words.starts, cuts, side="right") - 1
    is_inside = (cuts > words.starts[word]) & (cuts < words.ends[word]) & words.is_unspaced[word]
    cuts = cuts[is_inside]
    chosen: np.ndarray = cuts[may_divide(data, cuts)]
    return chosen
