"""Classification: the accuracy of a logistic regression on the vectors."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lakevec.pipeline.errors import InputError
from lakevec.pipeline.evaluation.metrics import TaskData, TaskScores, count_unknown, one_thread
from lakevec.pipeline.evaluation.task_files import check_varies, read_columns
from lakevec.pipeline.storage import Location

_ITERATIONS = 1000


def load_classification(folder: Location) -> TaskData:
    """Load a classification task: ``train.parquet`` and ``test.parquet``, each with ``text, label``."""
    files = folder / "train.parquet", folder / "test.parquet"
    train, test = (read_columns(file, {"text": "text", "label": "text"}) for file in files)
    check_varies(files[0], "label", train["label"])
    labels = set(train["label"])
    if unlearned := set(test["label"]) - labels:
        raise InputError(
            f"task {folder.path!r}: column 'label'",
            got=f"{len(unlearned)} labels in test that train lacks",
            expected="labels of the training rows",
            remedy="spell labels the same way in both files",
        )
    rows = len(train["text"])

    def score(vectors: np.ndarray) -> TaskScores:
        predicted = predict_labels(vectors[:rows], train["label"], vectors[rows:])
        metrics = {
            "accuracy": float(accuracy_score(test["label"], predicted)),
            "f1": float(f1_score(test["label"], predicted, average="macro", zero_division=0.0)),
        }
        counts = {"train": rows, "test": len(predicted), "labels": len(labels)}
        return TaskScores("accuracy", metrics, {**counts, "unknown": count_unknown(vectors)})

    return TaskData([*train["text"], *test["text"]], score)


def predict_labels(train: np.ndarray, labels: list[str], test: np.ndarray) -> np.ndarray:
    """Fit a classifier on vectors of shape (N, D) and their labels; predict the labels of other vectors.

    It is scikit-learn's logistic regression (L2, C=1, LBFGS, at most 1,000 iterations) in float64. Columns
    are standardised by the training rows, so the scale of the vectors does not matter. Nothing is random.
    Model2Vec's authors use the same classifier.
    """
    head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=_ITERATIONS))
    with one_thread():
        head.fit(train.astype(np.float64), labels)
        predicted: np.ndarray = head.predict(test.astype(np.float64))
    return predicted
