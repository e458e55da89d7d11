"""Words of a text, as a tokenizer's normalizer and pre-tokenizer split it."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

from tokenizers import Tokenizer, decoders

# Maximum length of a word in `distill --vocabulary`.
LONGEST_WORD = 100
# Unicode general categories to strip from a word: punctuation, symbols, separators, other.
_STRIPPED = frozenset("PSZC")
_MARK = "▁"

Words = list[str | None]


class WordExtractor:
    """Find the words of texts.

    Attributes
    ----------
    longest : int
        Maximum number of characters in a word.

    Notes
    -----
    A word is a normalized piece of the pre-tokenizer, stripped of white space, punctuation and symbols. None
    is a break between words: punctuation or symbols, but not white space alone. A piece without a letter,
    digit or mark is a break. So is a word of more than 100 characters, or beyond the tokenizer's own limit.

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
        """Return the words and breaks of a text."""
        normalizer, splitter = self._tokenizer.normalizer, self._tokenizer.pre_tokenizer
        text = normalizer.normalize_str(text) if normalizer else text
        if splitter is None:
            pieces = text.replace(_MARK, " ").split()
        else:
            pieces = [text[start:end] for _, (start, end) in splitter.pre_tokenize_str(text)]
        return [word for piece in pieces for word in self.piece_words(piece)]

    def piece_words(self, piece: str) -> Words:
        """Return the word of a normalized piece, if it has one, and the breaks around it."""
        if piece.isalnum():
            return [piece] if len(piece) <= self.longest else [None]
        piece = piece.replace(_MARK, " ").strip()
        if not piece:
            return []
        edges = "".join(sign for sign in set(piece) if unicodedata.category(sign)[0] in _STRIPPED)
        word = piece.strip(edges)
        if not word or len(word) > self.longest:
            return [None]
        before: Words = [None] if piece[0] in edges else []
        after: Words = [None] if piece[-1] in edges else []
        return [*before, word, *after]

    def token_words(self) -> list[Words]:
        """Return the words and breaks of each token as a text."""
        tokens = self._tokenizer.get_vocab(with_added_tokens=True)
        words: list[Words] = [[]] * (max(tokens.values(), default=-1) + 1)
        for token, number in tokens.items():
            is_added = number in self._added
            words[number] = self.words(token) if is_added else self.piece_words(self._spell(token))
        return words

    def _spell(self, token: str) -> str:
        token = token.removesuffix(self._model.get("end_of_word_suffix") or "")
        return decoders.ByteLevel().decode([token]) if self._is_byte_level else token
