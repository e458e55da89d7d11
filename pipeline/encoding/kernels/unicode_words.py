"""Segments that are not all letters and digits: words of any script, read character by character."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lakevec.pipeline.encoding.kernels.cache_arrays import (
    NEW_CHARACTER,
    NO_SEGMENT,
    NOT_UTF8,
    CacheArrays,
    Segment,
)
from lakevec.pipeline.encoding.kernels.cache_entries import kind_of, look_up, sign
from lakevec.pipeline.encoding.kernels.compilation import compile_inline
from lakevec.pipeline.encoding.kernels.packed_bytes import put_byte
from lakevec.pipeline.encoding.kernels.segment_ends import (
    INVALID,
    ISOLATED,
    SEPARATOR,
    SplitTables,
    read_character,
)
from lakevec.pipeline.encoding.kernels.wordpiece import WordPieces

# Kinds of characters. The table has not yet seen a NEW one. Words with a FOREIGN one are left to the library.
NEW, FOREIGN, WORD, DROPPED, WHITE, ALONE = range(6)
# First byte of the key of a normalized word that is not ASCII. No valid UTF-8 contains it.
NORMALIZED = 0xFF
# Values of `Segment`, with types since Numba compiles once for each type.
FOR_LIBRARY, UNMARKED, UNFOLDED = np.int64(0), np.bool_(False), np.bool_(False)
# Bytes of `CharacterTable.word` that no word uses, since segments are read eight bytes at a time.
WORD_ROOM = 8

# Instead of the length of a word.
_FOREIGN_WORD = -2


class CharacterTable(NamedTuple):
    """The effect of a BERT tokenizer on each character up to U+FFFF.

    Parameters
    ----------
    kinds : uint8 ndarray of shape (65536,)
        `NEW`, `FOREIGN`, `WORD`, `DROPPED`, `WHITE` or `ALONE`.
    starts, ends : int32 ndarray of shape (65536,)
        Character c becomes ``letters[starts[c]:ends[c]]``.
    letters : uint8 ndarray
        UTF-8.
    word : uint8 ndarray
        Room for the current word, and `WORD_ROOM` more bytes.
    """

    kinds: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    letters: np.ndarray
    word: np.ndarray


class TokenizerTables(NamedTuple):
    """All tables of a tokenizer.

    Parameters
    ----------
    split : SplitTables
    pieces : WordPieces
        Without slots if the tokenizer has no WordPiece.
    characters : CharacterTable
        Used for BERT tokenizers.
    """

    split: SplitTables
    pieces: WordPieces
    characters: CharacterTable


@compile_inline
def look_up_unicode(
    data: np.ndarray, begin: int, end: int, tables: TokenizerTables, cache: CacheArrays
) -> tuple[int, int, int]:
    """Look up a segment that is not all letters and digits, or is a long one.

    Returns
    -------
    ref : int
    status : int
        `DONE`, `NO_SEGMENT` if the normalizer drops the whole segment, or the reason to stop.
    end : int
        End of the segment.
    """
    split, pieces, characters = tables.split, tables.pieces, tables.characters
    stop, first, length, count = begin, np.int64(0), np.int64(_FOREIGN_WORD), np.int64(0)
    if split.isolates:
        stop, first, length, count = _read_word(data, begin, end, split.classes, characters)
        if length == NEW:
            cache.state[0].character = stop
            return 0, NEW_CHARACTER, begin
        if length == INVALID:
            return 0, NOT_UTF8, begin
        if count == 0 and length != _FOREIGN_WORD:
            return 0, NO_SEGMENT, stop
    if stop == begin:
        while stop < end and not split.classes[data[stop]] & (SEPARATOR | ISOLATED):
            stop += 1
    segment = Segment(data, begin, stop - begin, split.folds, FOR_LIBRARY, UNMARKED)
    if length > 0 and len(pieces.slots) > 0:
        segment = Segment(characters.word, first, length - first, UNFOLDED, count, first == 0)
    kind = kind_of(segment)
    ref, status = look_up(segment, kind, sign(segment, kind), pieces, cache)
    return ref, status, stop


@compile_inline
def _read_word(
    data: np.ndarray, begin: int, end: int, classes: np.ndarray, characters: CharacterTable
) -> tuple[int, int, int, int]:
    """Normalize one word of a BERT tokenizer into ``characters.word``, after a `NORMALIZED` byte.

    Returns
    -------
    stop : int
        End of the word in `data`; the character if it is `NEW`; `begin` if a character is foreign.
    first : int
        Start of the key in ``characters.word``: 1 if the word is ASCII, whose key has no `NORMALIZED` byte.
    length : int
        End of the key, 1 for a word that is too long to be known; or `NEW`, `INVALID` or `_FOREIGN_WORD`.
    count : int
        Number of characters of the word.
    """
    word, kinds = characters.word, characters.kinds
    room = len(word) - WORD_ROOM
    put_byte(word, 0, NORMALIZED)
    position, first, length, count = begin, np.int64(1), np.int64(1), np.int64(0)
    while position < end:
        byte = data[position]
        if classes[byte] & (SEPARATOR | ISOLATED):
            break
        code, size = read_character(data, position, end)
        if code == INVALID:
            return begin, first, np.int64(INVALID), count
        kind = FOREIGN if code > 0xFFFF else kinds[code]
        if kind == NEW:
            return code, first, np.int64(NEW), count
        if kind == FOREIGN:
            return begin, first, np.int64(_FOREIGN_WORD), count
        if count > 0 and kind in (WHITE, ALONE):
            break
        position += size
        if kind in (WHITE, DROPPED):
            continue
        for source in range(characters.starts[code], characters.ends[code]):
            letter = characters.letters[source]
            count += letter & 0xC0 != 0x80
            if letter >= 0x80:
                first = np.int64(0)
            if length < room:
                put_byte(word, length, letter)
            length += 1
        if kind == ALONE:
            break
    if length > room:
        first, length = np.int64(0), np.int64(1)
    return position, first, length, count
