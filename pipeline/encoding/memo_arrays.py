"""The memo's arrays: chunks that were seen, in an open-addressing table, each with its token ids.

Arrays don't grow here: who runs out of room says so, and is called again with larger ones.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pipeline.encoding.compilation import compile_loop, compile_part, inline_loop
from pipeline.encoding.hashing import add_word, slot_of
from pipeline.encoding.wordpiece import WordPieces, split_word

# Columns of the entries, one cache line each.
SIGNATURE, KEY_START, KEY_LENGTH, TOKEN_COUNT, TOKEN_START, UNKNOWN, FIRST_TOKEN, SPARE = range(8)
# Fields of the state.
ENTRIES, KEY_BYTES, TOKENS, PENDING, OCCURRENCES, ROW = range(6)

# Why a scan stopped.
DONE, FULL_ENTRIES, FULL_KEYS, FULL_TOKENS, FULL_PENDING, FULL_OCCURRENCES = range(6)


class MemoArrays(NamedTuple):
    """The memo: chunks that were seen, and their token ids.

    Parameters
    ----------
    slots : int32 ndarray of shape (power of two,)
        Entry of each slot, -1 where there is none; at least twice as many as entries.
    entries : int64 ndarray of shape (E, 8)
        One row per chunk; a token count of -1 is pending.
    keys : uint8 ndarray
        The chunks' bytes.
    tokens : int32 ndarray
        Known token ids of all chunks.
    pending : int32 ndarray
        Entries that wait for the library.
    occurrences : int32 ndarray
        Entry of each chunk of the texts at hand, in text order.
    state : int64 ndarray of shape (6,)
        How much of each array is in use, and the next text.
    """

    slots: np.ndarray
    entries: np.ndarray
    keys: np.ndarray
    tokens: np.ndarray
    pending: np.ndarray
    occurrences: np.ndarray
    state: np.ndarray


@inline_loop
def sign_chunk(data: np.ndarray, start: int, end: int, fold: np.ndarray) -> int:
    """Return the folded chunk itself where it fits eight bytes, and else its hash.

    Either tells short chunks of one length apart for sure, so that only long ones are compared byte by byte.
    """
    value = word = np.uint64(0)
    for position in range(start, end):
        if position > start and (position - start) & 7 == 0:
            value = add_word(value, word)
            word = np.uint64(0)
        word |= np.uint64(fold[data[position]]) << np.uint64(8 * ((position - start) & 7))
    return word if end - start <= 8 else add_word(value, word)


@inline_loop
def find_entry(
    data: np.ndarray,
    start: int,
    length: int,
    fold: np.ndarray,
    signature: int,
    slots: np.ndarray,
    entries: np.ndarray,
    keys: np.ndarray,
) -> tuple[int, int]:
    """Return the chunk's entry, or -1 where it is new, and the slot that it has or gets."""
    signed = np.int64(signature)
    slot = slot_of(signature, len(slots))
    entry = np.int64(slots[slot])
    while entry >= 0:
        if entries[entry, SIGNATURE] == signed and entries[entry, KEY_LENGTH] == length:
            key = entries[entry, KEY_START]
            offset = 0 if length > 8 else length
            while offset < length and keys[key + offset] == fold[data[start + offset]]:
                offset += 1
            if offset == length:
                break
        slot = (slot + 1) & (len(slots) - 1)
        entry = np.int64(slots[slot])
    return entry, slot


