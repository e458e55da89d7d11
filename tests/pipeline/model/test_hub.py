"""Models in the cache of the Hugging Face hub."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lakevec.pipeline.errors import ModelError
from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.model.publishing import publish
from lakevec.pipeline.model.table import StaticTable
from tests.support.libraries import (
    MODEL2VEC,
)


def test_hub_model_is_read_from_the_cache_with_its_commit(
    foreign_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hub cache as huggingface_hub lays it out, read without a network; a folder in the repository too."""
    commit = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
    cache = tmp_path / "models--org--potion"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text(commit)
    source = foreign_models / "model2vec-rs-fixtures/test-model-float32"
    shutil.copytree(source, cache / "snapshots" / commit)
    shutil.copytree(foreign_models / MODEL2VEC[-1], cache / "snapshots" / commit / "small" / "one")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    artifact = load("hf://org/potion")
    assert artifact.table.fingerprint == load(str(source)).table.fingerprint
    assert artifact.provenance["hub"] == {"name": "org/potion", "commit": commit}
    assert load("hf://org/potion@main/small/one").table.dimensions == 64
    with pytest.raises(
        ModelError, match=r"can't be fetched from the Hugging.*offline, run 'hf download org/absent'"
    ):
        load("hf://org/absent")
    with pytest.raises(ModelError, match=r"^model 'org/potion' does not exist: .*give hf://org/potion$"):
        load("org/potion")


def test_published_model_is_read_from_the_hubs_cache_of_links(
    tiny_table: StaticTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the hub's cache lays it out: files are links to blobs of their repository, and to no other place."""
    publish(tiny_table, str(tmp_path / "model"), provenance={}, quality={})
    cache = tmp_path / "hub" / "models--org--tiny"
    snapshot = cache / "snapshots" / ("c" * 40)
    snapshot.mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("c" * 40)
    shutil.copytree(tmp_path / "model", cache / "blobs")
    for file in (cache / "blobs").iterdir():
        (snapshot / file.name).symlink_to(file)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    artifact = load("hf://org/tiny")
    assert artifact.table.fingerprint == tiny_table.fingerprint
    assert artifact.is_checked
    (snapshot / "model.safetensors").unlink()
    (snapshot / "model.safetensors").symlink_to(tmp_path / "model" / "model.safetensors")
    with pytest.raises(ModelError, match="is a link"):
        load("hf://org/tiny")
