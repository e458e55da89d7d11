"""Tables for the kernels, made from a tokenizer: split rule, WordPiece vocabulary, characters."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

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
    CharacterTable,
)
from lakevec.pipeline.encoding.kernels.wordpiece import WordPieces, fill_pieces
from lakevec.pipeline.encoding.split_rules import SplitRule

# Characters up to U+FFFF are kept; the few beyond are foreign.
_CHARACTERS = 1 << 16
_BLOCK = 256
# Longer limits of a WordPiece tokenizer need room of any size; BERT's is 100.
_MOST_CHARACTERS = 10_000


def make_split_tables(rule: SplitRule) -> SplitTables:
    """Write a split rule out for every byte."""
    classes = np.zeros(256, dtype=np.uint8)
    classes[:0x21] = classes[0x7F:] = OTHER
    classes[list(rule.separators)] = SEPARATOR
    classes[list(rule.isolated)] |= ISOLATED
    if rule.isolates_ideographs:
        classes[0xE3:0xEA] |= IDEOGRAPH
    fold = np.arange(256, dtype=np.uint8)
    if rule.folds_case:
        fold[0x41:0x5B] += 0x20
    for literal in rule.literals:
        classes[[literal.content[0], *literal.content[:1].lower(), *literal.content[:1].upper()]] |= LITERAL
    contents = [literal.content for literal in rule.literals]
    return SplitTables(
        classes,
        fold,
        np.arange(256, dtype=np.uint8),
        not rule.separators,
        rule.needs_ascii_neighbours,
        bool(rule.isolated),
        all(classes[byte] & ISOLATED for byte in np.flatnonzero(classes & LITERAL)),
        rule.folds_case,
        np.frombuffer(b"".join(contents) or b"\0", dtype=np.uint8),
        np.concatenate(([0], np.cumsum([len(content) for content in contents]))).astype(np.int64),
        np.array([literal.normalized for literal in rule.literals], dtype=np.bool_),
    )


def most_word_bytes(most_characters: int) -> int:
    """Return the bytes that any known word may take, and one character more.

    A character has up to four bytes, and normalization may turn it into several.
    """
    return 4 * (most_characters + 1) + 32


def make_word_pieces(tokenizer_json: str, unknown_token_id: int | None) -> WordPieces | None:
    """Read the vocabulary of a WordPiece tokenizer; None for other models.

    `unknown_token_id` is left out of vectors.
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
    fill_pieces(slots, hashes, bounds, letters, goes_on)
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


class Characters:
    """The characters of a BERT tokenizer, asked of the library in blocks when the first of a block occurs.

    BERT's normalizer and pre-tokenizer handle one character at a time. They drop it, take it for white space
    or for a word of its own, or add it to a word, perhaps as another character. So the kernel can normalize
    words in any script on raw bytes.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer or None
        With BERT's pre-tokenizer, and BERT's normalizer or none; None if no character will be asked for.
    most_word_bytes : int
        Room for a word.
    """

    def __init__(self, tokenizer: Tokenizer | None, most_word_bytes: int) -> None:
        self._normalizer: Any = tokenizer and tokenizer.normalizer
        self._pre_tokenizer: Any = tokenizer and tokenizer.pre_tokenizer
        self.table = CharacterTable(
            kinds=np.full(_CHARACTERS, NEW, dtype=np.uint8),
            starts=np.zeros(_CHARACTERS, dtype=np.int32),
            ends=np.zeros(_CHARACTERS, dtype=np.int32),
            counts=np.zeros(_CHARACTERS, dtype=np.uint8),
            letters=np.frombuffer(b"", dtype=np.uint8),
            word=np.zeros(most_word_bytes, dtype=np.uint8),
        )
        self.table.word.flags.writeable = False  # as texts are, so that one compilation serves both
        if tokenizer is not None:
            self.add_block(0)

    def add_block(self, character: int) -> None:
        """Ask about the block of characters around a code point."""
        first = character // _BLOCK * _BLOCK
        codes = [code for code in range(first, first + _BLOCK) if not 0xD800 <= code < 0xE000]
        judged = [_judge(chr(code), words) for code, words in zip(codes, self._ask(codes), strict=True)]
        encoded = [becomes.encode() for _, becomes in judged]
        table = self.table
        ends = len(table.letters) + np.cumsum([len(letters) for letters in encoded])
        table.kinds[first : first + _BLOCK] = FOREIGN
        if codes:
            table.kinds[codes] = [kind for kind, _ in judged]
            table.starts[codes] = np.append(len(table.letters), ends[:-1])
            table.ends[codes] = ends
            table.counts[codes] = [len(becomes) for _, becomes in judged]
        letters = table.letters.tobytes() + b"".join(encoded)
        self.table = table._replace(letters=np.frombuffer(letters, dtype=np.uint8))

    def _ask(self, codes: list[int]) -> list[list[str]]:
        """Put each character between two letters, and return the library's words for each."""
        # All in one text, since a call costs more than a character; "q" ends each character's words.
        text = "".join(f"a{chr(code)}a q " for code in codes)
        if self._normalizer is not None:
            text = self._normalizer.normalize_str(text)
        answers: list[list[str]] = [[]]
        for word, _ in self._pre_tokenizer.pre_tokenize_str(text):
            if word == "q":
                answers.append([])
            else:
                answers[-1].append(word)
        return answers[:-1]


def _judge(character: str, words: list[str]) -> tuple[int, str]:
    """Find a character's kind, and what it becomes, from the library's words."""
    kind, becomes = FOREIGN, ""
    if words == ["aa"]:
        kind = DROPPED
    elif words == ["a", "a"]:
        kind = WHITE
    elif len(words) == 3 and words[0] == words[2] == "a":
        kind, becomes = ALONE, words[1]
    elif len(words) == 1 and words[0][0] == words[0][-1] == "a":
        kind, becomes = WORD, words[0][1:-1]
    # Normalization reorders combining marks, so marks in a row depend on each other.
    is_ordered = any(map(unicodedata.combining, becomes))
    is_unassigned = unicodedata.category(character) == "Cn"
    return (FOREIGN, "") if is_ordered or is_unassigned else (kind, becomes)
