"""Position weights against references: exact arithmetic, float64, and independence of the batch."""

from __future__ import annotations

import doctest
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakevec.pipeline.encoding.chunking import Chunker
from lakevec.pipeline.encoding.encoder import Encoder, warm_up
from lakevec.pipeline.encoding.kernels import position_weights
from lakevec.pipeline.encoding.kernels.compilation import widens_halves
from lakevec.pipeline.encoding.kernels.pooling import pool_mean
from lakevec.pipeline.encoding.kernels.position_weights import weigh_positions
from lakevec.pipeline.encoding.node_files import open_encoder, pack_table, table_files
from lakevec.pipeline.encoding.options import ChunkOptions, EncodeOptions
from lakevec.pipeline.model.table import StaticTable

SCALES = st.one_of(st.floats(0.05, 500), st.sampled_from([5e-324, 1e-30, 1e30, 1.7e308]))
LENGTHS = st.lists(st.sampled_from([0, 1, 2, 9, 255, 256, 257, 600, 1500]), min_size=1, max_size=8)
ROWS = 40


def ragged(lengths: list[int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    ids = np.random.default_rng(seed).integers(0, ROWS, sum(lengths), dtype=np.int32)
    return ids, np.append(0, np.cumsum(lengths)).astype(np.int64)


def make_rows(width: int, seed: int, kind: type = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(ROWS, width)).astype(kind)


def pooled(
    rows: np.ndarray, ids: np.ndarray, offsets: np.ndarray, scale: float | None, *, normalize: bool
) -> np.ndarray:
    out = np.full((len(offsets) - 1, rows.shape[1]), np.nan, np.float32)
    zeros = pool_mean(rows, ids, offsets, out, normalize=normalize, position_scale=scale)
    assert zeros == np.count_nonzero(~out.any(axis=1))
    return out


def specified(rows: np.ndarray, scale: float, *, normalize: bool) -> np.ndarray:
    """The vector of a text with these rows, by the arithmetic of docs/artifact.md."""
    with np.errstate(over="ignore", under="ignore"):
        weights = (1.0 / (1.0 + np.arange(len(rows)) / scale)).astype(np.float32)
        total = np.zeros(rows.shape[1])
        for start in range(0, len(rows), 256):
            block = np.zeros(rows.shape[1], np.float32)
            for row, weight in zip(rows[start : start + 256], weights[start : start + 256], strict=True):
                block += row.astype(np.float32) * weight
            total += block
    divisor = sum(weights.astype(np.float64).tolist())
    if normalize:
        divisor = np.linalg.norm(total)
    return (total / (divisor or 1.0)).astype(np.float32)


def test_docstring_examples_are_true() -> None:
    assert doctest.testmod(position_weights).failed == 0


def test_three_tokens_by_hand() -> None:
    rows = np.array([[6, 0], [0, 6]], np.float32)
    ids, offsets = np.array([0, 1, 1], np.int32), np.array([0, 3])
    # The weights are 1, 1/2 and 1/3.
    expected = [[6 / (11 / 6), 5 / (11 / 6)]]
    np.testing.assert_allclose(pooled(rows, ids, offsets, 1.0, normalize=False), expected, rtol=1e-6)


@given(lengths=LENGTHS, scale=SCALES)
@settings(max_examples=40, deadline=None)
def test_weights_have_the_specified_bits(lengths: list[int], scale: float) -> None:
    weights, totals = weigh_positions(np.append(0, np.cumsum(lengths)).astype(np.int64), scale)
    with np.errstate(over="ignore", under="ignore"):
        parts = [(1.0 / (1.0 + np.arange(length) / scale)).astype(np.float32) for length in lengths]
    assert weights.tobytes() == np.concatenate(parts).tobytes()
    assert totals.tolist() == [sum(part.astype(np.float64).tolist(), 0.0) for part in parts]


@given(
    lengths=LENGTHS,
    width=st.sampled_from([1, 3, 31, 32, 33, 100, 127, 128, 161, 256, 300]),
    seed=st.integers(0, 2**32 - 1),
    scale=SCALES,
    normalize=st.booleans(),
    is_half=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_vectors_have_the_specified_digits(
    lengths: list[int], width: int, seed: int, scale: float, normalize: bool, is_half: bool
) -> None:
    """The arithmetic of the sum is exact; the last division may round otherwise."""
    rows = make_rows(width, seed, np.float16 if is_half and widens_halves() else np.float32)
    ids, offsets = ragged(lengths, seed)
    out = pooled(rows, ids, offsets, scale, normalize=normalize)
    for text, vector in enumerate(out):
        own = rows[ids[offsets[text] : offsets[text + 1]]]
        np.testing.assert_allclose(vector, specified(own, scale, normalize=normalize), rtol=3e-7, atol=1e-38)


def test_a_product_is_rounded_before_it_is_added() -> None:
    """A fused multiply-add gives other bits in a third of these columns."""
    rows, offsets = make_rows(300, 5), np.array([0, 200])
    ids, _ = ragged([200], 5)
    sums = pooled(rows, ids, offsets, 7.0, normalize=False)
    expected = specified(rows[ids], 7.0, normalize=False)
    assert np.count_nonzero(sums[0] != expected) == 0


@given(lengths=LENGTHS, seed=st.integers(0, 2**32 - 1), scale=st.floats(1, 100))
@settings(max_examples=30, deadline=None)
def test_agrees_with_float64(lengths: list[int], seed: int, scale: float) -> None:
    rows = make_rows(48, seed)
    ids, offsets = ragged(lengths, seed)
    for text, vector in enumerate(pooled(rows, ids, offsets, scale, normalize=False)):
        own = rows[ids[offsets[text] : offsets[text + 1]]].astype(np.float64)
        weights = 1 / (1 + np.arange(len(own)) / scale)
        mean = weights @ own / (weights.sum() or 1.0)
        np.testing.assert_allclose(vector, mean, atol=2e-5)


@given(lengths=LENGTHS, cut=st.integers(1, 8))
@settings(max_examples=30, deadline=None)
def test_bits_do_not_depend_on_the_batch(lengths: list[int], cut: int) -> None:
    rows = make_rows(130, 3)
    ids, offsets = ragged(lengths, 3)
    whole = pooled(rows, ids, offsets, 11.0, normalize=True)
    cut = min(cut, len(lengths))
    parts = [
        pooled(rows, ids[part[0] : part[-1]].copy(), part - part[0], 11.0, normalize=True)
        for part in (offsets[: cut + 1], offsets[cut:])
    ]
    assert whole.tobytes() == np.concatenate(parts).tobytes()


@pytest.fixture
def weighted(tiny_table: StaticTable) -> StaticTable:
    return replace(tiny_table, position_scale=1)


def embed(encoder: Encoder, *texts: str | None) -> list[list[float]]:
    vectors = encoder.encode(pa.array(texts)).vectors.astype(np.float64)
    rounded: list[list[float]] = vectors.round(4).tolist()
    return rounded


def test_unknown_tokens_have_no_position(weighted: StaticTable) -> None:
    encoder = Encoder(weighted)
    assert embed(encoder, "north east") == embed(encoder, "odd north odd odd east")
    assert embed(encoder, "north east") != embed(encoder, "east north")


def test_encoder_keeps_its_weights_when_pickled_and_on_nodes(weighted: StaticTable, tmp_path: Path) -> None:
    texts = pa.array(["north east east", None, "southwest north"])
    expected = Encoder(weighted).encode(texts).vectors.tobytes()
    copy = pickle.loads(pickle.dumps(Encoder(weighted)))
    assert copy.encode(texts).vectors.tobytes() == expected
    opened = open_encoder(pack_table(weighted, node_dir=str(tmp_path)).provide(), EncodeOptions())
    assert opened.encode(texts).vectors.tobytes() == expected


def test_plain_tables_keep_the_node_files_of_earlier_versions(
    tiny_table: StaticTable, weighted: StaticTable
) -> None:
    assert b"position_scale" not in table_files(tiny_table)["table.json"]
    assert b'"position_scale": 1.0' in table_files(weighted)["table.json"]


def test_max_tokens_keeps_the_positions(weighted: StaticTable) -> None:
    cut = Encoder(weighted, EncodeOptions(max_tokens=2))
    assert embed(cut, "north east southwest") == embed(Encoder(weighted), "north east")


def test_chunks_count_from_their_own_beginning(weighted: StaticTable) -> None:
    encoder = Encoder(weighted)
    chunks = Chunker(encoder, ChunkOptions(2)).split(pa.array(["north east north north east"]))
    assert chunks.texts.to_pylist() == ["north east", "north north", "east"]
    assert embed(encoder, *chunks.texts.to_pylist()) == [[0.3333, 0.6667], [0.0, 1.0], [1.0, 0.0]]


def test_sums_come_with_their_sum_of_weights(weighted: StaticTable) -> None:
    found = Encoder(weighted, EncodeOptions(store="sum")).encode(pa.array(["north east", None, "odd"]))
    assert found.tokens is None
    assert found.weights is not None
    assert (found.weights.dtype, found.weights.tolist()) == (np.float64, [1.5, 0.0, 0.0])
    mean = Encoder(replace(weighted, normalize=False)).encode(pa.array(["north east"])).vectors
    assert (found.vectors[:1] / 1.5).astype(np.float32).tolist() == mean.tolist()


def test_warm_up_compiles_the_weighted_loops(weighted: StaticTable) -> None:
    from lakevec.pipeline.encoding.kernels.pooling import pool_texts

    warm_up(weighted)
    before = len(pool_texts.signatures)
    embed(Encoder(weighted), "north east")
    assert len(pool_texts.signatures) == before
