"""New segments of the token cache: add them, split them here or leave them to the `tokenizers` library."""

from __future__ import annotations

import numpy as np

from lakevec.pipeline.encoding.kernels.cache_arrays import (
    ENTRIES,
    FULL_ENTRIES,
    FULL_KEYS,
    FULL_PENDING,
    FULL_TOKENS,
    IS_LONG,
    KEY_BYTES,
    KEY_LENGTH,
    KEY_START,
    PENDING,
    SIGNATURE,
    SLOT,
    TOKEN_COUNT,
    TOKEN_START,
    TOKENS,
    UNKNOWN,
    CacheArrays,
    find_short,
    pack_ref,
    sign_segment,
    unpack_ref,
)
from lakevec.pipeline.encoding.kernels.compilation import compile_loop, compile_part
from lakevec.pipeline.encoding.kernels.packed_bytes import slot_of
from lakevec.pipeline.encoding.kernels.wordpiece import WordPieces, split_word

# Look-ups read keys in words of eight bytes, so the last key needs padding.
_KEY_ROOM = 8


@compile_part
def look_up_bytes(
    data: np.ndarray,
    start: int,
    end: int,
    fold: np.ndarray,
    characters: int,
    is_marked: bool,
    pieces: WordPieces,
    cache: CacheArrays,
) -> int:
    """Return the packed ref of any segment, and add a new segment; -1 - FULL_... if an array is full."""
    slots, entries, keys = cache.slots, cache.entries, cache.keys
    signature, is_long = sign_segment(data, start, end, fold)
    if is_long:
        packed, slot = _find_bytes(data, start, end - start, fold, signature, slots, entries, keys)
    else:
        packed, slot = find_short(signature, slots)
    if packed < 0:
        packed = add_entry(
            data, start, end, fold, signature, is_long, slot, characters, is_marked, pieces, cache
        )
    return packed


@compile_part
def _find_bytes(
    data: np.ndarray,
    start: int,
    length: int,
    fold: np.ndarray,
    signature: int,
    slots: np.ndarray,
    entries: np.ndarray,
    keys: np.ndarray,
) -> tuple[int, int]:
    """Return the packed ref and slot of a long segment, compared byte by byte; see `find_short`."""
    signed = np.int64(signature)
    slot = slot_of(signature, len(slots))
    packed = slots[slot, 1]
    while packed >= 0:
        if slots[slot, 0] == signed and packed & 1 == 1:
            entry = unpack_ref(packed)
            if entries[entry, KEY_LENGTH] == length:
                key = entries[entry, KEY_START]
                offset = 0
                while offset < length and keys[key + offset] == fold[data[start + offset]]:
                    offset += 1
                if offset == length:
                    break
        slot = (slot + 1) & (len(slots) - 1)
        packed = slots[slot, 1]
    return packed, slot


@compile_part
def add_entry(
    data: np.ndarray,
    start: int,
    end: int,
    fold: np.ndarray,
    signature: int,
    is_long: bool,
    slot: int,
    plain_characters: int,
    is_marked: bool,
    pieces: WordPieces,
    cache: CacheArrays,
) -> int:
    """Add a segment and return its packed ref, or -1 - FULL_... if an array is full.

    If `plain_characters` is above 0 and there is a WordPiece vocabulary, the segment is split here. It must
    then have that many normalized characters. Otherwise the entry is left pending for the library. If
    `is_marked`, the first byte of the key is a marker and not part of the word.
    """
    state, entries = cache.state, cache.entries
    entry, key, length = state[ENTRIES], state[KEY_BYTES], end - start
    if entry >= len(entries):
        return -1 - FULL_ENTRIES
    if key + length + _KEY_ROOM > len(cache.keys):
        return -1 - FULL_KEYS
    for offset in range(length):
        cache.keys[key + offset] = fold[data[start + offset]]
    ref = np.int64(entry)
    if plain_characters > 0 and len(pieces.slots) > 0:
        token = state[TOKENS]
        if token + length >= len(cache.tokens):
            return -1 - FULL_TOKENS
        word = cache.keys[key + is_marked : key + length]
        count = split_word(word, plain_characters, pieces, cache.tokens[token:])
        entries[entry, UNKNOWN] = 1 if count == 0 else 0
        if count == 1 and not is_long:
            ref = ~np.int64(cache.tokens[token])
        state[TOKENS] = token + count
    else:
        if state[PENDING] >= len(cache.pending):
            return -1 - FULL_PENDING
        cache.pending[state[PENDING]] = entry
        state[PENDING] += 1
        token = count = -1
    entries[entry, SIGNATURE] = np.int64(signature)
    entries[entry, IS_LONG] = is_long
    entries[entry, KEY_START] = key
    entries[entry, KEY_LENGTH] = length
    entries[entry, TOKEN_COUNT] = count
    entries[entry, TOKEN_START] = token
    entries[entry, SLOT] = slot
    packed = pack_ref(ref, is_long)
    cache.slots[slot, 0] = np.int64(signature)
    cache.slots[slot, 1] = packed
    state[ENTRIES] = entry + 1
    state[KEY_BYTES] = key + length
    return packed


