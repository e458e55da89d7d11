"""Reranking: by hand, and files that are refused."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from lakevec.pipeline.errors import InputError
from lakevec.pipeline.evaluation.reranking import load_reranking
from tests.support.tasks import point, score, write


def test_reranking_by_hand(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.parquet",
        query=["north", "east", "north"],
        positive=[["north", "southwest"], ["north"], []],
        negative=[["east"], ["nowhere", "southwest"], ["east"]],
    )
    scores = score(load_reranking(file), point)
    # Positives at ranks 1 and 3; at rank 2, since the negative text at the same cosine comes first. The third
    # query has no positive text.
    assert scores.value == pytest.approx(((1 + 2 / 3) / 2 + 1 / 2) / 2)
    assert scores.metrics["mrr_at_10"] == pytest.approx((1 + 1 / 2) / 2)
    assert scores.counts == {"queries": 2, "candidates": 6, "unknown": 1}


def test_reciprocal_rank_ends_at_ten(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", query=["north"], positive=[["east"]], negative=[["north"] * 10])
    metrics = score(load_reranking(file), point).metrics
    assert metrics == {"map_at_1000": pytest.approx(1 / 11), "mrr_at_10": 0.0, "ndcg_at_10": 0.0}


def test_queries_without_candidates_are_refused(tmp_path: Path) -> None:
    nothing = pa.array([[]], pa.list_(pa.string()))
    file = write(tmp_path / "a.parquet", query=["north"], positive=[["east"]], negative=nothing)
    with pytest.raises(InputError, match="got no query with both positive and negative texts"):
        load_reranking(file)
