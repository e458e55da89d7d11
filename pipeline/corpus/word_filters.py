"""Filters of a mined vocabulary: reject unsuitable words and strings that may be secrets.

A vocabulary is published with the model, so it must not contain keys, addresses or personal numbers.
`min_documents` removes strings of few texts; these filters judge the string itself.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Characters that a word may contain besides letters, marks and digits.
_INNER = frozenset("'\u2019-_")
_HEX = re.compile(r"(?:0x)?[0-9a-f]{8,}", re.IGNORECASE)
_LONG_NUMBER = re.compile(r"\d{7,}")
_SWITCH = re.compile(r"(?<=\d)(?=[^\W\d_])|(?<=[^\W\d_])(?=\d)")
_SHORTEST_RANDOM = 10
_SHORTEST_MIXED = 16
_MOST_SWITCHES = 3
# Maximum mean bits per letter pair. Of English words of at least ten letters, 0.1 % exceed it. Of strings of
# 20 random letters, 99 % exceed 5.4.
_MOST_BITS = 5.1


@dataclass(frozen=True)
class WordFilter:
    """Criteria for the words of a vocabulary.

    Parameters
    ----------
    min_chars, max_chars : int
    scripts : tuple of str
        Scripts, as the first words of Unicode character names, such as ``Latin``; empty for any.
    digits : bool
        Whether a word may contain digits.
    letters : LetterPairs
        Bigram model that detects random letters.
    """

    min_chars: int
    max_chars: int
    scripts: Sequence[str]
    digits: bool
    letters: LetterPairs

    def reason_against(self, word: str) -> str:
        """Return why a word is rejected; empty if it passes. Split a phrase into words first."""
        if len(word) < self.min_chars:
            return "too short"
        if len(word) > self.max_chars:
            return "too long"
        if any(not _belongs_to_words(letter) for letter in word):
            return "with signs, as addresses and paths"
        if is_like_a_secret(word) or self.letters.bits(word) > _MOST_BITS:
            return "like a secret"
        if not any(letter.isalpha() for letter in word) or (
            not self.digits and any(letter.isnumeric() for letter in word)
        ):
            return "with digits"
        if self.scripts and not _scripts_of(word) <= {script.upper() for script in self.scripts}:
            return "of another script"
        return ""


def is_like_a_secret(word: str) -> bool:
    """Return whether a string looks like a key, a checksum, an id or a personal number.

    Notes
    -----
    Any of these patterns counts: at least eight hexadecimal digits, if one is a decimal digit or there are
    sixteen; seven decimal digits in a row; at least ten characters with three changes between letters and
    digits; at least sixteen characters with a digit and two letters, as in base64.

    Examples
    --------
    >>> [is_like_a_secret(word) for word in ("d41d8cd98f00", "AKIAIOSFODNN7EXAMPLE", "float64", "defaced")]
    [True, True, False, False]
    """
    has_digit = any(letter.isdigit() for letter in word)
    if _HEX.fullmatch(word) and (has_digit or len(word) >= _SHORTEST_MIXED):
        return True
    if _LONG_NUMBER.search(word):
        return True
    if not has_digit:
        return False
    letters = sum(letter.isalpha() for letter in word)
    if len(word) >= _SHORTEST_MIXED and letters > 1:
        return True
    return len(word) >= _SHORTEST_RANDOM and len(_SWITCH.findall(word)) >= _MOST_SWITCHES


class LetterPairs:
    """A bigram model of the letters in a lake's words.

    Parameters
    ----------
    words : sequence of str
        Distinct words: each counts once, so that a frequent string does not raise its own probability.

    Notes
    -----
    The alphabet is a to z and a word boundary. Add-one smoothing is applied.
    """

    def __init__(self, words: Sequence[str]) -> None:
        pairs = np.ones((27, 27))
        for word in words:
            if (codes := _codes(word)) is not None:
                np.add.at(pairs, (codes[:-1], codes[1:]), 1)
        self._bits = -np.log2(pairs / pairs.sum(axis=1, keepdims=True))

    def bits(self, word: str) -> float:
        """Return the mean bits per letter pair; 0 for a short word or other letters than a to z."""
        codes = _codes(word) if len(word) >= _SHORTEST_RANDOM else None
        return 0.0 if codes is None else float(self._bits[codes[:-1], codes[1:]].mean())


def _codes(word: str) -> np.ndarray | None:
    if not (word.isascii() and word.isalpha()):
        return None
    inner = np.frombuffer(word.lower().encode(), dtype=np.uint8).astype(np.int64) - ord("a")
    return np.concatenate([[26], inner, [26]])


def _belongs_to_words(letter: str) -> bool:
    return letter.isalnum() or letter in _INNER or unicodedata.category(letter).startswith("M")


def _scripts_of(word: str) -> set[str]:
    return {unicodedata.name(letter, "UNKNOWN").split()[0] for letter in word if letter.isalpha()}
