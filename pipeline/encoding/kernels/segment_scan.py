"""The scan: split texts into segments and look up each in the token cache, without Python strings.

A known segment usually costs one probe. A new segment gets an entry. Plain words of a WordPiece tokenizer are
split here; other segments are left pending for the `tokenizers` library.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lakevec.pipeline.encoding.kernels.cache_arrays import (
    DONE,
    LONG,
    NO_SEGMENT,
    NOT_PLAIN,
    NOT_UTF8,
    SHORT,
    CacheArrays,
    Segment,
)
from lakevec.pipeline.encoding.kernels.cache_entries import append, kind_of, look_up, sign
from lakevec.pipeline.encoding.kernels.compilation import compile_inline, compile_loop, compile_part
from lakevec.pipeline.encoding.kernels.packed_bytes import slot_of, trailing_zeros
from lakevec.pipeline.encoding.kernels.segment_ends import (
    LITERAL,
    SplitTables,
    end_at_space,
    end_at_white,
    end_word,
    may_be_literal,
    skip_separators,
)
from lakevec.pipeline.encoding.kernels.simd import WINDOW, classify_window, fetch_element
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
        Output: text n has ``cache.output[row_ends[n]:row_ends[n + 1]]``.
    regions : int64 ndarray of shape (R + 1, 3)
        Bounds of parts that are one segment each, in order, and the token of each, or -1; the last one begins
        behind all texts.
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
    region = np.int64(0)
    for row in range(cache.state[0].row, len(texts.is_null)):
        output_end = cache.state[0].output
        if cache.state[0].place == 0:
            # `scan_bytes` may have stopped in this text.
            cache.state[0].unknown = cache.state[0].unknown_before
        first, end = _bounds(row, texts)
        position = max(first, cache.state[0].place)
        while position < end:
            while texts.regions[region, 0] < position:
                region += 1
            stop = min(end, texts.regions[region, 0])
            if position == stop:
                output_end, status = _append_region(region, output_end, texts, tables, cache)
                if status != DONE:
                    return _stop_at(position, output_end, status, cache)
                position = texts.regions[region, 1]
                continue
            count, special, position = _find_segments(texts.data, (position, stop, end), tables.split, cache)
            if count < 0:
                return _stop_at(0, texts.row_ends[row], NOT_PLAIN, cache)
            for number in range(count):
                found = cache.found[number]
                start, length = found.start, found.length
                segment = Segment(texts.data, start, length, tables.split.folds, length, UNMARKED)
                kind = LONG if length > 8 else SHORT
                output_end, status = _append(segment, kind, found.signature, output_end, tables, cache)
                if status != DONE:
                    return _stop_at(start, output_end, status, cache)
            if special >= 0:
                ref, status, position = look_up_unicode(texts.data, special, stop, tables, cache)
                if status == DONE:
                    output_end, status = append(ref, output_end, cache)
                if status not in (DONE, NO_SEGMENT):
                    return _stop_at(special, output_end, status, cache)
        _end_text(row, output_end, texts, cache)
    return DONE


@compile_inline
def _append(
    segment: Segment, kind: int, signature: int, output_end: int, tables: TokenizerTables, cache: CacheArrays
) -> tuple[int, int]:
    """Look up a segment and append its tokens to the output; return the output's end and the status."""
    ref, status = look_up(segment, kind, signature, tables.pieces, cache)
    if status == DONE:
        output_end, status = append(ref, output_end, cache)
    return output_end, status


@compile_part
def _append_region(
    region: int, output_end: int, texts: Texts, tables: TokenizerTables, cache: CacheArrays
) -> tuple[int, int]:
    """Do the work of `_append` for a region; the library tokenizes it if its token is not known."""
    if texts.regions[region, 2] >= 0 and not cache.keeps_refs:
        return append(~texts.regions[region, 2], output_end, cache)
    begin, stop = texts.regions[region, 0], texts.regions[region, 1]
    segment = Segment(texts.data, begin, stop - begin, UNFOLDED, FOR_LIBRARY, UNMARKED)
    kind = kind_of(segment)
    return _append(segment, kind, sign(segment, kind), output_end, tables, cache)


