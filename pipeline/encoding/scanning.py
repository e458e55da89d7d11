"""The scan: cut texts into chunks and look each up in the memo, without a Python string.

What the memo knows is one probe. What it doesn't know is added, split right there where it is a plain word of
a WordPiece tokenizer, and else left pending for the library. One function per family of rules, since a family
that is not used need not be compiled.
"""

from __future__ import annotations

import numpy as np

from pipeline.encoding.chunk_ends import (
    ISOLATED,
    LITERAL,
    SEPARATOR,
    CutTables,
    cuts_at_space,
    end_word,
    may_be_literal,
    skip_separators,
)
from pipeline.encoding.compilation import compile_loop
from pipeline.encoding.hashing import (
    add_word,
    count_leading,
    digits_of,
    keep_bytes,
    letters_of,
    load_word,
    lower_letters,
)
from pipeline.encoding.memo_arrays import (
    DONE,
    FULL_OCCURRENCES,
    OCCURRENCES,
    ROW,
    MemoArrays,
    add_entry,
    find_answer,
    sign_chunk,
    unpack_answer,
)
from pipeline.encoding.wordpiece import WordPieces


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
    slots, entries, keys, occurrences = memo.slots, memo.entries, memo.keys, memo.occurrences
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
            signature, is_long = sign_chunk(data, start, position, fold)
            length = position - start
            packed, slot = find_answer(data, start, length, fold, signature, is_long, slots, entries, keys)
            if packed < 0:
                packed = add_entry(
                    data, start, position, fold, signature, is_long, slot, not_plain, pieces, memo
                )
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
    """
    classes, folded, needs_ascii = cut.classes, cut.fold, cut.needs_ascii
    is_bert, folds = cut.isolates, cut.folds
    slots, entries, keys, occurrences = memo.slots, memo.entries, memo.keys, memo.occurrences
    for row in range(memo.state[ROW], len(is_null)):
        first, end = offsets[row], offsets[row + 1]
        occurrence = word_occurrence = memo.state[OCCURRENCES]
        position = word_start = end if is_null[row] else first
        while position < end:
            kind = classes[data[position]]
            if kind & SEPARATOR:
                behind = skip_separators(data, position, first, end, classes, needs_ascii)
                if behind > position:
                    position = word_start = behind
                    word_occurrence = occurrence
                    continue
            start = position
            fold = folded
            characters = np.int64(0)
            signature = word = np.uint64(0)
            is_long = False
            if kind == 0 and is_bert:
                # Most chunks are letters and digits; what ends them is white space or punctuation.
                while position + 8 <= len(data):
                    raw = load_word(data, position)
                    letters = letters_of(raw)
                    count = min(count_leading(letters | digits_of(raw)), end - position)
                    if count == 0:
                        break
                    if position > start:
                        signature = add_word(signature, word)
                    word = keep_bytes(lower_letters(raw, letters) if folds else raw, count)
                    position += count
                    if count < 8:
                        break
                characters = position - start
                is_long = characters > 8
                signature = add_word(signature, word) if is_long else word
                if position < end and not classes[data[position]] & (SEPARATOR | ISOLATED):
                    characters = np.int64(0)
            elif kind == ISOLATED:
                signature = np.uint64(data[position])
                position += 1
                characters = np.int64(1)
            if characters == 0:
                position, characters = end_word(data, start, first, end, cut)
                if position < 0:
                    # An added token may be in this word: it is one chunk, its earlier chunks are forgotten.
                    start = position = word_start
                    occurrence = word_occurrence
                    fold = cut.as_it_is
                    while position < end and not classes[data[position]] & SEPARATOR:
                        position += 1
                signature, is_long = sign_chunk(data, start, position, fold)
            if occurrence >= len(occurrences):
                return FULL_OCCURRENCES
            length = position - start
            packed, slot = find_answer(data, start, length, fold, signature, is_long, slots, entries, keys)
            if packed < 0:
                packed = add_entry(
                    data, start, position, fold, signature, is_long, slot, characters, pieces, memo
                )
                if packed < 0:
                    return -1 - packed
            occurrences[occurrence] = unpack_answer(packed)
            occurrence += 1
        row_ends[row + 1] = occurrence
        memo.state[OCCURRENCES] = occurrence
        memo.state[ROW] = row + 1
    return DONE
