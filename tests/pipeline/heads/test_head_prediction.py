"""Heads: trained, published, loaded, refused, and the same bits for a row in any batch."""

from __future__ import annotations

import doctest
import json
import pickle
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lakevec.pipeline.encoding.kernels.linear import to_chances, to_shares
from lakevec.pipeline.errors import DataError, ModelError, OutputError
from lakevec.pipeline.heads import columns, head_folder, options, training
from lakevec.pipeline.heads import head as head_module
from lakevec.pipeline.heads.columns import column_types, to_arrow_columns
from lakevec.pipeline.heads.description import describe_head
from lakevec.pipeline.heads.head import Head, HeadKind
from lakevec.pipeline.heads.head_folder import load_head, publish_head
from lakevec.pipeline.heads.options import HeadOptions
from lakevec.pipeline.heads.training import train_on_vectors
from lakevec.pipeline.model.artifact import Artifact
from lakevec.pipeline.model.table import StaticTable
from tests.support.models import make_word_tokenizer

WIDTH = 24


@pytest.fixture(scope="module")
def model() -> Artifact:
    tokenizer = make_word_tokenizer(["[UNK]", "a"]).to_str()
    return Artifact(StaticTable(np.ones((2, WIDTH), np.float32), tokenizer), "by hand")


def draw(rows: int, labels: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors around the centre of their label, whose columns have different scales."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(labels, WIDTH))
    own = random.integers(0, labels, rows)
    vectors = (centres[own] + random.normal(size=(rows, WIDTH)) * 2) * np.geomspace(0.01, 1, WIDTH)
    return vectors.astype(np.float32), own


def train(model: Artifact, vectors: np.ndarray, labels: Any, **more: Any) -> Head:
    return train_on_vectors(model, vectors, labels, name="topic", options=HeadOptions(**more))


@pytest.mark.parametrize("module", [head_module, columns, head_folder, options, training])
def test_docstring_examples_are_true(module: Any) -> None:
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("weight", ["none", "balanced"])
def test_probabilities_are_those_of_scikit_learn(model: Artifact, count: int, weight: str) -> None:
    vectors, own = draw(400, count)
    labels = [f"label {number}" for number in own]
    head = train(model, vectors, labels, regularization=0.1, held_out=0.0, class_weight=weight)
    order = np.random.default_rng(0).permutation(len(own))
    theirs = LogisticRegression(C=0.1, max_iter=1000, class_weight=None if weight == "none" else weight)
    pipeline = make_pipeline(StandardScaler(), theirs)
    pipeline.fit(vectors[order].astype(np.float64), [labels[row] for row in order])
    expected = pipeline.predict_proba(vectors.astype(np.float64))
    assert head.labels == tuple(pipeline.classes_)
    assert np.abs(head.probabilities(vectors) - expected).max() < 1e-6
    predicted = head.predict(vectors)
    assert (predicted.labels == pipeline.predict(vectors.astype(np.float64))).all()
    assert np.abs(predicted.probabilities - expected.max(axis=1)).max() < 1e-6


def test_several_labels_are_those_of_one_model_each(model: Artifact) -> None:
    vectors, own = draw(300, 4)
    labels = [
        [name for name, has in (("even", n % 2 == 0), ("high", n > 1), ("all", True)) if has] for n in own
    ]
    head = train(model, vectors, labels, regularization=0.1, held_out=0.0)
    assert (head.kind, head.labels) == (HeadKind.MULTI_LABEL, ("all", "even", "high"))
    order = np.random.default_rng(0).permutation(len(own))
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    pipeline.fit(vectors[order].astype(np.float64), own[order] > 1)
    expected = pipeline.predict_proba(vectors.astype(np.float64))[:, 1]
    assert np.abs(head.probabilities(vectors)[:, 2] - expected).max() < 1e-6
    predicted = head.predict(vectors)
    assert [("high" in row) for row in predicted.labels] == (expected >= 0.5).tolist()
    assert all(len(row) == len(shares) for row, shares in zip(*predicted, strict=True))
    assert all("all" in row for row in predicted.labels)


def test_numbers_are_learned(model: Artifact) -> None:
    vectors, _ = draw(400, 2)
    numbers = vectors.astype(np.float64) @ np.arange(WIDTH) + 100
    head = train(model, vectors, numbers.tolist())
    assert (head.kind, head.label_type, head.quality["r2"] > 0.99) == (HeadKind.REGRESSION, "double", True)
    assert head.quality["mean_absolute_error"] < head.quality["mean_absolute_error_of_the_mean"] / 10
    assert np.abs(head.predict(vectors).labels - numbers).mean() < 1


def test_figures_are_those_of_rows_that_training_has_not_seen(model: Artifact) -> None:
    vectors, own = draw(1000, 4)
    head = train(model, vectors, [int(number) for number in own])
    quality = head.quality
    assert quality["rows"] == 200 == sum(label["rows"] for label in quality["labels"])
    order = np.random.default_rng(0).permutation(1000)
    out = [order[own[order] == n][: round(0.2 * (own == n).sum())] for n in range(4)]
    right = sum((head.predict(vectors[rows]).labels == n).sum() for n, rows in enumerate(out))
    assert quality["accuracy"] == right / 200
    assert 0.25 < quality["accuracy_of_most_frequent_label"] + 0.05 < quality["accuracy"]


def test_same_rows_give_the_same_bits(model: Artifact) -> None:
    vectors, own = draw(300, 3)
    heads = [train(model, vectors, own.astype(str).tolist()) for _ in range(2)]
    assert heads[0].fingerprint == heads[1].fingerprint
    assert heads[0].quality == heads[1].quality
    assert train(model, vectors, own.astype(str).tolist(), seed=1).fingerprint != heads[0].fingerprint


def test_labels_of_one_row_are_learned_but_not_held_out(model: Artifact) -> None:
    vectors, own = draw(60, 2)
    labels = ["rare", *own[1:].astype(str).tolist()]
    head = train(model, vectors, labels, held_out=0.5)
    assert head.labels == ("0", "1", "rare")
    assert [label["rows"] for label in head.quality["labels"]][2] == 0


@pytest.mark.parametrize(
    "labels", [["a"] * 99 + ["b"], ["a"] * 57 + ["b", "c", "d"], ["a"] * 10_050 + ["b"] * 4]
)
def test_strength_is_chosen_with_rare_labels(model: Artifact, labels: list[str]) -> None:
    """Folds lack a label, and the first 10,000 rows may."""
    vectors, _ = draw(len(labels), 2)
    head = train(model, vectors, labels, held_out=0.0)
    assert head.labels == tuple(sorted(set(labels)))


def test_held_out_rows_leave_some_to_train_on(model: Artifact) -> None:
    vectors, own = draw(10, 2)
    with pytest.raises(DataError, match="2 beside the 8 held-out rows; expected at least 5"):
        train(model, vectors, own.astype(str).tolist(), held_out=0.9)


@pytest.mark.parametrize(
    ("labels", "wanted", "said"),
    [
        (["a"] * 9, "auto", "too few rows to train a head on: got 9 labelled rows"),
        (["a"] * 20, "auto", "got 1 different labels in 20 rows; expected at least two"),
        ([str(n) for n in range(20)], "auto", "got 20 different labels in 20 rows"),
        ([1.0] * 20, "auto", "numbers to learn: got equal ones only; expected finite numbers"),
        (
            [float("nan"), *[1.0] * 19],
            "auto",
            "numbers to learn: got 1 that are NaN or infinite; expected finite",
        ),
        (["a", 1] * 10, "auto", "labels: got int, str; expected strings"),
        (["a", "b"] * 10, "regression", "labels for kind regression: got labels for classification"),
        ([1.5, 2.5] * 10, "classification", "labels for kind classification: got labels for regression"),
    ],
)
def test_labels_that_can_not_be_learned_are_refused(
    model: Artifact, labels: list[Any], wanted: Any, said: str
) -> None:
    vectors = np.zeros((len(labels), WIDTH), np.float32)
    with pytest.raises(DataError) as caught:
        train(model, vectors, labels, kind=wanted)
    assert said in str(caught.value)


def make_head(kind: HeadKind, seed: int = 0) -> Head:
    random = np.random.default_rng(seed)
    count = 1 if kind is HeadKind.REGRESSION else 5
    labels = () if kind is HeadKind.REGRESSION else tuple("abcde")
    rows = random.normal(size=(count, WIDTH)).astype(np.float32)
    return Head("topic", kind, "sha256:0", rows, random.normal(size=count).astype(np.float32), labels)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(HeadKind), st.lists(st.integers(1, 50), min_size=1, max_size=8), st.integers(0, 99))
