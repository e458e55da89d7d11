from __future__ import annotations

import doctest
import mmap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakevec.pipeline.encoding.kernels import pooling
from lakevec.pipeline.encoding.kernels.compilation import widens_halves
from lakevec.pipeline.encoding.kernels.pooling import pool_mean


def ragged(lengths: list[int], rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    ids = np.random.default_rng(seed).integers(0, rows, sum(lengths), dtype=np.int32)
    return ids, np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)


def pooled(table: np.ndarray, ids: np.ndarray, offsets: np.ndarray, *, normalize: bool) -> np.ndarray:
    out = np.full((len(offsets) - 1, table.shape[1]), np.nan, dtype=np.float32)
    zeros = pool_mean(table, ids, offsets, out, normalize=normalize)
    assert zeros == np.count_nonzero(~out.any(axis=1))
    return out


def test_docstring_example_is_true() -> None:
    assert doctest.testmod(pooling).failed == 0


def test_normalized_vector_of_a_3_4_5_triangle() -> None:
    table = np.array([[3, 0], [0, 4]], dtype=np.float32)
    out = pooled(table, np.array([0, 1], dtype=np.int32), np.array([0, 2]), normalize=True)
    assert out.tolist() == [[np.float32(0.6), np.float32(0.8)]]


def test_rows_that_cancel_out_give_the_zero_vector_not_nan() -> None:
    table = np.array([[1, -2], [-1, 2]], dtype=np.float32)
    out = pooled(table, np.array([0, 1], dtype=np.int32), np.array([0, 2]), normalize=True)
    assert out.tolist() == [[0.0, 0.0]]


@given(
    lengths=st.lists(st.integers(0, 700), min_size=1, max_size=12),
    width=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
    normalize=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_agrees_with_a_float64_reference(lengths: list[int], width: int, seed: int, normalize: bool) -> None:
    table = np.random.default_rng(seed).normal(size=(50, width)).astype(np.float32)
    ids, offsets = ragged(lengths, 50, seed)
    out = pooled(table, ids, offsets, normalize=normalize)
    assert out.dtype == np.float32
    for index, length in enumerate(lengths):
        rows = table[ids[offsets[index] : offsets[index + 1]]].astype(np.float64)
        mean = rows.mean(axis=0) if length else np.zeros(width)
        scale = np.linalg.norm(mean) if normalize and length else 1.0
        np.testing.assert_allclose(out[index], mean / scale, atol=2e-5)


@pytest.mark.skipif(not widens_halves(), reason="this processor has no instructions for float16")
@given(
    lengths=st.lists(st.integers(0, 600), min_size=1, max_size=8),
    width=st.integers(1, 300),
    seed=st.integers(0, 2**32 - 1),
    normalize=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_float16_rows_give_the_bits_of_their_float32_copy(
    lengths: list[int], width: int, seed: int, normalize: bool
) -> None:
    """All finite values, subnormal ones among them."""
    numbers = np.random.default_rng(seed).integers(-0x8000, 0x8000, (50, width)).astype(np.int16)
    table = np.nan_to_num(numbers.view(np.float16), nan=0.0)
    ids, offsets = ragged(lengths, 50, seed)
    half = pooled(table, ids, offsets, normalize=normalize)
    assert half.tobytes() == pooled(table.astype(np.float32), ids, offsets, normalize=normalize).tobytes()


@pytest.mark.parametrize("tokens", [1, 15, 16, 17, 1024])
def test_no_memory_behind_the_ids_is_read(tokens: int, tmp_path: Path) -> None:
    """Rows are fetched ahead; the process would be killed if it read past the end of the file."""
    page = mmap.PAGESIZE
    with (tmp_path / "ids").open("w+b") as file:
        file.truncate(2 * page)
        mapped = mmap.mmap(file.fileno(), 2 * page)
        file.truncate(page)
    ids = np.frombuffer(mapped, np.int32, tokens, page - 4 * tokens)
    table = np.ones((1, 160), dtype=np.float32)
    assert pooled(table, ids, np.array([0, tokens]), normalize=False).tolist() == [[1.0] * 160]


@given(lengths=st.lists(st.integers(0, 600), min_size=2, max_size=20), cut=st.integers(1, 19))
@settings(max_examples=50, deadline=None)
def test_bits_do_not_depend_on_the_batch(lengths: list[int], cut: int) -> None:
    table = np.random.default_rng(3).normal(size=(40, 24)).astype(np.float32)
    ids, offsets = ragged(lengths, 40, 3)
    cut = min(cut, len(lengths))
    whole = pooled(table, ids, offsets, normalize=True)
    parts = [
        pooled(table, ids[part[0] : part[-1]].copy(), part - part[0], normalize=True)
        for part in (offsets[: cut + 1], offsets[cut:])
    ]
    assert whole.tobytes() == np.concatenate(parts).tobytes()


@pytest.mark.parametrize("tokens", [10, 1_000_000], ids=["short", "a million tokens"])
def test_long_texts_keep_their_digits(tokens: int) -> None:
    table = np.random.default_rng(0).normal(loc=1.0, size=(1000, 8)).astype(np.float32)
    ids, offsets = ragged([tokens], 1000, 1)
    out = pooled(table, ids, offsets, normalize=False)
    np.testing.assert_allclose(out[0], table[ids].astype(np.float64).mean(axis=0), rtol=3e-7)


def test_largest_allowed_values_stay_finite() -> None:
    table = np.full((1, 4), 1e30, dtype=np.float32)
    ids, offsets = np.zeros(100_000, dtype=np.int32), np.array([0, 100_000])
    assert np.isfinite(pooled(table, ids, offsets, normalize=False)).all()
    np.testing.assert_allclose(pooled(table, ids, offsets, normalize=True), 0.5)
