"""The scan: split texts into segments and look up each in the token cache, without Python strings.

A known segment usually costs one probe. A new segment gets an entry. Plain words of a WordPiece tokenizer are
split here; other segments are left pending for the `tokenizers` library.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lakevec.pipeline.encoding.kernels.cache_arrays import (
    DONE,
    FULL_REFS,
    LONG,
    NO_SEGMENT,
    NOT_PLAIN,
    NOT_UTF8,
    SHORT,
    CacheArrays,
    Segment,
)
from lakevec.pipeline.encoding.kernels.cache_entries import kind_of, look_up, sign
from lakevec.pipeline.encoding.kernels.compilation import compile_inline, compile_loop, compile_part
from lakevec.pipeline.encoding.kernels.packed_bytes import trailing_zeros
from lakevec.pipeline.encoding.kernels.segment_ends import (
    LITERAL,
    SEPARATOR,
    SplitTables,
    end_at_space,
    end_word,
    may_be_literal,
    skip_separators,
)
from lakevec.pipeline.encoding.kernels.simd import WINDOW, classify_window
from lakevec.pipeline.encoding.kernels.unicode_words import (
    FOR_LIBRARY,
    NORMALIZED,
    UNFOLDED,
    UNMARKED,
    TokenizerTables,
    look_up_unicode,
)

# Padding after the last text: a window, and a word of eight bytes that starts at its last byte.
READ_AHEAD = WINDOW + 8

_NONE, _ONE, _LAST = np.uint64(0), np.uint64(1), np.uint64(1 << 63)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


class Texts(NamedTuple):
    """Texts to scan.

    Parameters
    ----------
    data : uint8 ndarray
        UTF-8 of all texts, and `READ_AHEAD` bytes of padding.
    offsets : int64 ndarray of shape (N + 1,)
        Text n is ``data[offsets[n]:offsets[n + 1]]``.
    is_null : bool ndarray of shape (N,)
        Texts to skip.
    row_ends : int64 ndarray of shape (N + 1,)
        Output: text n has the refs ``segment_refs[row_ends[n]:row_ends[n + 1]]``.
    regions : int64 ndarray of shape (R + 1, 2)
        Bounds of parts that are one segment each, in order; the last one begins behind all texts.
    """

    data: np.ndarray
    offsets: np.ndarray
    is_null: np.ndarray
    row_ends: np.ndarray
    regions: np.ndarray


@compile_loop
def scan_words(texts: Texts, tables: TokenizerTables, cache: CacheArrays) -> int:
    """Split texts at white space and around isolated characters, and look up every segment.

    The scan begins at text ``cache.state[0].row``, at position ``cache.state[0].place`` of that text.

    Returns
    -------
    int
        `DONE`, `FULL_...` for the array that is full, `NEW_CHARACTER`, `NOT_UTF8`, or `NOT_PLAIN` for a text
        that needs `scan_bytes`.

    Notes
    -----
    The scan classifies windows of 64 bytes into bit masks, whose bits give the segments. If a segment has a
    byte other than printable ASCII and white space, it is read character by character.
    """
    data, split, segment_refs = texts.data, tables.split, cache.segment_refs
    region = np.int64(0)
    for row in range(cache.state[0].row, len(texts.is_null)):
        ref_index = cache.state[0].refs
        first, end = _bounds(row, texts)
        position = max(first, cache.state[0].place)
        while position < end:
            if ref_index + WINDOW > len(segment_refs):
                return _stop_at(position, ref_index, FULL_REFS, cache)
            while texts.regions[region, 0] < position:
                region += 1
            stop = min(end, texts.regions[region, 0])
            if position == stop:
                ref, status = _look_up_region(region, texts, tables, cache)
                if status != DONE:
                    return _stop_at(position, ref_index, status, cache)
                segment_refs[ref_index] = ref
                ref_index += 1
                position = texts.regions[region, 1]
                continue
            window, inside = position, min(stop - position, WINDOW)
            runs, isolated, others = _find_runs(data, window, inside, split)
            if not split.has_plain_words or (others and split.needs_ascii):
                return _stop_at(0, texts.row_ends[row], NOT_PLAIN, cache)
            begins = (runs & ~(runs << _ONE)) | isolated
            position += inside
            while begins:
                offset = trailing_zeros(begins)
                begin, length = window + np.int64(offset), np.int64(1)
                is_isolated = (isolated >> offset) & _ONE
                if is_isolated:
                    if split.classes[data[begin]] & LITERAL and may_be_literal(data, begin, end, split):
                        return _stop_at(0, texts.row_ends[row], NOT_PLAIN, cache)
                else:
                    run = trailing_zeros(~(runs >> offset) | _LAST)
                    is_cut = offset + run >= WINDOW - 1
                    if is_cut and inside == WINDOW and offset > 0:
                        position = begin  # the next window contains more of it
                        break
                    is_plain = not is_cut and (others >> offset) & ((_ONE << run) - _ONE) == 0
                    length = np.int64(run) if is_plain else np.int64(0)
                if length > 0:
                    segment = Segment(data, begin, length, split.folds, length, UNMARKED)
                    kind = LONG if length > 8 else SHORT
                    signature = np.uint64(data[begin]) if is_isolated else sign(segment, kind)
                    ref, status = look_up(segment, kind, signature, tables.pieces, cache)
                    begins &= begins - _ONE
                else:
                    ref, status, position = look_up_unicode(data, begin, stop, tables, cache)
                    begins = _NONE
                if status == DONE:
                    segment_refs[ref_index] = ref
                    ref_index += 1
                elif status != NO_SEGMENT:
                    return _stop_at(begin, ref_index, status, cache)
        _end_text(row, ref_index, texts, cache)
    return DONE


@compile_part
def _look_up_region(
    region: int, texts: Texts, tables: TokenizerTables, cache: CacheArrays
) -> tuple[int, int]:
    """Look up a region, which the library tokenizes."""
    begin, stop = texts.regions[region, 0], texts.regions[region, 1]
    segment = Segment(texts.data, begin, stop - begin, UNFOLDED, FOR_LIBRARY, UNMARKED)
    kind = kind_of(segment)
    return look_up(segment, kind, sign(segment, kind), tables.pieces, cache)


@compile_inline
def _bounds(row: int, texts: Texts) -> tuple[int, int]:
    """Return the bounds of a text; a null is empty."""
    end = texts.offsets[row + 1]
    return end if texts.is_null[row] else texts.offsets[row], end


@compile_inline
def _find_runs(data: np.ndarray, position: int, inside: int, split: SplitTables) -> tuple[int, int, int]:
    """Return masks of a window: words, isolated characters, and bytes that are not plain."""
    letters, printable, white = classify_window(data, position)
    here = _ALL if inside == WINDOW else (_ONE << np.uint64(inside)) - _ONE
    others = ~(printable | white) & here
    if split.isolates:
        return (letters | others) & here, printable & ~letters & here, others
    return (printable | others) & here, _NONE, others


@compile_inline
def _stop_at(place: int, ref_index: int, status: int, cache: CacheArrays) -> int:
    """Record where the scan continues in a text (0 for its start), so that long texts aren't read again."""
    cache.state[0].place = place
    cache.state[0].refs = ref_index
    return status