def test_row_has_the_same_bits_in_every_batch(kind: HeadKind, parts: list[int], seed: int) -> None:
    head = make_head(kind)
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(sum(parts), WIDTH)).astype(np.float32)
    is_null = random.random(len(vectors)) < 0.2
    whole = pa.table(to_arrow_columns([head], vectors, is_null))
    ends = np.cumsum(parts)[:-1]
    batches = zip(np.split(vectors, ends), np.split(is_null, ends), strict=True)
    apart = pa.concat_tables([pa.table(to_arrow_columns([head], *batch)) for batch in batches])
    assert apart.combine_chunks().to_pylist() == whole.to_pylist()
    assert [row[name] is None for name in whole.column_names for row in whole.to_pylist()] == (
        is_null.tolist() * whole.num_columns
    )


@given(st.lists(st.floats(-800, 800), min_size=2, max_size=6))
def test_shares_and_chances_are_exact(scores: list[float]) -> None:
    row = np.array([scores])
    shares, chances = row.copy(), row.copy()
    to_shares(shares)
    to_chances(chances)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        expected = np.exp(row - row.max())
        assert np.abs(shares - expected / expected.sum()).max() < 1e-15
        assert np.abs(chances - 1 / (1 + np.exp(-row))).max() < 1e-15


@pytest.mark.parametrize("kind", HeadKind)
def test_loads_what_was_published(kind: HeadKind, tmp_path: Path) -> None:
    head = replace(make_head(kind), max_tokens=7, quality={"rows": 2}, provenance={"model": {"uri": "m"}})
    publish_head(head, f"{tmp_path}/head")
    assert {file.name for file in (tmp_path / "head").iterdir()} == {
        *("head.json", "head.safetensors", "README.md")
    }
    loaded = load_head(f"{tmp_path}/head")
    assert loaded.fingerprint == head.fingerprint
    assert (loaded.name, loaded.labels, loaded.max_tokens) == ("topic", head.labels, 7)
    size = len(pickle.dumps(loaded))
    loaded.predict(np.zeros((1, WIDTH), np.float32))
    assert pickle.loads(pickle.dumps(loaded)).fingerprint == head.fingerprint
    assert len(pickle.dumps(loaded)) < size + 200
    assert head.fingerprint in (tmp_path / "head" / "README.md").read_text()
    assert f"{tmp_path}/head, all hashes correct" in describe_head(loaded)["head"]
    assert list(tmp_path.iterdir()) == [tmp_path / "head"]
    with pytest.raises(OutputError, match="a new place, since published heads never change"):
        publish_head(head, f"{tmp_path}/head")


