"""Counting loops: occurrences of numbers in texts, and texts that contain them.

A counter is a row of three: occurrences, texts that contain the number, and the last such text, which tells a
second occurrence in one text from a first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lakevec.pipeline.encoding.kernels.cache_arrays import TOKEN_COUNT, TOKEN_START, UNKNOWN, CacheArrays
from lakevec.pipeline.encoding.kernels.compilation import compile_loop, compile_part

COUNT, DOCUMENTS, LAST_TEXT = range(3)


class WordTables(NamedTuple):
    """The words of tokens and of cache entries, as numbers; -1 is a break between words.

    Parameters
    ----------
    token_starts : int64 ndarray of shape (V + 1,)
        A segment that is token t has ``token_words[token_starts[t]:token_starts[t + 1]]``.
    token_words : int32 ndarray
    segment_starts : int64 ndarray of shape (E + 1,)
        The same for an entry of the cache.
    segment_words : int32 ndarray
    """

    token_starts: np.ndarray
    token_words: np.ndarray
    segment_starts: np.ndarray
    segment_words: np.ndarray


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
def _add_all(counters: np.ndarray, numbers: np.ndarray, start: int, end: int, text: int) -> None:
    for place in range(start, end):
        if numbers[place] >= 0:
            _add(counters, numbers[place], 1, text)


@compile_loop
def count_segments(
    row_ends: np.ndarray,
    cache: CacheArrays,
    first_text: int,
    unknown: int,
    counters: np.ndarray,
    words: WordTables,
    word_counters: np.ndarray,
) -> None:
    """Count the tokens and words of texts, by their segments.

    Parameters
    ----------
    row_ends : int64 ndarray of shape (N + 1,)
        Text n has ``cache.segment_refs[row_ends[n]:row_ends[n + 1]]``.
    cache : CacheArrays
    first_text : int
        Number of the first text. Each number is used once.
    unknown : int
        The unknown token, or -1.
    counters : int64 ndarray of shape (V, 3)
        Of tokens.
    words : WordTables
    word_counters : int64 ndarray of shape (W, 3)
    """
    token_starts, segment_starts = words.token_starts, words.segment_starts
    entries, tokens = cache.entries, cache.tokens
    for row in range(len(row_ends) - 1):
        text = first_text + row
        for position in range(row_ends[row], row_ends[row + 1]):
            ref = cache.segment_refs[position]
            if ref < 0:
                token = ~ref
                _add(counters, token, 1, text)
                _add_all(word_counters, words.token_words, token_starts[token], token_starts[token + 1], text)
                continue
            start = entries[ref, TOKEN_START]
            for place in range(start, start + entries[ref, TOKEN_COUNT]):
                _add(counters, tokens[place], 1, text)
            if unknown >= 0 and entries[ref, UNKNOWN] > 0:
                _add(counters, unknown, entries[ref, UNKNOWN], text)
            _add_all(word_counters, words.segment_words, segment_starts[ref], segment_starts[ref + 1], text)


@compile_loop
def count_words(row_ends: np.ndarray, cache: CacheArrays, words: WordTables, offsets: np.ndarray) -> None:
    """Count the words and breaks of each text; `offsets` (int64, N + 1) receives the running sum."""
    token_starts, segment_starts = words.token_starts, words.segment_starts
    offsets[0] = 0
    for row in range(len(row_ends) - 1):
        count = 0
        for position in range(row_ends[row], row_ends[row + 1]):
            ref = cache.segment_refs[position]
            if ref < 0:
                count += token_starts[~ref + 1] - token_starts[~ref]
            else:
                count += segment_starts[ref + 1] - segment_starts[ref]
        offsets[row + 1] = offsets[row] + count


@compile_loop
def write_words(row_ends: np.ndarray, cache: CacheArrays, words: WordTables, out: np.ndarray) -> None:
    """Write the words and breaks of all texts one after another; `out` is as long as `count_words` found."""
    target = 0
    for position in range(row_ends[0], row_ends[-1]):
        ref = cache.segment_refs[position]
        if ref < 0:
            for place in range(words.token_starts[~ref], words.token_starts[~ref + 1]):
                out[target] = words.token_words[place]
                target += 1
        else:
            for place in range(words.segment_starts[ref], words.segment_starts[ref + 1]):
                out[target] = words.segment_words[place]
                target += 1


@compile_loop
def count_numbers(numbers: np.ndarray, offsets: np.ndarray, first_text: int, counters: np.ndarray) -> None:
    """Count numbers (int32) in each text; negative ones are left out.

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