@compile_inline
def _find_segments(
    data: np.ndarray, bounds: tuple[int, int, int], split: SplitTables, cache: CacheArrays
) -> tuple[int, int, int]:
    """Find the segments of a window, and fetch their slots, since waiting for each slot in turn takes longer.

    Returns
    -------
    count : int
        Number of segments in ``cache.found``; -1 if the text needs `scan_bytes`.
    special : int
        Where a segment follows that must be read character by character; -1 if none does.
    position : int
        Where the next window begins if none does.
    """
    window, stop, end = bounds
    inside = min(stop - window, WINDOW)
    position, count, special = window + inside, np.int64(0), np.int64(-1)
    runs, isolated, others = _find_runs(data, window, inside, split)
    if not split.has_plain_words or (others and split.needs_ascii):
        count = np.int64(-1)
    begins = (runs & ~(runs << _ONE)) | isolated
    while begins and count >= 0:
        offset = trailing_zeros(begins)
        start, length = window + np.int64(offset), np.int64(1)
        signature = np.uint64(data[start])
        if (isolated >> offset) & _ONE:
            if split.classes[data[start]] & LITERAL and may_be_literal(data, start, end, split):
                count = np.int64(-1)
                break
        else:
            run = trailing_zeros(~(runs >> offset) | _LAST)
            if offset + run >= WINDOW - 1 and inside == WINDOW and offset > 0:
                position = start  # the next window contains more of it
                break
            if offset + run >= WINDOW - 1 or (others >> offset) & ((_ONE << run) - _ONE):
                special = start
                break
            length = np.int64(run)
            segment = Segment(data, start, length, split.folds, length, UNMARKED)
            signature = sign(segment, LONG if length > 8 else SHORT)
        fetch_element(cache.slots, slot_of(signature, len(cache.slots)))
        found = cache.found[count]
        found.signature, found.start, found.length = signature, start, length
        count += 1
        begins &= begins - _ONE
    return count, special, position


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
def _stop_at(place: int, output_end: int, status: int, cache: CacheArrays) -> int:
    """Record where the scan continues in a text (0 for its start), so that long texts aren't read again."""
    cache.state[0].place = place
    cache.state[0].output = output_end
    return status


@compile_inline
def _end_text(row: int, output_end: int, texts: Texts, cache: CacheArrays) -> None:
    """Record the end of a text."""
    texts.row_ends[row + 1] = output_end
    cache.state[0].output = output_end
    cache.state[0].unknown_before = cache.state[0].unknown
    cache.state[0].row = row + 1
    cache.state[0].place = 0


@compile_loop
def scan_bytes(texts: Texts, tables: TokenizerTables, cache: CacheArrays, last: int) -> int:
    """Do the work of `scan_words` byte by byte, for any text before index `last`.

    This scan also splits at single spaces, and finds added tokens and white space at which the rule forbids a
    split.
    """
    data, split, region = texts.data, tables.split, np.int64(0)
    for row in range(cache.state[0].row, last):
        first, end = _bounds(row, texts)
        output_end = word_output = cache.state[0].output
        # An earlier scan of this text may have stopped.
        cache.state[0].unknown = word_unknown = cache.state[0].unknown_before
        position = word_start = first
        while position < end:
            while texts.regions[region, 0] < position:
                region += 1
            if position == texts.regions[region, 0]:
                output_end, status = _append_region(region, output_end, texts, tables, cache)
                if status != DONE:
                    return status
                position = texts.regions[region, 1]
                continue
            behind = skip_separators(data, position, first, end, split)
            if behind > position:
                position = word_start = behind
                word_output, word_unknown = output_end, cache.state[0].unknown
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
                start, position = word_start, end_at_white(data, word_start, end, split)
                output_end, folds = word_output, UNFOLDED
                cache.state[0].unknown = word_unknown
            segment = Segment(data, start, position - start, folds, characters, UNMARKED)
            kind = kind_of(segment)
            output_end, status = _append(segment, kind, sign(segment, kind), output_end, tables, cache)
            if status != DONE:
                return status
        _end_text(row, output_end, texts, cache)
    return DONE
