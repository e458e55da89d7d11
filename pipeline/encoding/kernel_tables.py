"""Tables for the kernels, made from a tokenizer: split rule, WordPiece vocabulary, characters."""

from __future__ import annotations

import json
import unicodedata

import numpy as np
from tokenizers import Tokenizer

from lakevec.pipeline.encoding.kernels.segment_ends import (
    IDEOGRAPH,
    ISOLATED,
    LITERAL,
    OTHER,
    SEPARATOR,
    SplitTables,
)
from lakevec.pipeline.encoding.kernels.unicode_words import (
    ALONE,
    DROPPED,
    FOREIGN,
    NEW,
    WHITE,
    WORD,
    WORD_ROOM,
    CharacterTable,
    TokenizerTables,
)
from lakevec.pipeline.encoding.kernels.wordpiece import WordPieces, fill_pieces
from lakevec.pipeline.encoding.split_rules import SplitRule

# The tables hold characters up to U+FFFF; the few beyond are foreign.
_CHARACTERS = 1 << 16
# Most scripts have more characters than a block, and most texts have few characters of each symbol block.
_BLOCK = 64
# Longer limits of a WordPiece tokenizer need room of any size; BERT's is 100.
_MOST_CHARACTERS = 10_000


def make_tables(tokenizer: Tokenizer, rule: SplitRule, unknown_token_id: int | None) -> TokenizerTables:
    """Return all tables of a tokenizer, without characters; `add_characters` adds those that occur."""
    is_bert = rule.name == "bert"
    pieces = _make_word_pieces(tokenizer.to_str(), unknown_token_id) if is_bert else _pack_pieces([])
    characters = CharacterTable(
        kinds=np.full(_CHARACTERS, NEW, dtype=np.uint8),
        starts=np.zeros(_CHARACTERS, dtype=np.int32),
        ends=np.zeros(_CHARACTERS, dtype=np.int32),
        letters=np.frombuffer(b"", dtype=np.uint8),
        word=np.zeros(_most_word_bytes(pieces.most_characters) + WORD_ROOM, dtype=np.uint8),
    )
    characters.word.flags.writeable = False  # texts are read-only, too, and Numba compiles once for each type
    return TokenizerTables(_make_split_tables(rule), pieces, characters)


def _make_split_tables(rule: SplitRule) -> SplitTables:
    """Turn a split rule into arrays."""
    classes = np.zeros(256, dtype=np.uint8)
    classes[:0x21] = classes[0x7F:] = OTHER
    classes[list(rule.separators)] = SEPARATOR
    classes[list(rule.isolated)] |= ISOLATED
    if rule.isolates_ideographs:
        classes[0xE3:0xEA] |= IDEOGRAPH
    contents = [literal.content for literal in rule.literals]
    for content in contents:
        classes[[content[0], *content[:1].lower(), *content[:1].upper()]] |= LITERAL
    return SplitTables(
        classes,
        keeps_space=not rule.separators,
        needs_ascii=rule.needs_ascii_neighbours,
        isolates=bool(rule.isolated),
        has_plain_words=all(classes[byte] & ISOLATED for byte in np.flatnonzero(classes & LITERAL)),
        folds=rule.folds_case,
        literals=np.frombuffer(b"".join(contents) or b"\0", dtype=np.uint8),
        literal_bounds=np.cumsum([0, *map(len, contents)], dtype=np.int64),
        literal_normalized=np.array([literal.normalized for literal in rule.literals], dtype=np.bool_),
    )


# Bits per piece: about three prefixes each, and one bit in eight is set.
_PREFIX_BITS = 8


def _make_word_pieces(tokenizer_json: str, unknown_token_id: int | None) -> WordPieces:
    """Read the vocabulary of a WordPiece tokenizer; other models have no pieces."""
    model = json.loads(tokenizer_json)["model"]
    # Old files have no "type"; the prefix and the limit are WordPiece's alone.
    is_word_piece = model.get("type", "WordPiece") == "WordPiece" and "max_input_chars_per_word" in model
    unknown = model["vocab"].get(model["unk_token"]) if is_word_piece else None
    # Leave it to the library to refuse unknown words, and to split words of any length.
    if unknown is None or model["max_input_chars_per_word"] > _MOST_CHARACTERS:
        return _pack_pieces([])
    prefix: str = model["continuing_subword_prefix"]
    tokens = list(model["vocab"].items())
    pieces = [(token.encode(), False, id_) for token, id_ in tokens]
    pieces += [
        (token[len(prefix) :].encode(), True, id_)
        for token, id_ in tokens
        if token.startswith(prefix) and len(token) > len(prefix)
    ]
    return _pack_pieces(
        pieces,
        unknown=-1 if unknown == unknown_token_id else int(unknown),
        most_characters=int(model["max_input_chars_per_word"]),
    )


