"""Regions of texts that may hold an added token with blanks or punctuation.

The scan treats a region as one segment and leaves it to the library, once per distinct region. So a region
may be too wide or wrong, but every occurrence of an added token must lie inside one.
"""

from __future__ import annotations

import numpy as np

from lakevec.pipeline.encoding.kernels.added_tokens import (
    DROPPED,
    EXACT,
    NEW,
    NEW_CHARACTER,
    NO_MATCH,
    NOT_ASCII,
    RING,
    SPACE,
    UNSURE,
    AddedTokens,
    gram_at,
    id_of_plain,
    kind_of_character,
    longest_match,
    longest_match_in_plain,
    may_begin,
)
from lakevec.pipeline.encoding.kernels.compilation import compile_inline, compile_loop, compile_part
from lakevec.pipeline.encoding.kernels.packed_bytes import trailing_zeros
from lakevec.pipeline.encoding.kernels.segment_ends import (
    ISOLATED,
    LITERAL,
    OTHER,
    SEPARATOR,
    SplitTables,
    read_character,
    skip_separators,
    splits_at_space,
)
from lakevec.pipeline.encoding.kernels.simd import WINDOW, classify_window

_ONE = np.uint64(1)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
# What `_judge` returns.
_DOUBT, _TOKEN, _NO_TOKEN = range(3)
# The library takes it for a letter, and the rule for punctuation.
_UNDERSCORE = 0x5F


@compile_loop
def find_regions(
    row: int,
    texts: tuple[np.ndarray, np.ndarray],
    split: SplitTables,
    added: AddedTokens,
    regions: np.ndarray,
    count: int,
) -> tuple[int, int, int]:
    """Find the regions of texts, from text `row` on, that may hold an added token.

    Parameters
    ----------
    texts : uint8 and int64 ndarray
        Bytes with padding of a window, and the offsets of N texts.
    regions : int64 ndarray of shape (R, 3)
        Output: bounds of the regions, and the token that makes up each; -1 if the library must find out.
    count : int
        Number of regions of the texts before `row`.

    Returns
    -------
    row : int
        The text to go on with; N at the end.
    count : int
        Number of regions of the texts before that one.
    character : int
        A character that is `NEW`: add it and call again; -1 if `regions` is full.
    """
    data, offsets = texts
    for text in range(row, len(offsets) - 1):
        first, end, found = offsets[text], offsets[text + 1], count
        position = first
        while position < end:
            begin, stop, found_id, character = _find_region(data, position, first, end, split, added)
            if character >= 0:
                return np.int64(text), count, np.int64(character)
            if begin < end:
                if found + 1 >= len(regions):
                    return np.int64(text), count, np.int64(-1)
                regions[found, 0], regions[found, 1], regions[found, 2] = begin, stop, found_id
                found += 1
            position = stop
        count = found
    return np.int64(len(offsets) - 1), np.int64(count), np.int64(-1)


@compile_part
def _find_region(
    data: np.ndarray, start: int, first: int, end: int, split: SplitTables, added: AddedTokens
) -> tuple[int, int, int, int]:
    """Find the next region of the text ``data[first:end]`` that may hold an added token.

    Parameters
    ----------
    start : int
        Where to begin: a place that no region contains.

    Returns
    -------
    begin, stop : int
        Bounds of the region, which are places where the rule splits; `end` twice if there is none.
    token : int
        The id of the added token that makes up the region; -1 if that is not sure.
    character : int
        -1, or a character that is `NEW`: add it and search again.

    Notes
    -----
    An added token that must be a single word hides others that it overlaps, even where it begins inside a
    word and so counts for nothing. It only matters if one of those begins a word. So texts are searched at
    the first letters of words. What is found there is the region, if nothing can hide it and the rule splits
    on both sides. If the text is not sure to be plain, it is searched letter by letter, from as far before as
    an added token may reach.
    """
    sure, doubt = np.int64(-1), np.int64(-1)
    since = start
    while added.is_simple:
        suspect, match = _find_suspect(data, since, end, added)
        if suspect == end:
            return end, end, sure, sure
        verdict = _judge(data, (suspect, match), since, (first, end), split, added)
        if verdict == _TOKEN:
            return suspect, match, id_of_plain(data, suspect, match, added), sure
        if verdict == _DOUBT:
            doubt = suspect
            break
        since = match
    if doubt < 0:
        begin, stop, character = _search(data, start, first, end, split, added)
        return begin, stop, sure, character
    base = _begin_of_chunk(data, doubt, start, first, end, split)
    while True:
        origin = base
        for _ in range(added.most_gaps):
            if origin > start:
                origin = _begin_of_chunk(data, origin - 1, start, first, end, split)
        begin, stop, character = _search(data, origin, first, end, split, added)
        if character >= 0 or begin >= base or stop <= doubt:
            return begin, stop, sure, character
        base = begin


