"""Added tokens with blanks or punctuation in a text: the token itself, or a region that may hold one.

The scan treats a region as one segment and leaves it to the library, once per distinct region. So a region
may be too wide or wrong, but every occurrence of an added token must lie inside one.
"""

from __future__ import annotations

import numpy as np

from lakevec.pipeline.encoding.kernels.added_token_search import (
    begin_of_chunk,
    begin_of_reach,
    end_of_chunk,
    search_letters,
)
from lakevec.pipeline.encoding.kernels.added_tokens import (
    NO_MATCH,
    SPACE,
    AddedTokens,
    gram_at,
    id_of_match,
    longest_match_in_plain,
    may_begin,
)
from lakevec.pipeline.encoding.kernels.compilation import compile_inline, compile_part
from lakevec.pipeline.encoding.kernels.packed_bytes import leading_zeros, trailing_zeros
from lakevec.pipeline.encoding.kernels.segment_ends import (
    ISOLATED,
    LITERAL,
    OTHER,
    SEPARATOR,
    SplitTables,
)
from lakevec.pipeline.encoding.kernels.simd import WINDOW, classify_window

_ONE = np.uint64(1)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
# What the library makes of the text at a place: unknown, an added token, or none that counts.
DOUBT, TOKEN, NO_TOKEN = range(3)
# The library takes it for a letter, and the rule for punctuation.
_UNDERSCORE = 0x5F


@compile_inline
def is_plain(data: np.ndarray, first: int, end: int, split: SplitTables, added: AddedTokens) -> bool:
    """Return whether `judge_word` finds all added tokens of a text, unless it returns `DOUBT`."""
    if not added.is_simple or added.joins_white or not split.isolates or split.needs_ascii:
        return False
    for window in range(first, end, WINDOW):
        _, printable, white = classify_window(data, window)
        if ~(printable | white) & (_ALL >> np.uint64(WINDOW - min(end - window, WINDOW))):
            return False
    return True


@compile_inline
def judge_word(
    data: np.ndarray, begin: int, since: int, text: tuple[int, int], split: SplitTables, added: AddedTokens
) -> tuple[int, int, int]:
    """Return whether an added token begins with a word of a plain text.

    Parameters
    ----------
    begin : int
        Where the word begins.
    since : int
        The library finds no added token that begins before this place and ends behind it.
    text : tuple of int
        Bounds of the text in `data`.

    Returns
    -------
    verdict : int
        `TOKEN`; `NO_TOKEN`; or `DOUBT`, for which the text must be searched with `find_region`.
    since : int
        From where on added tokens may begin: behind the token.
    id_ : int
        The id of the token; -1 if that is not sure.
    """
    stop, token = np.int64(NO_MATCH), np.int64(0)
    gram = gram_at(data, begin, added)
    if may_begin(gram, added):
        stop, token = longest_match_in_plain(data, begin, text[1], gram, added)
    if stop == NO_MATCH:
        return np.int64(NO_TOKEN), since, np.int64(-1)
    verdict = _judge(data, (begin, stop, token), since, text, split, added)
    return np.int64(verdict), stop, id_of_match(token, begin, stop, added)


