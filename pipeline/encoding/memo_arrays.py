"""The memo's arrays: chunks that were seen, in an open-addressing table, each with its token ids.

Arrays don't grow here: who runs out of room says so, and is called again with larger ones.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pipeline.encoding.compilation import compile_loop, compile_part
from pipeline.encoding.hashing import add_word, keep_bytes, letters_of, load_word, lower_letters, slot_of
from pipeline.encoding.wordpiece import WordPieces, split_word

# Columns of the entries, one cache line each.
SIGNATURE, IS_LONG, KEY_START, KEY_LENGTH, TOKEN_COUNT, TOKEN_START, UNKNOWN, SLOT = range(8)
# An answer is a number of 32 bits: an entry, or below 0 the complement of a chunk's only token.
_ANSWERS = 1 << 31
# Keys are read eight bytes at a time.
_KEY_ROOM = 8
# Fields of the state.
ENTRIES, KEY_BYTES, TOKENS, PENDING, OCCURRENCES, ROW, CHARACTER = range(7)

# Why a scan stopped.
DONE, FULL_ENTRIES, FULL_KEYS, FULL_TOKENS, FULL_PENDING, FULL_OCCURRENCES = range(6)
ODD_TEXT, NEW_CHARACTER, NOT_UTF8 = range(6, 9)


class MemoArrays(NamedTuple):
    """The memo: chunks that were seen, and their token ids.

    Parameters
    ----------
    slots : int64 ndarray of shape (power of two, 2)
        Signature and answer of a chunk, so that a short chunk of one token, which most are, is looked up
        in one cache line; -1 for an answer where there is none. At least twice as many as entries.
    entries : int64 ndarray of shape (E, 8)
        One row per chunk; a token count of -1 is pending.
    keys : uint8 ndarray
        The chunks' bytes, and room for eight more.
    tokens : int32 ndarray
        Known token ids of all chunks.
    pending : int32 ndarray
        Entries that wait for the library.
    occurrences : int32 ndarray
        Answer for each chunk of the texts at hand, in text order.
    state : int64 ndarray of shape (7,)
        How much of each array is in use, the next text, and a character that is new.
    """

    slots: np.ndarray
    entries: np.ndarray
    keys: np.ndarray
    tokens: np.ndarray
    pending: np.ndarray
    occurrences: np.ndarray
    state: np.ndarray


@compile_part
def sign_chunk(data: np.ndarray, start: int, end: int, fold: np.ndarray) -> tuple[int, bool]:
    """Return a chunk's signature and whether it is long.

    The signature of a short chunk is the folded chunk itself, in eight bytes; a long one has a hash, and is
    compared byte by byte. A chunk that ends in NUL counts as long: as a number it looks shorter.
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
def pack_answer(answer: int, is_long: bool) -> int:
    """Put an answer and the kind of its chunk into a slot's second number, which is never negative."""
    return ((np.int64(answer) + _ANSWERS) << 1) | np.int64(is_long)


@compile_part
def unpack_answer(packed: int) -> int:
    """Return the answer of a slot that has one."""
    return (packed >> 1) - _ANSWERS


@compile_part
def find_short(signature: int, slots: np.ndarray) -> tuple[int, int]:
    """Return the packed answer for a short chunk, or -1 where it is new, and the slot that it has or gets."""
    signed = np.int64(signature)
    slot = slot_of(signature, len(slots))
    packed = slots[slot, 1]
    while packed >= 0 and not (slots[slot, 0] == signed and packed & 1 == 0):
        slot = (slot + 1) & (len(slots) - 1)
        packed = slots[slot, 1]
    return packed, slot


@compile_part
def sign_long(data: np.ndarray, start: int, length: int, folds: bool) -> int:
    """Return the signature of a chunk of more than eight ASCII characters."""
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
    """Return the packed answer for a chunk of more than eight ASCII characters; see `find_short`."""
    signed = np.int64(signature)
    slot = slot_of(signature, len(slots))
    packed = slots[slot, 1]
    while packed >= 0:
        if slots[slot, 0] == signed and packed & 1 == 1:
            entry = unpack_answer(packed)
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
    """Load up to eight bytes of a chunk as they stand in a key."""
    word = load_word(data, position)
    if folds:
        word = lower_letters(word, letters_of(word))
    return keep_bytes(word, min(rest, 8))


