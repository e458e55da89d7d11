"""Phrases: by hand, and beside SciPy and scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score
from sklearn.metrics.pairwise import paired_cosine_distances

from lakevec.pipeline.errors import InputError
from lakevec.pipeline.evaluation.embedding_model import (
    StaticEmbeddingModel,
)
from lakevec.pipeline.evaluation.phrases import count_right_choices, load_phrases
from tests.support.tasks import place, point, read, score, write


def test_turney_by_hand(tmp_path: Path) -> None:
    file = write(
        tmp_path / "turney.parquet",
        phrase=["north", "north", "nowhere", "north"],
        answer=["north", "east", "north", "north"],
        component1=["x"] * 4,
        component2=["x"] * 4,
        distractors=[["east", "southwest"], ["southwest", "north"], ["east"], ["north"]],
    )
    scores = score(load_phrases(file), point)
    # Right; wrong; all at cosine 0, which is wrong; a distractor as near as the answer, which is wrong.
    assert scores.counts["right"] == 1
    assert scores.value == 0.25
    assert count_right_choices(point(["north"]), point(["north"]), [1]) == 1


def test_phrases_agree_with_scipy_and_scikit_learn(shared_data: Path, potion: StaticEmbeddingModel) -> None:
    bird, ppdb = shared_data / "phrases" / "bird.parquet", shared_data / "phrases" / "ppdb-filtered.parquet"
    rows = read(bird)
    cosines = 1 - paired_cosine_distances(potion.encode(rows.text1), potion.encode(rows.text2))
    found = score(load_phrases(place(bird)), potion.encode)
    assert found.main == "cosine_pearson"
    assert found.value == pytest.approx(stats.pearsonr(cosines, rows.score).statistic, abs=1e-5)
    rows = read(ppdb)
    cosines = 1 - paired_cosine_distances(potion.encode(rows.text1), potion.encode(rows.text2))
    found = score(load_phrases(place(ppdb)), potion.encode)
    assert found.metrics["cosine_ap"] == pytest.approx(average_precision_score(rows.label, cosines), abs=1e-5)
    thresholds = np.quantile(cosines, np.linspace(0, 1, 2000))
    brute = max(((cosines > threshold) == rows.label).mean() for threshold in thresholds)
    assert brute <= found.value + 1e-9 < brute + 0.002


@pytest.mark.parametrize(("distractors", "message"), [([], "an empty list"), (["x", None], "nulls")])
def test_choices_that_are_none_are_refused(
    tmp_path: Path, distractors: list[str | None], message: str
) -> None:
    lists = pa.array([["east"], distractors], pa.list_(pa.string()))
    file = write(
        tmp_path / "a.parquet", phrase=["north", "east"], answer=["north", "east"], distractors=lists
    )
    with pytest.raises(InputError, match=f"column 'distractors': got {message}"):
        load_phrases(file)


def test_phrases_of_no_known_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"got columns other; expected text1, text2, score; text1, text2, label"
    ):
        load_phrases(write(tmp_path / "a.parquet", other=["x"]))
