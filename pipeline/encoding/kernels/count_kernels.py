"""Count tokens and words: their occurrences, and the texts that contain them.

A counter has three values: occurrences, texts, and the last text. The last text shows whether an occurrence
is the first in its text.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lakevec.pipeline.encoding.kernels.cache_arrays import CacheArrays
from lakevec.pipeline.encoding.kernels.compilation import compile_loop, compile_part

COUNT, DOCUMENTS, LAST_TEXT = range(3)


class WordTable(NamedTuple):
    """The words of tokens and cache entries, as numbers; -1 is a break between words.

    Parameters
    ----------
    starts : int64 ndarray of shape (V + E + 1,)
        Token t has ``words[starts[t]:starts[t + 1]]``, and entry e of the cache has those at V + e.
    words : int32 ndarray
    tokens : int
        Number of tokens, V.
    """

    starts: np.ndarray
    words: np.ndarray
    tokens: int


def make_counters(size: int) -> np.ndarray:
    """Return empty counters, int64 of shape (size, 3)."""
    counters = np.zeros((size, 3), dtype=np.int64)
    counters[:, LAST_TEXT] = -1
    return counters


@compile_part
def _add(counters: np.ndarray, number: int, times: int, text: int) -> None:
    counters[number, COUNT] += times
    if counters[number, LAST_TEXT] != text:
        counters[number, LAST_TEXT] = text
        counters[number, DOCUMENTS] += 1


@compile_part
def _words_of(ref: int, words: WordTable) -> tuple[int, int]:
    """Return the bounds of a segment's words in ``words.words``."""
    place = ~ref if ref < 0 else words.tokens + ref
    return words.starts[place], words.starts[place + 1]


@compile_loop
def count_segments(
    row_ends: np.ndarray,
    cache: CacheArrays,
    first_text: int,
    unknown: int,
    counters: np.ndarray,
    words: WordTable,
    word_counters: np.ndarray,
) -> None:
    """Count the tokens and words of texts.

    Parameters
    ----------
    row_ends : int64 ndarray of shape (N + 1,)
        Text n has ``cache.output[row_ends[n]:row_ends[n + 1]]``.
    cache : CacheArrays
    first_text : int
        Number of the first text. Each number is used once.
    unknown : int
        The unknown token, or -1.
    counters : int64 ndarray of shape (V, 3)
        Counters of tokens.
    words : WordTable
    word_counters : int64 ndarray of shape (W, 3)
        Counters of words.
    """
    for row in range(len(row_ends) - 1):
        text = first_text + row
        for position in range(row_ends[row], row_ends[row + 1]):
            ref = cache.output[position]
            if ref < 0:
                _add(counters, ~ref, 1, text)
            else:
                entry = cache.entries[ref]
                for place in range(entry.token_start, entry.token_start + entry.token_count):
                    _add(counters, cache.tokens[place], 1, text)
                if entry.unknown > 0:
                    _add(counters, unknown, entry.unknown, text)
            start, end = _words_of(ref, words)
            for place in range(start, end):
                if words.words[place] >= 0:
                    _add(word_counters, words.words[place], 1, text)


@compile_loop
def count_words(row_ends: np.ndarray, cache: CacheArrays, words: WordTable, offsets: np.ndarray) -> None:
    """Count the words and breaks of each text; write the cumulative number to `offsets` (int64, N + 1)."""
    offsets[0] = 0
    for row in range(len(row_ends) - 1):
        offsets[row + 1] = offsets[row]
        for position in range(row_ends[row], row_ends[row + 1]):
            start, end = _words_of(cache.output[position], words)
            offsets[row + 1] += end - start


@compile_loop
def write_words(row_ends: np.ndarray, cache: CacheArrays, words: WordTable, out: np.ndarray) -> None:
    """Write the words and breaks of all texts to `out` (int32), whose length `count_words` returns."""
    target = 0
    for position in range(row_ends[0], row_ends[-1]):
        start, end = _words_of(cache.output[position], words)
        for place in range(start, end):
            out[target] = words.words[place]
            target += 1


@compile_loop
def count_numbers(numbers: np.ndarray, offsets: np.ndarray, first_text: int, counters: np.ndarray) -> None:
    """Count numbers (int32) in texts, except negative ones.

    Text n has ``numbers[offsets[n]:offsets[n + 1]]`` and the number ``first_text + n``.

    Examples
    --------
    >>> counters = make_counters(2)
    >>> count_numbers(np.array([1, 1, -1, 1], np.int32), np.array([0, 3, 4]), 0, counters)
    >>> counters[:, :2].tolist()
    [[0, 0], [3, 2]]
    """
    for row in range(len(offsets) - 1):
        for place in range(offsets[row], offsets[row + 1]):
            if numbers[place] >= 0:
                _add(counters, numbers[place], 1, first_text + row)
