"""The scan: split texts into segments and look up each in the token cache, without Python strings.

A known segment usually costs one probe. A new segment gets an entry. Plain words of a WordPiece tokenizer are
split here; other segments are left pending for the `tokenizers` library. Each family of split rules has its
own function, so that unused families are not compiled.
"""

from __future__ import annotations

import numpy as np

from lakevec.pipeline.encoding.kernels.cache_arrays import (
    DONE,
    FULL_REFS,
    NOT_UTF8,
    ODD_TEXT,
    PLACE,
    REFS,
    ROW,
    CacheArrays,
    find_long,
    find_short,
    sign_long,
    unpack_ref,
)
from lakevec.pipeline.encoding.kernels.cache_entries import add_entry, look_up_bytes
from lakevec.pipeline.encoding.kernels.compilation import compile_loop, compile_part
from lakevec.pipeline.encoding.kernels.packed_bytes import (
    keep_bytes,
    letters_of,
    load_word,
    lower_letters,
    trailing_zeros,
)
from lakevec.pipeline.encoding.kernels.segment_ends import (
    LITERAL,
    SEPARATOR,
    SplitTables,
    end_word,
    may_be_literal,
    skip_separators,
    splits_at_space,
)
from lakevec.pipeline.encoding.kernels.simd import WINDOW, classify_window
from lakevec.pipeline.encoding.kernels.unicode_words import (
    FOR_LIBRARY,
    NORMALIZED,
    UNMARKED,
    CharacterTable,
    look_up_odd,
)
from lakevec.pipeline.encoding.kernels.wordpiece import WordPieces

# Padding after the last text: a window, and a word of eight bytes that starts at its last byte.
READ_AHEAD = WINDOW + 8

_ONE = np.uint64(1)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@compile_loop
def scan_spaces(
    data: np.ndarray,
    offsets: np.ndarray,
    is_null: np.ndarray,
    split: SplitTables,
    pieces: WordPieces,
    cache: CacheArrays,
    row_ends: np.ndarray,
) -> int:
    """Split texts before single spaces; see `scan_words`."""
    classes, fold, needs_ascii = split.classes, split.fold, split.needs_ascii
    segment_refs = cache.segment_refs
    for row in range(cache.state[ROW], len(is_null)):
        first, end = offsets[row], offsets[row + 1]
        ref_index = cache.state[REFS]
        position = end if is_null[row] else first
        while position < end:
            start = position
            holds_literal = False
            while position < end:
                kind = classes[data[position]]
                is_space = position > start and data[position] == 0x20
                if is_space and splits_at_space(data, position, first, end, needs_ascii):
                    if not holds_literal:
                        break
                    holds_literal = False
                if kind & LITERAL and may_be_literal(data, position, end, split):
                    holds_literal = True
                position += 1
            if ref_index >= len(segment_refs):
                return FULL_REFS
            packed = look_up_bytes(data, start, position, fold, FOR_LIBRARY, UNMARKED, pieces, cache)
            if packed < 0:
                return -1 - packed
            segment_refs[ref_index] = unpack_ref(packed)
            ref_index += 1
        row_ends[row + 1] = ref_index
        cache.state[REFS] = ref_index
        cache.state[ROW] = row + 1
    return DONE


