"""What a BERT tokenizer makes of each character, asked of the library once and kept as arrays.

BERT's normalizer and pre-tokenizer look at one character at a time: it is dropped, is white space, is a word
of its own, or belongs to a word, perhaps as another character. So words in any script can be normalized on
raw bytes. Characters are asked for in blocks, when the first of a block comes along.
"""

from __future__ import annotations

import unicodedata
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Tokenizer

from lakevec.pipeline.encoding.kernels.compilation import compile_part

# What a character is. Of a NEW one nobody has asked yet; a FOREIGN one is the library's in every text.
NEW, FOREIGN, WORD, DROPPED, WHITE, ALONE = range(6)

# Characters up to U+FFFF are kept; the few beyond are foreign.
_CHARACTERS = 1 << 16
_BLOCK = 256
# Why a character can't be read; no code point is below zero.
INVALID = -1


class CharacterTable(NamedTuple):
    """What becomes of each character.

    Parameters
    ----------
    kinds : uint8 ndarray of shape (65536,)
    starts : int32 ndarray of shape (65536,)
    ends : int32 ndarray of shape (65536,)
        Character c becomes ``letters[starts[c]:ends[c]]``.
    counts : uint8 ndarray of shape (65536,)
        So many characters are these.
    letters : uint8 ndarray
        UTF-8.
    word : uint8 ndarray
        Room for the word at hand.
    """

    kinds: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    counts: np.ndarray
    letters: np.ndarray
    word: np.ndarray


class Characters:
    """Ask a tokenizer about characters, block by block.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer or None
        With BERT's pre-tokenizer, and BERT's normalizer or none; None where nobody will ask.
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
        """Ask about the characters around one.

        Parameters
        ----------
        character : int
            Code point.
        """
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
        """Put each character between two letters, and see which words the library makes of that."""
        # All in one text, since a call costs more than a character; "q" alone ends what belongs to one.
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
    """Tell from the words what a character is, and what it becomes."""
    kind, becomes = FOREIGN, ""
    if words == ["aa"]:
        kind = DROPPED
    elif words == ["a", "a"]:
        kind = WHITE
    elif len(words) == 3 and words[0] == words[2] == "a":
        kind, becomes = ALONE, words[1]
    elif len(words) == 1 and words[0][0] == words[0][-1] == "a":
        kind, becomes = WORD, words[0][1:-1]
    # Normalization orders marks that stay; those who follow each other are looked at together.
    is_ordered = any(map(unicodedata.combining, becomes))
    is_unassigned = unicodedata.category(character) == "Cn"
    return (FOREIGN, "") if is_ordered or is_unassigned else (kind, becomes)


@compile_part
def read_character(data: np.ndarray, position: int, end: int) -> tuple[int, int]:
    """Decode one character of UTF-8, strictly (RFC 3629).

    Returns
    -------
    int
        Code point, or `INVALID`.
    int
        Number of bytes.
    """
    lead = np.int64(data[position])
    if lead < 0x80:
        return lead, 1
    length = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
    if lead < 0xC2 or lead > 0xF4 or position + length > end:
        return INVALID, 1
    code = lead & (0x7F >> length)
    for offset in range(1, length):
        byte = np.int64(data[position + offset])
        if byte & 0xC0 != 0x80:
            return INVALID, 1
        code = (code << 6) | (byte & 0x3F)
    too_small = (length == 3 and code < 0x800) or (length == 4 and code < 0x10000)
    if too_small or code > 0x10FFFF or 0xD800 <= code < 0xE000:
        return INVALID, 1
    return code, length