@compile_part
def _find_suspect(data: np.ndarray, start: int, end: int, added: AddedTokens) -> tuple[int, int]:
    """Return where a word may begin an added token, and the end of the longest; `NO_MATCH` if in doubt.

    The place in doubt is the first window that is not plain. At the end of the text, nothing is found.
    """
    for window in range(start, end, WINDOW):
        letters, printable, white = classify_window(data, window)
        inside = min(end - window, WINDOW)
        here = _ALL >> np.uint64(WINDOW - inside)
        if ~(printable | white) & here:
            return window, np.int64(NO_MATCH)
        if added.joins_white:
            runs = white & (white << _ONE) & here
            if runs or (white & _ONE and window > start and added.folded[data[window - 1]] == SPACE):
                return window, np.int64(NO_MATCH)
        begins = letters & ~(letters << _ONE) & here
        while begins:
            position = window + np.int64(trailing_zeros(begins))
            begins &= begins - _ONE
            gram = gram_at(data, position, added)
            if may_begin(gram, added):
                match = longest_match_in_plain(data, position, end, gram, added)
                if match != NO_MATCH:
                    return position, match
    return end, end


@compile_part
def _judge(
    data: np.ndarray,
    match: tuple[int, int],
    since: int,
    text: tuple[int, int],
    split: SplitTables,
    added: AddedTokens,
) -> int:
    """Return what the library makes of the longest added token at a place.

    All of ``data[since:match[0]]`` is plain, and the library finds none that begins before and ends behind
    `since`.
    """
    (begin, stop), (first, end) = match, text
    if added.joins_white or not split.isolates or split.needs_ascii or stop < begin:
        return _DOUBT
    for position in range(begin, stop):
        if split.classes[data[position]] & (OTHER | LITERAL):
            return _DOUBT
    # One that begins inside a word before would hide it.
    for position in range(max(since, begin - added.longest + 1), begin):
        gram = gram_at(data, position, added)
        if may_begin(gram, added):
            before = longest_match_in_plain(data, position, end, gram, added)
            if before != NO_MATCH:
                return _DOUBT
    is_word = False
    for position, limit in ((begin - 1, first - 1), (stop, end)):
        if position != limit:
            letter = data[position]
            is_sign = split.classes[letter] & (SEPARATOR | ISOLATED) and letter != _UNDERSCORE
            if not is_sign and not _is_letter(letter):
                return _DOUBT
            is_word = is_word or not is_sign
    if is_word:
        return _NO_TOKEN
    # Nor may another kind of added token begin in the words around it.
    for step, edge, limit in ((-1, begin - 1, first - 1), (1, stop, end)):
        position = edge
        while position != limit and not split.classes[data[position]] & SEPARATOR:
            if split.classes[data[position]] & LITERAL:
                return _DOUBT
            position += step
    return _TOKEN


@compile_inline
def _is_letter(byte: int) -> bool:
    """Return whether the library takes an ASCII character for a part of a word."""
    lower = byte | 0x20
    return 0x61 <= lower <= 0x7A or 0x30 <= byte <= 0x39 or byte == _UNDERSCORE


