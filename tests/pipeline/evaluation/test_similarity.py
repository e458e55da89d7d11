"""Similarity of words and sentences: by hand, and beside SciPy and pandas."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics.pairwise import paired_cosine_distances

from lakevec.pipeline.evaluation.embedding_model import (
    StaticEmbeddingModel,
)
from lakevec.pipeline.evaluation.metrics import paired_cosines
from lakevec.pipeline.evaluation.similarity import load_sentences, load_words
from tests.support.tasks import place, point, read, score, write


def test_words_by_hand(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.parquet",
        word1=["north", "north", "north", "north"],
        word2=["north", "east", "southwest", "nowhere"],
        score=[5.0, 3.0, 1.0, 4.0],
    )
    scores = score(load_words(file), point)
    # Cosines 1, 0, -0.71 and, of a word that is not known, 0.
    expected = stats.spearmanr([3, 1.5, 0, 1.5], [5, 3, 1, 4]).statistic
    assert scores.metrics["cosine_spearman"] == pytest.approx(expected)
    assert scores.metrics["cosine_spearman_known"] == pytest.approx(1.0)
    assert scores.counts == {"pairs": 4, "pairs_with_unknown": 1}


def test_vectors_that_are_all_alike_correlate_with_nothing(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", text1=["x", "y"], text2=["y", "x"], score=[1.0, 2.0])
    assert score(load_sentences(file), point).value == 0.0


def test_sentences_agree_with_scikit_learn_and_pandas(
    shared_data: Path, potion: StaticEmbeddingModel
) -> None:
    file = shared_data / "sts" / "stsb-test.parquet"
    rows = read(file)
    distances = paired_cosine_distances(potion.encode(rows.text1), potion.encode(rows.text2))
    scores = score(load_sentences(place(file)), potion.encode)
    both = pd.DataFrame({"cosine": 1 - distances, "score": rows.score})
    assert scores.value == pytest.approx(both.corr(method="spearman").iloc[0, 1], abs=1e-5)
    assert scores.metrics["cosine_pearson"] == pytest.approx(both.corr().iloc[0, 1], abs=1e-5)
    assert scores.main == "cosine_spearman"


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_cosines_do_not_care_about_lengths(seed: int) -> None:
    random = np.random.default_rng(seed)
    left, right = random.normal(size=(2, 6, 3))
    scaled = paired_cosines(left * random.uniform(0.1, 50, (6, 1)), right)
    np.testing.assert_allclose(scaled, paired_cosines(left, right), atol=2e-9)
    assert (paired_cosines(left, left) == 1.0).all()


def encode_lengths(texts: Sequence[str]) -> np.ndarray:
    return np.array([[len(text), 1.0] for text in texts], dtype=np.float32)


def test_scores_written_as_text_are_numbers(tmp_path: Path) -> None:
    columns = {"text1": ["a", "bb", "ccc"], "text2": ["a", "b", "c"]}
    for name, scores in (("numbers", [10.0, 9.0, 1.0]), ("texts", ["10", "9", "1"])):
        pq.write_table(pa.table({**columns, "score": scores}), tmp_path / f"{name}.parquet")
    files = [place(tmp_path / f"{name}.parquet") for name in ("numbers", "texts")]
    found = [score(load_sentences(file), encode_lengths) for file in files]
    assert found[0] == found[1]
    assert found[0].metrics["cosine_spearman"] == pytest.approx(1.0)
