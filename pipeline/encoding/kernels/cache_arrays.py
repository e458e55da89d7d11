"""The token cache's arrays: an open-addressing hash table of segments, with the token ids of each segment.

Kernels don't grow arrays. A kernel that runs out of room returns a status; the caller grows the array and
calls again.
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

# Columns of an entry, which fills one cache line.
SIGNATURE, IS_LONG, KEY_START, KEY_LENGTH, TOKEN_COUNT, TOKEN_START, UNKNOWN, SLOT = range(8)
# A ref is an int32: the index of an entry, or the complement of the token id of a one-token segment.
_REFS = 1 << 31
# Fields of `CacheArrays.state`.
ENTRIES, KEY_BYTES, TOKENS, PENDING, REFS, ROW, PLACE, CHARACTER = range(8)

# Status codes of a scan.
DONE, FULL_ENTRIES, FULL_KEYS, FULL_TOKENS, FULL_PENDING, FULL_REFS = range(6)
ODD_TEXT, NEW_CHARACTER, NOT_UTF8 = range(6, 9)


class CacheArrays(NamedTuple):
    """The token cache: known segments and their token ids.

    Parameters
    ----------
    slots : int64 ndarray of shape (power of two, 2)
        Signature and packed ref of a segment; the ref is -1 in an empty slot. Most segments are short and
        have one token, so their look-up reads one cache line. There are at least twice as many slots as
        entries.
    entries : int64 ndarray of shape (E, 8)
        One row per segment; a token count of -1 marks a pending entry.
    keys : uint8 ndarray
        Bytes of all segments, and eight bytes of padding.
    tokens : int32 ndarray
        Known token ids of all segments.
    pending : int32 ndarray
        Indices of entries that the `tokenizers` library must tokenize.
    segment_refs : int32 ndarray
        Ref of each segment of the current texts, in text order.
    state : int64 ndarray of shape (8,)
        Used length of each array, index of the next text, position in that text where a scan stopped (0 for
        its start), and a new character.
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

    The signature of a short segment is its eight folded bytes. The signature of a long segment is a hash, so
    a look-up also compares bytes. A segment that ends in NUL counts as long, since its zero bytes look like
    padding.
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
    """Pack a ref and `is_long` into the second value of a slot, which is never negative."""
    return ((np.int64(ref) + _REFS) << 1) | np.int64(is_long)


@compile_part
def unpack_ref(packed: int) -> int:
    """Return the ref of a non-empty slot."""
    return (packed >> 1) - _REFS


@compile_part
def find_short(signature: int, slots: np.ndarray) -> tuple[int, int]:
    """Return the packed ref of a short segment, or -1 if it is new, and its slot."""
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
    """Return the packed ref and slot of a segment of more than eight ASCII characters; see `find_short`."""
    signed = np.int64(signature)
    slot = slot_of(signature, len(slots))
    packed = slots[slot, 1]
    while packed >= 0:
        if slots[slot, 0] == signed and packed & 1 == 1:
            entry = unpack_ref(packed)
            if entries[entry, KEY_LENGTH] == length:
                key = entries[entry, KEY_START]
                offset = 0
                # Eight bytes of padding follow the last key, so this may read past its end.
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
    """Load up to eight bytes of a segment, folded as in the keys."""
    word = load_word(data, position)
    if folds:
        word = lower_letters(word, letters_of(word))
    return keep_bytes(word, min(rest, 8))