@compile_part
def add_entry(
    data: np.ndarray,
    start: int,
    end: int,
    fold: np.ndarray,
    signature: int,
    slot: int,
    plain_characters: int,
    pieces: WordPieces,
    memo: MemoArrays,
) -> int:
    """Add a chunk and return its entry, or -1 - FULL_... where there is no room."""
    state, entries = memo.state, memo.entries
    entry, key, length = state[ENTRIES], state[KEY_BYTES], end - start
    if entry >= len(entries):
        return -1 - FULL_ENTRIES
    if key + length > len(memo.keys):
        return -1 - FULL_KEYS
    for offset in range(length):
        memo.keys[key + offset] = fold[data[start + offset]]
    if plain_characters > 0 and len(pieces.slots) > 0:
        token = state[TOKENS]
        if token + length > len(memo.tokens):
            return -1 - FULL_TOKENS
        count = split_word(memo.keys[key : key + length], plain_characters, pieces, memo.tokens[token:])
        entries[entry, UNKNOWN] = 1 if count == 0 else 0
        entries[entry, FIRST_TOKEN] = memo.tokens[token] if count else 0
        state[TOKENS] = token + count
    else:
        if state[PENDING] >= len(memo.pending):
            return -1 - FULL_PENDING
        memo.pending[state[PENDING]] = entry
        state[PENDING] += 1
        token = count = -1
    entries[entry, SIGNATURE] = np.int64(signature)
    entries[entry, KEY_START] = key
    entries[entry, KEY_LENGTH] = length
    entries[entry, TOKEN_COUNT] = count
    entries[entry, TOKEN_START] = token
    memo.slots[slot] = entry
    state[ENTRIES] = entry + 1
    state[KEY_BYTES] = key + length
    return entry


@compile_loop
def fill_slots(slots: np.ndarray, entries: np.ndarray, count: int) -> None:
    """Enter the first `count` entries into empty slots."""
    last = len(slots) - 1
    for entry in range(count):
        slot = slot_of(np.uint64(entries[entry, SIGNATURE]), len(slots))
        while slots[slot] >= 0:
            slot = (slot + 1) & last
        slots[slot] = entry


@compile_loop
def count_tokens(
    occurrences: np.ndarray, row_ends: np.ndarray, entries: np.ndarray, max_tokens: int, offsets: np.ndarray
) -> tuple[int, int]:
    """Count each text's known tokens up to `max_tokens`.

    Parameters
    ----------
    occurrences : int32 ndarray
    row_ends : int64 ndarray of shape (N + 1,)
    entries : int64 ndarray of shape (E, 8)
        None of those that occur is pending.
    max_tokens : int
    offsets : int64 ndarray of shape (N + 1,)
        Receives the running sum.

    Returns
    -------
    unknown : int
        Unknown tokens.
    truncated : int
        Texts with more known tokens than `max_tokens`.
    """
    unknown = truncated = 0
    offsets[0] = 0
    for row in range(len(row_ends) - 1):
        count = 0
        for position in range(row_ends[row], row_ends[row + 1]):
            entry = occurrences[position]
            count += entries[entry, TOKEN_COUNT]
            unknown += entries[entry, UNKNOWN]
        if count > max_tokens:
            count = max_tokens
            truncated += 1
        offsets[row + 1] = offsets[row] + count
    return unknown, truncated


@compile_loop
def write_tokens(
    occurrences: np.ndarray, row_ends: np.ndarray, memo: MemoArrays, offsets: np.ndarray, ids: np.ndarray
) -> None:
    """Write each text's token ids, as many as `offsets` has room for.

    Parameters
    ----------
    occurrences : int32 ndarray
    row_ends : int64 ndarray of shape (N + 1,)
    memo : MemoArrays
    offsets : int64 ndarray of shape (N + 1,)
    ids : int32 ndarray of shape (T,)
        Receives the ids.
    """
    for row in range(len(row_ends) - 1):
        target, end = offsets[row], offsets[row + 1]
        for position in range(row_ends[row], row_ends[row + 1]):
            entry = occurrences[position]
            count = memo.entries[entry, TOKEN_COUNT]
            if count == 1 and target < end:
                ids[target] = memo.entries[entry, FIRST_TOKEN]
                target += 1
            else:
                source = memo.entries[entry, TOKEN_START]
                for offset in range(min(count, end - target)):
                    ids[target] = memo.tokens[source + offset]
                    target += 1
