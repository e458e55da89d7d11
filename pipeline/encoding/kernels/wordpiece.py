"""WordPiece on bytes, for the plain words that most segments are; everything else is the library's work.

Own code because the first minutes of a worker, and a lake whose words never repeat, are spent here: see
"WordPiece" in ``docs/decisions.md``. It splits the segments of a BERT tokenizer that are
printable ASCII or a single ideograph, which BERT's normalizer leaves as they are.
"""

from __future__ import annotations

import json
from typing import NamedTuple

import numpy as np

from lakevec.pipeline.encoding.kernels.compilation import compile_loop, compile_part
from lakevec.pipeline.encoding.kernels.packed_bytes import slot_of

# FNV-1a (RFC 9923): one pass over the word hashes all pieces that begin at one place. Hashes of
# a piece that begins a word and of one that goes on start from different values.
_FNV_OFFSET = np.uint64(0xCBF29CE484222325)
_FNV_PRIME = np.uint64(0x100000001B3)
_GOES_ON = np.uint64(0x5851F42D4C957F2D)
# BERT's limit is 100.
_MOST_CHARACTERS = 10_000


class WordPieces(NamedTuple):
    """A vocabulary as arrays, in an open-addressing table.

    Parameters
    ----------
    slots : int32 ndarray of shape (power of two,)
        Entry of each slot, -1 where there is none.
    hashes : uint64 ndarray of shape (P,)
        Hash of each piece, its place in a word included.
    bounds : int64 ndarray of shape (P + 1,)
        Piece p is ``letters[bounds[p]:bounds[p + 1]]``.
    letters : uint8 ndarray
        The pieces' bytes, without the prefix of those that go on.
    goes_on : bool ndarray of shape (P,)
        Whether a piece continues a word.
    ids : int32 ndarray of shape (P,)
        Token id of each piece.
    unknown : int
        Token id of an unknown word, or -1 where it is left out and counted.
    most_characters : int
        Longer words are unknown.
    most_bytes : int
        Length of the longest piece.
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
    scratch: np.ndarray


def most_word_bytes(most_characters: int) -> int:
    """Return room enough for every word that is not too long, and one character more.

    Parameters
    ----------
    most_characters : int

    Returns
    -------
    int
        Bytes; a character has up to four, and may become several when it is normalized.
    """
    return 4 * (most_characters + 1) + 32


def make_word_pieces(tokenizer_json: str, unknown_token_id: int | None) -> WordPieces | None:
    """Read the vocabulary of a WordPiece tokenizer.

    Parameters
    ----------
    tokenizer_json : str
    unknown_token_id : int or None
        Id that is left out.

    Returns
    -------
    WordPieces or None
        None where the model is no WordPiece.
    """
    model = json.loads(tokenizer_json)["model"]
    # Old files have no "type"; the prefix and the limit are WordPiece's alone.
    if model.get("type", "WordPiece") != "WordPiece" or "max_input_chars_per_word" not in model:
        return None
    unknown = model["vocab"].get(model["unk_token"])
    # Without an unknown token the library refuses unknown words; words of any length need room of any size.
    if unknown is None or model["max_input_chars_per_word"] > _MOST_CHARACTERS:
        return None
    prefix: str = model["continuing_subword_prefix"]
    pieces = [(token.encode(), False, id_) for token, id_ in model["vocab"].items()]
    pieces += [
        (token[len(prefix) :].encode(), True, id_)
        for token, id_ in model["vocab"].items()
        if token.startswith(prefix) and len(token) > len(prefix)
    ]
    lengths = np.array([len(piece) for piece, _, _ in pieces], dtype=np.int64)
    goes_on = np.array([continues for _, continues, _ in pieces], dtype=np.bool_)
    letters = np.frombuffer(b"".join(piece for piece, _, _ in pieces) or b"\0", dtype=np.uint8)
    bounds = np.concatenate(([0], np.cumsum(lengths)))
    hashes = np.empty(len(pieces), dtype=np.uint64)
    slots = np.full(1 << (4 * len(pieces) - 1).bit_length(), -1, dtype=np.int32)
    _fill(slots, hashes, bounds, letters, goes_on)
    return WordPieces(
        slots,
        hashes,
        bounds,
        letters,
        goes_on,
        np.array([id_ for _, _, id_ in pieces], dtype=np.int32),
        -1 if unknown == unknown_token_id else int(unknown),
        int(model["max_input_chars_per_word"]),
        int(lengths.max(initial=1)),
        np.empty(most_word_bytes(int(model["max_input_chars_per_word"])), dtype=np.uint64),
    )


@compile_loop
def _fill(
    slots: np.ndarray, hashes: np.ndarray, bounds: np.ndarray, letters: np.ndarray, goes_on: np.ndarray
) -> None:
    last = len(slots) - 1
    for piece in range(len(hashes)):
        value = _FNV_OFFSET ^ _GOES_ON if goes_on[piece] else _FNV_OFFSET
        for position in range(bounds[piece], bounds[piece + 1]):
            value = (value ^ np.uint64(letters[position])) * _FNV_PRIME
        hashes[piece] = value
        slot = slot_of(value, last + 1)
        while slots[slot] >= 0:
            slot = (slot + 1) & last
        slots[slot] = piece


@compile_part
def split_word(word: np.ndarray, characters: int, pieces: WordPieces, ids: np.ndarray) -> int:
    """Split a word, the longest piece first.

    Parameters
    ----------
    word : uint8 ndarray of shape (B,)
    characters : int
        Length in characters.
    pieces : WordPieces
    ids : int32 ndarray of shape (≥ B,)
        Receives the token ids.

    Returns
    -------
    int
        Number of ids; 0 where the word is unknown and left out.
    """
    last = len(pieces.slots) - 1
    hashes = pieces.scratch
    start = count = np.int64(0)
    is_known = characters <= pieces.most_characters
    while is_known and start < len(word):
        value = _FNV_OFFSET if start == 0 else _FNV_OFFSET ^ _GOES_ON
        longest = min(len(word), start + pieces.most_bytes)
        for position in range(start, longest):
            value = (value ^ np.uint64(word[position])) * _FNV_PRIME
            hashes[position] = value
        end = longest
        while end > start:
            piece = _find(word, start, end, hashes[end - 1], pieces, last)
            if piece >= 0:
                ids[count] = pieces.ids[piece]
                count += 1
                break
            end -= 1
        is_known = end > start
        start = end
    if not is_known:
        ids[0] = pieces.unknown
        count = 1 if pieces.unknown >= 0 else 0
    return count


@compile_part
def _find(word: np.ndarray, start: int, end: int, value: int, pieces: WordPieces, last: int) -> int:
    slot = slot_of(value, last + 1)
    piece = pieces.slots[slot]
    while piece >= 0:
        if pieces.hashes[piece] == value and pieces.goes_on[piece] == (start > 0):
            first = pieces.bounds[piece]
            if pieces.bounds[piece + 1] - first == end - start:
                same = True
                for offset in range(end - start):
                    if pieces.letters[first + offset] != word[start + offset]:
                        same = False
                        break
                if same:
                    return piece
        slot = (slot + 1) & last
        piece = pieces.slots[slot]
    return -1