@compile_part
def find_region(
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
    on both sides. Where that is in doubt, and around what is not plain, a text is searched letter by letter.
    """
    none = np.int64(-1)
    if not added.is_simple:
        begin, stop, character = search_letters(data, start, end, (first, end), split, added)
        return begin, stop, none, character
    since = start
    while True:
        suspect, stop, token = _find_suspect(data, since, first, end, added)
        if suspect == end:
            return end, end, none, none
        verdict = _judge(data, (suspect, stop, token), since, (first, end), split, added)
        if verdict == TOKEN:
            return suspect, stop, id_of_match(token, suspect, stop, added), none
        if verdict == NO_TOKEN:
            since = stop
            continue
        behind = max(stop, suspect + 1) if stop != NO_MATCH else token
        limit = end_of_chunk(data, behind, first, end, split)
        begin, stop, character = _search_around(data, (start, suspect, limit), (first, end), split, added)
        if character >= 0 or begin < end:
            return begin, stop, none, character
        # No added token begins before the limit, so the search need never go back behind it.
        start = since = limit


@compile_part
def _search_around(
    data: np.ndarray,
    places: tuple[int, int, int],
    text: tuple[int, int],
    split: SplitTables,
    added: AddedTokens,
) -> tuple[int, int, int]:
    """Do the work of `search_letters` around a doubtful place; `places` are its start, that place, its limit.

    The search begins as far before the place as an added token may reach. If a region begins there, another
    one may hide it that begins still earlier, so the search goes back further. Regions that end before the
    place are passed over: what is there was judged before, and counts for nothing.
    """
    start, doubt, limit = places
    first, end = text
    base = begin_of_chunk(data, doubt, start, first, end, split)
    origin = begin_of_reach(data, base, start, text, split, added)
    while True:
        begin, stop, character = search_letters(data, origin, limit, text, split, added)
        if character >= 0 or begin >= base:
            return begin, stop, character
        if stop <= doubt:
            origin = stop
        else:
            base = begin
            origin = begin_of_reach(data, base, start, text, split, added)


@compile_part
def _find_suspect(
    data: np.ndarray, start: int, first: int, end: int, added: AddedTokens
) -> tuple[int, int, int]:
    """Return where a word may begin an added token, the end of the longest one, and its number.

    If the end is `NO_MATCH`, the place is the first one that is not plain, and the number is a place behind
    the last such one of a window. If the place is the end of the text, there is none.
    """
    for window in range(start, end, WINDOW):
        letters, printable, white = classify_window(data, window)
        inside = min(end - window, WINDOW)
        here = _ALL >> np.uint64(WINDOW - inside)
        odd = ~(printable | white) & here
        if added.joins_white:
            odd |= white & (white << _ONE) & here
            if white & _ONE and window > start and added.folded[data[window - 1]] == SPACE:
                odd |= _ONE
        # A window may begin inside a word. Behind the first odd byte, nothing is sure.
        before = np.uint64(window > first and _is_alphanumeric(data[window - 1]))
        begins = letters & ~((letters << _ONE) | before) & here & ((odd & (~odd + _ONE)) - _ONE)
        while begins:
            position = window + np.int64(trailing_zeros(begins))
            begins &= begins - _ONE
            gram = gram_at(data, position, added)
            if may_begin(gram, added):
                stop, token = longest_match_in_plain(data, position, end, gram, added)
                if stop != NO_MATCH:
                    return position, stop, token
        if odd:
            place, last = trailing_zeros(odd), WINDOW - np.int64(leading_zeros(odd))
            return window + np.int64(place), np.int64(NO_MATCH), window + last
    return end, end, np.int64(0)


@compile_inline
def _judge(
    data: np.ndarray,
    match: tuple[int, int, int],
    since: int,
    text: tuple[int, int],
    split: SplitTables,
    added: AddedTokens,
) -> int:
    """Return what the library makes of the longest added token at a place: where it begins, ends, and which.

    All of ``data[since:match[0]]`` is plain, and the library finds none that begins before and ends behind
    `since`.
    """
    (begin, stop, token), (first, end) = match, text
    if added.joins_white or not split.isolates or split.needs_ascii or stop < begin:
        return DOUBT
    for position in range(begin, stop):
        if split.classes[data[position]] & (OTHER | LITERAL):
            return DOUBT
    if not added.is_free[token] and _may_be_hidden(data, begin, since, end, split, added):
        return DOUBT
    if _finds_literal(data, begin - 1, first - 1, -1, split):
        return DOUBT  # it may reach into this one, and hide it
    is_word = False
    for position, limit in ((begin - 1, first - 1), (stop, end)):
        if position != limit:
            letter = data[position]
            is_sign = split.classes[letter] & (SEPARATOR | ISOLATED) and letter != _UNDERSCORE
            if not is_sign and not _is_letter(letter):
                return DOUBT
            is_word = is_word or not is_sign
    if is_word:
        return NO_TOKEN
    return DOUBT if _finds_literal(data, stop, end, 1, split) else TOKEN


@compile_inline
def _finds_literal(data: np.ndarray, start: int, limit: int, step: int, split: SplitTables) -> bool:
    """Return whether another kind of added token may begin between a place and the next white space."""
    position = start
    while position != limit and not split.classes[data[position]] & SEPARATOR:
        if split.classes[data[position]] & LITERAL:
            return True
        position += step
    return False


@compile_inline
def _may_be_hidden(
    data: np.ndarray, begin: int, since: int, end: int, split: SplitTables, added: AddedTokens
) -> bool:
    """Return whether an added token may reach a place that begins before it, inside a word."""
    gaps = np.int64(0)
    for position in range(begin - 1, max(since, begin - added.longest + 1) - 1, -1):
        gaps += split.classes[data[position]] & SEPARATOR != 0
        if gaps > added.most_gaps:
            return False
        gram = gram_at(data, position, added)
        if may_begin(gram, added):
            stop, _ = longest_match_in_plain(data, position, end, gram, added)
            if stop != NO_MATCH:
                return True
    return False


@compile_inline
def _is_letter(byte: int) -> bool:
    """Return whether the library takes an ASCII character for a part of a word."""
    return _is_alphanumeric(byte) or byte == _UNDERSCORE


@compile_inline
def _is_alphanumeric(byte: int) -> bool:
    return 0x61 <= byte | 0x20 <= 0x7A or 0x30 <= byte <= 0x39
