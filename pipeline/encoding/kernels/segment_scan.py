"""The scan: split texts into segments and look up each in the token cache, without Python strings.

A known segment usually costs one probe. A new segment gets an entry. Plain words of a WordPiece tokenizer are
split here; other segments are left pending for the `tokenizers` library.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lakevec.pipeline.encoding.kernels.added_token_regions import (
    DOUBT,
    NO_TOKEN,
    TOKEN,
    find_region,
    is_plain,
    judge_word,
)
from lakevec.pipeline.encoding.kernels.added_tokens import AddedTokens, may_begin_with, may_begin_with_both
from lakevec.pipeline.encoding.kernels.cache_arrays import (
    DONE,
    DOUBTFUL,
    LONG,
    NEW_LETTER,
    NO_SEGMENT,
    NOT_PLAIN,
    NOT_UTF8,
    SHORT,
    CacheArrays,
    Segment,
)
from lakevec.pipeline.encoding.kernels.cache_entries import append, kind_of, look_up, sign
from lakevec.pipeline.encoding.kernels.compilation import compile_inline, compile_loop, compile_part
from lakevec.pipeline.encoding.kernels.segment_ends import (
    end_at_space,
    end_at_white,
    end_word,
    skip_separators,
)
from lakevec.pipeline.encoding.kernels.simd import WINDOW
from lakevec.pipeline.encoding.kernels.unicode_words import (
    FOR_LIBRARY,
    NORMALIZED,
    UNFOLDED,
    UNMARKED,
    TokenizerTables,
    look_up_unicode,
)
from lakevec.pipeline.encoding.kernels.window_segments import find_segments

# Padding after the last text: a window, and a word of eight bytes that starts at its last byte.
READ_AHEAD = WINDOW + 8


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
    """

    data: np.ndarray
    offsets: np.ndarray
    is_null: np.ndarray
    row_ends: np.ndarray


@compile_loop
def scan_words(texts: Texts, tables: TokenizerTables, added: AddedTokens | None, cache: CacheArrays) -> int:
    """Split texts at white space and around isolated characters, and look up every segment.

    The scan begins at text ``cache.state[0].row``, at position ``cache.state[0].place`` of that text.

    Returns
    -------
    int
        `DONE`, `FULL_...` for the array that is full, `NEW_CHARACTER`, `NEW_LETTER`, `NOT_UTF8`, or
        `NOT_PLAIN` for a text that needs `scan_bytes`.

    Notes
    -----
    If a segment has a byte other than printable ASCII and white space, it is read character by character.

    In plain texts, the scan asks of each word whether an added token begins with it. In other texts, and
    where that is in doubt, it searches for regions that may hold one.
    """
    for row in range(cache.state[0].row, len(texts.is_null)):
        if cache.state[0].place == 0:
            # Another scan may have stopped in this text.
            cache.state[0].unknown = cache.state[0].unknown_before
        output_end, (first, end) = cache.state[0].output, _bounds(row, texts)
        position, since = max(first, cache.state[0].place), first
        region = _no_region(end)
        if added is not None and not is_plain(texts.data, first, end, tables.split, added):
            since, region = end, _unknown_region(first)
        while position < end:
            if added is not None and position >= region[0]:
                region, position, output_end, status = _pass_region(
                    region, position, (first, end), output_end, texts.data, tables, added, cache
                )
            else:
                bounds = position, min(end, region[0]), end
                position, since, output_end, status = _scan_window(
                    bounds, (first, since), output_end, texts.data, tables, added, cache
                )
            if status == DOUBTFUL:
                position, since, region, output_end = first, end, _unknown_region(first), texts.row_ends[row]
                cache.state[0].unknown = cache.state[0].unknown_before
            elif status == NOT_PLAIN or (added is not None and status != DONE):
                return _stop_at(0, texts.row_ends[row], status, cache)
            elif status != DONE:
                return _stop_at(position, output_end, status, cache)
        _end_text(row, output_end, texts, cache)
    return DONE


@compile_inline
def _no_region(end: int) -> tuple[int, int, int]:
    return np.int64(end), np.int64(end), np.int64(-1)


@compile_inline
def _unknown_region(first: int) -> tuple[int, int, int]:
    """Return a region before the text, so that the scan searches for the next one."""
    return np.int64(first - 1), np.int64(first - 1), np.int64(-1)


@compile_inline
def _pass_region(
    region: tuple[int, int, int],
    position: int,
    text: tuple[int, int],
    output_end: int,
    data: np.ndarray,
    tables: TokenizerTables,
    added: AddedTokens,
    cache: CacheArrays,
) -> tuple[tuple[int, int, int], int, int, int]:
    """Append the region that begins at a position, or else find the next one.

    Returns
    -------
    region : tuple of int
        Bounds of the next region, and its token, as `find_region` returns them.
    position, output_end, status : int
    """
    if position == region[0]:
        output_end, status = _append_region(region, output_end, data, tables, cache)
        return region, region[1], output_end, status
    begin, stop, token, character = find_region(data, position, text[0], text[1], tables.split, added)
    if character >= 0:
        cache.state[0].character = character
        return region, position, output_end, np.int64(NEW_LETTER)
    return (begin, stop, token), position, output_end, np.int64(DONE)


