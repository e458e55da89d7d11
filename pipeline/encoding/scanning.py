"""The scan: cut texts into chunks and look each up in the memo, without a Python string.

What the memo knows is one probe. What it doesn't know is added, split right there where it is a plain word of
a WordPiece tokenizer, and else left pending for the library. One function per family of rules, since a family
that is not used need not be compiled.
"""

from __future__ import annotations

import numpy as np

from pipeline.encoding.chunk_ends import (
    LITERAL,
    SEPARATOR,
    CutTables,
    cuts_at_space,
    end_word,
    may_be_literal,
    skip_separators,
)
from pipeline.encoding.compilation import compile_loop, compile_part
from pipeline.encoding.hashing import keep_bytes, letters_of, load_word, lower_letters, trailing_zeros
from pipeline.encoding.memo_arrays import (
    DONE,
    FULL_OCCURRENCES,
    OCCURRENCES,
    ROW,
    MemoArrays,
    add_entry,
    find_long,
    find_short,
    look_up_bytes,
    sign_long,
    unpack_answer,
)
from pipeline.encoding.vectorized import WINDOW, classify_window
from pipeline.encoding.wordpiece import WordPieces

_ONE = np.uint64(1)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
# A window, and the eight bytes that begin at its last.
_READ_AHEAD = WINDOW + 8
_ODD_TEXT = np.int64(-1000)


@compile_loop
def scan_spaces(
    data: np.ndarray,
    offsets: np.ndarray,
    is_null: np.ndarray,
    cut: CutTables,
    pieces: WordPieces,
    memo: MemoArrays,
    row_ends: np.ndarray,
) -> int:
    """Cut texts before single spaces; see `scan_words`."""
    classes, fold, needs_ascii = cut.classes, cut.fold, cut.needs_ascii
    occurrences = memo.occurrences
    not_plain = np.int64(0)
    for row in range(memo.state[ROW], len(is_null)):
        first, end = offsets[row], offsets[row + 1]
        occurrence = memo.state[OCCURRENCES]
        position = end if is_null[row] else first
        while position < end:
            start = position
            holds_literal = False
            while position < end:
                kind = classes[data[position]]
                is_space = position > start and data[position] == 0x20
                if is_space and cuts_at_space(data, position, first, end, needs_ascii):
                    if not holds_literal:
                        break
                    holds_literal = False
                if kind & LITERAL and may_be_literal(data, position, end, cut):
                    holds_literal = True
                position += 1
            if occurrence >= len(occurrences):
                return FULL_OCCURRENCES
            packed = look_up_bytes(data, start, position, fold, not_plain, pieces, memo)
            if packed < 0:
                return -1 - packed
            occurrences[occurrence] = unpack_answer(packed)
            occurrence += 1
        row_ends[row + 1] = occurrence
        memo.state[OCCURRENCES] = occurrence
        memo.state[ROW] = row + 1
    return DONE


@compile_loop
def scan_words(
    data: np.ndarray,
    offsets: np.ndarray,
    is_null: np.ndarray,
    cut: CutTables,
    pieces: WordPieces,
    memo: MemoArrays,
    row_ends: np.ndarray,
) -> int:
    """Cut texts at white space and around isolated characters, and look every chunk up.

    Parameters
    ----------
    data : uint8 ndarray
        UTF-8 of all texts.
    offsets : int64 ndarray of shape (N + 1,)
        Text n is ``data[offsets[n]:offsets[n + 1]]``.
    is_null : bool ndarray of shape (N,)
        Texts to leave out.
    cut : CutTables
    pieces : WordPieces
        Without slots where there is no WordPiece.
    memo : MemoArrays
        ``state[ROW]`` is the text to begin with.
    row_ends : int64 ndarray of shape (N + 1,)
        Receives, behind a first 0, the number of occurrences at each text's end.

    Returns
    -------
    int
        `DONE`, or which array is full; call again with a larger one.

    Notes
    -----
    Sixty-four bytes at a time become masks, and chunks are read off their bits. What the masks don't tell, a
    chunk with a byte that is neither printable ASCII nor white space, is read byte by byte; so is a whole
    text that may hold an added token.
    """
    for row in range(memo.state[ROW], len(is_null)):
        first, end = offsets[row], offsets[row + 1]
        occurrence = memo.state[OCCURRENCES]
        if end > first and not is_null[row]:
            found = _ODD_TEXT
            if cut.has_plain_words:
                found = _scan_windows(data, first, end, cut, pieces, memo, occurrence)
            if found == _ODD_TEXT:
                found = _scan_bytes(data, first, end, cut, pieces, memo, occurrence)
            if found < 0:
                return -1 - found
            occurrence = found
        row_ends[row + 1] = occurrence
        memo.state[OCCURRENCES] = occurrence
        memo.state[ROW] = row + 1
    return DONE


