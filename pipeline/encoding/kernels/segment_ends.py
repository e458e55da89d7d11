"""Segment boundaries: apply a split rule byte by byte to raw UTF-8."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lakevec.pipeline.encoding.kernels.compilation import compile_inline, compile_part

# Classes of bytes; 0 is a plain ASCII character of a word.
SEPARATOR, ISOLATED, LITERAL, IDEOGRAPH, OTHER = 1, 2, 4, 8, 16
# In place of a code point.
INVALID = -1


class SplitTables(NamedTuple):
    """A `SplitRule` as arrays.

    Parameters
    ----------
    classes : uint8 ndarray of shape (256,)
        Class flags of each byte.
    keeps_space : bool
        Whether a segment begins with the single space before it.
    needs_ascii : bool
        Whether a split requires printable ASCII on both sides.
    isolates : bool
        Whether all ASCII punctuation is isolated.
    has_plain_words : bool
        Whether all added tokens begin with isolated bytes, so that none can begin inside a word.
    folds : bool
        Whether the keys lowercase ASCII.
    literals : uint8 ndarray
        Bytes of all added tokens; token l is ``literals[literal_bounds[l]:literal_bounds[l + 1]]``.
    literal_bounds : int64 ndarray of shape (L + 1,)
    literal_normalized : bool ndarray of shape (L,)
        Whether the tokenizer searches normalized text for the token.
    """

    classes: np.ndarray
    keeps_space: bool
    needs_ascii: bool
    isolates: bool
    has_plain_words: bool
    folds: bool
    literals: np.ndarray
    literal_bounds: np.ndarray
    literal_normalized: np.ndarray


@compile_part
def _is_printable(byte: int) -> bool:
    return 0x21 <= byte < 0x7F


@compile_part
def read_character(data: np.ndarray, position: int, end: int) -> tuple[int, int]:
    """Decode one character of UTF-8, strictly (RFC 3629).

    Returns
    -------
    int
        Code point, or `INVALID`.
    int
        Number of bytes.
    """
    lead = np.int64(data[position])
    if lead < 0x80:
        return lead, 1
    length = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
    if lead < 0xC2 or lead > 0xF4 or position + length > end:
        return INVALID, 1
    code = lead & (0x7F >> length)
    for offset in range(1, length):
        byte = np.int64(data[position + offset])
        if byte & 0xC0 != 0x80:
            return INVALID, 1
        code = (code << 6) | (byte & 0x3F)
    too_small = (length == 3 and code < 0x800) or (length == 4 and code < 0x10000)
    if too_small or code > 0x10FFFF or 0xD800 <= code < 0xE000:
        return INVALID, 1
    return code, length


@compile_part
def _is_ideograph(data: np.ndarray, position: int, end: int) -> bool:
    code, _ = read_character(data, position, end)
    return 0x3400 <= code < 0x4DC0 or 0x4E00 <= code < 0xA000


@compile_part
def _is_white(data: np.ndarray, position: int, end: int) -> bool:
    """Return whether the character is Unicode white space or an ASCII control character."""
    code, _ = read_character(data, position, end)
    if 0 <= code < 0x80:
        return not _is_printable(code)
    if 0x2000 <= code < 0x200B:
        return True
    return code in (0x85, 0xA0, 0x1680, 0x180E, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000)


@compile_part
def splits_at_space(data: np.ndarray, position: int, first: int, end: int, needs_ascii: bool) -> bool:
    """Return whether the space at `position` is a single space, before which the text may be split."""
    before, behind = position - 1, position + 1
    if before < first or behind >= end:
        return False
    if needs_ascii:
        return _is_printable(data[before]) and _is_printable(data[behind])
    while before > first and data[before] & 0xC0 == 0x80:
        before -= 1
    return not _is_white(data, before, end) and not _is_white(data, behind, end)


@compile_part
def may_be_literal(data: np.ndarray, position: int, end: int, split: SplitTables) -> bool:
    """Return whether an added token may begin here, ignoring case; true if in doubt."""
    for literal in range(len(split.literal_normalized)):
        matches = True
        offset = position
        for letter in range(split.literal_bounds[literal], split.literal_bounds[literal + 1]):
            if offset >= end:
                matches = False
                break
            byte, wanted = data[offset], split.literals[letter]
            # The normalizer may drop or rewrite these bytes, so the text may still become the token.
            if split.literal_normalized[literal] and offset > position and not _is_printable(byte):
                matches = split.classes[byte] & SEPARATOR == 0
                break
            if byte != wanted and (byte | 0x20 != wanted | 0x20 or not 0x61 <= byte | 0x20 <= 0x7A):
                matches = False
                break
            offset += 1
        if matches:
            return True
    return False


@compile_part
def skip_separators(data: np.ndarray, position: int, first: int, end: int, split: SplitTables) -> int:
    """Return the end of the white space at `position`, or `position` if a split there is forbidden."""
    behind = position
    while behind < end and split.classes[data[behind]] & SEPARATOR:
        behind += 1
    if split.needs_ascii:
        ascii_before = position == first or _is_printable(data[position - 1])
        if not ascii_before or not (behind == end or _is_printable(data[behind])):
            behind = position
    return behind


@compile_part
def end_word(data: np.ndarray, position: int, first: int, end: int, split: SplitTables) -> tuple[int, int]:
    """Find the end of the segment that begins at `position`, byte by byte.

    Returns
    -------
    int
        End of the segment; -1 if the whole word between white space must be one segment.
    int
        Number of characters of a plain segment, which WordPiece may split; else 0.
    """
    start = position
    characters = 0
    is_plain = True
    while position < end:
        byte = data[position]
        kind = split.classes[byte]
        if kind & SEPARATOR:
            behind = skip_separators(data, position, first, end, split)
            if behind > position and position > start:
                break
            while position < end and split.classes[data[position]] & SEPARATOR:
                position += 1
            is_plain = False
            continue
        if kind & LITERAL and may_be_literal(data, position, end, split):
            return -1, 0
        if kind & ISOLATED:
            if position == start:
                position += 1
                characters = 1
            break
        if kind & IDEOGRAPH and _is_ideograph(data, position, end):
            if position == start:
                position += 3
                characters = 1
            break
        position += 1
        characters += 1
        is_plain = is_plain and not kind & OTHER
    return position, characters if is_plain else 0


@compile_inline
def end_at_space(data: np.ndarray, start: int, first: int, end: int, split: SplitTables) -> int:
    """Find the end of the segment that begins at `start`; with an added token, it includes the next word."""
    holds_literal = False
    for position in range(start, end):
        is_space = position > start and data[position] == 0x20
        if is_space and splits_at_space(data, position, first, end, split.needs_ascii):
            if not holds_literal:
                return position
            holds_literal = False
        if split.classes[data[position]] & LITERAL and may_be_literal(data, position, end, split):
            holds_literal = True
    return end


@compile_part
def end_at_white(data: np.ndarray, position: int, end: int, split: SplitTables) -> int:
    """Return the first place from `position` on that holds a separator."""
    while position < end and not split.classes[data[position]] & SEPARATOR:
        position += 1
    return position
