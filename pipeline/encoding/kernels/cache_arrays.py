"""The memo's arrays: segments that were seen, in an open-addressing table, each with its token ids.

Arrays don't grow here: who runs out of room says so, and is called again with larger ones.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lakevec.pipeline.encoding.kernels.compilation import compile_part
from lakevec.pipeline.encoding.kernels.packed_bytes import (
    add_word,
    keep_bytes,
    letters_of,
    load_word,
    lower_letters,
    slot_of,
)

# Columns of the entries, one cache line each.
SIGNATURE, IS_LONG, KEY_START, KEY_LENGTH, TOKEN_COUNT, TOKEN_START, UNKNOWN, SLOT = range(8)
# An ref is a number of 32 bits: an entry, or below 0 the complement of a segment's only token.
_REFS = 1 << 31
# Fields of the state.
ENTRIES, KEY_BYTES, TOKENS, PENDING, REFS, ROW, PLACE, CHARACTER = range(8)

# Why a scan stopped.
DONE, FULL_ENTRIES, FULL_KEYS, FULL_TOKENS, FULL_PENDING, FULL_REFS = range(6)
ODD_TEXT, NEW_CHARACTER, NOT_UTF8 = range(6, 9)


class CacheArrays(NamedTuple):
    """The cache: segments that were seen, and their token ids.

    Parameters
    ----------
    slots : int64 ndarray of shape (power of two, 2)
        Signature and ref of a segment, so that a short segment of one token, which most are, is looked up
        in one cache line; -1 for an ref where there is none. At least twice as many as entries.
    entries : int64 ndarray of shape (E, 8)
        One row per segment; a token count of -1 is pending.
    keys : uint8 ndarray
        The segments' bytes, and room for eight more.
    tokens : int32 ndarray
        Known token ids of all segments.
    pending : int32 ndarray
        Entries that wait for the library.
    segment_refs : int32 ndarray
        Answer for each segment of the texts at hand, in text order.
    state : int64 ndarray of shape (8,)
        How much of each array is in use, the next text, the place in it where a scan stopped or 0, and a
        character that is new.
    """

    slots: np.ndarray
    entries: np.ndarray
    keys: np.ndarray
    tokens: np.ndarray
    pending: np.ndarray
    segment_refs: np.ndarray
    state: np.ndarray


@compile_part
def sign_segment(data: np.ndarray, start: int, end: int, fold: np.ndarray) -> tuple[int, bool]:
    """Return a segment's signature and whether it is long.

    The signature of a short segment is the folded segment itself, in eight bytes. A long one has a hash, and
    is compared byte by byte. A segment that ends in NUL counts as long: as a number it looks shorter.
    """
    value = word = np.uint64(0)
    last = np.uint8(0)
    for position in range(start, end):
        if position > start and (position - start) & 7 == 0:
            value = add_word(value, word)
            word = np.uint64(0)
        last = fold[data[position]]
        word |= np.uint64(last) << np.uint64(8 * ((position - start) & 7))
    is_long = end - start > 8 or last == 0
    return add_word(value, word) if is_long else word, is_long


@compile_part
def pack_ref(ref: int, is_long: bool) -> int:
    """Put an ref and the kind of its segment into a slot's second number, which is never negative."""
    return ((np.int64(ref) + _REFS) << 1) | np.int64(is_long)


@compile_part
def unpack_ref(packed: int) -> int:
    """Return the ref of a slot that has one."""
    return (packed >> 1) - _REFS


@compile_part
def find_short(signature: int, slots: np.ndarray) -> tuple[int, int]:
    """Return the packed ref for a short segment, or -1 where it is new, and the slot that it has or gets."""
    signed = np.int64(signature)
    slot = slot_of(signature, len(slots))
    packed = slots[slot, 1]
    while packed >= 0 and not (slots[slot, 0] == signed and packed & 1 == 0):
        slot = (slot + 1) & (len(slots) - 1)
        packed = slots[slot, 1]
    return packed, slot


@compile_part
def sign_long(data: np.ndarray, start: int, length: int, folds: bool) -> int:
    """Return the signature of a segment of more than eight ASCII characters."""
    value = np.uint64(0)
    for offset in range(0, length, 8):
        value = add_word(value, _load_folded(data, start + offset, length - offset, folds))
    return value


@compile_part
def find_long(
    data: np.ndarray,
    start: int,
    length: int,
    folds: bool,
    signature: int,
    slots: np.ndarray,
    entries: np.ndarray,
    keys: np.ndarray,
) -> tuple[int, int]:
    """Return the packed ref for a segment of more than eight ASCII characters; see `find_short`."""
    signed = np.int64(signature)
    slot = slot_of(signature, len(slots))
    packed = slots[slot, 1]
    while packed >= 0:
        if slots[slot, 0] == signed and packed & 1 == 1:
            entry = unpack_ref(packed)
            if entries[entry, KEY_LENGTH] == length:
                key = entries[entry, KEY_START]
                offset = 0
                # Keys have eight bytes of room behind the last.
                while offset < length:
                    rest = length - offset
                    known = keep_bytes(load_word(keys, key + offset), min(rest, 8))
                    if known != _load_folded(data, start + offset, rest, folds):
                        break
                    offset += 8
                if offset >= length:
                    break
        slot = (slot + 1) & (len(slots) - 1)
        packed = slots[slot, 1]
    return packed, slot


@compile_part
def _load_folded(data: np.ndarray, position: int, rest: int, folds: bool) -> int:
    """Load up to eight bytes of a segment as they stand in a key."""
    word = load_word(data, position)
    if folds:
        word = lower_letters(word, letters_of(word))
    return keep_bytes(word, min(rest, 8))
