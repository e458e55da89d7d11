"""Unigram on bytes: the split of a word whose pieces have the highest sum of scores.

The algorithm is the Viterbi search of SentencePiece, in the order of the `tokenizers` library, so that equal
sums end alike. See T. Kudo, "Subword Regularization" (2018).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lakevec.pipeline.encoding.kernels.compilation import compile_inline, compile_loop, compile_part
from lakevec.pipeline.encoding.kernels.packed_bytes import slot_of

# Longer words go to the library.
MOST_BYTES = 1 << 15
# Instead of a piece.
_NO_PIECE, _UNKNOWN = -1, -2


class Lattice(NamedTuple):
    """The pieces of a Unigram model as a trie of bytes, in an open-addressing table.

    Parameters
    ----------
    slots : int32 ndarray of shape (power of two,)
        Node of each slot, or -1. Without slots, the tokenizer has no such model.
    parents : int32 ndarray of shape (nodes,)
        Node 0 is the root.
    letters : uint8 ndarray of shape (nodes,)
        Byte that leads from the parent to each node.
    pieces : int32 ndarray of shape (nodes,)
        Token id of the piece that ends at each node, or -1.
    scores : float64 ndarray of shape (V,)
    unknown : int
        Token id of the unknown token.
    unknown_score : float
    best : float64 ndarray, longer than ``Letters.word``
    origins, chosen : int32 ndarray of the same length
        Room for the best path to each place: its score, where its last piece starts, and that piece.
    """

    slots: np.ndarray
    parents: np.ndarray
    letters: np.ndarray
    pieces: np.ndarray
    scores: np.ndarray
    unknown: int
    unknown_score: float
    best: np.ndarray
    origins: np.ndarray
    chosen: np.ndarray


@compile_loop
def fill_trie(text: np.ndarray, bounds: np.ndarray, lattice: Lattice) -> int:
    """Add the pieces ``text[bounds[p]:bounds[p + 1]]`` (uint8) by id; return the number of nodes.

    Of equal pieces, the last one counts, as in the library.
    """
    nodes = np.int64(1)
    last = len(lattice.slots) - 1
    for piece in range(len(bounds) - 1):
        node = np.int64(0)
        for position in range(bounds[piece], bounds[piece + 1]):
            letter = text[position]
            slot = _slot_of(node, letter, last)
            while lattice.slots[slot] >= 0 and not _leads(node, letter, lattice.slots[slot], lattice):
                slot = (slot + 1) & last
            if lattice.slots[slot] < 0:
                lattice.slots[slot] = nodes
                lattice.parents[nodes] = node
                lattice.letters[nodes] = letter
                lattice.pieces[nodes] = _NO_PIECE
                nodes += 1
            node = np.int64(lattice.slots[slot])
        lattice.pieces[node] = piece
    return nodes


@compile_inline
def _slot_of(node: int, letter: int, last: int) -> int:
    return slot_of((np.uint64(node) << np.uint64(8)) | np.uint64(letter), last + 1)


@compile_inline
def _leads(node: int, letter: int, child: int, lattice: Lattice) -> bool:
    return lattice.parents[child] == node and lattice.letters[child] == letter


@compile_part
def split_unigram(word: np.ndarray, length: int, lattice: Lattice, ids: np.ndarray) -> int:
    """Tokenize ``word[:length]`` (uint8); write its token ids, and return their number.

    A run of unknown characters has one unknown token.
    """
    best, origins, chosen = lattice.best, lattice.origins, lattice.chosen
    for place in range(length + 1):
        chosen[place] = _NO_PIECE
    best[0] = 0.0
    start = np.int64(0)
    while start < length:
        character = start + 1
        while character < length and word[character] & 0xC0 == 0x80:
            character += 1
        has_single = _extend(word, start, character, length, lattice)
        if not has_single:
            score = lattice.unknown_score + best[start]
            if chosen[character] == _NO_PIECE or score > best[character]:
                best[character] = score
                origins[character] = start
                chosen[character] = _UNKNOWN
        start = character
    return _write_path(length, lattice, ids)


@compile_inline
def _extend(word: np.ndarray, start: int, character: int, length: int, lattice: Lattice) -> bool:
    """Extend the best path to `start` by all pieces there; return whether one is a single character."""
    last = len(lattice.slots) - 1
    node, has_single, before = np.int64(0), False, lattice.best[start]
    for position in range(start, length):
        letter = word[position]
        slot = _slot_of(node, letter, last)
        child = lattice.slots[slot]
        while child >= 0 and not _leads(node, letter, child, lattice):
            slot = (slot + 1) & last
            child = lattice.slots[slot]
        if child < 0:
            break
        node = np.int64(child)
        piece = lattice.pieces[node]
        if piece >= 0:
            score, end = lattice.scores[piece] + before, position + 1
            if lattice.chosen[end] == _NO_PIECE or score > lattice.best[end]:
                lattice.best[end] = score
                lattice.origins[end] = start
                lattice.chosen[end] = piece
            has_single = has_single or end == character
    return has_single


@compile_inline
def _write_path(length: int, lattice: Lattice, ids: np.ndarray) -> int:
    """Write the pieces of the best path in text order; return their number."""
    count, place, was_unknown = np.int64(0), np.int64(length), False
    while place > 0:
        piece = lattice.chosen[place]
        is_unknown = piece in (_UNKNOWN, lattice.unknown)
        if not (is_unknown and was_unknown):
            ids[count] = lattice.unknown if is_unknown else piece
            count += 1
        was_unknown = is_unknown
        place = np.int64(lattice.origins[place])
    for index in range(count // 2):
        other = count - 1 - index
        ids[index], ids[other] = ids[other], ids[index]
    return count
