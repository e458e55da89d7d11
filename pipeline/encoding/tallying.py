"""Counting loops: how often numbers occur in texts, and in how many texts.

A tally is a row of three: occurrences, texts that hold at least one, and the number of the last such text,
by which a second occurrence in the same text is told from a first.
"""

from __future__ import annotations

import numpy as np

from lakevec.pipeline.encoding.compilation import compile_loop, compile_part
from lakevec.pipeline.encoding.memo_arrays import TOKEN_COUNT, TOKEN_START, UNKNOWN, MemoArrays

COUNT, DOCUMENTS, LAST_TEXT = range(3)


def make_tallies(size: int) -> np.ndarray:
    """Make tallies of things that never occurred.

    Parameters
    ----------
    size : int

    Returns
    -------
    int64 ndarray of shape (size, 3)
    """
    tallies = np.zeros((size, 3), dtype=np.int64)
    tallies[:, LAST_TEXT] = -1
    return tallies


@compile_part
def _add(tallies: np.ndarray, number: int, times: int, text: int) -> None:
    tallies[number, COUNT] += times
    if tallies[number, LAST_TEXT] != text:
        tallies[number, LAST_TEXT] = text
        tallies[number, DOCUMENTS] += 1


@compile_part
def _add_all(tallies: np.ndarray, numbers: np.ndarray, start: int, end: int, text: int) -> None:
    for place in range(start, end):
        if numbers[place] >= 0:
            _add(tallies, numbers[place], 1, text)


@compile_loop
def tally_chunks(
    occurrences: np.ndarray,
    row_ends: np.ndarray,
    memo: MemoArrays,
    first_text: int,
    unknown: int,
    tallies: np.ndarray,
    token_starts: np.ndarray,
    token_words: np.ndarray,
    chunk_starts: np.ndarray,
    chunk_words: np.ndarray,
    word_tallies: np.ndarray,
) -> None:
    """Count the tokens and words of texts that were cut into chunks.

    Parameters
    ----------
    occurrences : int32 ndarray
        Answers of the memo.
    row_ends : int64 ndarray of shape (N + 1,)
    memo : MemoArrays
    first_text : int
        Number of the first text; no number may come twice.
    unknown : int
        Token that stands for what the tokenizer does not know, or -1.
    tallies : int64 ndarray of shape (V, 3)
        Of tokens.
    token_starts, chunk_starts : int64 ndarray
        A chunk that is token t alone has the words ``token_starts[t]`` up to ``token_starts[t + 1]``; the
        same for an entry of the memo.
    token_words, chunk_words : int32 ndarray
        Numbers of words; -1 for a break.
    word_tallies : int64 ndarray of shape (W, 3)
    """
    entries, tokens = memo.entries, memo.tokens
    for row in range(len(row_ends) - 1):
        text = first_text + row
        for position in range(row_ends[row], row_ends[row + 1]):
            answer = occurrences[position]
            if answer < 0:
                token = ~answer
                _add(tallies, token, 1, text)
                _add_all(word_tallies, token_words, token_starts[token], token_starts[token + 1], text)
                continue
            start = entries[answer, TOKEN_START]
            for place in range(start, start + entries[answer, TOKEN_COUNT]):
                _add(tallies, tokens[place], 1, text)
            if unknown >= 0 and entries[answer, UNKNOWN] > 0:
                _add(tallies, unknown, entries[answer, UNKNOWN], text)
            _add_all(word_tallies, chunk_words, chunk_starts[answer], chunk_starts[answer + 1], text)


@compile_loop
def count_words(
    occurrences: np.ndarray,
    row_ends: np.ndarray,
    token_starts: np.ndarray,
    chunk_starts: np.ndarray,
    offsets: np.ndarray,
) -> None:
    """Count the words and breaks of each text.

    Parameters
    ----------
    occurrences : int32 ndarray
    row_ends : int64 ndarray of shape (N + 1,)
    token_starts : int64 ndarray of shape (V + 1,)
    chunk_starts : int64 ndarray of shape (E + 1,)
        See `tally_chunks`.
    offsets : int64 ndarray of shape (N + 1,)
        Receives the running sum.
    """
    offsets[0] = 0
    for row in range(len(row_ends) - 1):
        count = 0
        for position in range(row_ends[row], row_ends[row + 1]):
            answer = occurrences[position]
            if answer < 0:
                count += token_starts[~answer + 1] - token_starts[~answer]
            else:
                count += chunk_starts[answer + 1] - chunk_starts[answer]
        offsets[row + 1] = offsets[row] + count


@compile_loop
def write_words(
    occurrences: np.ndarray,
    row_ends: np.ndarray,
    token_starts: np.ndarray,
    token_words: np.ndarray,
    chunk_starts: np.ndarray,
    chunk_words: np.ndarray,
    out: np.ndarray,
) -> None:
    """Write the words and breaks of all texts, one after the other.

    Parameters
    ----------
    occurrences : int32 ndarray
    row_ends : int64 ndarray of shape (N + 1,)
    token_starts, chunk_starts : int64 ndarray
        See `count_words`.
    token_words, chunk_words : int32 ndarray
        Numbers of words; -1 for a break.
    out : int32 ndarray
        As long as `count_words` said.
    """
    target = 0
    for position in range(row_ends[0], row_ends[-1]):
        answer = occurrences[position]
        if answer < 0:
            for place in range(token_starts[~answer], token_starts[~answer + 1]):
                out[target] = token_words[place]
                target += 1
        else:
            for place in range(chunk_starts[answer], chunk_starts[answer + 1]):
                out[target] = chunk_words[place]
                target += 1


@compile_loop
def tally_numbers(numbers: np.ndarray, offsets: np.ndarray, first_text: int, tallies: np.ndarray) -> None:
    """Count numbers, text by text; those below 0 are left out.

    Parameters
    ----------
    numbers : int32 ndarray
    offsets : int64 ndarray of shape (N + 1,)
        Text n owns ``numbers[offsets[n]:offsets[n + 1]]``.
    first_text : int
        See `tally_chunks`.
    tallies : int64 ndarray of shape (W, 3)

    Examples
    --------
    >>> tallies = make_tallies(2)
    >>> tally_numbers(np.array([1, 1, -1, 1], np.int32), np.array([0, 3, 4]), 0, tallies)
    >>> tallies[:, :2].tolist()
    [[0, 0], [3, 2]]
    """
    for row in range(len(offsets) - 1):
        for place in range(offsets[row], offsets[row + 1]):
            if numbers[place] >= 0:
                _add(tallies, numbers[place], 1, first_text + row)
