"""Small models that anyone can follow by hand."""

from __future__ import annotations

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from lakevec.pipeline.model.bigrams import Bigrams

# Ids of the pairs of `make_bigrams`.
BIGRAM_PAIRS = [[1, 2], [2, 2], [3, 1]]


def make_word_tokenizer(words: list[str], *, unknown: str | None = "[UNK]") -> Tokenizer:
    """A tokenizer that anyone can follow by hand: lower-cased words between spaces."""
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def make_bigrams() -> Bigrams:
    """The rows are (5, 0), (1, 2) and (1, 2)."""
    rows = np.array([[10, 0], [2, 1], [2, 1]], np.int8)
    return Bigrams(np.array(BIGRAM_PAIRS, np.int32), rows, np.array([0.5, 2], np.float32))
