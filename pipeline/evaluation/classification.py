"""Classification: what a logistic regression makes of the vectors."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lakevec.pipeline.errors import InputError
from lakevec.pipeline.evaluation.metrics import Encode, TaskScores, is_zero, one_thread
from lakevec.pipeline.evaluation.task_files import read_columns
from lakevec.pipeline.storage import Location

_ITERATIONS = 1000


def evaluate_classification(folder: Location, encode: Encode) -> TaskScores:
    """Evaluate classification.

    Parameters
    ----------
    folder : Location
        Folder of ``train.parquet`` and ``test.parquet``, each with ``text, label``.
    encode : callable
        Strings to float32 ndarray of shape (N, D).

    Returns
    -------
    TaskScores
        ``accuracy`` and macro-averaged ``f1``.

    Raises
    ------
    InputError
        If the training rows have but one label, or lack one of the test rows'.
    """
    train, test = (
        read_columns(folder / f"{part}.parquet", {"text": "text", "label": "text"})
        for part in ("train", "test")
    )
    if len(set(train["label"])) < 2:
        raise InputError(f"task {folder.path!r}", got="one label in train", expected="at least two")
    if unlearned := sorted(set(test["label"]) - set(train["label"])):
        raise InputError(
            f"task {folder.path!r}: column 'label'",
            got=f"{len(unlearned)} labels in test that train lacks",
            expected="labels that the head can learn",
            remedy="check that both files write labels alike",
        )
    vectors = encode([*train["text"], *test["text"]])
    rows = len(train["text"])
    predicted = predict_labels(vectors[:rows], train["label"], vectors[rows:])
    metrics = {
        "accuracy": float(accuracy_score(test["label"], predicted)),
        "f1": float(f1_score(test["label"], predicted, average="macro", zero_division=0.0)),
    }
    counts = {
        "train": rows,
        "test": len(test["text"]),
        "labels": len(set(train["label"])),
        "unknown": int(is_zero(vectors).sum()),
    }
    return TaskScores("accuracy", metrics, counts)


def predict_labels(train: np.ndarray, labels: list[str], test: np.ndarray) -> np.ndarray:
    """Train the head on vectors and let it name others' labels.

    Parameters
    ----------
    train : ndarray of shape (N, D)
    labels : list of str of length N
    test : ndarray of shape (M, D)

    Returns
    -------
    ndarray of str of shape (M,)

    Notes
    -----
    The head is scikit-learn's logistic regression (L2, C=1, LBFGS, at most 1,000 iterations) on columns
    that are standardised by the training rows, in float64. It has no random part. Model2Vec's authors use
    the same; standardised, it does not care how a model scales its vectors.
    """
    head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=_ITERATIONS))
    with one_thread():
        head.fit(train.astype(np.float64), labels)
        predicted: np.ndarray = head.predict(test.astype(np.float64))
    return predicted
