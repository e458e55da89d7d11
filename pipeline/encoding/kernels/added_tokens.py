"""Added tokens with blanks or punctuation, such as "new york": find the regions of texts that may hold one.

The scan treats a region as one segment and leaves it to the library, once per distinct region. So a region
may be too wide or wrong, but every occurrence of an added token must lie inside one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lakevec.pipeline.encoding.kernels.compilation import compile_inline, compile_loop, compile_part
from lakevec.pipeline.encoding.kernels.packed_bytes import (
    load_word,
    lower_letters,
    slot_of,
    trailing_zeros,
)
from lakevec.pipeline.encoding.kernels.segment_ends import (
    INVALID,
    SEPARATOR,
    SplitTables,
    read_character,
    skip_separators,
    splits_at_space,
)
from lakevec.pipeline.encoding.kernels.simd import WINDOW, classify_window

# What the normalizer makes of a character: the table has not seen a NEW one; EXACT letters, perhaps none;
# OUTSIDE of all added tokens; UNSURE, since it depends on other characters.
NEW, EXACT, OUTSIDE, UNSURE = range(4)
# Bytes of `AddedTokens.folded` for other than one ASCII character. No added token holds them.
DROPPED, NOT_ASCII = 0, 0xFF
# A power of two: positions of the last letters, of which a gram has at most eight.
RING = 8
# Bits of the filter: 8 KB stay in the processor's cache.
FILTER_BITS = 1 << 16

_WORD_BITS = np.uint64(63)
_WORD_SHIFT = np.uint64(6)
_ONE = np.uint64(1)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_SPACE = 0x20
# Instead of the end of a match.
_NO_MATCH, _NEW_CHARACTER = -1, -2


class AddedTokens(NamedTuple):
    """Added tokens that may span a split of a `SplitRule`, in normalized text.

    Parameters
    ----------
    letters : uint8 ndarray
        UTF-8 of all tokens; token t is ``letters[bounds[t]:bounds[t + 1]]``.
    bounds : int64 ndarray of shape (A + 1,)
    grams : uint64 ndarray of shape (A,)
        First `gram_bytes` bytes of each token, the first of them lowest; equal ones are neighbours.
    gram_bytes : int
        1 to 8.
    is_simple : bool
        Whether all are single words that begin with an ASCII letter or digit, and the normalizer changes no
        printable ASCII, except for upper case.
    lowers : bool
        Whether the normalizer lowercases ASCII.
    slots : int32 ndarray of shape (power of two,)
        First token of each gram, or -1.
    filter : uint64 ndarray
        Bits of the hashes of all grams.
    most_gaps : int
        Maximum number of blanks in a token.
    folded : uint8 ndarray of shape (256,)
        Normalized ASCII; `DROPPED`; or `NOT_ASCII`. Without a normalizer, every byte is itself.
    joins_white : bool
        Whether the normalizer shortens runs of white space.
    kinds : uint8 ndarray of shape (65536,)
        `NEW`, `EXACT`, `OUTSIDE` or `UNSURE`.
    starts, ends : int32 ndarray of shape (65536,)
        Character c becomes ``normal[starts[c]:ends[c]]``.
    normal : uint8 ndarray
        UTF-8.
    ring : int64 ndarray of shape (`RING`,)
        Room for the positions of the last letters.
    """

    letters: np.ndarray
    bounds: np.ndarray
    grams: np.ndarray
    gram_bytes: int
    is_simple: bool
    lowers: bool
    slots: np.ndarray
    filter: np.ndarray
    most_gaps: int
    folded: np.ndarray
    joins_white: bool
    kinds: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    normal: np.ndarray
    ring: np.ndarray


@compile_loop
def fill_grams(added: AddedTokens) -> None:
    """Fill the empty slots and the filter."""
    for token in range(len(added.grams)):
        gram = added.grams[token]
        bit = _bit_of(gram)
        added.filter[bit >> _WORD_SHIFT] |= _ONE << (bit & _WORD_BITS)
        if token == 0 or added.grams[token - 1] != gram:
            slot = slot_of(gram, len(added.slots))
            while added.slots[slot] >= 0:
                slot = (slot + 1) & (len(added.slots) - 1)
            added.slots[slot] = token


@compile_inline
def _bit_of(gram: int) -> int:
    return (gram * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(48)


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
    regions : int64 ndarray of shape (R, 2)
        Output: bounds of the regions.
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
            begin, stop, character = _find_region(data, position, first, end, split, added)
            if character >= 0:
                return np.int64(text), count, np.int64(character)
            if begin < end:
                if found + 1 >= len(regions):
                    return np.int64(text), count, np.int64(-1)
                regions[found, 0], regions[found, 1] = begin, stop
                found += 1
            position = stop
        count = found
    return np.int64(len(offsets) - 1), np.int64(count), np.int64(-1)


@compile_part
def _find_region(
    data: np.ndarray, start: int, first: int, end: int, split: SplitTables, added: AddedTokens
) -> tuple[int, int, int]:
    """Find the next region of the text ``data[first:end]`` that may hold an added token.

    Parameters
    ----------
    start : int
        Where to begin: a place that no region contains.

    Returns
    -------
    begin, stop : int
        Bounds of the region, which are places where the rule splits; `end` twice if there is none.
    character : int
        -1, or a character that is `NEW`: add it and search again.

    Notes
    -----
    An added token that must be a single word hides others that it overlaps, even where it begins inside a
    word and so counts for nothing. It only matters if one of those begins a word. So texts are searched at
    the first letters of words, and what is found there once more, from as far before as an added token may
    reach.
    """
    if not added.is_simple:
        return _search(data, start, first, end, split, added)
    suspect = _find_suspect(data, start, end, added)
    if suspect == end:
        return end, end, np.int64(-1)
    base = _begin_of_chunk(data, suspect, start, first, end, split)
    while True:
        origin = base
        for _ in range(added.most_gaps):
            if origin > start:
                origin = _begin_of_chunk(data, origin - 1, start, first, end, split)
        stop = _end_alone(data, origin, suspect, first, end, split, added)
        if stop > 0:
            return base, stop, np.int64(-1)
        begin, stop, character = _search(data, origin, first, end, split, added)
        if character >= 0 or begin >= base or stop <= suspect:
            return begin, stop, character
        base = begin


@compile_part
def _find_suspect(data: np.ndarray, start: int, end: int, added: AddedTokens) -> int:
    """Return the first place where a word may begin an added token, or of a window that is not plain."""
    for window in range(start, end, WINDOW):
        letters, printable, white = classify_window(data, window)
        inside = min(end - window, WINDOW)
        here = _ALL >> np.uint64(WINDOW - inside)
        if ~(printable | white) & here:
            return window
        if added.joins_white:
            runs = white & (white << _ONE) & here
            if runs or (white & _ONE and window > start and added.folded[data[window - 1]] == _SPACE):
                return window
        begins = letters & ~(letters << _ONE) & here
        while begins:
            position = window + np.int64(trailing_zeros(begins))
            begins &= begins - _ONE
            gram = _gram_at(data, position, added)
            if _may_begin(gram, added) and (_longest_match(data, position, end, gram, added) != _NO_MATCH):
                return position
    return end


@compile_part
def _end_alone(
    data: np.ndarray, origin: int, suspect: int, first: int, end: int, split: SplitTables, added: AddedTokens
) -> int:
    """Return the end of the region of the added token at `suspect` if no other can touch it; else 0."""
    match = _longest_match(data, suspect, end, _gram_at(data, suspect, added), added)
    if match < 0 or added.joins_white:
        return np.int64(0)
    stop = _end_of_chunk(data, match, first, end, split)
    _, printable, white = classify_window(data, origin)
    inside = min(end, stop + RING) - origin
    if inside > WINDOW or ~(printable | white) & (_ALL >> np.uint64(WINDOW - inside)):
        return np.int64(0)
    for position in range(origin, stop):
        if position != suspect and _may_begin(_gram_at(data, position, added), added):
            return np.int64(0)
    return stop


@compile_inline
def _gram_at(data: np.ndarray, position: int, added: AddedTokens) -> int:
    """Return the normalized gram at a position of plain text."""
    word = _space_white(load_word(data, position))
    if added.lowers:
        word = lower_letters(word)
    return word & _gram_mask(added.gram_bytes)


@compile_inline
def _may_begin(gram: int, added: AddedTokens) -> bool:
    bit = _bit_of(gram)
    return (added.filter[bit >> _WORD_SHIFT] >> (bit & _WORD_BITS)) & _ONE != 0


@compile_inline
def _space_white(word: int) -> int:
    """Turn control characters of eight ASCII bytes into spaces."""
    control = ~(word | (word << _ONE)) & np.uint64(0x4040404040404040)
    return (word & ~((control >> np.uint64(6)) * np.uint64(0x1F))) | (control >> _ONE)


@compile_part
def _search(
    data: np.ndarray, start: int, first: int, end: int, split: SplitTables, added: AddedTokens
) -> tuple[int, int, int]:
    """Find the next region, as `_find_region` does, letter by letter.

    It rolls over the normalized letters and looks up the last `gram_bytes` of them. Where a gram begins an
    added token, the rest is compared.
    """
    last_shift = np.uint64(8 * (added.gram_bytes - 1))
    begin, stop, unsure_stop = end, np.int64(-1), start
    gram = np.uint64(0)
    count = index = np.int64(0)
    before = position = start
    while position < end:
        if stop >= 0 and position >= stop:
            open_grams = min(count, added.gram_bytes - 1)
            if open_grams == 0 or added.ring[(index - open_grams) & (RING - 1)] >= stop:
                break
        letter = added.folded[data[position]]
        size, kind, letters = np.int64(1), np.int64(EXACT), np.int64(1)
        source = np.int64(-1)
        if letter == NOT_ASCII:
            code, size = read_character(data, position, end)
            kind = np.int64(_kind_of(code, added))
            if kind == NEW:
                return end, end, code
            if kind == EXACT:
                source, letters = (
                    np.int64(added.starts[code]),
                    np.int64(added.ends[code] - added.starts[code]),
                )
        elif letter == DROPPED:
            letters = np.int64(0)
        elif letter == _SPACE and added.joins_white and position > start:
            kind = np.int64(UNSURE if added.folded[data[before]] == _SPACE else EXACT)
        before = position
        if kind == UNSURE and position >= unsure_stop:
            unsure_stop = _end_of_chunk(data, position + size, first, end, split)
            zone_begin, zone_stop = _zone_around(
                data, position, size, start, first, end, split, added.most_gaps
            )
            if stop >= 0 and zone_begin > stop:
                break
            begin, stop = min(begin, zone_begin), max(stop, zone_stop)
        if kind != EXACT:
            count = np.int64(0)
            position += size
            continue
        for offset in range(letters):
            if source >= 0:
                letter = added.normal[source + offset]
            gram = (gram >> np.uint64(8)) | (np.uint64(letter) << last_shift)
            added.ring[index & (RING - 1)] = position
            index += 1
            count += 1
            if count < added.gram_bytes:
                continue
            if not _may_begin(gram, added):
                continue
            origin = added.ring[(index - added.gram_bytes) & (RING - 1)]
            match = _longest_match(data, origin, end, gram, added)
            if match <= _NEW_CHARACTER:
                return end, end, _NEW_CHARACTER - match
            if match > stop:
                if stop < 0:
                    begin = _begin_of_chunk(data, origin, start, first, end, split)
                stop = _end_of_chunk(data, match, first, end, split)
        position += size
    return begin, end if stop < 0 else stop, np.int64(-1)


@compile_inline
def _gram_mask(count: int) -> int:
    return _ALL >> np.uint64(64 - 8 * count)


@compile_inline
def _kind_of(code: int, added: AddedTokens) -> int:
    # The scan, or the library, refuses text that is not valid UTF-8.
    return OUTSIDE if code == INVALID else UNSURE if code > 0xFFFF else added.kinds[code]


@compile_part
def _longest_match(data: np.ndarray, origin: int, end: int, gram: int, added: AddedTokens) -> int:
    """Return the end of the longest added token with this gram that may begin at `origin`.

    Returns `_NO_MATCH` if there is none, and ``_NEW_CHARACTER - c`` for a character c that is `NEW`.
    """
    slot = slot_of(gram, len(added.slots))
    token = added.slots[slot]
    while token >= 0 and added.grams[token] != gram:
        slot = (slot + 1) & (len(added.slots) - 1)
        token = added.slots[slot]
    longest = np.int64(_NO_MATCH)
    while 0 <= token < len(added.grams) and added.grams[token] == gram:
        found = _match(data, origin, end, added.bounds[token], added.bounds[token + 1], added)
        if found <= _NEW_CHARACTER:
            return found
        longest = max(longest, found)
        token += 1
    return longest


@compile_part
def _match(data: np.ndarray, origin: int, end: int, first: int, last: int, added: AddedTokens) -> int:
    """Compare a text with the token ``letters[first:last]``; see `_longest_match`."""
    position, wanted = origin, first
    while wanted < last:
        if position >= end:
            return np.int64(_NO_MATCH)
        letter = added.folded[data[position]]
        size = np.int64(1)
        if letter != NOT_ASCII and letter != DROPPED:
            if letter != added.letters[wanted]:
                # A run of white space may become one blank.
                is_run = added.joins_white and letter == _SPACE and added.letters[wanted - 1] == _SPACE
                return np.int64(position + 1 if is_run else _NO_MATCH)
            wanted += 1
        elif letter == NOT_ASCII:
            code, size = read_character(data, position, end)
            kind = _kind_of(code, added)
            if kind == NEW:
                return np.int64(_NEW_CHARACTER - code)
            if kind == OUTSIDE:
                return np.int64(_NO_MATCH)
            if kind == UNSURE:
                return np.int64(position + size)
            for source in range(added.starts[code], added.ends[code]):
                if wanted == last or added.normal[source] != added.letters[wanted]:
                    return np.int64(_NO_MATCH)
                wanted += 1
        position += size
    return np.int64(position)


@compile_part
def _zone_around(
    data: np.ndarray,
    position: int,
    size: int,
    start: int,
    first: int,
    end: int,
    split: SplitTables,
    gaps: int,
) -> tuple[int, int]:
    """Return the bounds of all text that an added token may reach that holds this character."""
    begin = _begin_of_chunk(data, position, start, first, end, split)
    for _ in range(gaps):
        if begin > start:
            begin = _begin_of_chunk(data, begin - 1, start, first, end, split)
    stop = _end_of_chunk(data, _behind_white(data, position + size, end, split), first, end, split)
    for _ in range(gaps):
        if stop < end:
            stop = _end_of_chunk(data, _behind_white(data, stop + 1, end, split), first, end, split)
    return begin, stop


@compile_part
def _behind_white(data: np.ndarray, position: int, end: int, split: SplitTables) -> int:
    while position < end and (split.classes[data[position]] & SEPARATOR or data[position] == _SPACE):
        position += 1
    return position


@compile_part
def _begin_of_chunk(
    data: np.ndarray, position: int, start: int, first: int, end: int, split: SplitTables
) -> int:
    """Return the last place up to `position` where the rule splits at white space."""
    while position > start:
        if split.keeps_space:
            if data[position] == _SPACE and splits_at_space(data, position, first, end, split.needs_ascii):
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
            if data[position] == _SPACE and splits_at_space(data, position, first, end, split.needs_ascii):
                return position
        elif split.classes[data[position]] & SEPARATOR:
            if skip_separators(data, position, first, end, split) > position:
                return position
            while position + 1 < end and split.classes[data[position + 1]] & SEPARATOR:
                position += 1
        position += 1
    return end