@pytest.mark.parametrize(
    "change",
    [
        {"coefficients": np.ones((5, WIDTH), np.float32)},
        {"intercepts": np.ones(5, np.float32)},
        {"labels": tuple("abcdf")},
        {"labels": tuple(range(5))},
        {"kind": HeadKind.MULTI_LABEL},
        {"model": "sha256:1"},
        {"max_tokens": 9},
        {"threshold": 0.6},
    ],
    ids=lambda change: next(iter(change)),
)
def test_fingerprint_covers_everything_that_changes_a_prediction(change: dict[str, Any]) -> None:
    head = make_head(HeadKind.CLASSIFICATION)
    assert replace(head, **change).fingerprint != head.fingerprint
    assert replace(head, name="other", quality={"x": 1}).fingerprint == head.fingerprint


def edit(folder: Path, **change: Any) -> None:
    file = folder / "head.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"threshold": 0.4}, "head.json does not describe this head"),
        ({"labels": list("abcd")}, "got 4 labels and 5 rows"),
        ({"labels": [1, 2, 3, 4, 5]}, "expected labels of the type in label_type"),
        ({"labels": list("aabcd")}, "expected different strings"),
        ({"kind": "neural"}, "can't be read"),
        ({"model": {}}, "'fingerprint': got NoneType"),
        ({"provenance": {"model": []}}, "'model': got list; expected dict"),
        ({"name": "a b"}, "name of a head: got 'a b'"),
        ({"max_tokens": "9"}, "'max_tokens': expected an integer or null"),
        ({"format_version": "2.0"}, "another format version: got 2.0; expected 1.x"),
        ({"format": "lakevec-model"}, 'expected "format": "lakevec-head"'),
        ({"files": {"../x": {"bytes": 1, "sha256": ""}}}, "lists a file outside the folder"),
        ({"files": {}}, "does not list head.safetensors"),
    ],
)
def test_manifest_that_lies_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    publish_head(make_head(HeadKind.CLASSIFICATION), f"{tmp_path}/head")
    edit(tmp_path / "head", **change)
    with pytest.raises(ModelError) as caught:
        load_head(f"{tmp_path}/head")
    assert said in str(caught.value)


def test_damaged_linked_and_missing_heads_are_refused(tmp_path: Path) -> None:
    publish_head(make_head(HeadKind.CLASSIFICATION), f"{tmp_path}/head")
    file = tmp_path / "head" / "head.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ModelError, match=r"head.safetensors is damaged: got another sha256 than recorded"):
        load_head(f"{tmp_path}/head")
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="is a link"):
        load_head(f"{tmp_path}/head")
    with pytest.raises(ModelError, match=r"is no head: expected a folder with head\.json"):
        load_head(str(tmp_path))


def test_vectors_of_another_width_or_type_are_refused() -> None:
    head = make_head(HeadKind.REGRESSION)
    with pytest.raises(DataError, match=r"got float64 of shape \(1, 3\); expected float32 of shape"):
        head.predict(np.zeros((1, 3)))
    with pytest.raises(DataError, match="has no probabilities"):
        head.probabilities(np.zeros((1, WIDTH), np.float32))


@pytest.mark.parametrize(
    ("labels", "kind"), [((1, 5), "bigint"), ((False, True), "boolean"), (("a", "b"), "string")]
)
def test_labels_keep_their_type(labels: tuple[Any, ...], kind: str) -> None:
    rows = np.eye(2, dtype=np.float32)
    head = Head("h", HeadKind.CLASSIFICATION, "sha256:0", rows, np.zeros(2, np.float32), labels)
    assert column_types(head) == {"h_label": kind, "h_probability": "float"}
    got = to_arrow_columns([head], rows, np.array([False, False]))
    assert got["h_label"].to_pylist() == list(labels)
    assert head.predict(rows).labels.tolist() == list(labels)