@compile_part
def _scan_windows(
    data: np.ndarray,
    first: int,
    end: int,
    cut: CutTables,
    pieces: WordPieces,
    memo: MemoArrays,
    occurrence: int,
) -> int:
    """Scan one text window by window.

    Returns
    -------
    int
        Number of occurrences; -1 - FULL_... where there is no room; `_ODD_TEXT` where masks don't tell.
    """
    classes, fold, folds = cut.classes, cut.fold, cut.folds
    slots, entries, keys, occurrences = memo.slots, memo.entries, memo.keys, memo.occurrences
    position = first
    while position < end:
        if position + _READ_AHEAD > len(data):
            return _scan_bytes(data, position, end, cut, pieces, memo, occurrence)
        if occurrence + WINDOW > len(occurrences):
            return -1 - FULL_OCCURRENCES
        words, printable, white = classify_window(data, position)
        inside = min(end - position, WINDOW)
        here = _ALL if inside == WINDOW else (_ONE << np.uint64(inside)) - _ONE
        odd = ~(printable | white) & here
        if odd and cut.needs_ascii:
            return _ODD_TEXT
        isolated = np.uint64(0)
        if cut.isolates:
            isolated = printable & ~words & here
        else:
            words = printable
        runs = (words | odd) & here
        begins = (runs & ~(runs << _ONE)) | isolated
        next_position = position + inside
        while begins:
            offset = trailing_zeros(begins)
            begin = position + np.int64(offset)
            if (isolated >> offset) & _ONE:
                byte = data[begin]
                if classes[byte] & LITERAL and may_be_literal(data, begin, end, cut):
                    return _ODD_TEXT
                length = np.int64(1)
                signature = np.uint64(byte)
                packed, slot = find_short(signature, slots)
            else:
                run = trailing_zeros(~(runs >> offset) | (_ONE << np.uint64(63)))
                length = np.int64(run)
                if offset + run >= WINDOW - 1 and inside == WINDOW and offset > 0:
                    next_position = begin  # it may go on behind the window
                    break
                if offset + run >= WINDOW - 1 or (odd >> offset) & ((_ONE << run) - _ONE):
                    stop, characters = end_word(data, begin, first, end, cut)
                    if stop < 0:
                        return _ODD_TEXT
                    packed = look_up_bytes(data, begin, stop, fold, characters, pieces, memo)
                    if packed < 0:
                        return packed
                    occurrences[occurrence] = unpack_answer(packed)
                    occurrence += 1
                    next_position = stop
                    break
                word = load_word(data, begin)
                if folds:
                    word = lower_letters(word, letters_of(word))
                if length <= 8:
                    signature = keep_bytes(word, length)
                    packed, slot = find_short(signature, slots)
                else:
                    signature = sign_long(data, begin, length, folds)
                    packed, slot = find_long(data, begin, length, folds, signature, slots, entries, keys)
            if packed < 0:
                stop = begin + length
                is_long = length > 8
                packed = add_entry(data, begin, stop, fold, signature, is_long, slot, length, pieces, memo)
                if packed < 0:
                    return packed
            occurrences[occurrence] = unpack_answer(packed)
            occurrence += 1
            begins &= begins - _ONE
        position = next_position
    return occurrence


@compile_part
def _scan_bytes(
    data: np.ndarray,
    first: int,
    end: int,
    cut: CutTables,
    pieces: WordPieces,
    memo: MemoArrays,
    occurrence: int,
) -> int:
    """Scan one text byte by byte.

    Returns
    -------
    int
        Number of occurrences; -1 - FULL_... where there is no room.
    """
    classes = cut.classes
    position = word_start = first
    word_occurrence = occurrence
    while position < end:
        if classes[data[position]] & SEPARATOR:
            behind = skip_separators(data, position, first, end, classes, cut.needs_ascii)
            if behind > position:
                position = word_start = behind
                word_occurrence = occurrence
                continue
        start = position
        fold = cut.fold
        position, characters = end_word(data, start, first, end, cut)
        if position < 0:
            # An added token may be in this word: it is one chunk, its earlier chunks are forgotten.
            start = position = word_start
            occurrence = word_occurrence
            fold = cut.as_it_is
            while position < end and not classes[data[position]] & SEPARATOR:
                position += 1
        if occurrence >= len(memo.occurrences):
            return -1 - FULL_OCCURRENCES
        packed = look_up_bytes(data, start, position, fold, characters, pieces, memo)
        if packed < 0:
            return packed
        memo.occurrences[occurrence] = unpack_answer(packed)
        occurrence += 1
    return occurrence
