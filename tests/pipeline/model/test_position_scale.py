"""Models with position weights: their folder, their identity, and what other readers make of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lakevec.pipeline.errors import ModelError
from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.model.description import describe
from lakevec.pipeline.model.publishing import export, publish
from lakevec.pipeline.model.table import StaticTable
from tests.support.commands import convert


@pytest.fixture
def weighted(tiny_table: StaticTable) -> StaticTable:
    return replace(tiny_table, position_scale=8)


@pytest.fixture
def model(weighted: StaticTable, tmp_path: Path) -> Path:
    publish(weighted, str(tmp_path / "model"), quality={"score": 0.5})
    return tmp_path / "model"


def fingerprint_of_1_1(table: StaticTable) -> str:
    """The fingerprint that readers of format 1.1 compute, from docs/artifact.md."""
    head = {
        "scheme": 1,
        "shape": list(table.embeddings.shape),
        "dtype": table.embeddings.dtype.name,
        "normalize": table.normalize,
        "tokenizer": hashlib.sha256(table.tokenizer_json.encode()).hexdigest(),
    }
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(table.embeddings).data)
    return f"sha256:{digest.hexdigest()}"


def test_published_scale_is_loaded(weighted: StaticTable, model: Path) -> None:
    manifest = json.loads((model / "lakevec.json").read_text())
    assert (manifest["format_version"], manifest["position_scale"]) == ("1.2", 8.0)
    loaded = load(str(model)).table
    assert loaded.position_scale == 8.0
    assert loaded.fingerprint == weighted.fingerprint == manifest["fingerprint"]


def test_plain_models_are_written_as_before(tiny_table: StaticTable, tmp_path: Path) -> None:
    publish(tiny_table, str(tmp_path / "plain"))
    manifest = json.loads((tmp_path / "plain" / "lakevec.json").read_text())
    assert manifest["format_version"] == "1.1"
    assert "position_scale" not in manifest
    assert manifest["fingerprint"] == fingerprint_of_1_1(tiny_table)


def test_readers_of_format_1_1_refuse_the_model(weighted: StaticTable, model: Path) -> None:
    """They know no position weights, and would compare another fingerprint with the manifest's."""
    manifest = json.loads((model / "lakevec.json").read_text())
    assert fingerprint_of_1_1(weighted) != manifest["fingerprint"]


@pytest.mark.parametrize("change", [{"position_scale": 9.0}, {"position_scale": None}], ids=str)
def test_changed_scale_is_found(model: Path, change: dict[str, Any]) -> None:
    file = model / "lakevec.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ModelError, match=r"lakevec\.json does not describe this table"):
        load(str(model))


@pytest.mark.parametrize("scale", ["8", True, [8], 0, -1.0, float("inf"), float("nan"), 10**400], ids=repr)
def test_scale_that_is_no_finite_positive_number_is_refused(
    tiny_table: StaticTable, model: Path, scale: Any
) -> None:
    with pytest.raises(ModelError, match=r"position_scale: got .*; expected a finite number above 0"):
        replace(tiny_table, position_scale=scale)
    file = model / "lakevec.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "position_scale": scale}))
    with pytest.raises(ModelError, match="position_scale: got"):
        load(str(model))


def test_whole_number_is_the_same_scale(tiny_table: StaticTable) -> None:
    one, other = (replace(tiny_table, position_scale=scale) for scale in (8, 8.0))
    assert one.fingerprint == other.fingerprint


def test_inspection_and_card_tell_the_weights(model: Path) -> None:
    assert describe(load(str(model)))["positions"] == "token p of a text, from 0 on, counts 1 / (1 + p / 8)"
    card = (model / "README.md").read_text()
    assert "is the weighted mean of its known tokens' rows" in card
    assert (
        "counts 1 / (1 + p / 8) in lakevec. model2vec and Sentence Transformers read the plain mean" in card
    )
    assert "give the same vectors" not in card


@pytest.mark.parametrize("to", ["model2vec", "sentence-transformers"])
def test_other_libraries_read_the_plain_mean(
    tiny_table: StaticTable, model: Path, to: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    assert convert([str(model), "--output", str(other), "--to", to]) == 0
    assert "position weights are left out" in capsys.readouterr().out
    assert "read the plain mean of this table" in (other / "README.md").read_text()
    read = load(str(other)).table
    assert read.position_scale is None
    export(load(str(model)), str(tmp_path / "again"), to=to)
    assert load(str(tmp_path / "again")).table.fingerprint == read.fingerprint


def test_both_libraries_load_the_published_folder(tiny_table: StaticTable, model: Path) -> None:
    from model2vec import StaticModel
    from sentence_transformers import SentenceTransformer

    texts = ["north east east"]
    plain = load(str(model)).table
    expected = (plain.embeddings[1] + 2 * plain.embeddings[2]) / 3
    for library in (StaticModel.from_pretrained(str(model)), SentenceTransformer(str(model), device="cpu")):
        np.testing.assert_allclose(library.encode(texts)[0], expected, rtol=1e-6)
    assert not np.allclose(load(str(model)).encode(texts)[0], expected)
