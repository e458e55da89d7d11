"""Entries of the token cache: find or add a segment, and read the token ids of texts."""

from __future__ import annotations

import numpy as np

from lakevec.pipeline.encoding.kernels.cache_arrays import (
    DONE,
    EMPTY,
    FULL_ENTRIES,
    FULL_KEYS,
    FULL_OUTPUT,
    FULL_PENDING,
    FULL_TOKENS,
    LONG,
    SHORT,
    CacheArrays,
    Segment,
)
from lakevec.pipeline.encoding.kernels.compilation import compile_inline, compile_loop, compile_part
from lakevec.pipeline.encoding.kernels.packed_bytes import (
    add_word,
    keep_bytes,
    load_word,
    lower_letters,
    slot_of,
    store_word,
)
from lakevec.pipeline.encoding.kernels.wordpiece import WordPieces, split_word

# Keys are read eight bytes at a time, so the last one needs padding.
_KEY_ROOM = 8


@compile_inline
def kind_of(segment: Segment) -> int:
    """Return `SHORT` if the segment's bytes fit into its signature, else `LONG`."""
    # The zero bytes of a segment that ends in NUL look like padding.
    is_long = segment.length > 8 or segment.data[segment.start + segment.length - 1] == 0
    return LONG if is_long else SHORT


@compile_inline
def sign(segment: Segment, kind: int) -> int:
    """Return the signature of a segment."""
    return _load_key(segment, 0) if kind == SHORT else _hash_key(segment)


@compile_inline
def look_up(
    segment: Segment, kind: int, signature: int, pieces: WordPieces, cache: CacheArrays
) -> tuple[int, int]:
    """Return the ref of a segment, which is added if it is new, and `DONE`; or 0 and `FULL_...`."""
    slots = cache.slots
    slot = slot_of(signature, len(slots))
    while not (
        slots[slot].signature == signature
        and slots[slot].kind == kind
        and (kind == SHORT or _is_key(segment, slots[slot].ref, cache))
    ):
        if slots[slot].kind == EMPTY:
            return _add_entry(segment, signature, kind, slot, pieces, cache)
        slot = (slot + 1) & (len(slots) - 1)
    return np.int64(slots[slot].ref), np.int64(DONE)


@compile_inline
def _load_key(segment: Segment, offset: int) -> int:
    """Load up to eight bytes of a segment's key."""
    word = load_word(segment.data, segment.start + offset)
    if segment.folds:
        word = lower_letters(word)
    return keep_bytes(word, min(segment.length - offset, 8))


@compile_inline
def _hash_key(segment: Segment) -> int:
    value = np.uint64(0)
    for offset in range(0, segment.length, 8):
        value = add_word(value, _load_key(segment, offset))
    return value


@compile_inline
def _is_key(segment: Segment, ref: int, cache: CacheArrays) -> bool:
    """Return whether a long segment is that of an entry."""
    entry = cache.entries[ref]
    if entry.key_length != segment.length:
        return False
    for offset in range(0, segment.length, 8):
        known = keep_bytes(load_word(cache.keys, entry.key_start + offset), min(segment.length - offset, 8))
        if known != _load_key(segment, offset):
            return False
    return True


@compile_part
def _add_entry(
    segment: Segment, signature: int, kind: int, slot: int, pieces: WordPieces, cache: CacheArrays
) -> tuple[int, int]:
    """Add a segment: WordPiece splits it here, or it is left to the library."""
    state, length = cache.state[0], segment.length
    ref, key = state.entries, state.key_bytes
    if ref >= len(cache.entries):
        return 0, FULL_ENTRIES
    if key + length + _KEY_ROOM > len(cache.keys):
        return 0, FULL_KEYS
    for offset in range(0, length, 8):
        store_word(cache.keys, key + offset, _load_key(segment, offset))
    entry = cache.entries[ref]
    entry.unknown = 0
    if segment.characters > 0 and len(pieces.slots) > 0:
        entry.token_start = state.tokens
        if state.tokens + length >= len(cache.tokens):
            return 0, FULL_TOKENS
        word = cache.keys[key + segment.is_marked : key + length]
        entry.token_count = split_word(word, segment.characters, pieces, cache.tokens[state.tokens :])
        if entry.token_count == 0:
            entry.unknown = 1
        state.tokens += entry.token_count
    else:
        if state.pending >= len(cache.pending):
            return 0, FULL_PENDING
        cache.pending[state.pending] = ref
        state.pending += 1
        entry.token_count = -1
    entry.signature = signature
    entry.kind = kind
    entry.slot = slot
    entry.key_start = key
    entry.key_length = length
    state.entries += 1
    state.key_bytes += length
    return fill_slot(ref, cache), DONE