@compile_inline
def _scan_window(
    bounds: tuple[int, int, int],
    text: tuple[int, int],
    output_end: int,
    data: np.ndarray,
    tables: TokenizerTables,
    added: AddedTokens | None,
    cache: CacheArrays,
) -> tuple[int, int, int, int]:
    """Look up the segments of a window; `bounds` are the window, where to stop, and the end of the text.

    `text` has the start of the text, and from where on added tokens may begin.

    Returns
    -------
    position : int
        Where to go on.
    since : int
        From where on added tokens may begin.
    output_end, status : int
    """
    first, since = text
    count, special, position = find_segments(data, bounds, tables.split, cache)
    if count < 0:
        return position, since, output_end, np.int64(NOT_PLAIN)
    covered = np.int64(0)
    for number in range(count):
        found = cache.found[number]
        start, length = found.start, found.length
        if added is not None and start < covered:
            continue
        if added is not None and start >= since and may_begin_with(found.signature, added):
            followed_by = cache.found[number + 1].signature
            if number + 1 < count and not may_begin_with_both(found.signature, followed_by, added):
                verdict = np.int64(NO_TOKEN)
            else:
                verdict, since, id_ = judge_word(data, start, since, (first, bounds[2]), tables.split, added)
            if verdict == DOUBT:
                return start, since, output_end, np.int64(DOUBTFUL)
            if verdict == TOKEN:
                covered = since
                region = start, covered, id_
                output_end, status = _append_region(region, output_end, data, tables, cache)
                if status != DONE:
                    return start, since, output_end, status
                continue
        segment = Segment(data, start, length, tables.split.folds, length, UNMARKED)
        kind = LONG if length > 8 else SHORT
        output_end, status = _append(segment, kind, found.signature, output_end, tables, cache)
        if status != DONE:
            return start, since, output_end, status
    if special >= covered:
        ref, status, position = look_up_unicode(data, special, bounds[1], tables, cache)
        if status == DONE:
            output_end, status = append(ref, output_end, cache)
        if status not in (DONE, NO_SEGMENT):
            return special, since, output_end, status
    return max(position, covered), since, output_end, np.int64(DONE)


@compile_inline
def _append(
    segment: Segment, kind: int, signature: int, output_end: int, tables: TokenizerTables, cache: CacheArrays
) -> tuple[int, int]:
    """Look up a segment and append its tokens to the output; return the output's end and the status."""
    ref, status = look_up(segment, kind, signature, tables.pieces, cache)
    if status == DONE:
        output_end, status = append(ref, output_end, cache)
    return output_end, status


@compile_inline
def _append_region(
    region: tuple[int, int, int],
    output_end: int,
    data: np.ndarray,
    tables: TokenizerTables,
    cache: CacheArrays,
) -> tuple[int, int]:
    """Do the work of `_append` for a region; the library tokenizes it if its token is not known."""
    begin, stop, token = region
    if token >= 0 and not cache.keeps_refs:
        return append(~token, output_end, cache)
    return _append_for_library(begin, stop, output_end, data, tables, cache)


@compile_part
def _append_for_library(
    begin: int, stop: int, output_end: int, data: np.ndarray, tables: TokenizerTables, cache: CacheArrays
) -> tuple[int, int]:
    """Do the work of `_append` for a region that the library tokenizes."""
    segment = Segment(data, begin, stop - begin, UNFOLDED, FOR_LIBRARY, UNMARKED)
    kind = kind_of(segment)
    return _append(segment, kind, sign(segment, kind), output_end, tables, cache)


@compile_inline
def _bounds(row: int, texts: Texts) -> tuple[int, int]:
    """Return the bounds of a text; a null is empty."""
    end = texts.offsets[row + 1]
    return end if texts.is_null[row] else texts.offsets[row], end


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
def scan_bytes(
    texts: Texts, tables: TokenizerTables, added: AddedTokens | None, cache: CacheArrays, last: int
) -> int:
    """Do the work of `scan_words` byte by byte, for any text before index `last`.

    This scan also splits at single spaces, and finds added tokens and white space at which the rule forbids a
    split.
    """
    data, split = texts.data, tables.split
    for row in range(cache.state[0].row, last):
        first, end = _bounds(row, texts)
        region = _no_region(end) if added is None else _unknown_region(first)
        output_end = word_output = cache.state[0].output
        # An earlier scan of this text may have stopped.
        cache.state[0].unknown = word_unknown = cache.state[0].unknown_before
        position = word_start = first
        while position < end:
            if added is not None and position >= region[0]:
                region, position, output_end, status = _pass_region(
                    region, position, (first, end), output_end, data, tables, added, cache
                )
                if status != DONE:
                    return status
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
