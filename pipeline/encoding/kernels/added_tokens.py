"""Added tokens with blanks or punctuation, such as "new york": whether one may begin at a place of a text."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lakevec.pipeline.encoding.kernels.cache_arrays import LONG, SHORT, Segment
from lakevec.pipeline.encoding.kernels.cache_entries import sign
from lakevec.pipeline.encoding.kernels.compilation import compile_inline, compile_loop, compile_part
from lakevec.pipeline.encoding.kernels.packed_bytes import add_word, load_word, lower_letters, slot_of
from lakevec.pipeline.encoding.kernels.segment_ends import INVALID, read_character

# What the normalizer makes of a character: the table has not seen a NEW one; EXACT letters, perhaps none;
# OUTSIDE of all added tokens; UNSURE, since it depends on other characters.
NEW, EXACT, OUTSIDE, UNSURE = range(4)
# Bytes of `AddedTokens.folded` for other than one ASCII character. No added token holds them.
DROPPED, NOT_ASCII = 0, 0xFF
# A power of two: positions of the last letters, of which a gram has at most eight.
RING = 8
# Bits of each filter: 4 KB stay in the processor's cache.
FILTER_BITS = 1 << 15

_WORD_BITS = np.uint64(63)
_WORD_SHIFT = np.uint64(6)
_BIT_SHIFT = np.uint64(65 - FILTER_BITS.bit_length())
_ONE = np.uint64(1)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
# A bit of each of eight bytes.
_ONES = np.uint64(0x0101010101010101)
_CONTROL_BITS = np.uint64(0x4040404040404040)
_TOP_BITS = np.uint64(0x8080808080808080)
SPACE = 0x20
# Instead of the end of a match.
NO_MATCH, NEW_CHARACTER = -1, -2


class AddedTokens(NamedTuple):
    """Added tokens that may span a split of a `SplitRule`, in normalized text.

    Parameters
    ----------
    letters : uint8 ndarray
        UTF-8 of all tokens; token t is ``letters[bounds[t]:bounds[t + 1]]``. Then eight bytes of padding.
    bounds : int64 ndarray of shape (A + 1,)
    ids : int32 ndarray of shape (A,)
        -1 if several tokens have the same normalized text.
    grams : uint64 ndarray of shape (A,)
        First `gram_bytes` bytes of each token, the first of them lowest; equal ones are neighbours.
    gram_bytes : int
        1 to 8.
    tails, tail_masks : uint64 ndarray of shape (A,)
        The next bytes of each token, at most eight, and a mask of them.
    longest : int
        Bytes of the longest token.
    is_simple : bool
        Whether all are single words that begin with a word of ASCII letters and digits, not a very long one,
        and hold no control characters, and the normalizer changes no printable ASCII, except for upper case.
    has_lone_words : bool
        Whether one of them is a word of ASCII letters and digits, and nothing else.
    lowers : bool
        Whether the normalizer lowercases ASCII.
    slots : int32 ndarray of shape (power of two,)
        First token of each gram, or -1.
    filter : uint64 ndarray
        Bits of the hashes of all grams.
    words, pairs : uint64 ndarray
        If `is_simple`: bits of the signatures of all first segments, and of the hashes of the first two.
    is_free : bool ndarray of shape (A,)
        Whether no other added token that ends in a token can begin before it.
    most_gaps : int
        Maximum number of blanks in a token.
    folded : uint8 ndarray of shape (256,)
        Normalized ASCII; `DROPPED`; or `NOT_ASCII`. Without a normalizer, every byte is itself.
    joins_white : bool
        Whether the normalizer shortens runs of white space.
    kinds : uint8 ndarray of shape (C,)
        `NEW`, `EXACT`, `OUTSIDE` or `UNSURE`.
    starts, ends : int32 ndarray of shape (C,)
        Character c becomes ``normal[starts[c]:ends[c]]``.
    normal : uint8 ndarray
        UTF-8; before all, each byte by itself.
    ring : int64 ndarray of shape (`RING`,)
        Room for the positions of the last letters.
    """

    letters: np.ndarray
    bounds: np.ndarray
    ids: np.ndarray
    grams: np.ndarray
    gram_bytes: int
    tails: np.ndarray
    tail_masks: np.ndarray
    longest: int
    is_simple: bool
    has_lone_words: bool
    lowers: bool
    slots: np.ndarray
    filter: np.ndarray
    words: np.ndarray
    pairs: np.ndarray
    is_free: np.ndarray
    most_gaps: int
    folded: np.ndarray
    joins_white: bool
    kinds: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    normal: np.ndarray
    ring: np.ndarray


@compile_loop
def fill_filters(added: AddedTokens) -> None:
    """Fill the empty slots and filters."""
    for token in range(len(added.grams)):
        gram = added.grams[token]
        _set_bit(added.filter, gram)
        first, end = added.bounds[token], added.bounds[token + 1]
        if added.is_simple:
            stop = _end_of_segment(added.letters, first, end)
            word = _sign(added.letters, first, stop)
            _set_bit(added.words, word)
            while added.letters[stop] == SPACE:
                stop += 1
            _set_bit(
                added.pairs,
                add_word(word, _sign(added.letters, stop, _end_of_segment(added.letters, stop, end))),
            )
        if token == 0 or added.grams[token - 1] != gram:
            slot = slot_of(gram, len(added.slots))
            while added.slots[slot] >= 0:
                slot = (slot + 1) & (len(added.slots) - 1)
            added.slots[slot] = token


@compile_inline
def _end_of_segment(letters: np.ndarray, start: int, end: int) -> int:
    """Return the end of a word of ASCII letters and digits, or of one other character."""
    stop = start
    while stop < end and (0x61 <= letters[stop] | 0x20 <= 0x7A or 0x30 <= letters[stop] <= 0x39):
        stop += 1
    return max(stop, start + 1)


@compile_inline
def _sign(letters: np.ndarray, start: int, stop: int) -> int:
    length = np.int64(stop - start)
    return sign(Segment(letters, start, length, False, length, False), LONG if length > 8 else SHORT)


@compile_inline
def _set_bit(filter_: np.ndarray, value: int) -> None:
    bit = _bit_of(value)
    filter_[bit >> _WORD_SHIFT] |= _ONE << (bit & _WORD_BITS)


@compile_inline
def _has_bit(filter_: np.ndarray, value: int) -> bool:
    bit = _bit_of(value)
    return (filter_[bit >> _WORD_SHIFT] >> (bit & _WORD_BITS)) & _ONE != 0


@compile_inline
def _bit_of(value: int) -> int:
    return (value * np.uint64(0x9E3779B97F4A7C15)) >> _BIT_SHIFT


@compile_inline
def gram_at(data: np.ndarray, position: int, added: AddedTokens) -> int:
    """Return the normalized gram at a position of plain text."""
    word = _space_white(load_word(data, position))
    if added.lowers:
        word = lower_letters(word)
    return word & _gram_mask(added.gram_bytes)


@compile_inline
def may_begin(gram: int, added: AddedTokens) -> bool:
    """Return whether an added token may have this gram; the filter has few false positives."""
    return _has_bit(added.filter, gram)


@compile_inline
def may_begin_with(signature: int, added: AddedTokens) -> bool:
    """Return whether an added token may begin with the segment of this signature."""
    return _has_bit(added.words, signature)


@compile_inline
def may_begin_with_both(first: int, second: int, added: AddedTokens) -> bool:
    """Return whether an added token may begin with the segments of these signatures."""
    return added.has_lone_words or _has_bit(added.pairs, add_word(first, second))


@compile_inline
def _space_white(word: int) -> int:
    """Turn control characters of eight ASCII bytes into spaces."""
    control = ~(word | (word << _ONE)) & _CONTROL_BITS
    return (word & ~((control >> np.uint64(6)) * np.uint64(0x1F))) | (control >> _ONE)


@compile_inline
def _gram_mask(count: int) -> int:
    return _ALL >> np.uint64(64 - 8 * count)


@compile_inline
def kind_of_character(code: int, added: AddedTokens) -> int:
    """Return the kind of a code point, or of `INVALID`."""
    # The scan, or the library, refuses text that is not valid UTF-8.
    return OUTSIDE if code == INVALID else UNSURE if code >= len(added.kinds) else added.kinds[code]


@compile_inline
def longest_match_in_plain(
    data: np.ndarray, origin: int, end: int, gram: int, added: AddedTokens
) -> tuple[int, int]:
    """Do the work of `longest_match` where the gram is plain: few tokens of a gram have the next bytes."""
    token = _first_with_gram(gram, added)
    tail = load_word(data, origin + added.gram_bytes)
    control = ~(tail | (tail << _ONE)) & _CONTROL_BITS
    if not added.joins_white and not control and not (tail | (tail + _ONES)) & _TOP_BITS:
        tail = lower_letters(tail) if added.lowers else tail
        while token < len(added.grams) and added.grams[token] == gram:
            if tail & added.tail_masks[token] == added.tails[token]:
                break
            token += 1
    return _longest_from(token, data, origin, end, gram, added)


@compile_part
def longest_match(data: np.ndarray, origin: int, end: int, gram: int, added: AddedTokens) -> tuple[int, int]:
    """Find the longest added token with this gram that may begin at `origin`.

    Returns
    -------
    stop : int
        Its end; `NO_MATCH` if there is none; ``NEW_CHARACTER - c`` for a character c that is `NEW`.
    token : int
        Its number.
    """
    return _longest_from(_first_with_gram(gram, added), data, origin, end, gram, added)


@compile_inline
def _first_with_gram(gram: int, added: AddedTokens) -> int:
    """Return the first token with a gram, or the number of tokens."""
    slot = slot_of(gram, len(added.slots))
    while added.slots[slot] >= 0:
        if added.grams[added.slots[slot]] == gram:
            return np.int64(added.slots[slot])
        slot = (slot + 1) & (len(added.slots) - 1)
    return np.int64(len(added.grams))


@compile_inline
def _longest_from(
    token: int, data: np.ndarray, origin: int, end: int, gram: int, added: AddedTokens
) -> tuple[int, int]:
    """Return what `longest_match` does; no token of the gram before this one matches."""
    longest, best = np.int64(NO_MATCH), token
    while token < len(added.grams) and added.grams[token] == gram:
        found = _match(data, origin, end, added.bounds[token], added.bounds[token + 1], added)
        if found <= NEW_CHARACTER:
            return found, token
        if found > longest:
            longest, best = found, token
        token += 1
    return longest, best


@compile_inline
def id_of_match(token: int, begin: int, stop: int, added: AddedTokens) -> int:
    """Return the id of an added token that matched plain text; -1 if it is not the text's only one."""
    length = added.bounds[token + 1] - added.bounds[token]
    return np.int64(added.ids[token] if length == stop - begin else -1)


@compile_inline
def _match(data: np.ndarray, origin: int, end: int, first: int, last: int, added: AddedTokens) -> int:
    """Compare a text with the token ``letters[first:last]``; see `longest_match`."""
    position, wanted = origin, first
    while wanted < last:
        if position >= end:
            return np.int64(NO_MATCH)
        letter = added.folded[data[position]]
        size = np.int64(1)
        if letter != NOT_ASCII and letter != DROPPED:
            if letter != added.letters[wanted]:
                # A run of white space may become one blank.
                is_run = added.joins_white and letter == SPACE and added.letters[wanted - 1] == SPACE
                return np.int64(position + 1 if is_run else NO_MATCH)
            wanted += 1
        elif letter == NOT_ASCII:
            code, size = read_character(data, position, end)
            kind = kind_of_character(code, added)
            if kind == NEW:
                return np.int64(NEW_CHARACTER - code)
            if kind == OUTSIDE:
                return np.int64(NO_MATCH)
            if kind == UNSURE:
                return np.int64(position + size)
            for source in range(added.starts[code], added.ends[code]):
                if wanted == last or added.normal[source] != added.letters[wanted]:
                    return np.int64(NO_MATCH)
                wanted += 1
        position += size
    return np.int64(position)
