"""Counts of bigrams are those of Python's Counter, and bigrams are read for another tokenizer."""

from __future__ import annotations

import doctest
from collections import Counter
from itertools import chain, pairwise
from math import log
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from lakevec.pipeline.corpus import bigrams
from lakevec.pipeline.corpus.bigrams import BigramCounter, Bigrams, count_bigrams
from lakevec.pipeline.corpus.stored_bigrams import read_bigrams
from lakevec.pipeline.corpus.text_counter import TextCounter
from lakevec.pipeline.encoding.kernels import pair_kernels
from lakevec.pipeline.encoding.tokenization import TokenIds, make_tokenizer
from lakevec.pipeline.errors import InputError
from lakevec.pipeline.model.bigrams import pack_pairs
from lakevec.pipeline.model.table import find_unknown_token_id
from tests.support.models import make_word_tokenizer
from tests.support.paths import SHARED_DATA

Pairs = dict[tuple[int, int], int]


def test_docstring_examples_are_true() -> None:
    assert doctest.testmod(bigrams).failed == 0
    assert doctest.testmod(pair_kernels).failed == 0


def naive(texts: list[list[int]]) -> Pairs:
    return Counter(pair for text in texts for pair in pairwise(text))


def telling(pair: tuple[int, int], counts: Pairs) -> float:
    first, second = (
        sum(count for other, count in counts.items() if other[place] == pair[place]) for place in (0, 1)
    )
    return counts[pair] * log(counts[pair] * sum(counts.values()) / (first * second))


def to_dict(found: Bigrams) -> Pairs:
    """Return counts by pair; each pair occurs once, in order."""
    assert (np.diff(pack_pairs(found.pairs)) > 0).all()
    assert (found.pairs.dtype, found.counts.dtype) == (np.int32, np.int64)
    pairs = map(tuple, found.pairs.tolist())
    return dict(zip(pairs, found.counts.tolist(), strict=True))


def to_ids(texts: list[list[int]]) -> TokenIds:
    offsets = np.cumsum([0, *map(len, texts)])
    ids = np.fromiter(chain.from_iterable(texts), dtype=np.int32)
    return TokenIds(ids, offsets, unknown=0, truncated=0)


token_ids = st.integers(0, 5) | st.integers(0, 2**31 - 1)


@given(
    texts=st.lists(st.lists(token_ids, max_size=8), max_size=8), cut=st.integers(0, 8), most=st.integers(1, 9)
)
@settings(max_examples=100, deadline=None)
def test_counts_are_those_of_counter(texts: list[list[int]], cut: int, most: int) -> None:
    counter = BigramCounter()
    for part in (texts[:cut], texts[cut:]):
        tokens = to_ids(part)
        counter.add(tokens.ids, tokens.offsets)
    expected = naive(texts)
    assert len(counter) == len(expected)
    assert to_dict(counter.take()) == expected
    assert to_dict(counter.take()) == {}
    found = to_dict(count_bigrams(to_ids(texts), most))
    assert len(found) == min(most, len(expected))
    assert found.items() <= expected.items()
    kept, lost = (
        [telling(pair, expected) for pair in expected if (pair in found) is is_kept]
        for is_kept in (True, False)
    )
    assert not lost or min(kept) >= max(lost) - 1e-9


def test_counts_survive_growth_of_the_hash_table() -> None:
    text = np.random.default_rng(0).integers(0, 300, 50_000).tolist()
    expected = naive([text])
    assert len(expected) > 1 << 14
    assert to_dict(count_bigrams(to_ids([text]), 1 << 20)) == expected


@pytest.mark.parametrize("name", ["bert-base-uncased", "bert-base-cased", "gpt2", "t5-small", "ort-nmt"])
def test_bigrams_of_real_texts_are_those_of_the_library(name: str, general_texts: list[str]) -> None:
    content = (SHARED_DATA / "tokenizers" / name / "tokenizer.json").read_text()
    tokenizer = Tokenizer.from_str(content)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    texts = [*general_texts[::50], "", "one", "a" * 150 + " b", "ʘ the ʘ\u2603 of ʘ", "ʘ the"]
    unknown = find_unknown_token_id(tokenizer)
    encoded = tokenizer.encode_batch(texts, add_special_tokens=False)
    expected = naive([[token for token in text.ids if token != unknown] for text in encoded])
    counter = TextCounter(content, counts_bigrams=True, most_bigrams=100)
    total: Counter[tuple[int, int]] = Counter()
    for first in range(0, len(texts), 90):
        counter.count(pa.array(texts[first : first + 90]))
        assert counter.is_full or first + 90 > len(texts)
        total.update(to_dict(counter.take().bigrams))
    assert total == expected
    # As the encoder sees them.
    tokens = make_tokenizer(content, unknown).tokenize(pa.array(texts, pa.large_string()))
    assert to_dict(count_bigrams(tokens, 1 << 20)) == expected


def test_unknown_tokens_are_as_if_they_were_not_there() -> None:
    counter = TextCounter(make_word_tokenizer(["[UNK]", "north", "east"]).to_str(), counts_bigrams=True)
    counter.count(pa.array(["north far east", None, "far", "", "east far away north far", "north east"]))
    assert to_dict(counter.take().bigrams) == {(1, 2): 2, (2, 1): 1}


def test_bigrams_are_counted_only_if_asked_for() -> None:
    counter = TextCounter(make_word_tokenizer(["[UNK]", "north", "east"]).to_str())
    counter.count(pa.array(["north east"]))
    assert len(counter.take().bigrams.counts) == 0


@pytest.fixture
def counted(tmp_path: Path) -> str:
    rows = {
        "first": ["a", "b", "gone", "b", "a"],
        "second": ["b", "a", "a", "b", "a"],
        "count": [9, 7, 6, 5, 5],
    }
    pq.write_table(pa.table(rows), tmp_path / "bigrams.parquet")
    return str(tmp_path / "bigrams.parquet")


@pytest.mark.parametrize(
    ("most", "expected"),
    [(9, {(0, 1): 7, (1, 0): 9, (0, 0): 5, (1, 1): 5}), (3, {(0, 1): 7, (1, 0): 9, (0, 0): 5})],
    ids=["all", "lowest ids of equal counts"],
)
def test_bigrams_are_read_by_the_ids_of_a_tokenizer(counted: str, most: int, expected: Pairs) -> None:
    assert to_dict(read_bigrams(counted, ["b", "a", "new"], most)) == expected


def test_bigrams_of_other_tokens_are_refused(counted: str) -> None:
    message = "have no bigrams of the vocabulary: got 5 bigrams, and none of 2 tokens; count with --bigrams"
    with pytest.raises(InputError, match=message):
        read_bigrams(counted, ["x", "gone"], 3)


def test_other_files_are_no_bigrams(tmp_path: Path) -> None:
    pq.write_table(pa.table({"token": ["a"], "count": [1]}), tmp_path / "counts.parquet")
    for name in ("counts.parquet", "gone.parquet"):
        with pytest.raises(
            InputError, match=r"can't be read: .*expected Parquet with the columns first, second"
        ):
            read_bigrams(str(tmp_path / name), ["a"], 1)