@compile_part
def _search(
    data: np.ndarray, start: int, first: int, end: int, split: SplitTables, added: AddedTokens
) -> tuple[int, int, int]:
    """Find the next region, as `_find_region` does, letter by letter.

    It rolls over the normalized letters and looks up the last `gram_bytes` of them. Where a gram begins an
    added token, the rest is compared.
    """
    begin, stop, unsure_stop = end, np.int64(-1), start
    gram, count, index = np.uint64(0), np.int64(0), np.int64(0)
    before = position = start
    while position < end:
        if stop >= 0 and position >= stop:
            open_grams = min(count, added.gram_bytes - 1)
            if open_grams == 0 or added.ring[(index - open_grams) & (RING - 1)] >= stop:
                break
        kind, size, letters = _read_letters(data, position, before, end, added)
        if kind == NEW:
            return end, end, letters[0]
        if kind == UNSURE and position >= unsure_stop:
            unsure_stop = _end_of_chunk(data, position + size, first, end, split)
            zone = _zone_around(data, (position, position + size), start, (first, end), split, added)
            if stop >= 0 and zone[0] > stop:
                break
            begin, stop = min(begin, zone[0]), max(stop, zone[1])
        if kind != EXACT:
            count = np.int64(0)
        for source in range(letters[0], letters[1]):
            gram = (gram >> np.uint64(8)) | (
                np.uint64(added.normal[source]) << np.uint64(8 * added.gram_bytes - 8)
            )
            added.ring[index & (RING - 1)] = position
            index, count = index + 1, count + 1
            if count < added.gram_bytes or not may_begin(gram, added):
                continue
            origin = added.ring[(index - added.gram_bytes) & (RING - 1)]
            match = longest_match(data, origin, end, gram, added)
            if match <= NEW_CHARACTER:
                return end, end, NEW_CHARACTER - match
            if match > stop:
                if stop < 0:
                    begin = _begin_of_chunk(data, origin, start, first, end, split)
                stop = _end_of_chunk(data, match, first, end, split)
        before, position = position, position + size
    return begin, end if stop < 0 else stop, np.int64(-1)


@compile_part
def _read_letters(
    data: np.ndarray, position: int, before: int, end: int, added: AddedTokens
) -> tuple[int, int, tuple[int, int]]:
    """Read a character; `before` is the place of the one before it, or its own at the start.

    Returns
    -------
    kind, size : int
        Its kind, and its number of bytes.
    letters : tuple of int
        Bounds in `added.normal` of the letters that it becomes, if it is `EXACT`. For a `NEW` one, the code
        point first.
    """
    nothing = np.int64(0), np.int64(0)
    letter = np.int64(added.folded[data[position]])
    if letter == DROPPED:
        return np.int64(EXACT), np.int64(1), nothing
    if letter != NOT_ASCII:
        is_run = letter == SPACE and added.joins_white and position > before
        if is_run and added.folded[data[before]] == SPACE:
            return np.int64(UNSURE), np.int64(1), nothing
        return np.int64(EXACT), np.int64(1), (letter, letter + 1)
    code, size = read_character(data, position, end)
    kind = np.int64(kind_of_character(code, added))
    if kind == EXACT:
        return kind, size, (np.int64(added.starts[code]), np.int64(added.ends[code]))
    return kind, size, (code, code) if kind == NEW else nothing


@compile_part
def _zone_around(
    data: np.ndarray,
    character: tuple[int, int],
    start: int,
    text: tuple[int, int],
    split: SplitTables,
    added: AddedTokens,
) -> tuple[int, int]:
    """Return the bounds of all text that an added token may reach that holds this character."""
    first, end = text
    begin = _begin_of_chunk(data, character[0], start, first, end, split)
    for _ in range(added.most_gaps):
        if begin > start:
            begin = _begin_of_chunk(data, begin - 1, start, first, end, split)
    stop = _end_of_chunk(data, _behind_white(data, character[1], end, split), first, end, split)
    for _ in range(added.most_gaps):
        if stop < end:
            stop = _end_of_chunk(data, _behind_white(data, stop + 1, end, split), first, end, split)
    return begin, stop


@compile_part
def _behind_white(data: np.ndarray, position: int, end: int, split: SplitTables) -> int:
    while position < end and (split.classes[data[position]] & SEPARATOR or data[position] == SPACE):
        position += 1
    return position


@compile_part
def _begin_of_chunk(
    data: np.ndarray, position: int, start: int, first: int, end: int, split: SplitTables
) -> int:
    """Return the last place up to `position` where the rule splits at white space."""
    while position > start:
        if split.keeps_space:
            if data[position] == SPACE and splits_at_space(data, position, first, end, split.needs_ascii):
                return position
            position -= 1
            continue
        white = position
        while white > start and split.classes[data[white - 1]] & SEPARATOR:
            white -= 1
        if white < position and skip_separators(data, white, first, end, split) == position:
            return position
        position = min(white, position - 1)
    return start


@compile_part
def _end_of_chunk(data: np.ndarray, position: int, first: int, end: int, split: SplitTables) -> int:
    """Return the first place from `position` on where the rule splits at white space."""
    while position < end:
        if split.keeps_space:
            if data[position] == SPACE and splits_at_space(data, position, first, end, split.needs_ascii):
                return position
        elif split.classes[data[position]] & SEPARATOR:
            if skip_separators(data, position, first, end, split) > position:
                return position
            while position + 1 < end and split.classes[data[position + 1]] & SEPARATOR:
                position += 1
        position += 1
    return end