@compile_inline
def _end_text(row: int, ref_index: int, texts: Texts, cache: CacheArrays) -> None:
    """Record the end of a text."""
    texts.row_ends[row + 1] = ref_index
    cache.state[0].refs = ref_index
    cache.state[0].row = row + 1
    cache.state[0].place = 0


@compile_loop
def scan_bytes(texts: Texts, tables: TokenizerTables, cache: CacheArrays, last: int) -> int:
    """Do the work of `scan_words` byte by byte, for any text before index `last`.

    This scan also splits at single spaces, and finds added tokens and white space at which the rule forbids a
    split.
    """
    data, split, classes = texts.data, tables.split, tables.split.classes
    region = np.int64(0)
    for row in range(cache.state[0].row, last):
        first, end = _bounds(row, texts)
        ref_index = word_ref_index = cache.state[0].refs
        position = word_start = first
        while position < end:
            while texts.regions[region, 0] < position:
                region += 1
            if position == texts.regions[region, 0]:
                if ref_index >= len(cache.segment_refs):
                    return FULL_REFS
                ref, status = _look_up_region(region, texts, tables, cache)
                if status != DONE:
                    return status
                cache.segment_refs[ref_index] = ref
                ref_index += 1
                position = texts.regions[region, 1]
                continue
            behind = skip_separators(data, position, first, end, split)
            if behind > position:
                position = word_start = behind
                word_ref_index = ref_index
                continue
            start, folds = position, split.folds
            if data[start] == NORMALIZED:
                return NOT_UTF8
            if split.keeps_space:
                position, characters = end_at_space(data, start, first, end, split), FOR_LIBRARY
            else:
                position, characters = end_word(data, start, first, end, split)
            if position < 0:
                # The word may contain an added token. Discard its segments, and make the word one segment.
                start = position = word_start
                ref_index, folds = word_ref_index, UNFOLDED
                while position < end and not classes[data[position]] & SEPARATOR:
                    position += 1
            if ref_index >= len(cache.segment_refs):
                return FULL_REFS
            segment = Segment(data, start, position - start, folds, characters, UNMARKED)
            kind = kind_of(segment)
            ref, status = look_up(segment, kind, sign(segment, kind), tables.pieces, cache)
            if status != DONE:
                return status
            cache.segment_refs[ref_index] = ref
            ref_index += 1
        _end_text(row, ref_index, texts, cache)
    return DONE
