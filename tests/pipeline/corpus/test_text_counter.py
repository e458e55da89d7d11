"""Counts of tokens, words and phrases are those of the library and Python."""

from __future__ import annotations

import doctest
from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers

from lakevec.pipeline.corpus import ngrams, word_extraction
from lakevec.pipeline.corpus.text_counter import TextCounter, TextCounts
from lakevec.pipeline.corpus.word_extraction import WordExtractor
from lakevec.pipeline.encoding.kernels import count_kernels
from lakevec.pipeline.errors import DataError
from tests.support.models import make_word_tokenizer
from tests.support.paths import SHARED_DATA

Sums = dict[str, tuple[int, int]]


def test_docstring_examples_are_true() -> None:
    assert doctest.testmod(word_extraction).failed == 0
    assert doctest.testmod(count_kernels).failed == 0


def sums(names: list[Any], counts: Any, documents: Any) -> dict[Any, tuple[int, int]]:
    return {
        name: (int(count), int(texts)) for name, count, texts in zip(names, counts, documents, strict=True)
    }


def found(counts: TextCounts) -> tuple[dict[int, tuple[int, int]], Sums, Sums]:
    return (
        sums(counts.token_ids.tolist(), *counts.tokens[1:]),
        sums(*counts.words),
        sums(*counts.phrases),
    )


def expected(things: list[list[Any]]) -> dict[Any, tuple[int, int]]:
    counts = Counter(thing for text in things for thing in text)
    documents = Counter(thing for text in things for thing in set(text))
    return {thing: (count, documents[thing]) for thing, count in counts.items()}


def by_library(tokenizer: Tokenizer, texts: list[str]) -> tuple[dict[int, tuple[int, int]], Sums, Sums]:
    """Count with the library and Python alone."""
    tokens = [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
    speller = WordExtractor(tokenizer)
    words = [speller.words(text) for text in texts]
    phrases = [
        [
            " ".join(filter(None, text[place : place + length]))
            for length in (2, 3)
            for place in range(len(text) - length + 1)
            if None not in text[place : place + length]
        ]
        for text in words
    ]
    return expected(tokens), expected([[w for w in text if w] for text in words]), expected(phrases)


def test_counts_by_hand() -> None:
    tokenizer = make_word_tokenizer(["[UNK]", "north", "east"])
    counter = TextCounter(tokenizer.to_str(), longest_phrase=2)
    counter.count(pa.array(["North east, north-east east!", None, "", "far north east"]))
    tokens, words, phrases = found(counter.take())
    assert tokens == {0: (4, 2), 1: (2, 2), 2: (1, 1)}
    assert words == {
        "north": (2, 2),
        "east": (3, 2),
        "north-east": (1, 1),
        "far": (1, 1),
    }
    assert phrases == {"north east": (2, 2), "north-east east": (1, 1), "far north": (1, 1)}
    assert found(counter.take()) == ({}, {}, {})


@pytest.mark.parametrize("name", ["bert-base-uncased", "bert-base-cased", "gpt2", "t5-small", "ort-nmt"])
def test_counts_of_real_texts_are_those_of_the_library(name: str, general_texts: list[str]) -> None:
    tokenizer = Tokenizer.from_file(str(SHARED_DATA / "tokenizers" / name / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    texts = [*general_texts[::50], "[CLS] foo [SEP]Foo foo", "", "a" * 150 + " b", "it's 1,000.50 €"]
    # So small that words are forgotten and come again, as in a long task.
    counter = TextCounter(tokenizer.to_str(), longest_phrase=3, most_words=100)
    parts = []
    for first in range(0, len(texts), 90):
        counter.count(pa.array(texts[first : first + 90]))
        assert counter.is_full
        parts.append(found(counter.take()))
    for kind, wanted in enumerate(by_library(tokenizer, texts)):
        seen: dict[Any, tuple[int, int]] = {}
        for part in parts:
            for thing, (count, documents) in part[kind].items():
                before = seen.get(thing, (0, 0))
                seen[thing] = before[0] + count, before[1] + documents
        assert seen == wanted


def test_counts_with_phrases_as_tokens_are_those_of_the_library(general_texts: list[str]) -> None:
    tokenizer = Tokenizer.from_file(str(SHARED_DATA / "tokenizers" / "bert-base-uncased" / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    phrases = ["of the", "in the", "the same", "to be", "such as", "state-of-the-art"]
    tokenizer.add_tokens([AddedToken(phrase, single_word=True, normalized=True) for phrase in phrases])
    texts = [*general_texts[::50], "Such as the same", "of thé", "often the state-of-the-art", "to\nbe"]
    counter = TextCounter(tokenizer.to_str())
    counter.count(pa.array(texts))
    tokens, words, _ = by_library(tokenizer, texts)
    assert found(counter.take())[:2] == (tokens, words)
    assert tokens[tokenizer.token_to_id("of the")][0] > 10


@given(texts=st.lists(st.text("ab ABé\t.'1中́", max_size=30), max_size=8), cut=st.integers(0, 8))
@settings(max_examples=60, deadline=None)
def test_batches_and_hostile_text_change_nothing(texts: list[str], cut: int) -> None:
    tokenizer = make_word_tokenizer(["[UNK]", "a", "b", "ab", "e", "中", "1", "."])
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    counter = TextCounter(tokenizer.to_str(), longest_phrase=3)
    counter.count(pa.array(texts[:cut], pa.string()))
    counter.count(pa.array(texts[cut:], pa.string()))
    assert found(counter.take()) == by_library(tokenizer, texts)


def test_text_that_is_not_utf8_is_refused_and_counting_goes_on() -> None:
    counter = TextCounter(make_word_tokenizer(["[UNK]", "north"]).to_str())
    with pytest.raises(DataError, match="a text is not valid UTF-8"):
        counter.count(pa.array([b"\xffnorth"], pa.binary()).view(pa.string()))
    counter.take()
    counter.count(pa.array(["north"]))
    assert found(counter.take())[0] == {1: (1, 1)}


def test_counts_after_an_error_are_those_of_the_right_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error restarts the token cache, with other words under the same numbers."""
    counter = TextCounter(make_word_tokenizer(["[UNK]", "one", "two"]).to_str())
    counter.count(pa.array(["one one alpha"]))
    with pytest.raises(DataError):
        counter.count(pa.array([b"two beta", b"\xff"], pa.binary()).view(pa.string()))
    counter.take()
    counter.count(pa.array(["gamma gamma delta", "alpha"]))
    words = counter.take().words
    assert dict(zip(words.names, words.counts.tolist(), strict=True)) == {"gamma": 2, "delta": 1, "alpha": 1}


def test_phrases_of_too_many_words_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngrams, "MOST_WORDS", 5)
    counter = TextCounter(make_word_tokenizer(["[UNK]"]).to_str(), longest_phrase=2)
    with pytest.raises(DataError, match="too many different words at a time to count phrases"):
        counter.count(pa.array(["a b c d e f g h"]))
