"""Search a text letter by letter for regions that may hold an added token."""

from __future__ import annotations

import numpy as np

from lakevec.pipeline.encoding.kernels.added_tokens import (
    DROPPED,
    EXACT,
    NEW,
    NEW_CHARACTER,
    NOT_ASCII,
    RING,
    SPACE,
    UNSURE,
    AddedTokens,
    kind_of_character,
    longest_match,
    may_begin,
)
from lakevec.pipeline.encoding.kernels.compilation import compile_part
from lakevec.pipeline.encoding.kernels.segment_ends import (
    SEPARATOR,
    SplitTables,
    read_character,
    skip_separators,
    splits_at_space,
)


@compile_part
def search_letters(
    data: np.ndarray, start: int, limit: int, text: tuple[int, int], split: SplitTables, added: AddedTokens
) -> tuple[int, int, int]:
    """Find the next region of a text, from `start` on, that may hold an added token.

    Parameters
    ----------
    start : int
        Where to begin.
    limit : int
        Give up where no added token began before this place, at which the rule splits.
    text : tuple of int
        Bounds of the text in `data`.

    Returns
    -------
    begin, stop : int
        Bounds of the region; the end of the text twice if there is none.
    character : int
        -1, or a character that is `NEW`: add it and search again.

    Notes
    -----
    The search rolls over the normalized letters and looks up the last `gram_bytes` of them. Where a gram
    begins an added token, the rest is compared.
    """
    first, end = text
    begin, stop, unsure_stop = end, np.int64(-1), start
    gram, count, index = np.uint64(0), np.int64(0), np.int64(0)
    before = position = start
    while position < end:
        edge = stop if stop >= 0 else limit
        if position >= edge:
            open_grams = min(count, added.gram_bytes - 1)
            if open_grams == 0 or added.ring[(index - open_grams) & (RING - 1)] >= edge:
                break
        kind, size, letters = _read_letters(data, position, before, end, added)
        if kind == NEW:
            return end, end, letters[0]
        if kind == UNSURE and position >= unsure_stop:
            unsure_stop = end_of_chunk(data, position + size, first, end, split)
            zone = _zone_around(data, (position, position + size), start, text, split, added)
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
            match, _ = longest_match(data, origin, end, gram, added)
            if match <= NEW_CHARACTER:
                return end, end, NEW_CHARACTER - match
            if match > stop:
                if stop < 0:
                    begin = begin_of_chunk(data, origin, start, first, end, split)
                stop = end_of_chunk(data, match, first, end, split)
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
    begin = begin_of_reach(data, character[0], start, text, split, added)
    stop = end_of_chunk(data, _behind_white(data, character[1], end, split), first, end, split)
    for _ in range(added.most_gaps):
        if stop < end:
            stop = end_of_chunk(data, _behind_white(data, stop + 1, end, split), first, end, split)
    return begin, stop


@compile_part
def begin_of_reach(
    data: np.ndarray,
    position: int,
    start: int,
    text: tuple[int, int],
    split: SplitTables,
    added: AddedTokens,
) -> int:
    """Return the first place, from `start` on, where an added token may begin that reaches `position`."""
    begin = begin_of_chunk(data, position, start, text[0], text[1], split)
    for _ in range(added.most_gaps):
        if begin > start:
            begin = begin_of_chunk(data, begin - 1, start, text[0], text[1], split)
    return begin


@compile_part
def _behind_white(data: np.ndarray, position: int, end: int, split: SplitTables) -> int:
    while position < end and (split.classes[data[position]] & SEPARATOR or data[position] == SPACE):
        position += 1
    return position


@compile_part
def begin_of_chunk(
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
def end_of_chunk(data: np.ndarray, position: int, first: int, end: int, split: SplitTables) -> int:
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