@compile_part
def fill_slot(ref: int, cache: CacheArrays) -> int:
    """Write an entry into its slot; return its ref, which is a token if the segment is short and has one."""
    entry = cache.entries[ref]
    if entry.token_count == 1 and entry.unknown == 0 and entry.kind == SHORT:
        ref = ~np.int64(cache.tokens[entry.token_start])
    slot = cache.slots[entry.slot]
    slot.signature = entry.signature
    slot.ref = ref
    slot.kind = entry.kind
    return ref


@compile_loop
def update_slots(refs: np.ndarray, cache: CacheArrays) -> None:
    """Write entries that were pending into their slots."""
    for ref in refs:
        fill_slot(np.int64(ref), cache)


@compile_loop
def place_entries(cache: CacheArrays) -> None:
    """Find slots for all entries; all are empty."""
    last = len(cache.slots) - 1
    for ref in range(cache.state[0].entries):
        slot = slot_of(cache.entries[ref].signature, last + 1)
        while cache.slots[slot].kind != EMPTY:
            slot = (slot + 1) & last
        cache.entries[ref].slot = slot
        fill_slot(ref, cache)


@compile_inline
def append(ref: int, end: int, cache: CacheArrays) -> tuple[int, int]:
    """Append a segment to the output, whose used length is `end`; return its new length, and the status."""
    output = cache.output
    count, is_known = np.int64(1), False
    if ref >= 0 and not cache.keeps_refs and cache.entries[ref].token_count >= 0:
        count, is_known = cache.entries[ref].token_count, True
    if end + count > len(output):
        return end, FULL_OUTPUT
    if is_known:
        source = cache.entries[ref].token_start
        for offset in range(count):
            output[end + offset] = cache.tokens[source + offset]
        cache.state[0].unknown += cache.entries[ref].unknown
    else:
        output[end] = ref if cache.keeps_refs else ~ref
    return end + count, DONE


@compile_loop
def count_tokens(
    row_ends: np.ndarray, cache: CacheArrays, max_tokens: int, offsets: np.ndarray
) -> tuple[int, int]:
    """Count each text's known tokens up to `max_tokens`, after pending segments of the output got their ids.

    Parameters
    ----------
    row_ends : int64 ndarray of shape (N + 1,)
        Text n has ``cache.output[row_ends[n]:row_ends[n + 1]]``.
    cache : CacheArrays
    max_tokens : int
    offsets : int64 ndarray of shape (N + 1,)
        Output: the cumulative number of tokens.

    Returns
    -------
    unknown : int
        Number of unknown tokens in segments that were pending.
    truncated : int
        Number of texts with more known tokens than `max_tokens`.
    """
    unknown = truncated = 0
    offsets[0] = 0
    for row in range(len(row_ends) - 1):
        start, end = row_ends[row], row_ends[row + 1]
        count = end - start
        if _has_pending(cache.output, start, end):
            for position in range(start, end):
                token = cache.output[position]
                if token < 0:
                    count += cache.entries[~token].token_count - 1
                    unknown += cache.entries[~token].unknown
        if count > max_tokens:
            count = max_tokens
            truncated += 1
        offsets[row + 1] = offsets[row] + count
    return unknown, truncated


@compile_inline
def _has_pending(output: np.ndarray, start: int, end: int) -> bool:
    """Return whether a text has segments that were pending; LLVM makes vector instructions of it."""
    signs = np.int32(0)
    for position in range(start, end):
        signs |= output[position]
    return signs < 0


@compile_loop
def write_tokens(row_ends: np.ndarray, cache: CacheArrays, offsets: np.ndarray, ids: np.ndarray) -> None:
    """Write each text's first token ids (int32); `offsets` and `row_ends` are those of `count_tokens`."""
    for row in range(len(row_ends) - 1):
        target, end = offsets[row], offsets[row + 1]
        for position in range(row_ends[row], row_ends[row + 1]):
            if target == end:
                break
            token = cache.output[position]
            if token >= 0:
                ids[target] = token
                target += 1
            else:
                source = cache.entries[~token].token_start
                for offset in range(min(cache.entries[~token].token_count, end - target)):
                    ids[target] = cache.tokens[source + offset]
                    target += 1