@compile_loop
def scan_words(
    data: np.ndarray,
    offsets: np.ndarray,
    is_null: np.ndarray,
    split: SplitTables,
    pieces: WordPieces,
    characters: CharacterTable,
    cache: CacheArrays,
    row_ends: np.ndarray,
) -> int:
    """Split texts at white space and around isolated characters, and look up every segment.

    Parameters
    ----------
    data : uint8 ndarray
        UTF-8 of all texts, and `READ_AHEAD` bytes of padding.
    offsets : int64 ndarray of shape (N + 1,)
        Text n is ``data[offsets[n]:offsets[n + 1]]``.
    is_null : bool ndarray of shape (N,)
        Texts to skip.
    split : SplitTables
    pieces : WordPieces
        The WordPiece vocabulary; without slots for other tokenizers.
    characters : CharacterTable
        The character table of a BERT tokenizer.
    cache : CacheArrays
        The scan begins at text ``state[ROW]``, at position ``state[PLACE]`` of that text.
    row_ends : int64 ndarray of shape (N + 1,)
        Output: text n has the refs ``segment_refs[row_ends[n]:row_ends[n + 1]]``.

    Returns
    -------
    int
        `DONE`, `FULL_...` for the array that is full, `NEW_CHARACTER`, `NOT_UTF8`, or `ODD_TEXT` for a text
        that needs `scan_bytes`.

    Notes
    -----
    The scan classifies windows of 64 bytes into bit masks, whose bits give the segments. If a segment has a
    byte other than printable ASCII and white space, it is read character by character.
    """
    fold, folds = split.fold, split.folds
    slots, entries, keys, segment_refs = cache.slots, cache.entries, cache.keys, cache.segment_refs
    for row in range(cache.state[ROW], len(is_null)):
        ref_index = cache.state[REFS]
        position, end = max(offsets[row], cache.state[PLACE]), offsets[row + 1]
        if is_null[row]:
            position = end
        elif not split.has_plain_words:
            return ODD_TEXT
        while position < end:
            if ref_index + WINDOW > len(segment_refs):
                return _stop_at(position, ref_index, FULL_REFS, cache)
            words, printable, white = classify_window(data, position)
            inside = min(end - position, WINDOW)
            here = _ALL if inside == WINDOW else (_ONE << np.uint64(inside)) - _ONE
            odd = ~(printable | white) & here
            if odd and split.needs_ascii:
                return _stop_at(0, row_ends[row], ODD_TEXT, cache)
            isolated = np.uint64(0)
            if split.isolates:
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
                    if split.classes[data[begin]] & LITERAL and may_be_literal(data, begin, end, split):
                        return _stop_at(0, row_ends[row], ODD_TEXT, cache)
                    signature = np.uint64(data[begin])
                    packed, slot = find_short(signature, slots)
                else:
                    run = trailing_zeros(~(runs >> offset) | (_ONE << np.uint64(63)))
                    if offset + run >= WINDOW - 1 and inside == WINDOW and offset > 0:
                        next_position = begin  # the segment may continue in the next window
                        break
                    if offset + run >= WINDOW - 1 or (odd >> offset) & ((_ONE << run) - _ONE):
                        packed, next_position = look_up_odd(
                            data, begin, end, split, pieces, characters, cache
                        )
                        if packed < -1:
                            return _stop_at(begin, ref_index, -1 - packed, cache)
                        if packed >= 0:
                            segment_refs[ref_index] = unpack_ref(packed)
                            ref_index += 1
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
                        data, begin, stop, fold, signature, is_long, slot, length, UNMARKED, pieces, cache
                    )
                    if packed < 0:
                        return _stop_at(begin, ref_index, -1 - packed, cache)
                segment_refs[ref_index] = unpack_ref(packed)
                ref_index += 1
                begins &= begins - _ONE
            position = next_position
        row_ends[row + 1] = ref_index
        cache.state[REFS] = ref_index
        cache.state[ROW] = row + 1
        cache.state[PLACE] = 0
    return DONE


@compile_part
def _stop_at(place: int, ref_index: int, status: int, cache: CacheArrays) -> int:
    """Record where the scan continues in a text (0 for its start), so that long texts aren't read again."""
    cache.state[PLACE] = place
    cache.state[REFS] = ref_index
    return status


@compile_loop
def scan_bytes(
    data: np.ndarray,
    offsets: np.ndarray,
    is_null: np.ndarray,
    split: SplitTables,
    pieces: WordPieces,
    cache: CacheArrays,
    row_ends: np.ndarray,
    last: int,
) -> int:
    """Do the work of `scan_words` byte by byte, for any text before index `last`.

    This scan also finds added tokens, and white space at which the rule forbids a split.
    """
    classes = split.classes
    for row in range(cache.state[ROW], last):
        first, end = offsets[row], offsets[row + 1]
        ref_index = word_ref_index = cache.state[REFS]
        position = word_start = end if is_null[row] else first
        while position < end:
            if classes[data[position]] & SEPARATOR:
                behind = skip_separators(data, position, first, end, classes, split.needs_ascii)
                if behind > position:
                    position = word_start = behind
                    word_ref_index = ref_index
                    continue
            start = position
            if data[start] == NORMALIZED:
                return NOT_UTF8
            fold = split.fold
            position, counted = end_word(data, start, first, end, split)
            if position < 0:
                # The word may contain an added token. Discard its segments, and make the word one segment.
                start = position = word_start
                ref_index = word_ref_index
                fold = split.as_it_is
                while position < end and not classes[data[position]] & SEPARATOR:
                    position += 1
            if ref_index >= len(cache.segment_refs):
                return FULL_REFS
            packed = look_up_bytes(data, start, position, fold, counted, UNMARKED, pieces, cache)
            if packed < 0:
                return -1 - packed
            cache.segment_refs[ref_index] = unpack_ref(packed)
            ref_index += 1
        row_ends[row + 1] = ref_index
        cache.state[REFS] = ref_index
        cache.state[ROW] = row + 1
    return DONE
