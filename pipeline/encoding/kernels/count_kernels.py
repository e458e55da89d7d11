"""Counting loops: how often numbers occur in texts, and in how many texts.

A tally is a row of three: occurrences, texts that hold at least one, and the number of the last such text,
by which a second occurrence in the same text is told from a first.
"""

from __future__ import annotations

import numpy as np

from lakevec.pipeline.encoding.kernels.cache_arrays import TOKEN_COUNT, TOKEN_START, UNKNOWN, CacheArrays
from lakevec.pipeline.encoding.kernels.compilation import compile_loop, compile_part

COUNT, DOCUMENTS, LAST_TEXT = range(3)


def make_counters(size: int) -> np.ndarray:
    """Make counters of things that never occurred.

    Parameters
    ----------
    size : int

    Returns
    -------
    int64 ndarray of shape (size, 3)
    """
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
    segment_refs: np.ndarray,
    row_ends: np.ndarray,
    cache: CacheArrays,
    first_text: int,
    unknown: int,
    counters: np.ndarray,
    token_starts: np.ndarray,
    token_words: np.ndarray,
    segment_starts: np.ndarray,
    segment_words: np.ndarray,
    word_counters: np.ndarray,
) -> None:
    """Count the tokens and words of texts that were cut into segments.

    Parameters
    ----------
    segment_refs : int32 ndarray
        Answers of the cache.
    row_ends : int64 ndarray of shape (N + 1,)
    cache : CacheArrays
    first_text : int
        Number of the first text; no number may come twice.
    unknown : int
        Token that stands for what the tokenizer does not know, or -1.
    counters : int64 ndarray of shape (V, 3)
        Of tokens.
    token_starts, segment_starts : int64 ndarray
        A segment that is token t alone has the words ``token_starts[t]`` up to ``token_starts[t + 1]``; the
        same for an entry of the cache.
    token_words, segment_words : int32 ndarray
        Numbers of words; -1 for a break.
    word_counters : int64 ndarray of shape (W, 3)
    """
    entries, tokens = cache.entries, cache.tokens
    for row in range(len(row_ends) - 1):
        text = first_text + row
        for position in range(row_ends[row], row_ends[row + 1]):
            ref = segment_refs[position]
            if ref < 0:
                token = ~ref
                _add(counters, token, 1, text)
                _add_all(word_counters, token_words, token_starts[token], token_starts[token + 1], text)
                continue
            start = entries[ref, TOKEN_START]
            for place in range(start, start + entries[ref, TOKEN_COUNT]):
                _add(counters, tokens[place], 1, text)
            if unknown >= 0 and entries[ref, UNKNOWN] > 0:
                _add(counters, unknown, entries[ref, UNKNOWN], text)
            _add_all(word_counters, segment_words, segment_starts[ref], segment_starts[ref + 1], text)


@compile_loop
def count_words(
    segment_refs: np.ndarray,
    row_ends: np.ndarray,
    token_starts: np.ndarray,
    segment_starts: np.ndarray,
    offsets: np.ndarray,
) -> None:
    """Count the words and breaks of each text.

    Parameters
    ----------
    segment_refs : int32 ndarray
    row_ends : int64 ndarray of shape (N + 1,)
    token_starts : int64 ndarray of shape (V + 1,)
    segment_starts : int64 ndarray of shape (E + 1,)
        See `count_segments`.
    offsets : int64 ndarray of shape (N + 1,)
        Receives the running sum.
    """
    offsets[0] = 0
    for row in range(len(row_ends) - 1):
        count = 0
        for position in range(row_ends[row], row_ends[row + 1]):
            ref = segment_refs[position]
            if ref < 0:
                count += token_starts[~ref + 1] - token_starts[~ref]
            else:
                count += segment_starts[ref + 1] - segment_starts[ref]
        offsets[row + 1] = offsets[row] + count


@compile_loop
def write_words(
    segment_refs: np.ndarray,
    row_ends: np.ndarray,
    token_starts: np.ndarray,
    token_words: np.ndarray,
    segment_starts: np.ndarray,
    segment_words: np.ndarray,
    out: np.ndarray,
) -> None:
    """Write the words and breaks of all texts, one after the other.

    Parameters
    ----------
    segment_refs : int32 ndarray
    row_ends : int64 ndarray of shape (N + 1,)
    token_starts, segment_starts : int64 ndarray
        See `count_words`.
    token_words, segment_words : int32 ndarray
        Numbers of words; -1 for a break.
    out : int32 ndarray
        As long as `count_words` said.
    """
    target = 0
    for position in range(row_ends[0], row_ends[-1]):
        ref = segment_refs[position]
        if ref < 0:
            for place in range(token_starts[~ref], token_starts[~ref + 1]):
                out[target] = token_words[place]
                target += 1
        else:
            for place in range(segment_starts[ref], segment_starts[ref + 1]):
                out[target] = segment_words[place]
                target += 1


@compile_loop
def count_numbers(numbers: np.ndarray, offsets: np.ndarray, first_text: int, counters: np.ndarray) -> None:
    """Count numbers, text by text; those below 0 are left out.

    Parameters
    ----------
    numbers : int32 ndarray
    offsets : int64 ndarray of shape (N + 1,)
        Text n owns ``numbers[offsets[n]:offsets[n + 1]]``.
    first_text : int
        See `count_segments`.
    counters : int64 ndarray of shape (W, 3)

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