def _pack_pieces(
    pieces: list[tuple[bytes, bool, int]], *, unknown: int = -1, most_characters: int = 0
) -> WordPieces:
    """Pack pieces: the letters, whether it continues a word, and the id of each."""
    packed = WordPieces(
        slots=np.full(1 << (4 * len(pieces) - 1).bit_length() if pieces else 0, -1, dtype=np.int32),
        hashes=np.empty(len(pieces), dtype=np.uint64),
        bounds=np.cumsum([0, *(len(letters) for letters, _, _ in pieces)], dtype=np.int64),
        letters=np.frombuffer(b"".join(letters for letters, _, _ in pieces) or b"\0", dtype=np.uint8),
        goes_on=np.array([continues for _, continues, _ in pieces], dtype=np.bool_),
        ids=np.array([id_ for _, _, id_ in pieces], dtype=np.int32),
        unknown=unknown,
        most_characters=most_characters,
        most_bytes=max((len(letters) for letters, _, _ in pieces), default=1),
        prefixes=np.zeros(max(1, (1 << (_PREFIX_BITS * len(pieces)).bit_length()) // 64), dtype=np.uint64),
        scratch=np.empty(_most_word_bytes(most_characters), dtype=np.uint64),
    )
    if pieces:
        fill_pieces(packed)
    return packed


def _most_word_bytes(most_characters: int) -> int:
    """Return the maximum number of bytes of a known word, plus one character.

    A character has up to four bytes, and normalization may turn it into several.
    """
    return 4 * (most_characters + 1) + 32


def add_characters(table: CharacterTable, tokenizer: Tokenizer, character: int) -> CharacterTable:
    """Add a block of characters around a code point, as a BERT tokenizer handles them.

    BERT's normalizer and pre-tokenizer handle one character at a time. They drop it, take it for white space
    or for a word of its own, or add it to a word, perhaps as another character. So the kernel can normalize
    words in any script on raw bytes.
    """
    first = character // _BLOCK * _BLOCK
    block = range(first, first + _BLOCK)
    # Unassigned characters and surrogates are foreign.
    codes = [code for code in block if unicodedata.category(chr(code)) not in ("Cn", "Cs")]
    results = dict.fromkeys(block, (FOREIGN, ""))
    results |= zip(codes, map(_classify, _words_around(tokenizer, codes)), strict=True)
    encoded = [letters.encode() for _, letters in results.values()]
    lengths = np.fromiter(map(len, encoded), dtype=np.int64)
    ends = len(table.letters) + np.cumsum(lengths)
    table.kinds[block.start : block.stop] = [kind for kind, _ in results.values()]
    table.starts[block.start : block.stop] = ends - lengths
    table.ends[block.start : block.stop] = ends
    letters = np.concatenate([table.letters, np.frombuffer(b"".join(encoded), dtype=np.uint8)])
    letters.flags.writeable = False
    return table._replace(letters=letters)


def _words_around(tokenizer: Tokenizer, codes: list[int]) -> list[list[str]]:
    """Put each character between two letters "a", and return the tokenizer's words for each."""
    # One text for all characters, since a call costs more than a character; "q" ends each character's piece.
    text = "".join(f"a{chr(code)}a q " for code in codes)
    if tokenizer.normalizer is not None:
        text = tokenizer.normalizer.normalize_str(text)
    pieces = text.split(" q ")[:-1]
    # A word costs more than a character, too. Most characters are letters, which the pre-tokenizer leaves
    # inside of words, so pieces of those are split at spaces alone.
    others = {character for piece in pieces for character in piece if character != " "}
    split = tokenizer.pre_tokenizer.pre_tokenize_str
    letters = {letter for word, _ in split(f"a{'a'.join(others)}a") if len(word) > 1 for letter in word}
    letters.add(" ")
    return [
        piece.split() if letters.issuperset(piece) else [word for word, _ in split(piece)] for piece in pieces
    ]


def _classify(words: list[str]) -> tuple[int, str]:
    """Return a character's kind and its normalized letters, from the words around it."""
    kind, letters = FOREIGN, ""
    if words == ["aa"]:
        kind = DROPPED
    elif words == ["a", "a"]:
        kind = WHITE
    elif len(words) == 3 and words[0] == words[2] == "a":
        kind, letters = ALONE, words[1]
    elif len(words) == 1 and words[0][0] == words[0][-1] == "a":
        kind, letters = WORD, words[0][1:-1]
    # Normalization reorders combining marks, so marks in a row depend on each other.
    is_ordered = any(map(unicodedata.combining, letters))
    return (FOREIGN, "") if is_ordered else (kind, letters)
