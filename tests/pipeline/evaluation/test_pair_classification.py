"""Pair classification: by hand, and every threshold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakevec.pipeline.evaluation.pair_classification import load_pair_classification, separate_pairs
from tests.support.tasks import point, score, write


def test_pairs_by_hand(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.parquet",
        text1=["north", "north", "southwest", "nowhere"],
        text2=["north", "east", "north", "nowhere"],
        label=[1, 0, 0, 1],
    )
    scores = score(load_pair_classification(file), point)
    assert scores.main == "max_ap"
    assert scores.counts == {"pairs": 4, "unknown": 2}
    # Cosines 1, 0, -0.71 and, of texts without a known word, 0. Their distance is 0.
    expected = {"cosine_ap": (1 + 2 / 3) / 2, "cosine_accuracy": 0.75, "cosine_f1": 0.8}
    expected |= {
        f"{name}_{metric}": 1.0 for name in ("euclidean", "max") for metric in ("ap", "accuracy", "f1")
    }
    assert {name: scores.metrics[name] for name in expected} == pytest.approx(expected)
    assert len(scores.metrics) == 15


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=12))
@settings(max_examples=100, deadline=None)
def test_figures_are_those_of_the_best_threshold(pairs: list[tuple[int, bool]]) -> None:
    similarities, labels = np.array([float(c) for c, _ in pairs]), np.array([label for _, label in pairs])
    if labels.all() or not labels.any():
        return
    above = [similarities >= threshold for threshold in np.arange(-0.5, 6)]
    above = [each for each in above if each.any() and not each.all()]
    found = separate_pairs(similarities, labels)
    assert found["accuracy"] == pytest.approx(max(((each == labels).mean() for each in above), default=0))
    f1 = [2 * (each & labels).sum() / (each.sum() + labels.sum()) for each in above]
    assert found["f1"] == pytest.approx(max(f1, default=0))


def test_no_threshold_has_all_pairs_on_one_side() -> None:
    """To call every pair right would have an accuracy of 0.75 and an F1 of 0.86."""
    found = separate_pairs(np.array([0.1, 0.2, 0.3, 0.4]), np.array([True, True, True, False]))
    assert (found["accuracy"], found["f1"]) == pytest.approx((0.5, 2 / 3))
