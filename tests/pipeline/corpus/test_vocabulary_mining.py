"""The measures by which mined words are ranked and phrases are chosen."""

from __future__ import annotations

import doctest
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from lakevec.pipeline.corpus import vocabulary_mining
from lakevec.pipeline.corpus.vocabulary_mining import count_pieces, npmi
from tests.support.paths import SHARED_DATA


@pytest.mark.parametrize("name", ["bert-base-uncased", "gpt2", "t5-small"])
def test_pieces_are_those_of_a_word_within_a_text(name: str, shared_data: Path) -> None:
    tokenizer = Tokenizer.from_file(str(SHARED_DATA / "tokenizers" / name / "tokenizer.json"))
    words = ["hello", "numpy", "dataframe"]
    for word, pieces in zip(words, count_pieces(tokenizer, words), strict=True):
        both = tokenizer.encode(f"I like {word} very much", add_special_tokens=False).tokens
        without = tokenizer.encode("I like very much", add_special_tokens=False).tokens
        assert pieces == len(both) - len(without)


def test_npmi_of_words_that_are_always_together_is_one() -> None:
    count, words = np.array([5, 5, 5]), np.array([[5, 5, 5], [50, 5, 5], [100, 100, 500]])
    found = npmi(count, words, 1000)
    assert found[0] == pytest.approx(1)
    assert found[0] > found[1] > found[2]


def test_docstring_examples_are_true() -> None:
    assert doctest.testmod(vocabulary_mining).failed == 0