@compile_part
def look_up_bytes(
    data: np.ndarray,
    start: int,
    end: int,
    fold: np.ndarray,
    characters: int,
    is_marked: bool,
    pieces: WordPieces,
    memo: MemoArrays,
) -> int:
    """Return the packed answer for any chunk, adding it where it is new; -1 - FULL_... without room."""
    slots, entries, keys = memo.slots, memo.entries, memo.keys
    signature, is_long = sign_chunk(data, start, end, fold)
    if is_long:
        packed, slot = _find_bytes(data, start, end - start, fold, signature, slots, entries, keys)
    else:
        packed, slot = find_short(signature, slots)
    if packed < 0:
        packed = add_entry(
            data, start, end, fold, signature, is_long, slot, characters, is_marked, pieces, memo
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
    """Return the packed answer for a long chunk, compared byte by byte; see `find_short`."""
    signed = np.int64(signature)
    slot = slot_of(signature, len(slots))
    packed = slots[slot, 1]
    while packed >= 0:
        if slots[slot, 0] == signed and packed & 1 == 1:
            entry = unpack_answer(packed)
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
    memo: MemoArrays,
) -> int:
    """Add a chunk and return its packed answer, or -1 - FULL_... where there is no room.

    A chunk of `plain_characters` that are normalized is split here, where there is a WordPiece vocabulary;
    `is_marked` says that its key begins with a byte that is not the word's. 0 leaves it to the library.
    """
    state, entries = memo.state, memo.entries
    entry, key, length = state[ENTRIES], state[KEY_BYTES], end - start
    if entry >= len(entries):
        return -1 - FULL_ENTRIES
    if key + length + _KEY_ROOM > len(memo.keys):
        return -1 - FULL_KEYS
    for offset in range(length):
        memo.keys[key + offset] = fold[data[start + offset]]
    answer = np.int64(entry)
    if plain_characters > 0 and len(pieces.slots) > 0:
        token = state[TOKENS]
        if token + length >= len(memo.tokens):
            return -1 - FULL_TOKENS
        word = memo.keys[key + is_marked : key + length]
        count = split_word(word, plain_characters, pieces, memo.tokens[token:])
        entries[entry, UNKNOWN] = 1 if count == 0 else 0
        if count == 1 and not is_long:
            answer = ~np.int64(memo.tokens[token])
        state[TOKENS] = token + count
    else:
        if state[PENDING] >= len(memo.pending):
            return -1 - FULL_PENDING
        memo.pending[state[PENDING]] = entry
        state[PENDING] += 1
        token = count = -1
    entries[entry, SIGNATURE] = np.int64(signature)
    entries[entry, IS_LONG] = is_long
    entries[entry, KEY_START] = key
    entries[entry, KEY_LENGTH] = length
    entries[entry, TOKEN_COUNT] = count
    entries[entry, TOKEN_START] = token
    entries[entry, SLOT] = slot
    packed = pack_answer(answer, is_long)
    memo.slots[slot, 0] = np.int64(signature)
    memo.slots[slot, 1] = packed
    state[ENTRIES] = entry + 1
    state[KEY_BYTES] = key + length
    return packed


@compile_part
def _answer_of(entry: int, entries: np.ndarray, tokens: np.ndarray) -> int:
    """Return the packed answer of an entry: its token where it is short and has no more, else itself."""
    answer = np.int64(entry)
    is_one = entries[entry, TOKEN_COUNT] == 1 and entries[entry, UNKNOWN] == 0
    if is_one and entries[entry, IS_LONG] == 0:
        answer = ~np.int64(tokens[entries[entry, TOKEN_START]])
    return pack_answer(answer, entries[entry, IS_LONG])


@compile_loop
def answer_entries(slots: np.ndarray, entries: np.ndarray, tokens: np.ndarray, chosen: np.ndarray) -> None:
    """Write the answers of entries that were pending when they got their slots."""
    for entry in chosen:
        slots[entries[entry, SLOT], 1] = _answer_of(entry, entries, tokens)


@compile_loop
def fill_slots(slots: np.ndarray, entries: np.ndarray, tokens: np.ndarray, count: int) -> None:
    """Enter the first `count` entries into empty slots."""
    for entry in range(count):
        slot = slot_of(np.uint64(entries[entry, SIGNATURE]), len(slots))
        while slots[slot, 1] >= 0:
            slot = (slot + 1) & (len(slots) - 1)
        entries[entry, SLOT] = slot
        slots[slot, 0] = entries[entry, SIGNATURE]
        slots[slot, 1] = _answer_of(entry, entries, tokens)


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
            answer = occurrences[position]
            if answer < 0:
                count += 1
            else:
                count += entries[answer, TOKEN_COUNT]
                unknown += entries[answer, UNKNOWN]
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
    entries, tokens = memo.entries, memo.tokens
    for row in range(len(row_ends) - 1):
        target, end = offsets[row], offsets[row + 1]
        for position in range(row_ends[row], row_ends[row + 1]):
            if target == end:
                break
            answer = occurrences[position]
            if answer < 0:
                ids[target] = ~answer
                target += 1
            else:
                source = entries[answer, TOKEN_START]
                for offset in range(min(entries[answer, TOKEN_COUNT], end - target)):
                    ids[target] = tokens[source + offset]
                    target += 1
