"""Classification: by hand, and beside another solver."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import scale

from lakevec.pipeline.errors import InputError
from lakevec.pipeline.evaluation.classification import load_classification, predict_labels
from lakevec.pipeline.evaluation.embedding_model import (
    StaticEmbeddingModel,
)
from tests.support.tasks import place, point, read, score, write


def test_head_agrees_with_another_solver(shared_data: Path, potion: StaticEmbeddingModel) -> None:
    train, test = (
        read(shared_data / "classification" / "sst2" / f"{part}.parquet") for part in ("train", "test")
    )
    train = train[::30]
    seen = potion.encode(train.text).astype(np.float64)
    unseen = potion.encode(test.text).astype(np.float64)
    found = predict_labels(seen, train.label.tolist(), unseen)
    head = LogisticRegression(solver="newton-cholesky", tol=1e-10).fit(scale(seen), train.label)
    expected = head.predict((unseen - seen.mean(axis=0)) / seen.std(axis=0))
    assert (found == expected).mean() > 0.998
    assert 0.6 < (found == test.label).mean() < 0.9


def test_head_does_not_care_how_vectors_are_scaled() -> None:
    random = np.random.default_rng(0)
    seen, unseen = random.normal(size=(200, 8)), random.normal(size=(100, 8))
    labels = np.where(seen[:, 0] > seen[:, 1], "yes", "no").tolist()
    found = predict_labels(seen, labels, unseen)
    assert (predict_labels(seen * 1000, labels, unseen * 1000) == found).all()
    assert (found == np.where(unseen[:, 0] > unseen[:, 1], "yes", "no")).mean() > 0.9


def test_classification_by_hand(tmp_path: Path) -> None:
    write(tmp_path / "t" / "train.parquet", text=["north", "east"] * 3, label=["n", "e"] * 3)
    write(
        tmp_path / "t" / "test.parquet", text=["north", "east", "east", "nowhere"], label=["n", "e", "n", "n"]
    )
    scores = score(load_classification(place(tmp_path / "t")), point)
    assert scores.metrics["accuracy"] in (0.5, 0.75)  # nowhere lies on the border
    assert scores.counts == {"train": 6, "test": 4, "labels": 2, "unknown": 1}


def test_labels_that_training_lacks_are_refused(tmp_path: Path) -> None:
    for part, labels in (("train", ["1", "2"]), ("test", ["1", "2.0"])):
        pq.write_table(pa.table({"text": ["a", "bb"], "label": labels}), tmp_path / f"{part}.parquet")
    with pytest.raises(InputError, match="column 'label': got 1 labels in test that train lacks"):
        load_classification(place(tmp_path))
