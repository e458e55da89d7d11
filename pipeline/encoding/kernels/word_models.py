"""Tokenize new segments of any script with byte-level BPE or Unigram."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lakevec.pipeline.encoding.kernels.byte_pairs import (
    BLANK,
    FOR_LIBRARY,
    LETTER,
    UNSEEN,
    BytePairs,
    split_bytes,
)
from lakevec.pipeline.encoding.kernels.cache_arrays import DONE, FULL_TOKENS, NEW_CHARACTER, CacheArrays
from lakevec.pipeline.encoding.kernels.cache_entries import fill_slot
from lakevec.pipeline.encoding.kernels.compilation import compile_inline, compile_loop, compile_part
from lakevec.pipeline.encoding.kernels.packed_bytes import put_byte
from lakevec.pipeline.encoding.kernels.segment_ends import INVALID, read_character
from lakevec.pipeline.encoding.kernels.unigram import Lattice, split_unigram

# Instead of a number of tokens; a character c that is unseen is ``_UNSEEN_CHARACTER - c``.
_LEFT_TO_LIBRARY, _NO_ROOM, _UNSEEN_CHARACTER = -1, -2, -3

_SPACE = 0x20


class Letters(NamedTuple):
    """The effect of a normalizer on single characters up to U+FFFF.

    Parameters
    ----------
    kinds : uint8 ndarray of shape (65536,)
        `UNSEEN`, `FOR_LIBRARY`, `LETTER`, `NUMBER`, `SIGN` or `BLANK`.
    starts, ends : int32 ndarray of shape (65536,)
        Character c becomes ``normal[starts[c]:ends[c]]``.
    normal : uint8 ndarray
        UTF-8.
    mark : uint8 ndarray
        What stands for the space before a word, or that space.
    keeps_blanks : bool
        Whether white space is part of the words, as in byte-level BPE.
    takes_blanks : bool
        Whether a segment may hold white space behind its first character; otherwise it may be an added token.
    joins_blanks : bool
        Whether a run of white space is like a single space.
    marks_start, marks_words : bool
        Whether the mark stands before the first word without a space before it, and before the others.
    signs : uint8 ndarray
        UTF-8 of characters of which every added token has one. A segment with one is left to the library.
    word, word_kinds : uint8 ndarray
        Room for the current word and the kind of each of its bytes.
    """

    kinds: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    normal: np.ndarray
    mark: np.ndarray
    keeps_blanks: bool
    takes_blanks: bool
    joins_blanks: bool
    marks_start: bool
    marks_words: bool
    signs: np.ndarray
    word: np.ndarray
    word_kinds: np.ndarray


class WordModels(NamedTuple):
    """A byte-level BPE or a Unigram; the other one, or both, have no slots.

    Parameters
    ----------
    pairs : BytePairs
    lattice : Lattice
    letters : Letters
    unknown : int
        Token to leave out and to count, or -1.
    """

    pairs: BytePairs
    lattice: Lattice
    letters: Letters
    unknown: int


@compile_loop
def split_pending(first: int, left: int, models: WordModels, cache: CacheArrays) -> tuple[int, int, int]:
    """Tokenize the pending segments from index `first` on.

    Returns
    -------
    first : int
        Index of the next pending segment.
    left : int
        Number of segments that stay pending, for the library: the first of ``cache.pending``.
    status : int
        `DONE`; or `FULL_TOKENS` or `NEW_CHARACTER`: make room or add the character, and call again.
    """
    state = cache.state[0]
    for index in range(first, state.pending):
        ref = np.int64(cache.pending[index])
        entry = cache.entries[ref]
        segment = cache.keys[entry.key_start : entry.key_start + entry.key_length]
        count = _split_segment(segment, models, cache.tokens[state.tokens :])
        if count == _NO_ROOM:
            return np.int64(index), np.int64(left), np.int64(FULL_TOKENS)
        if count <= _UNSEEN_CHARACTER:
            state.character = _UNSEEN_CHARACTER - count
            return np.int64(index), np.int64(left), np.int64(NEW_CHARACTER)
        if count == _LEFT_TO_LIBRARY:
            cache.pending[left] = ref
            left += 1
            continue
        kept = state.tokens
        for position in range(state.tokens, state.tokens + count):
            if cache.tokens[position] != models.unknown:
                cache.tokens[kept] = cache.tokens[position]
                kept += 1
        entry.token_start = state.tokens
        entry.token_count = kept - state.tokens
        entry.unknown = count - entry.token_count
        state.tokens = kept
        fill_slot(ref, cache)
    return np.int64(state.pending), np.int64(left), np.int64(DONE)


@compile_part
def _split_segment(segment: np.ndarray, models: WordModels, ids: np.ndarray) -> int:
    """Tokenize the bytes of a segment; write its token ids, and return their number, or why not."""
    letters = models.letters
    length = _normalize(segment, letters)
    if length <= 0:
        return length
    if length > len(ids):
        return np.int64(_NO_ROOM)
    if len(models.pairs.slots) > 0:
        return split_bytes(letters.word, letters.word_kinds, length, models.pairs, ids)
    start = count = np.int64(0)
    while start < length:
        stop = start + 1
        while stop < length and letters.word_kinds[stop] != BLANK:
            stop += 1
        count += split_unigram(letters.word[start:stop], stop - start, models.lattice, ids[count:])
        start = stop
    return count


@compile_part
def _normalize(segment: np.ndarray, letters: Letters) -> int:
    """Normalize a segment into ``letters.word``; return its length, or why not.

    Unless ``letters.keeps_blanks``, the first byte of each word but the first is marked as `BLANK`.
    """
    length, position = np.int64(0), np.int64(0)
    has_space = segment[0] == _SPACE
    if not letters.keeps_blanks and has_space:
        position = np.int64(1)
    if letters.marks_words if position > 0 else letters.marks_start and not has_space:
        kind = np.int64(BLANK if letters.keeps_blanks else LETTER)
        length = _put(letters.mark, 0, len(letters.mark), kind, length, letters)
    was_blank, has_letter = position > 0, False
    while position < len(segment):
        code, size = read_character(segment, position, len(segment))
        position += size
        kind = np.int64(FOR_LIBRARY if code == INVALID or code > 0xFFFF else letters.kinds[code])
        if kind == UNSEEN:
            return np.int64(_UNSEEN_CHARACTER - code)
        is_inner_blank = kind == BLANK and position > size
        if kind == FOR_LIBRARY or (is_inner_blank and not letters.takes_blanks):
            return np.int64(_LEFT_TO_LIBRARY)
        if kind == BLANK and not letters.keeps_blanks:
            if position == len(segment) or not has_letter or (was_blank and not letters.joins_blanks):
                return np.int64(_LEFT_TO_LIBRARY)
            was_blank = True
            continue
        start, end = letters.starts[code], letters.ends[code]
        if length + len(letters.mark) + end - start > len(letters.word):
            return np.int64(_LEFT_TO_LIBRARY)
        begin = length
        if was_blank and has_letter and letters.marks_words:
            length = _put(letters.mark, 0, len(letters.mark), kind, length, letters)
        length = _put(letters.normal, start, end, kind, length, letters)
        if was_blank and has_letter:
            put_byte(letters.word_kinds, begin, BLANK)
        was_blank, has_letter = False, True
    return length if has_letter else np.int64(_LEFT_TO_LIBRARY)


@compile_inline
def _put(source: np.ndarray, start: int, end: int, kind: int, length: int, letters: Letters) -> int:
    """Append ``source[start:end]``, characters of a kind, to ``letters.word``; return its new length."""
    for index in range(start, end):
        put_byte(letters.word, length, source[index])
        put_byte(letters.word_kinds, length, kind)
        length += 1
    return length
