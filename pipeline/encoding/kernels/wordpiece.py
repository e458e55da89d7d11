"""WordPiece on bytes: split a normalized word into its longest pieces.

New words take most of the time in a worker's first minutes, and in a lake whose words rarely repeat. See
"WordPiece" in ``docs/decisions.md``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lakevec.pipeline.encoding.kernels.compilation import compile_inline, compile_loop, compile_part
from lakevec.pipeline.encoding.kernels.packed_bytes import slot_of

# FNV-1a (RFC 9923): one pass hashes all pieces that begin at a position. The initial value differs for pieces
# that continue a word.
_FNV_OFFSET = np.uint64(0xCBF29CE484222325)
_FNV_PRIME = np.uint64(0x100000001B3)
_GOES_ON = np.uint64(0x5851F42D4C957F2D)


class WordPieces(NamedTuple):
    """A WordPiece vocabulary in an open-addressing table.

    Parameters
    ----------
    slots : int32 ndarray of shape (power of two,)
        Entry of each slot, or -1.
    hashes : uint64 ndarray of shape (P,)
        Hash of each piece with its place in a word.
    bounds : int64 ndarray of shape (P + 1,)
        Piece p is ``letters[bounds[p]:bounds[p + 1]]``, without the prefix of pieces that continue a word.
    letters : uint8 ndarray
    goes_on : bool ndarray of shape (P,)
        Whether a piece continues a word, rather than begins one.
    ids : int32 ndarray of shape (P,)
        Token id of each piece.
    unknown : int
        Token id of an unknown word, or -1 if unknown words are left out and counted.
    most_characters : int
        Longer words are unknown.
    most_bytes : int
        Length of the longest piece.
    prefixes : uint64 ndarray
        Bits of the hashes of all prefixes of pieces. Few others share one.
    scratch : uint64 ndarray
        Room for the hashes of one word.
    """

    slots: np.ndarray
    hashes: np.ndarray
    bounds: np.ndarray
    letters: np.ndarray
    goes_on: np.ndarray
    ids: np.ndarray
    unknown: int
    most_characters: int
    most_bytes: int
    prefixes: np.ndarray
    scratch: np.ndarray


@compile_loop
def fill_pieces(pieces: WordPieces) -> None:
    """Hash all pieces, and fill the empty slots and the bits of prefixes."""
    slots, last = pieces.slots, len(pieces.slots) - 1
    for piece in range(len(pieces.hashes)):
        value = _hash_start(pieces.goes_on[piece])
        for position in range(pieces.bounds[piece], pieces.bounds[piece + 1]):
            value = (value ^ np.uint64(pieces.letters[position])) * _FNV_PRIME
            word, bit = _bit_of(value, pieces)
            pieces.prefixes[word] |= bit
        pieces.hashes[piece] = value
        slot = slot_of(value, last + 1)
        while slots[slot] >= 0:
            slot = (slot + 1) & last
        slots[slot] = piece


@compile_part
def _hash_start(goes_on: bool) -> int:
    return _FNV_OFFSET ^ _GOES_ON if goes_on else _FNV_OFFSET


@compile_inline
def _bit_of(value: int, pieces: WordPieces) -> tuple[int, int]:
    """Return the place of a hash in `prefixes`: a word of 64 bits, and the bit in it."""
    bit = slot_of(value, 64 * len(pieces.prefixes))
    return bit >> 6, np.uint64(1) << np.uint64(bit & 63)


@compile_part
def split_word(word: np.ndarray, characters: int, pieces: WordPieces, ids: np.ndarray) -> int:
    """Split a word (uint8) greedily into the longest pieces; write their ids, and return the number of ids.

    An unknown word has the unknown token, or no ids if that is left out.
    """
    hashes = pieces.scratch
    start = count = np.int64(0)
    is_known = characters <= pieces.most_characters
    while is_known and start < len(word):
        value = _hash_start(start > 0)
        end, last = start, min(len(word), start + pieces.most_bytes)
        while end < last:
            value = (value ^ np.uint64(word[end])) * _FNV_PRIME
            place, bit = _bit_of(value, pieces)
            if not pieces.prefixes[place] & bit:
                break
            hashes[end] = value
            end += 1
        piece = np.int64(-1)
        while piece < 0 and end > start:
            piece = _find(word, start, end, hashes[end - 1], pieces)
            end -= 1
        is_known = piece >= 0
        if is_known:
            ids[count] = pieces.ids[piece]
            count += 1
            start = end + 1
    if not is_known:
        ids[0] = pieces.unknown
        count = 1 if pieces.unknown >= 0 else 0
    return count


@compile_part
def _find(word: np.ndarray, start: int, end: int, value: int, pieces: WordPieces) -> int:
    """Return the index of the piece ``word[start:end]``, whose hash is `value`; -1 if there is none."""
    last = len(pieces.slots) - 1
    slot = slot_of(value, last + 1)
    piece = pieces.slots[slot]
    while piece >= 0:
        if pieces.hashes[piece] == value and pieces.goes_on[piece] == (start > 0):
            first, length = pieces.bounds[piece], end - start
            offset = np.int64(0)
            if pieces.bounds[piece + 1] - first == length:
                while offset < length and pieces.letters[first + offset] == word[start + offset]:
                    offset += 1
                if offset == length:
                    break
        slot = (slot + 1) & last
        piece = pieces.slots[slot]
    return piece
