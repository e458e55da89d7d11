"""The scan: cut texts into chunks and look each up in the memo, without a Python string.

What the memo knows is one probe. What it doesn't know is added, split right there where it is a plain word of
a WordPiece tokenizer, and else left pending for the library. One function per family of rules, since a family
that is not used need not be compiled.
"""

from __future__ import annotations

import numpy as np

from lakevec.pipeline.encoding.characters import CharacterTable
from lakevec.pipeline.encoding.chunk_ends import (
    LITERAL,
    SEPARATOR,
    CutTables,
    cuts_at_space,
    end_word,
    may_be_literal,
    skip_separators,
)
from lakevec.pipeline.encoding.compilation import compile_loop, compile_part
from lakevec.pipeline.encoding.hashing import keep_bytes, letters_of, load_word, lower_letters, trailing_zeros
from lakevec.pipeline.encoding.memo_arrays import (
    DONE,
    FULL_OCCURRENCES,
    NOT_UTF8,
    OCCURRENCES,
    ODD_TEXT,
    PLACE,
    ROW,
    MemoArrays,
    find_long,
    find_short,
    sign_long,
    unpack_answer,
)
from lakevec.pipeline.encoding.memo_entries import add_entry, look_up_bytes
from lakevec.pipeline.encoding.vectorized import WINDOW, classify_window
from lakevec.pipeline.encoding.wordpiece import WordPieces
from lakevec.pipeline.encoding.words import FOR_LIBRARY, NORMALIZED, UNMARKED, look_up_odd

# Bytes that must be readable behind the last text: a window, and eight bytes from its last one.
READ_AHEAD = WINDOW + 8

_ONE = np.uint64(1)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


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
            packed = look_up_bytes(data, start, position, fold, FOR_LIBRARY, UNMARKED, pieces, memo)
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
    characters: CharacterTable,
    memo: MemoArrays,
    row_ends: np.ndarray,
) -> int:
    """Cut texts at white space and around isolated characters, and look every chunk up.

    Parameters
    ----------
    data : uint8 ndarray
        UTF-8 of all texts, and `READ_AHEAD` more bytes.
    offsets : int64 ndarray of shape (N + 1,)
        Text n is ``data[offsets[n]:offsets[n + 1]]``.
    is_null : bool ndarray of shape (N,)
        Texts to leave out.
    cut : CutTables
    pieces : WordPieces
        Without slots where there is no WordPiece.
    characters : CharacterTable
        Of a BERT tokenizer.
    memo : MemoArrays
        ``state[ROW]`` is the text to begin with, ``state[PLACE]`` where in it.
    row_ends : int64 ndarray of shape (N + 1,)
        Receives, behind a first 0, the number of occurrences at each text's end.

    Returns
    -------
    int
        `DONE`, which array is full, `NEW_CHARACTER`, `NOT_UTF8`, or `ODD_TEXT`, a text for `scan_bytes`.

    Notes
    -----
    Sixty-four bytes at a time become masks, and chunks are read off their bits. A chunk with a byte that is
    neither printable ASCII nor white space is read character by character.
    """
    fold, folds = cut.fold, cut.folds
    slots, entries, keys, occurrences = memo.slots, memo.entries, memo.keys, memo.occurrences
    for row in range(memo.state[ROW], len(is_null)):
        occurrence = memo.state[OCCURRENCES]
        position, end = max(offsets[row], memo.state[PLACE]), offsets[row + 1]
        if is_null[row]:
            position = end
        elif not cut.has_plain_words:
            return ODD_TEXT
        while position < end:
            if occurrence + WINDOW > len(occurrences):
                return _stop_at(position, occurrence, FULL_OCCURRENCES, memo)
            words, printable, white = classify_window(data, position)
            inside = min(end - position, WINDOW)
            here = _ALL if inside == WINDOW else (_ONE << np.uint64(inside)) - _ONE
            odd = ~(printable | white) & here
            if odd and cut.needs_ascii:
                return _stop_at(0, row_ends[row], ODD_TEXT, memo)
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
                length = np.int64(1)
                if (isolated >> offset) & _ONE:
                    if cut.classes[data[begin]] & LITERAL and may_be_literal(data, begin, end, cut):
                        return _stop_at(0, row_ends[row], ODD_TEXT, memo)
                    signature = np.uint64(data[begin])
                    packed, slot = find_short(signature, slots)
                else:
                    run = trailing_zeros(~(runs >> offset) | (_ONE << np.uint64(63)))
                    if offset + run >= WINDOW - 1 and inside == WINDOW and offset > 0:
                        next_position = begin  # it may go on behind the window
                        break
                    if offset + run >= WINDOW - 1 or (odd >> offset) & ((_ONE << run) - _ONE):
                        packed, next_position = look_up_odd(data, begin, end, cut, pieces, characters, memo)
                        if packed < -1:
                            return _stop_at(begin, occurrence, -1 - packed, memo)
                        if packed >= 0:
                            occurrences[occurrence] = unpack_answer(packed)
                            occurrence += 1
                        break
                    length = np.int64(run)
                    if length <= 8:
                        word = load_word(data, begin)
                        if folds:
                            word = lower_letters(word, letters_of(word))
                        signature = keep_bytes(word, length)
                        packed, slot = find_short(signature, slots)
                    else:
                        signature = sign_long(data, begin, length, folds)
                        packed, slot = find_long(data, begin, length, folds, signature, slots, entries, keys)
                if packed < 0:
                    stop, is_long = begin + length, length > 8
                    packed = add_entry(
                        data, begin, stop, fold, signature, is_long, slot, length, UNMARKED, pieces, memo
                    )
                    if packed < 0:
                        return _stop_at(begin, occurrence, -1 - packed, memo)
                occurrences[occurrence] = unpack_answer(packed)
                occurrence += 1
                begins &= begins - _ONE
            position = next_position
        row_ends[row + 1] = occurrence
        memo.state[OCCURRENCES] = occurrence
        memo.state[ROW] = row + 1
        memo.state[PLACE] = 0
    return DONE


