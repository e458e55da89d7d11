"""Words as a tokenizer sees them: what its normalizer and pre-tokenizer make of a text."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

from tokenizers import Tokenizer

# As long as `distill --vocabulary` takes words.
LONGEST_WORD = 100
# General categories of signs that may stand around a word: punctuation, symbols, separators, controls.
_AROUND = frozenset("PSZC")
_MARK = "▁"

Words = list[str | None]


class WordExtractor:
    """Find the words of texts.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer

    Attributes
    ----------
    longest : int
        Characters of the longest word.

    Notes
    -----
    A word is a piece of the pre-tokenizer's, normalized, without white space and the signs around it. What
    stands between two words, if it is more than white space, is a break, written as None. Pieces without a
    letter, digit or mark are breaks, and so are words of more than 100 characters, or of more than the
    tokenizer itself takes for one.

    Examples
    --------
    >>> from tokenizers import models, normalizers, pre_tokenizers
    >>> tokenizer = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    >>> tokenizer.normalizer = normalizers.Lowercase()
    >>> tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    >>> WordExtractor(tokenizer).words("New York, n.y. -- 1")
    ['new', 'york', None, 'n.y', None, None, '1']
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        document = json.loads(tokenizer.to_str())
        self._model: dict[str, Any] = document["model"]
        self._is_byte_level = '"ByteLevel"' in json.dumps(document.get("pre_tokenizer"))
        self._added = {token["id"] for token in document.get("added_tokens", [])}
        self.longest = min(LONGEST_WORD, self._model.get("max_input_chars_per_word") or LONGEST_WORD)

    def words(self, text: str) -> Words:
        """Return the words of a text, with breaks.

        Parameters
        ----------
        text : str

        Returns
        -------
        list of str or None
        """
        normalizer, splitter = self._tokenizer.normalizer, self._tokenizer.pre_tokenizer
        text = normalizer.normalize_str(text) if normalizer else text
        if splitter is None:
            pieces = text.replace(_MARK, " ").split()
        else:
            pieces = [text[start:end] for _, (start, end) in splitter.pre_tokenize_str(text)]
        return [word for piece in pieces for word in self.piece_words(piece)]

    def piece_words(self, piece: str) -> Words:
        """Return the word of one normalized piece, if there is one, and the breaks beside it.

        Parameters
        ----------
        piece : str

        Returns
        -------
        list of str or None
        """
        if piece.isalnum():
            return [piece] if len(piece) <= self.longest else [None]
        piece = piece.replace(_MARK, " ").strip()
        if not piece:
            return []
        first, last = 0, len(piece)
        while first < last and unicodedata.category(piece[first])[0] in _AROUND:
            first += 1
        while first < last and unicodedata.category(piece[last - 1])[0] in _AROUND:
            last -= 1
        if first == last or last - first > self.longest:
            return [None]
        before: Words = [None] if first else []
        after: Words = [None] if last < len(piece) else []
        return [*before, piece[first:last], *after]

    def token_words(self) -> list[Words | str]:
        """Return, for each token, the words of a text that is this token alone.

        Returns
        -------
        list of list of str or None, or str, of length V
            A string is one word alone.
        """
        tokens = self._tokenizer.get_vocab(with_added_tokens=True)
        found: list[Words | str] = [[]] * (max(tokens.values(), default=-1) + 1)
        is_spelled = not self._is_byte_level and not self._model.get("end_of_word_suffix")
        for token, number in tokens.items():
            if number in self._added:
                found[number] = self.words(token)
            elif is_spelled and token.isalnum() and len(token) <= self.longest:
                found[number] = token
            elif (piece := self._spell(token)) is not None:
                found[number] = self.piece_words(piece)
        return found

    def _spell(self, token: str) -> str | None:
        """Return a token's text; None where its bytes are none."""
        token = token.removesuffix(self._model.get("end_of_word_suffix") or "")
        if not self._is_byte_level:
            return token
        try:
            return bytes(_BYTES[letter] for letter in token).decode()
        except (KeyError, UnicodeDecodeError):
            return None


def _byte_alphabet() -> dict[str, int]:
    """Return the letters by which byte-level tokenizers write bytes."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in plain]
    letters = {chr(byte): byte for byte in plain}
    return letters | {chr(0x100 + place): byte for place, byte in enumerate(others)}


_BYTES = _byte_alphabet()
