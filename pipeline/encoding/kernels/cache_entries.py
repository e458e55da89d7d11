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
    Segment,
    find_long,
    find_short,
    load_key,
    pack_ref,
    sign_long,
)
from lakevec.pipeline.encoding.kernels.compilation import compile_inline, compile_loop, compile_part
from lakevec.pipeline.encoding.kernels.packed_bytes import slot_of, store_word
from lakevec.pipeline.encoding.kernels.wordpiece import WordPieces, split_word

# Look-ups read keys in words of eight bytes, so the last key needs padding.
_KEY_ROOM = 8


@compile_inline
def look_up(segment: Segment, is_long: bool, pieces: WordPieces, cache: CacheArrays) -> int:
    """Return the packed ref of a segment, and add a new segment; -1 - FULL_... if an array is full."""
    if is_long:
        signature = sign_long(segment)
        packed, slot = find_long(segment, signature, cache)
    else:
        signature = load_key(segment, 0)
        packed, slot = find_short(signature, cache.slots)
    if packed < 0:
        packed = _add_entry(segment, signature, is_long, slot, pieces, cache)
    return packed


@compile_part
def _add_entry(
    segment: Segment, signature: int, is_long: bool, slot: int, pieces: WordPieces, cache: CacheArrays
) -> int:
    """Add a segment: WordPiece splits it here, or it is left to the library."""
    state, entries, length = cache.state, cache.entries, segment.length
    entry, key = state[ENTRIES], state[KEY_BYTES]
    if entry >= len(entries):
        return -1 - FULL_ENTRIES
    if key + length + _KEY_ROOM > len(cache.keys):
        return -1 - FULL_KEYS
    for offset in range(0, length, 8):
        store_word(cache.keys, key + offset, load_key(segment, offset))
    ref = np.int64(entry)
    if segment.characters > 0 and len(pieces.slots) > 0:
        token = state[TOKENS]
        if token + length >= len(cache.tokens):
            return -1 - FULL_TOKENS
        word = cache.keys[key + segment.is_marked : key + length]
        count = split_word(word, segment.characters, pieces, cache.tokens[token:])
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
def _enter(entry: int, cache: CacheArrays) -> None:
    """Write an entry's signature and ref into its slot; the ref of a short one-token segment is its token."""
    entries, ref = cache.entries, np.int64(entry)
    is_one = entries[entry, TOKEN_COUNT] == 1 and entries[entry, UNKNOWN] == 0
    if is_one and entries[entry, IS_LONG] == 0:
        ref = ~np.int64(cache.tokens[entries[entry, TOKEN_START]])
    cache.slots[entries[entry, SLOT], 0] = entries[entry, SIGNATURE]
    cache.slots[entries[entry, SLOT], 1] = pack_ref(ref, entries[entry, IS_LONG])


@compile_loop
def enter_again(chosen: np.ndarray, cache: CacheArrays) -> None:
    """Write the refs of entries that were pending when they got their slots."""
    for entry in chosen:
        _enter(entry, cache)


@compile_loop
def fill_slots(cache: CacheArrays) -> None:
    """Enter all entries into empty slots."""
    last = len(cache.slots) - 1
    for entry in range(cache.state[ENTRIES]):
        slot = slot_of(np.uint64(cache.entries[entry, SIGNATURE]), last + 1)
        while cache.slots[slot, 1] >= 0:
            slot = (slot + 1) & last
        cache.entries[entry, SLOT] = slot
        _enter(entry, cache)


@compile_loop
def count_tokens(
    row_ends: np.ndarray, cache: CacheArrays, max_tokens: int, offsets: np.ndarray
) -> tuple[int, int]:
    """Count each text's known tokens up to `max_tokens`; no segment of the texts may be pending.

    Parameters
    ----------
    row_ends : int64 ndarray of shape (N + 1,)
        Text n has ``cache.segment_refs[row_ends[n]:row_ends[n + 1]]``.
    cache : CacheArrays
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
            ref = cache.segment_refs[position]
            if ref < 0:
                count += 1
            else:
                count += cache.entries[ref, TOKEN_COUNT]
                unknown += cache.entries[ref, UNKNOWN]
        if count > max_tokens:
            count = max_tokens
            truncated += 1
        offsets[row + 1] = offsets[row] + count
    return unknown, truncated


@compile_loop
def write_tokens(row_ends: np.ndarray, cache: CacheArrays, offsets: np.ndarray, ids: np.ndarray) -> None:
    """Write each text's first token ids (int32); `offsets` and `row_ends` are those of `count_tokens`."""
    for row in range(len(row_ends) - 1):
        target, end = offsets[row], offsets[row + 1]
        for position in range(row_ends[row], row_ends[row + 1]):
            if target == end:
                break
            ref = cache.segment_refs[position]
            if ref < 0:
                ids[target] = ~ref
                target += 1
            else:
                source = cache.entries[ref, TOKEN_START]
                for offset in range(min(cache.entries[ref, TOKEN_COUNT], end - target)):
                    ids[target] = cache.tokens[source + offset]
                    target += 1
