"""Sums with rows of bigrams: what counts in place of what, the bits, the rounding, and the hash table."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakevec.pipeline.corpus.bigrams import count_bigrams
from lakevec.pipeline.encoding.bigram_table import BigramTable
from lakevec.pipeline.encoding.encoder import Encoder
from lakevec.pipeline.encoding.kernels.pooling import Terms
from lakevec.pipeline.encoding.options import EncodeOptions
from lakevec.pipeline.model.bigrams import Bigrams, check_bigrams, quantize_bigrams
from lakevec.pipeline.model.quantization import quantize_rows
from lakevec.pipeline.model.table import StaticTable
from tests.support.models import make_bigrams, make_word_tokenizer

WORDS = 12


@pytest.fixture
def table(tiny_table: StaticTable) -> StaticTable:
    return replace(tiny_table, bigrams=make_bigrams())


def test_sum_by_hand(table: StaticTable) -> None:
    """Tokens: north (0, 1), east (1, 0). In north east, (5, 0) is in place of (1, 0)."""
    texts = pa.array(["north east", "north odd east", "east north", "north", None, ""])
    encoder = Encoder(table, EncodeOptions(store="sum"))
    found = encoder.encode(texts)
    assert found.vectors.tolist() == [[5, 1], [5, 1], [1, 1], [0, 1], [0, 0], [0, 0]]
    assert found.tokens is not None
    assert found.tokens.tolist() == [2, 2, 2, 1, 0, 0]
    assert found.counts.tokens == 7
    assert Encoder(table).encode(texts).vectors[:2].tolist() == [[2.5, 0.5]] * 2
    assert Encoder(table, EncodeOptions(max_tokens=1)).encode(texts).vectors[0].tolist() == [0, 1]


def test_a_pair_counts_as_much_as_its_second_token(table: StaticTable) -> None:
    weighted = replace(table, position_scale=1)
    found = Encoder(weighted, EncodeOptions(store="sum")).encode(pa.array(["north east"]))
    assert found.vectors.tolist() == [[0.5 + 2, 1]]
    assert found.weights is not None
    assert found.weights.tolist() == [1.5]


def sum_by_the_rules(table: StaticTable, ids: list[int]) -> np.ndarray:
    """Add up a text's rows in the order that docs/artifact.md names."""
    rows, pairs = table.dense_rows(), table.bigrams
    assert pairs is not None
    places = {tuple(pair): place for place, pair in enumerate(pairs.pairs.tolist())}
    own, listed = [], []
    for position, token in enumerate(ids):
        scale = table.position_scale
        weight = np.float32(1.0 if scale is None else 1.0 / (1.0 + position / scale))
        place = places.get((ids[position - 1], token)) if position else None
        if place is None:
            own.append(weight * rows[token])
        else:
            listed.append(weight * pairs.embeddings[place].astype(np.float32))
    total, zeros = np.zeros(rows.shape[1]), np.zeros_like(rows[0])
    for start in range(0, len(ids), 256):
        first, second = (sum(terms[start : start + 256], start=zeros) for terms in (own, listed))
        total += first + pairs.scales * second
    return total.astype(np.float32)


