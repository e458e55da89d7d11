"""Clustering: how well the clusters of k-means match the labels."""

from __future__ import annotations

import numpy as np
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import v_measure_score

from lakevec.pipeline.evaluation.metrics import TaskData, TaskScores, count_unknown, one_thread
from lakevec.pipeline.evaluation.task_files import check_varies, read_columns
from lakevec.pipeline.storage import Location

SEEDS = (42, 43, 44, 45, 46)
_BATCH_SIZE = 500


def load_clustering(file: Location) -> TaskData:
    """Load a clustering task: Parquet of ``text, label``, scored by the mean V-measure over five seeds."""
    columns = read_columns(file, {"text": "text", "label": "text"})
    labels = columns["label"]
    check_varies(file, "label", labels)

    def score(vectors: np.ndarray) -> TaskScores:
        found = [measure_clusters(vectors, labels, seed=seed) for seed in SEEDS]
        metrics = {"v_measure": float(np.mean(found)), "v_measure_std": float(np.std(found))}
        counts = {"texts": len(labels), "labels": len(set(labels)), "unknown": count_unknown(vectors)}
        return TaskScores("v_measure", metrics, counts)

    return TaskData(columns["text"], score)


def measure_clusters(vectors: np.ndarray, labels: list[str], *, seed: int) -> float:
    """Find one cluster per label; return their V-measure (Rosenberg and Hirschberg, 2007).

    The clusters come from mini-batch k-means in batches of 500, as in MTEB. MTEB's seed is 42.
    """
    means = MiniBatchKMeans(
        n_clusters=len(set(labels)), batch_size=_BATCH_SIZE, n_init="auto", random_state=seed
    )
    with one_thread():
        return float(v_measure_score(labels, means.fit(vectors).labels_))
