"""Pair classification: whether pairs that belong together are more similar than the others."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_curve
from sklearn.metrics.pairwise import paired_euclidean_distances, paired_manhattan_distances

from lakevec.pipeline.evaluation.metrics import TaskData, TaskScores, count_unknown, paired_cosines
from lakevec.pipeline.evaluation.task_files import check_varies, read_columns
from lakevec.pipeline.storage import Location


def load_pair_classification(file: Location) -> TaskData:
    """Load a task of pair classification: Parquet of ``text1, text2, label``.

    A label above 0 means that the texts belong together. As in MTEB, the main metric is the largest average
    precision of four similarities.
    """
    columns = read_columns(file, {"text1": "text", "text2": "text", "label": "number"})
    is_pair = np.array(columns["label"]) > 0
    check_varies(file, "label", is_pair.tolist())

    def score(vectors: np.ndarray) -> TaskScores:
        by_similarity = {
            name: separate_pairs(values, is_pair) for name, values in _similarities(vectors).items()
        }
        metrics = {
            f"{name}_{metric}": value
            for name, found in by_similarity.items()
            for metric, value in found.items()
        }
        for metric in ("ap", "accuracy", "f1"):
            metrics[f"max_{metric}"] = max(found[metric] for found in by_similarity.values())
        return TaskScores("max_ap", metrics, {"pairs": len(is_pair), "unknown": count_unknown(vectors)})

    return TaskData([*columns["text1"], *columns["text2"]], score)


def separate_pairs(similarities: np.ndarray, is_pair: np.ndarray) -> dict[str, float]:
    """Measure how well a threshold of the similarity tells N pairs from the others.

    Equal similarities lie on the same side of a threshold. As in MTEB, accuracy and F1 leave out thresholds
    with all pairs on one side, so both are 0 if all similarities are equal.

    Parameters
    ----------
    similarities : float ndarray of shape (N,)
    is_pair : bool ndarray of shape (N,)

    Returns
    -------
    dict
        ``ap``, the average precision; ``accuracy`` and ``f1``, each at its best threshold.

    Examples
    --------
    >>> separate_pairs(np.array([0.9, 0.5, 0.1]), np.array([True, False, False]))
    {'ap': 1.0, 'accuracy': 1.0, 'f1': 1.0}
    """
    negatives, positives = np.bincount(is_pair, minlength=2)
    false_rate, true_rate, _ = roc_curve(is_pair, similarities, drop_intermediate=False)
    right = true_rate * positives + (1 - false_rate) * negatives
    precision, recall, _ = precision_recall_curve(is_pair, similarities)
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    return {
        "ap": float(average_precision_score(is_pair, similarities)),
        "accuracy": float(right[1:-1].max(initial=0) / len(is_pair)),
        "f1": float(f1[1:-1].max(initial=0)),
    }


def _similarities(vectors: np.ndarray) -> dict[str, np.ndarray]:
    left, right = np.split(vectors.astype(np.float64), 2)
    return {
        "cosine": paired_cosines(left, right),
        "dot": np.einsum("nd,nd->n", left, right),
        "euclidean": -paired_euclidean_distances(left, right),
        "manhattan": -paired_manhattan_distances(left, right),
    }
