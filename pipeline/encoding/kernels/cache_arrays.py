"""The token cache's arrays: an open-addressing hash table of segments, with the token ids of each segment.

Kernels don't grow arrays. A kernel that runs out of room returns a status; the caller grows the array and
calls again.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lakevec.pipeline.encoding.kernels.compilation import compile_inline, compile_part
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
NOT_PLAIN, NEW_CHARACTER, NOT_UTF8 = range(6, 9)


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


class Segment(NamedTuple):
    """A segment to look up: the bytes ``data[start:start + length]``.

    Parameters
    ----------
    data : uint8 ndarray
        Has at least eight readable bytes after the segment.
    start : int
    length : int
    folds : bool
        Whether the key lowercases ASCII.
    characters : int
        Number of characters of a segment that WordPiece may split here; 0 leaves it to the library.
    is_marked : bool
        Whether the first byte is a marker and not part of the word.
    """

    data: np.ndarray
    start: int
    length: int
    folds: bool
    characters: int
    is_marked: bool


@compile_inline
def load_key(segment: Segment, offset: int) -> int:
    """Load up to eight bytes of a segment's key."""
    word = load_word(segment.data, segment.start + offset)
    if segment.folds:
        word = lower_letters(word, letters_of(word))
    return keep_bytes(word, min(segment.length - offset, 8))


@compile_inline
def is_long(segment: Segment) -> bool:
    """Return whether a segment's signature is a hash of its bytes."""
    # The zero bytes of a segment that ends in NUL look like padding.
    return segment.length > 8 or segment.data[segment.start + segment.length - 1] == 0


@compile_inline
def sign_long(segment: Segment) -> int:
    """Return the signature of a long segment: a hash. The signature of a short one is `load_key`."""
    value = np.uint64(0)
    for offset in range(0, segment.length, 8):
        value = add_word(value, load_key(segment, offset))
    return value


@compile_part
def pack_ref(ref: int, is_long: bool) -> int:
    """Pack a ref and `is_long` into the second value of a slot, which is never negative."""
    return ((np.int64(ref) + _REFS) << 1) | np.int64(is_long)


@compile_part
def unpack_ref(packed: int) -> int:
    """Return the ref of a non-empty slot."""
    return (packed >> 1) - _REFS


@compile_inline
def find_short(signature: int, slots: np.ndarray) -> tuple[int, int]:
    """Return the packed ref of a short segment, or -1 if it is new, and its slot."""
    signed = np.int64(signature)
    slot = slot_of(signature, len(slots))
    packed = slots[slot, 1]
    while packed >= 0 and not (slots[slot, 0] == signed and packed & 1 == 0):
        slot = (slot + 1) & (len(slots) - 1)
        packed = slots[slot, 1]
    return packed, slot


@compile_inline
def find_long(segment: Segment, signature: int, cache: CacheArrays) -> tuple[int, int]:
    """Return the packed ref of a long segment, or -1 if it is new, and its slot."""
    slots, signed = cache.slots, np.int64(signature)
    slot = slot_of(signature, len(slots))
    packed = slots[slot, 1]
    while packed >= 0:
        if slots[slot, 0] == signed and packed & 1 == 1 and _is_key(segment, unpack_ref(packed), cache):
            break
        slot = (slot + 1) & (len(slots) - 1)
        packed = slots[slot, 1]
    return packed, slot


@compile_inline
def _is_key(segment: Segment, entry: int, cache: CacheArrays) -> bool:
    """Return whether an entry's key equals the segment."""
    if cache.entries[entry, KEY_LENGTH] != segment.length:
        return False
    key = cache.entries[entry, KEY_START]
    for offset in range(0, segment.length, 8):
        known = keep_bytes(load_word(cache.keys, key + offset), min(segment.length - offset, 8))
        if known != load_key(segment, offset):
            return False
    return True
