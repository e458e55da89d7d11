"""Segments that are not all letters and digits: words of any script, read character by character."""

from __future__ import annotations

import numpy as np

from lakevec.pipeline.encoding.kernel_tables import (
    ALONE,
    DROPPED,
    FOREIGN,
    INVALID,
    NEW,
    WHITE,
    CharacterTable,
    read_character,
)
from lakevec.pipeline.encoding.kernels.cache_arrays import CHARACTER, NEW_CHARACTER, NOT_UTF8, CacheArrays
from lakevec.pipeline.encoding.kernels.cache_entries import look_up_bytes
from lakevec.pipeline.encoding.kernels.compilation import compile_part
from lakevec.pipeline.encoding.kernels.packed_bytes import put_byte
from lakevec.pipeline.encoding.kernels.segment_ends import ISOLATED, SEPARATOR, SplitTables
from lakevec.pipeline.encoding.kernels.wordpiece import WordPieces

# Begins the key of a word that was normalized here and is not ASCII; no text that is UTF-8 holds this byte.
NORMALIZED = 0xFF
# Of the same types as what they stand for: every other type is another compilation.
FOR_LIBRARY, UNMARKED = np.int64(0), np.bool_(False)

# In place of a word's length.
_FOREIGN_WORD = -2


@compile_part
def look_up_odd(
    data: np.ndarray,
    begin: int,
    end: int,
    split: SplitTables,
    pieces: WordPieces,
    characters: CharacterTable,
    cache: CacheArrays,
) -> tuple[int, int]:
    """Look up a segment that is not all letters and digits, or is a long one.

    Returns
    -------
    int
        Packed ref; -1 where nothing is left of the segment; else -1 - the reason to stop.
    int
        Where the segment ends.
    """
    stop, first, length, count = begin, np.int64(0), np.int64(_FOREIGN_WORD), np.int64(0)
    if split.isolates:
        stop, first, length, count = _read_word(data, begin, end, split.classes, characters)
        if length == NEW:
            cache.state[CHARACTER] = stop
            return np.int64(-1 - NEW_CHARACTER), begin
        if length == INVALID:
            return np.int64(-1 - NOT_UTF8), begin
        if count == 0 and length != _FOREIGN_WORD:
            return np.int64(-1), stop
    if length > 0 and len(pieces.slots) > 0:
        return look_up_bytes(
            characters.word, first, length, split.as_it_is, count, first == 0, pieces, cache
        ), stop
    if stop == begin:
        while stop < end and not split.classes[data[stop]] & (SEPARATOR | ISOLATED):
            stop += 1
    return look_up_bytes(data, begin, stop, split.fold, FOR_LIBRARY, UNMARKED, pieces, cache), stop


@compile_part
def _read_word(
    data: np.ndarray, begin: int, end: int, classes: np.ndarray, characters: CharacterTable
) -> tuple[int, int, int, int]:
    """Normalize one word of a BERT tokenizer into ``characters.word``, behind a byte that marks it.

    Returns
    -------
    int
        Where it ends; the character itself where it is `NEW`; `begin` where a character is foreign.
    int
        Where its key begins: 1 where it is all ASCII, and so the segment that it is without accents; else 0.
    int
        Where its key ends, at 1 for a word that is too long to be known; or `NEW`, `INVALID`,
        `_FOREIGN_WORD`.
    int
        Number of its characters.
    """
    word, kinds = characters.word, characters.kinds
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
        count += characters.counts[code]
        for source in range(characters.starts[code], characters.ends[code]):
            letter = characters.letters[source]
            if letter >= 0x80:
                first = np.int64(0)
            if length < len(word):
                put_byte(word, length, letter)
            length += 1
        if kind == ALONE:
            break
    if length > len(word):
        first, length = np.int64(0), np.int64(1)
    return position, first, length, count
