"""Clustering: whether k-means finds the labels."""

from __future__ import annotations

import numpy as np
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import v_measure_score

from lakevec.pipeline.errors import InputError
from lakevec.pipeline.evaluation.metrics import Encode, TaskScores, is_zero, one_thread
from lakevec.pipeline.evaluation.task_files import read_columns
from lakevec.pipeline.storage import Location

SEEDS = (42, 43, 44, 45, 46)
_BATCH_SIZE = 500


def evaluate_clustering(file: Location, encode: Encode) -> TaskScores:
    """Evaluate clustering.

    Parameters
    ----------
    file : Location
        Parquet of ``text, label``.
    encode : callable
        Strings to float32 ndarray of shape (N, D).

    Returns
    -------
    TaskScores
        ``v_measure``, the mean over five seeds, and their standard deviation ``v_measure_std``.

    Raises
    ------
    InputError
        If all rows have one label.
    """
    columns = read_columns(file, {"text": "text", "label": "text"})
    labels = columns["label"]
    if len(set(labels)) < 2:
        raise InputError(f"task {file.path!r}", got="one label", expected="at least two")
    vectors = encode(columns["text"])
    found = [measure_clusters(vectors, labels, seed=seed) for seed in SEEDS]
    metrics = {"v_measure": float(np.mean(found)), "v_measure_std": float(np.std(found))}
    counts = {"texts": len(labels), "labels": len(set(labels)), "unknown": int(is_zero(vectors).sum())}
    return TaskScores("v_measure", metrics, counts)


def measure_clusters(vectors: np.ndarray, labels: list[str], *, seed: int) -> float:
    """Cluster vectors into as many groups as there are labels and compare the two.

    Parameters
    ----------
    vectors : ndarray of shape (N, D)
    labels : list of str of length N
    seed : int
        Seed of k-means.

    Returns
    -------
    float
        V-measure, the harmonic mean of homogeneity and completeness (Rosenberg and Hirschberg, 2007).

    Notes
    -----
    Mini-batch k-means in batches of 500, as in MTEB, whose seed is 42.
    """
    means = MiniBatchKMeans(
        n_clusters=len(set(labels)), batch_size=_BATCH_SIZE, n_init="auto", random_state=seed
    )
    with one_thread():
        return float(v_measure_score(labels, means.fit(vectors).labels_))
