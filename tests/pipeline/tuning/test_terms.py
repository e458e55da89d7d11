"""The rows that training adds up, against plain loops."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lakevec.pipeline.encoding.kernels.pooling import Terms
from lakevec.pipeline.encoding.tokenization import TokenIds
from lakevec.pipeline.tuning.terms import cut_terms, drop_bigrams, drop_terms, make_terms, take_terms

TOKENS = 4
TEXTS = st.lists(st.lists(st.integers(0, TOKENS - 1), max_size=6), min_size=1, max_size=6)
PAIRS = st.sets(st.tuples(st.integers(0, TOKENS - 1), st.integers(0, TOKENS - 1)), min_size=1)


def to_tokens(texts: list[list[int]]) -> TokenIds:
    offsets = np.cumsum([0, *map(len, texts)]).astype(np.int64)
    return TokenIds(np.array(list(chain(*texts)), np.int32), offsets, 0, 0)


def to_lists(terms: Terms, values: Any) -> list[list[float]]:
    return [part.tolist() for part in np.split(values, terms.offsets[1:-1])]


@settings(deadline=None)  # the first text compiles a kernel
@given(TEXTS, PAIRS, st.sampled_from([None, 3.0]))
def test_each_pair_follows_its_second_token(
    texts: list[list[int]], pairs: set[tuple[int, int]], scale: float | None
) -> None:
    listed = sorted(pairs)
    found = make_terms(
        to_tokens(texts), position_scale=scale, pairs=np.array(listed, np.int32), first_row=TOKENS
    )
    ids: list[list[int]] = []
    weights: list[list[float]] = []
    for text in texts:
        ids.append([])
        weights.append([])
        for place, token in enumerate(text):
            weight = 1.0 if scale is None else float(np.float32(1 / (1 + place / scale)))
            pair = (text[place - 1], token)
            rows = [token, TOKENS + listed.index(pair)] if place and pair in pairs else [token]
            ids[-1] += rows
            weights[-1] += [weight] * len(rows)
    assert to_lists(found, found.ids) == ids
    assert (found.weights is None) == (scale is None)
    if found.weights is not None:
        assert to_lists(found, found.weights) == weights


@settings(deadline=None)  # the first text compiles a kernel
@given(TEXTS, st.data())
def test_some_texts_keep_their_terms(texts: list[list[int]], data: st.DataObject) -> None:
    terms = make_terms(to_tokens(texts), position_scale=2.0)
    assert terms.weights is not None
    places = np.array(data.draw(st.lists(st.integers(0, len(texts) - 1), min_size=1)), np.int64)
    taken = take_terms(terms, places)
    assert to_lists(taken, taken.ids) == [texts[place] for place in places]
    first = data.draw(st.integers(0, len(texts)))
    cut = cut_terms(terms, slice(first, None))
    assert cut.ids.tolist() == list(chain(*texts[first:]))
    assert cut.weights is not None
    assert cut.weights.tolist() == terms.weights[terms.offsets[first] :].tolist()


def test_dropping_keeps_a_row_of_each_text() -> None:
    terms = make_terms(to_tokens([[0, 1, 2, 3], [1], [2, 2, 3]]), position_scale=5.0)
    random = np.random.default_rng(0)
    for _ in range(20):
        kept = drop_terms(terms, 0.9, random)
        assert (np.diff(kept.offsets) >= 1).all()
        assert kept.weights is not None
        assert len(kept.ids) == len(kept.weights) == kept.offsets[-1]


@settings(deadline=None)  # the first text compiles a kernel
@given(st.lists(st.lists(st.integers(0, TOKENS - 1), min_size=1), min_size=1), PAIRS, st.integers(0, 9))
def test_dropping_bigrams_keeps_all_tokens(
    texts: list[list[int]], pairs: set[tuple[int, int]], seed: int
) -> None:
    listed = np.array(sorted(pairs), np.int32)
    terms = make_terms(to_tokens(texts), position_scale=5.0, pairs=listed, first_row=TOKENS)
    random = np.random.default_rng(seed)
    found = drop_bigrams(terms, TOKENS, 0.5, random)
    rows = to_lists(found, found.ids)
    assert [[row for row in text if row < TOKENS] for text in rows] == texts
    assert set(found.ids.tolist()) <= set(terms.ids.tolist())
    assert found.weights is not None
    assert terms.weights is not None
    # Each row keeps its own weight.
    before = [
        list(zip(*text, strict=True))
        for text in zip(to_lists(terms, terms.ids), to_lists(terms, terms.weights), strict=True)
    ]
    after = [list(zip(*text, strict=True)) for text in zip(rows, to_lists(found, found.weights), strict=True)]
    assert all(set(some) <= set(all_rows) for some, all_rows in zip(after, before, strict=True))
    everything = drop_bigrams(terms, TOKENS, 0.0, random)
    assert everything.ids.tolist() == terms.ids.tolist()


def test_so_large_a_share_of_bigrams_is_dropped() -> None:
    terms = make_terms(
        to_tokens([[0, 1] * 5_000]), pairs=np.array([[0, 1], [1, 0]], np.int32), first_row=TOKENS
    )
    found = drop_bigrams(terms, TOKENS, 0.3, np.random.default_rng(0))
    share = (found.ids >= TOKENS).sum() / (terms.ids >= TOKENS).sum()
    assert 0.68 < share < 0.72