@compile_part
def _ref_of(entry: int, entries: np.ndarray, tokens: np.ndarray) -> int:
    """Return the packed ref of an entry: the token of a short one-token segment, else the entry's index."""
    ref = np.int64(entry)
    is_one = entries[entry, TOKEN_COUNT] == 1 and entries[entry, UNKNOWN] == 0
    if is_one and entries[entry, IS_LONG] == 0:
        ref = ~np.int64(tokens[entries[entry, TOKEN_START]])
    return pack_ref(ref, entries[entry, IS_LONG])


@compile_loop
def refer_to_entries(slots: np.ndarray, entries: np.ndarray, tokens: np.ndarray, chosen: np.ndarray) -> None:
    """Write the refs of entries that were pending when they got their slots."""
    for entry in chosen:
        slots[entries[entry, SLOT], 1] = _ref_of(entry, entries, tokens)


@compile_loop
def fill_slots(slots: np.ndarray, entries: np.ndarray, tokens: np.ndarray, count: int) -> None:
    """Insert the first `count` entries into empty slots."""
    for entry in range(count):
        slot = slot_of(np.uint64(entries[entry, SIGNATURE]), len(slots))
        while slots[slot, 1] >= 0:
            slot = (slot + 1) & (len(slots) - 1)
        entries[entry, SLOT] = slot
        slots[slot, 0] = entries[entry, SIGNATURE]
        slots[slot, 1] = _ref_of(entry, entries, tokens)


@compile_loop
def count_tokens(
    segment_refs: np.ndarray, row_ends: np.ndarray, entries: np.ndarray, max_tokens: int, offsets: np.ndarray
) -> tuple[int, int]:
    """Count each text's known tokens up to `max_tokens`.

    Parameters
    ----------
    segment_refs : int32 ndarray
    row_ends : int64 ndarray of shape (N + 1,)
    entries : int64 ndarray of shape (E, 8)
        No entry in `segment_refs` may be pending.
    max_tokens : int
    offsets : int64 ndarray of shape (N + 1,)
        Output: the cumulative number of tokens.

    Returns
    -------
    unknown : int
        Number of unknown tokens.
    truncated : int
        Number of texts with more known tokens than `max_tokens`.
    """
    unknown = truncated = 0
    offsets[0] = 0
    for row in range(len(row_ends) - 1):
        count = 0
        for position in range(row_ends[row], row_ends[row + 1]):
            ref = segment_refs[position]
            if ref < 0:
                count += 1
            else:
                count += entries[ref, TOKEN_COUNT]
                unknown += entries[ref, UNKNOWN]
        if count > max_tokens:
            count = max_tokens
            truncated += 1
        offsets[row + 1] = offsets[row] + count
    return unknown, truncated


@compile_loop
def write_tokens(
    segment_refs: np.ndarray, row_ends: np.ndarray, cache: CacheArrays, offsets: np.ndarray, ids: np.ndarray
) -> None:
    """Write each text's token ids up to the number that `offsets` allows.

    Parameters
    ----------
    segment_refs : int32 ndarray
    row_ends : int64 ndarray of shape (N + 1,)
    offsets : int64 ndarray of shape (N + 1,)
    ids : int32 ndarray of shape (T,)
        Output: the ids.
    """
    entries, tokens = cache.entries, cache.tokens
    for row in range(len(row_ends) - 1):
        target, end = offsets[row], offsets[row + 1]
        for position in range(row_ends[row], row_ends[row + 1]):
            if target == end:
                break
            ref = segment_refs[position]
            if ref < 0:
                ids[target] = ~ref
                target += 1
            else:
                source = entries[ref, TOKEN_START]
                for offset in range(min(entries[ref, TOKEN_COUNT], end - target)):
                    ids[target] = tokens[source + offset]
                    target += 1
