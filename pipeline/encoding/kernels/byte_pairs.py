"""Byte-level BPE on bytes: split a segment as GPT-2's pattern does, and merge the pairs of each word."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lakevec.pipeline.encoding.kernels.compilation import compile_inline, compile_loop, compile_part
from lakevec.pipeline.encoding.kernels.packed_bytes import slot_of

# Kinds of characters. The table has not yet seen an UNSEEN one; one FOR_LIBRARY leaves its segment to the
# library. The others are a letter, a number, another character, and white space.
UNSEEN, FOR_LIBRARY, LETTER, NUMBER, SIGN, BLANK = range(6)
# Longer words go to the library: the search for the next merge looks at all pairs of a word.
MOST_BYTES = 512

_NO_RANK = np.int32(np.iinfo(np.int32).max)
_SPACE, _APOSTROPHE = b" '"
_S, _T, _M, _D, _R, _E, _V, _L = b"stmdrevl"


class BytePairs(NamedTuple):
    """The merges of a byte-level BPE in an open-addressing table.

    Parameters
    ----------
    slots : int32 ndarray of shape (power of two,)
        Rank of the merge in each slot, or -1. Without slots, the tokenizer has no such model.
    pairs : uint64 ndarray of shape (M,)
        Left and right token id of each merge, by rank.
    merged : int32 ndarray of shape (M,)
        Token id that each merge makes.
    byte_ids : int32 ndarray of shape (256,)
        Token id of each byte.
    symbols, ranks : int32 ndarray of shape (`MOST_BYTES`,)
        Room for the tokens of a word, and for the rank of each with the next one.
    """

    slots: np.ndarray
    pairs: np.ndarray
    merged: np.ndarray
    byte_ids: np.ndarray
    symbols: np.ndarray
    ranks: np.ndarray


@compile_loop
def fill_pairs(pairs: BytePairs) -> None:
    """Fill the empty slots; of equal pairs, the last one counts, as in the library."""
    last = len(pairs.slots) - 1
    for rank in range(len(pairs.pairs)):
        slot = slot_of(pairs.pairs[rank], last + 1)
        while pairs.slots[slot] >= 0 and pairs.pairs[pairs.slots[slot]] != pairs.pairs[rank]:
            slot = (slot + 1) & last
        pairs.slots[slot] = rank


@compile_part
def split_bytes(word: np.ndarray, kinds: np.ndarray, length: int, pairs: BytePairs, ids: np.ndarray) -> int:
    """Tokenize the segment ``word[:length]``; write its token ids, and return their number.

    Parameters
    ----------
    word : uint8 ndarray
    kinds : uint8 ndarray
        Kind of the character of each byte.

    Returns
    -------
    int
        -1 if a word is longer than `MOST_BYTES`.
    """
    start = count = np.int64(0)
    while start < length:
        stop = _end_piece(word, kinds, start, length)
        if stop - start > MOST_BYTES:
            return np.int64(-1)
        count = _merge(word, start, stop, pairs, ids, count)
        start = stop
    return count


@compile_inline
def _end_piece(word: np.ndarray, kinds: np.ndarray, start: int, length: int) -> int:
    """Return the end of the match of GPT-2's pattern at `start`."""
    stop = start
    if kinds[start] == BLANK:
        last = start
        while stop < length and kinds[stop] == BLANK:
            last = stop if word[stop] & 0xC0 != 0x80 else last
            stop += 1
        # The last character of a run is left for the next word, which takes it if it is a space.
        if stop == length or (last == start and word[start] != _SPACE):
            return stop
        if last > start:
            return last
    elif word[start] == _APOSTROPHE:
        contraction = _contraction_bytes(word, start, length)
        if contraction > 0:
            return start + contraction
    kind = kinds[stop]
    while stop < length and kinds[stop] == kind:
        stop += 1
    return stop


@compile_part
def _contraction_bytes(word: np.ndarray, start: int, length: int) -> int:
    """Return the length of the contraction that begins with the apostrophe at `start`; 0 if there is none."""
    if start + 1 < length and word[start + 1] in (_S, _T, _M, _D):
        return 2
    if start + 2 < length:
        first, second = word[start + 1], word[start + 2]
        if (second == _E and first in (_R, _V)) or first == _L == second:
            return 3
    return 0


@compile_part
def _merge(word: np.ndarray, start: int, stop: int, pairs: BytePairs, ids: np.ndarray, count: int) -> int:
    """Merge the first pair of the lowest rank until none is left; append the token ids."""
    symbols, ranks = pairs.symbols, pairs.ranks
    size = stop - start
    for index in range(size):
        symbols[index] = pairs.byte_ids[word[start + index]]
    for index in range(size - 1):
        ranks[index] = _rank_of(symbols[index], symbols[index + 1], pairs)
    while size > 1:
        best = _NO_RANK
        for index in range(size - 1):
            best = min(best, ranks[index])
        if best == _NO_RANK:
            break
        place = np.int64(0)
        while ranks[place] != best:
            place += 1
        symbols[place] = pairs.merged[best]
        size -= 1
        for index in range(place + 1, size):
            symbols[index] = symbols[index + 1]
            ranks[index - 1] = ranks[index]
        if place > 0:
            ranks[place - 1] = _rank_of(symbols[place - 1], symbols[place], pairs)
        if place < size - 1:
            ranks[place] = _rank_of(symbols[place], symbols[place + 1], pairs)
    for index in range(size):
        ids[count + index] = symbols[index]
    return count + size


@compile_inline
def _rank_of(left: int, right: int, pairs: BytePairs) -> int:
    """Return the rank of a merge, or `_NO_RANK`."""
    pair = (np.uint64(left) << np.uint64(32)) | np.uint64(right)
    last = len(pairs.slots) - 1
    slot = slot_of(pair, last + 1)
    rank = pairs.slots[slot]
    while rank >= 0 and pairs.pairs[rank] != pair:
        slot = (slot + 1) & last
        rank = pairs.slots[slot]
    return rank if rank >= 0 else _NO_RANK
