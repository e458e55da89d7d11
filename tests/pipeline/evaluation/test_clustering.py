"""Clustering: plain clusters, and V-measures beside SciPy's entropies."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from scipy import stats
from sklearn.cluster import MiniBatchKMeans

from lakevec.pipeline.evaluation.clustering import load_clustering, measure_clusters
from lakevec.pipeline.evaluation.embedding_model import (
    StaticEmbeddingModel,
)
from tests.support.tasks import point, read, score, write


def test_clusters_agree_with_entropies(shared_data: Path, potion: StaticEmbeddingModel) -> None:
    rows = read(shared_data / "clustering" / "stackoverflow20.parquet")[::20]
    vectors = potion.encode(rows.text)
    means = MiniBatchKMeans(20, batch_size=500, n_init="auto", random_state=42)
    counts = pd.crosstab(rows.label.to_numpy(), means.fit_predict(vectors)).to_numpy()
    classes, clusters = stats.entropy(counts.sum(axis=1)), stats.entropy(counts.sum(axis=0))
    mutual = classes + clusters - stats.entropy(counts.ravel())
    expected = 2 * (mutual / classes) * (mutual / clusters) / (mutual / classes + mutual / clusters)
    assert measure_clusters(vectors, rows.label.tolist(), seed=42) == pytest.approx(expected, abs=1e-6)


def test_clusters_that_are_plain_are_found(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", text=["north", "east", "southwest"] * 10, label=["n", "e", "s"] * 10)
    assert score(load_clustering(file), point).metrics == {"v_measure": 1.0, "v_measure_std": 0.0}