@compile_part
def _stop_at(place: int, occurrence: int, status: int, memo: MemoArrays) -> int:
    """Note where the scan of a text goes on, 0 for its beginning, so that long texts aren't read again."""
    memo.state[PLACE] = place
    memo.state[OCCURRENCES] = occurrence
    return status


@compile_loop
def scan_bytes(
    data: np.ndarray,
    offsets: np.ndarray,
    is_null: np.ndarray,
    cut: CutTables,
    pieces: WordPieces,
    memo: MemoArrays,
    row_ends: np.ndarray,
    last: int,
) -> int:
    """Do what `scan_words` does, byte by byte and for any text, up to the text `last`.

    It looks for added tokens, and for white space that must not be cut.
    """
    classes = cut.classes
    for row in range(memo.state[ROW], last):
        first, end = offsets[row], offsets[row + 1]
        occurrence = word_occurrence = memo.state[OCCURRENCES]
        position = word_start = end if is_null[row] else first
        while position < end:
            if classes[data[position]] & SEPARATOR:
                behind = skip_separators(data, position, first, end, classes, cut.needs_ascii)
                if behind > position:
                    position = word_start = behind
                    word_occurrence = occurrence
                    continue
            start = position
            if data[start] == NORMALIZED:
                return NOT_UTF8
            fold = cut.fold
            position, counted = end_word(data, start, first, end, cut)
            if position < 0:
                # An added token may be in this word: it is one chunk, its earlier chunks are forgotten.
                start = position = word_start
                occurrence = word_occurrence
                fold = cut.as_it_is
                while position < end and not classes[data[position]] & SEPARATOR:
                    position += 1
            if occurrence >= len(memo.occurrences):
                return FULL_OCCURRENCES
            packed = look_up_bytes(data, start, position, fold, counted, UNMARKED, pieces, memo)
            if packed < 0:
                return -1 - packed
            memo.occurrences[occurrence] = unpack_answer(packed)
            occurrence += 1
        row_ends[row + 1] = occurrence
        memo.state[OCCURRENCES] = occurrence
        memo.state[ROW] = row + 1
    return DONE
