"""What never goes into a vocabulary: words of the wrong form, and strings that may be somebody's secret.

A vocabulary is published with the model, so a key, an address or a number of one person must not get into it.
`min_documents` keeps out what few texts hold; here is what shows by itself.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# What may stand inside a word beside letters, marks and digits.
_INNER = frozenset("'\u2019-_")
_HEX = re.compile(r"(?:0x)?[0-9a-f]{8,}", re.IGNORECASE)
_LONG_NUMBER = re.compile(r"\d{7,}")
_SWITCH = re.compile(r"(?<=\d)(?=[^\W\d_])|(?<=[^\W\d_])(?=\d)")
_SHORTEST_RANDOM = 10
_SHORTEST_MIXED = 16
_MOST_SWITCHES = 3
# Mean bits of a letter behind another. Of English words of ten letters and more one in a thousand takes
# more; of 20 letters drawn at random, 99 in a hundred take more than 5.4.
_MOST_BITS = 5.1


@dataclass(frozen=True)
class WordFilter:
    """What a word must be like.

    Parameters
    ----------
    min_chars, max_chars : int
    scripts : tuple of str
        First words of Unicode's character names, such as ``Latin``; empty for any.
    digits : bool
        Whether a word may hold digits.
    letters : LetterPairs
        By which random letters are told from words.
    """

    min_chars: int
    max_chars: int
    scripts: tuple[str, ...]
    digits: bool
    letters: LetterPairs

    def reason_against(self, word: str) -> str:
        """Say why a word is left out; empty where it is not.

        Parameters
        ----------
        word : str
            Of a phrase, one of its words.

        Returns
        -------
        str
        """
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
    """Tell whether a string looks like a key, a check sum, an id or a number of somebody's.

    Parameters
    ----------
    word : str

    Returns
    -------
    bool

    Notes
    -----
    Hexadecimal from eight digits on, if it holds a digit or is of sixteen; seven digits in a row; letters and
    digits that change places three times in a word of ten; small and capital letters and digits together in
    sixteen characters, as in base64.

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
    """How likely a letter is behind another, in the words of a lake.

    Parameters
    ----------
    words : sequence of str
        Each counts once, so that a string that is repeated often does not make itself likely.

    Notes
    -----
    A model of pairs over the letters a to z and the word's two ends, with one added to each count.
    """

    def __init__(self, words: Sequence[str]) -> None:
        pairs = np.ones((27, 27))
        for word in words:
            if (codes := _codes(word)) is not None:
                np.add.at(pairs, (codes[:-1], codes[1:]), 1)
        self._bits = -np.log2(pairs / pairs.sum(axis=1, keepdims=True))

    def bits(self, word: str) -> float:
        """Return the mean bits of a letter; 0 for a word that is short or not all of the letters a to z.

        Parameters
        ----------
        word : str

        Returns
        -------
        float
        """
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