@given(
    count=st.integers(1, 140),
    lengths=st.lists(
        st.sampled_from([0, 1, 2, 7, 30, 255, 256, 257, 512, 700, 1500]), min_size=1, max_size=7
    ),
    width=st.sampled_from([1, 5, 33, 128, 130, 160, 300]),
    columns=st.sampled_from([1, 4, 32, 129, None]),
    kind=st.sampled_from(["float32", "float16", "int8"]),
    scale=st.sampled_from([None, 3.0]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_sums_have_the_bits_that_the_rules_give(
    count: int,
    lengths: list[int],
    width: int,
    columns: int | None,
    kind: str,
    scale: float | None,
    seed: int,
) -> None:
    """Alone and in a batch; all columns and the first ones."""
    draw = np.random.default_rng(seed)
    numbers = np.sort(draw.choice(WORDS * WORDS, count, replace=False))
    pairs = np.stack(np.divmod(numbers, WORDS), axis=1).astype(np.int32)
    rows, weights = quantize_rows(draw.normal(size=(WORDS, width)).astype(np.float32), kind)
    lengths_of_rows = draw.exponential(size=(count, 1)) ** 2
    bigrams = quantize_bigrams(pairs, lengths_of_rows * draw.normal(size=(count, width)))
    words = ["[UNK]", *(f"w{number}" for number in range(1, WORDS))]
    tokenizer = make_word_tokenizer(words).to_str()
    table = StaticTable(rows, tokenizer, weights=weights, bigrams=bigrams, position_scale=scale)
    texts = [draw.integers(1, WORDS, length).tolist() for length in lengths]
    strings = [" ".join(f"w{number}" for number in text) for text in texts]
    columns = None if columns is None else min(columns, width)
    encoder = Encoder(table, EncodeOptions(store="sum", dimensions=columns))
    found = encoder.encode(pa.array(strings)).vectors
    expected = np.stack([sum_by_the_rules(table, text)[:columns] for text in texts])
    np.testing.assert_array_equal(found, expected)
    alone = [encoder.encode(pa.array([text])).vectors for text in strings]
    assert found.tobytes() == np.concatenate(alone).tobytes()


def test_columns_are_rounded_by_their_own_scales() -> None:
    """The last columns of a PCA are far smaller than the first; the largest values of all are kept."""
    rows = np.random.default_rng(0).normal(size=(1000, 64)) * np.geomspace(1e30 / 10, 1e-3, 64)
    bigrams = quantize_bigrams(np.stack([np.arange(1000)] * 2, axis=1).astype(np.int32), rows)
    errors = np.abs(bigrams.rows() - rows).max(axis=0)
    assert (errors <= np.abs(rows).max(axis=0) / 254 * 1.00001).all()
    check_bigrams(bigrams, width=64, tokens=1000)


def test_largest_integers_are_added_exactly() -> None:
    """The sum of 256 numbers -128 just fits into int16."""
    tokenizer = make_word_tokenizer(["[UNK]", "a"]).to_str()
    for value in (127, -128):
        rows = np.full((1, 160), value, np.int8)
        bigrams = Bigrams(np.array([[1, 1]], np.int32), rows, np.ones(160, np.float32))
        table = StaticTable(np.ones((2, 160), np.float32), tokenizer, bigrams=bigrams)
        found = Encoder(table, EncodeOptions(store="sum")).encode(pa.array(["a " * 257]))
        assert (found.vectors == 1 + 256 * value).all()


@pytest.mark.parametrize("lengths", ["equal", "different"])
def test_rounded_rows_hardly_change_vectors(lengths: str, general_texts: list[str]) -> None:
    """Cosines to vectors of the unrounded rows, with lengths of rows from a hundredth to five on."""
    strings = [text.lower() for text in general_texts[:500]]
    texts, names = pa.array(strings), {word for text in strings for word in text.split() if word.isalpha()}
    plain = StaticTable(
        np.random.default_rng(0).normal(size=(len(names) + 1, 256)).astype(np.float32),
        make_word_tokenizer(["[UNK]", *sorted(names)]).to_str(),
    )
    tokens = Encoder(plain).tokenizer.tokenize(texts.cast(pa.large_string()))
    pairs = count_bigrams(tokens, 1000).pairs
    rows = np.random.default_rng(1).normal(size=(len(pairs), 256))
    if lengths == "different":
        rows *= np.random.default_rng(2).exponential(size=(len(pairs), 1))
    bigrams = quantize_bigrams(pairs, rows)
    found = Encoder(replace(plain, bigrams=bigrams)).encode(texts).vectors
    places = {tuple(pair): place for place, pair in enumerate(pairs.tolist())}
    exact = np.zeros(found.shape)
    for text, (first, last) in enumerate(pairwise(tokens.offsets)):
        ids = tokens.ids[first:last].tolist()
        for position, token in enumerate(ids):
            place = places.get((ids[position - 1], token)) if position else None
            exact[text] += plain.embeddings[token] if place is None else rows[place]
    is_known = exact.any(axis=1)
    cosines = (found * exact).sum(axis=1)[is_known] / np.linalg.norm(exact[is_known], axis=1)
    assert cosines.min() > 0.999


@pytest.mark.parametrize("tokens", [50_000, 2**31 - 1], ids=["keys of 4 bytes", "keys of 8 bytes"])
@pytest.mark.parametrize("count", [1, 9, 1000, 30_000])
def test_table_finds_exactly_the_listed_pairs(count: int, tokens: int) -> None:
    """With 30,000 pairs, some buckets are full; with few ids, many texts hold a pair."""
    draw = np.random.default_rng(count)
    pairs = np.unique(draw.integers(0, tokens, (count, 2)).astype(np.int32), axis=0)
    ids = np.append(pairs.reshape(-1), draw.choice(pairs.reshape(-1), 5000)).astype(np.int32)
    cuts = np.sort(draw.integers(0, len(ids), 50))
    offsets = np.concatenate([[0], cuts, [len(ids)]]).astype(np.int64)
    rows = np.arange(len(pairs), dtype=np.int32).view(np.int8).reshape(-1, 4)
    bigrams = Bigrams(pairs, rows, np.ones(4, np.float32))
    table = BigramTable(bigrams, tokens)
    weights = np.arange(len(ids), dtype=np.float32)
    terms, listed = table.split(Terms(ids.copy(), offsets, weights))
    assert terms.weights is not None
    assert listed.weights is not None
    numbers = listed.rows.view(np.int32).reshape(-1)
    places = {tuple(pair): place for place, pair in enumerate(pairs.tolist())}
    for text, (first, last) in enumerate(pairwise(offsets)):
        found = [None] * min(last - first, 1)
        found += [places.get((int(ids[place - 1]), int(ids[place]))) for place in range(first + 1, last)]
        is_pair = np.array([place is not None for place in found], bool)
        own = slice(*terms.offsets[text : text + 2])
        assert terms.ids[own].tolist() == ids[first:last][~is_pair].tolist()
        assert terms.weights[own].tolist() == (first + np.flatnonzero(~is_pair)).tolist()
        own = slice(*listed.offsets[text : text + 2])
        assert numbers[listed.ids[own]].tolist() == [place for place in found if place is not None]
        assert listed.weights[own].tolist() == (first + np.flatnonzero(is_pair)).tolist()
    assert len(terms.ids) + len(listed.ids) == len(ids)
    again = BigramTable(table.bigrams, tokens).bigrams
    assert again.embeddings.tobytes() == listed.rows.tobytes()
    assert np.shares_memory(again.embeddings, table.bigrams.embeddings)
