"""Small models that anyone can follow by hand."""

from __future__ import annotations

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers


def make_word_tokenizer(words: list[str], *, unknown: str | None = "[UNK]") -> Tokenizer:
    """A tokenizer that anyone can follow by hand: lower-cased words between spaces."""
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer
