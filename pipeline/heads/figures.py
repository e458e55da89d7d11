"""Figures of a head on held-out rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import f1_score, precision_recall_fscore_support, r2_score

from lakevec.pipeline.heads.head import Head, HeadKind

# A probability of 0 would make the log loss infinite.
_LEAST = 1e-15


def measure(head: Head, vectors: np.ndarray, targets: np.ndarray, known: np.ndarray) -> dict[str, Any]:
    """Measure a head on rows that it was not trained on.

    Parameters
    ----------
    head : Head
    vectors : float32 ndarray of shape (N, D)
    targets, known : ndarray
        What `Fitter.fit` takes, of these rows and of the training rows. A baseline always predicts the most
        frequent label, or the mean, of the training rows.

    Returns
    -------
    dict
        Figures by name; ``labels`` holds those of each label.
    """
    if head.kind is HeadKind.REGRESSION:
        return _measure_numbers(head.scores(vectors)[:, 0], targets, float(known.mean()))
    shares = head.probabilities(vectors)
    if head.kind is HeadKind.MULTI_LABEL:
        return _measure_several(head, shares, targets)
    predicted = shares.argmax(axis=1)
    own = np.maximum(shares[np.arange(len(targets)), targets], _LEAST)
    most = np.bincount(known, minlength=len(head.labels)).argmax()
    figures = {
        "rows": len(targets),
        "accuracy": float((predicted == targets).mean()),
        "macro_f1": float(f1_score(targets, predicted, average="macro", zero_division=0.0)),
        "log_loss": float(-np.log(own).mean()),
        "accuracy_of_most_frequent_label": float((targets == most).mean()),
    }
    return figures | {"labels": _by_label(head, targets, predicted)}


def _measure_several(head: Head, shares: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    predicted = shares >= head.threshold
    own = np.maximum(np.where(targets, shares, 1 - shares), _LEAST)
    return {
        "rows": len(targets),
        "micro_f1": float(f1_score(targets, predicted, average="micro", zero_division=0.0)),
        "macro_f1": float(f1_score(targets, predicted, average="macro", zero_division=0.0)),
        "log_loss": float(-np.log(own).mean()),
        "rows_with_exactly_their_labels": float((predicted == targets).all(axis=1).mean()),
        "labels": _by_label(head, targets, predicted),
    }


def _by_label(head: Head, targets: np.ndarray, predicted: np.ndarray) -> list[dict[str, Any]]:
    every = np.arange(len(head.labels))
    parts = precision_recall_fscore_support(targets, predicted, labels=every, zero_division=0.0)
    return [
        {"label": label, "rows": int(rows), "precision": float(p), "recall": float(r), "f1": float(f)}
        for label, p, r, f, rows in zip(head.labels, *parts, strict=True)
    ]


def _measure_numbers(predicted: np.ndarray, targets: np.ndarray, mean: float) -> dict[str, Any]:
    return {
        "rows": len(targets),
        "r2": float(r2_score(targets, predicted)) if len(targets) > 1 else 0.0,
        "mean_absolute_error": float(np.abs(predicted - targets).mean()),
        "root_mean_squared_error": float(np.sqrt(np.square(predicted - targets).mean())),
        "mean_absolute_error_of_the_mean": float(np.abs(mean - targets).mean()),
    }
