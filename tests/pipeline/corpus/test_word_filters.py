"""Words that a vocabulary never takes: strings that look like secrets, and other scripts."""

from __future__ import annotations

import doctest
import random
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from lakevec.pipeline.corpus import word_filters
from lakevec.pipeline.corpus.word_filters import LetterPairs, WordFilter, is_like_a_secret


def test_docstring_examples_are_true() -> None:
    assert doctest.testmod(word_filters).failed == 0


SECRETS = [
    "d41d8cd98f00b204e9800998ecf8427e",  # md5
    "AKIAIOSFODNN7EXAMPLE",
    "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY",
    "9f86d081884c",
    "0xdeadbeef1",
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9",
    "4111111111111111",
    "someone@example.org",
    "https://example.org/x?y=z",
    "c:\\users\\somebody",
    "a9x8b7c6d5e4",
]


NO_SECRETS = [
    "dataframe",
    "float64",
    "tokenization",
    "internationalization",
    "utf8",
    "défaut",
    "can't",
    "x-ray",
]


def english() -> LetterPairs:
    words = {word for word in dir(np) + dir(random) if word.isalpha()} | {
        "tokenization",
        "internationalization",
    }
    return LetterPairs(sorted(words))


def test_secrets_never_get_into_a_vocabulary() -> None:
    fit = WordFilter(1, 100, (), True, english())
    assert {word: bool(fit.reason_against(word)) for word in SECRETS} == dict.fromkeys(SECRETS, True)
    assert {word: fit.reason_against(word) for word in NO_SECRETS} == dict.fromkeys(NO_SECRETS, "")
    assert not any(is_like_a_secret(word) for word in NO_SECRETS)


def test_random_letters_are_told_from_words_of_a_lake(shared_data: Path) -> None:
    texts = pq.read_table(shared_data / "texts" / "general-en.parquet")["text"].to_pylist()[::100]
    words = sorted({word.lower() for text in texts for word in text.split() if word.isalpha()})
    letters = LetterPairs(words)
    fit = WordFilter(1, 100, (), True, letters)
    draw = random.Random(0)
    drawn = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=20)) for _ in range(500)]
    missed = [word for word in drawn if not fit.reason_against(word)]
    refused = [word for word in words if len(word) >= 10 and fit.reason_against(word)]
    assert len(missed) <= 5
    assert len(refused) <= 0.005 * sum(len(word) >= 10 for word in words)


def test_scripts_are_told_by_letters() -> None:
    fit = WordFilter(1, 100, ("Latin", "Cyrillic"), True, LetterPairs([]))
    assert fit.reason_against("Straße") == fit.reason_against("слово") == ""
    assert fit.reason_against("λόγος") == fit.reason_against("logos中") == "of another script"
