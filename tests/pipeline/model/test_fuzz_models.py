"""Hostile models: an error of one line, or the right vectors, whatever bytes are damaged or planted."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from lakevec.jobs.cli import RunContext, run_job
from lakevec.pipeline.encoding.encoder import Encoder
from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.model.publishing import publish
from lakevec.pipeline.model.table import StaticTable
from lakevec.pipeline.settings.models import InspectSettings
from tests.support.fuzzing import DOCUMENTS, change, fuzz, outcome, peak_bytes, spoil

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"
)


TEXTS = pa.array(["North east", "nowhere", "", None, "southwest \u0130 east", "north " * 300])


@pytest.fixture(scope="module")
def models(tiny_table: StaticTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published model, and the same as model2vec writes it: without a manifest."""
    folder = tmp_path_factory.mktemp("models")
    publish(tiny_table, str(folder / "own"), provenance={}, quality={})
    shutil.copytree(folder / "own", folder / "model2vec")
    (folder / "model2vec" / "lakevec.json").unlink()
    (folder / "model2vec" / "README.md").unlink()
    return folder


@contextmanager
def a_copy(models: Path, kind: str) -> Iterator[Path]:
    """A model to spoil, in a folder with a neighbour that must stay as it is."""
    parent = models / "spoiled"
    shutil.rmtree(parent, ignore_errors=True)
    shutil.copytree(models / kind, parent / "model")
    (parent / "canary").write_text("stays")
    before = peak_bytes()
    yield parent / "model"
    assert {file.name for file in parent.iterdir()} == {"canary", "model"}
    assert (parent / "canary").read_text() == "stays"
    assert peak_bytes() - before < 1 << 29


def vectors_of(folder: Path) -> np.ndarray | None:
    """Return the vectors of a model that loads; None where it is refused in one line."""
    found: list[StaticTable] = []

    def read(settings: InspectSettings, context: RunContext) -> None:
        found.append(load(settings.model).table)

    code, _ = outcome(lambda: run_job(InspectSettings, read, [str(folder)], name="inspect"))
    assert (code, bool(found)) in ((0, True), (2, False))
    return Encoder(found[0]).encode(TEXTS).vectors if found else None


def certify(folder: Path) -> None:
    """Make the manifest fit the files, as whoever can write the folder can."""
    manifest = json.loads((folder / "lakevec.json").read_text())
    for name in manifest["files"]:
        content = (folder / name).read_bytes()
        manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "lakevec.json").write_text(json.dumps(manifest))


@given(data=st.data())
@fuzz(120)
def test_damaged_published_model_gives_the_same_vectors_or_none(data: st.DataObject, models: Path) -> None:
    right = vectors_of(models / "own")
    with a_copy(models, "own") as folder:
        names = sorted(file.name for file in folder.iterdir())
        for name in data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True)):
            spoil(folder / name, data)
        found = vectors_of(folder)
    # Without the manifest it is another library's model, which nothing vouches for.
    is_ours = (models / "spoiled" / "model" / "lakevec.json").exists()
    assert found is None or not is_ours or found.tobytes() == right.tobytes()


def pack(head: Any, content: bytes, *, declared: int | None = None) -> bytes:
    """Write a safetensors file by hand."""
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return struct.pack("<Q", len(text) if declared is None else declared) + text + content


ROWS = np.array([[0, 0], [0, 1], [1, 0], [-1, -1]], dtype=np.float32)
HEAD = {"dtype": "F32", "shape": [4, 2], "data_offsets": [0, 32]}


def with_rows(array: np.ndarray, **others: np.ndarray) -> bytes:
    return safetensors.numpy.save({"embeddings": array, **others})


TENSORS = {
    "nothing": b"",
    "seven bytes": b"1234567",
    "header of 2**60": pack({}, b"", declared=1 << 60),
    "header of 2**64 - 1": pack({}, b"", declared=2**64 - 1),
    "nested header": pack(b'{"a":' * 100_000, b""),
    "name with a line's end": pack({"em\nbeddings": HEAD}, ROWS.tobytes()),
    "other name": pack({"embedding": HEAD}, ROWS.tobytes()),
    "swapped rows and weights": with_rows(ROWS[:, 0].copy(), weights=ROWS),
    "swapped rows": with_rows(ROWS[::-1].copy()),
    "one row less": with_rows(ROWS[:3].copy()),
    "transposed": with_rows(ROWS.T.copy()),
    "float64": with_rows(np.full((4, 2), 1e300)),
    "int64": with_rows(ROWS.astype(np.int64)),
    "bool": with_rows(ROWS.astype(bool)),
    "nan": with_rows(np.full((4, 2), np.nan, np.float32)),
    "infinity": with_rows(np.full((4, 2), -np.inf, np.float16)),
    "giant": with_rows(np.full((4, 2), 3e38, np.float32)),
    "weights of nan": with_rows(ROWS, weights=np.full(4, np.nan, np.float32)),
    "weights of 1e30": with_rows(ROWS * 1e20, weights=np.full(4, 1e20, np.float32)),
    "mapping beyond": with_rows(ROWS, mapping=np.array([0, 1, 2, 4], np.int32)),
    "mapping below": with_rows(ROWS, mapping=np.array([0, 1, 2, -1], np.int32)),
    "mapping of 2**64 - 1": with_rows(ROWS, mapping=np.array([0, 1, 2, 2**64 - 1], np.uint64)),
    "bfloat16": pack({"embeddings": {**HEAD, "dtype": "BF16", "shape": [8, 2]}}, ROWS.tobytes()),
    "float8": pack({"embeddings": {**HEAD, "dtype": "F8_E4M3", "shape": [16, 2]}}, ROWS.tobytes()),
    "scalar": pack({"embeddings": {**HEAD, "shape": [], "data_offsets": [0, 4]}}, ROWS.tobytes()[:4]),
    "no rows of 2**62": pack({"embeddings": {**HEAD, "shape": [0, 2**62], "data_offsets": [0, 0]}}, b""),
    "no rows of 2**63": pack({"embeddings": {**HEAD, "shape": [0, 2**63], "data_offsets": [0, 0]}}, b""),
    "many dimensions": pack({"embeddings": {**HEAD, "shape": [1] * 100 + [4, 2]}}, ROWS.tobytes()),
    "negative shape": pack({"embeddings": {**HEAD, "shape": [-4, -2]}}, ROWS.tobytes()),
    "pickle": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
}


@pytest.mark.parametrize("content", TENSORS.values(), ids=TENSORS.keys())
def test_tensors_of_anything_are_refused_in_a_published_model(content: bytes, models: Path) -> None:
    with a_copy(models, "own") as folder:
        (folder / "model.safetensors").write_bytes(content)
        assert vectors_of(folder) is None
        certify(folder)
        assert vectors_of(folder) is None  # the fingerprint still tells


@pytest.mark.parametrize("content", TENSORS.values(), ids=TENSORS.keys())
def test_tensors_of_anything_are_refused_or_finite_in_another_model(content: bytes, models: Path) -> None:
    right = vectors_of(models / "model2vec")
    with a_copy(models, "model2vec") as folder:
        (folder / "model.safetensors").write_bytes(content)
        found = vectors_of(folder)
    assert found is None or (found.shape == right.shape and np.isfinite(found).all())


@pytest.mark.parametrize("kind", ["own", "model2vec"])
def test_nested_header_of_100_megabytes_is_refused(kind: str, models: Path) -> None:
    with a_copy(models, kind) as folder:
        with (folder / "model.safetensors").open("wb") as file:
            file.write(struct.pack("<Q", 100_000_000))
            file.write(b"[" * 100_000_000)
        assert vectors_of(folder) is None


@pytest.mark.parametrize("name", ["lakevec.json", "tokenizer.json", "config.json", "modules.json"])
@pytest.mark.parametrize("content", DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_documents_of_anything_are_refused(name: str, content: str, models: Path) -> None:
    with a_copy(models, "own") as folder:
        (folder / name).write_text(content)
        assert vectors_of(folder) is None
    with a_copy(models, "model2vec") as folder:
        (folder / name).write_text(content)
        found = vectors_of(folder)  # a configuration without a known key is one of nothing but defaults
        assert found is None or (np.isfinite(found).all() and name in ("config.json", "modules.json"))


@given(data=st.data())
@fuzz(40)
def test_manifest_with_other_values_is_refused_or_harmless(data: st.DataObject, models: Path) -> None:
    right = vectors_of(models / "own")
    with a_copy(models, "own") as folder:
        file = folder / "lakevec.json"
        file.write_text(json.dumps(change(json.loads(file.read_text()), data)))
        found = vectors_of(folder)
    assert found is None or found.tobytes() == right.tobytes()


@given(data=st.data(), name=st.sampled_from(["tokenizer.json", "config.json", "modules.json"]))
@fuzz(110)
def test_documents_with_other_values_are_refused_or_harmless(
    data: st.DataObject, name: str, models: Path
) -> None:
    right = vectors_of(models / "own")
    with a_copy(models, "own") as folder:
        document = change(json.loads((folder / name).read_text()), data)
        (folder / name).write_text(json.dumps(document))
        certify(folder)
        found = vectors_of(folder)
    assert found is None or found.tobytes() == right.tobytes()
    with a_copy(models, "model2vec") as folder:
        (folder / name).write_text(json.dumps(document))
        found = vectors_of(folder)
    assert found is None or np.isfinite(found).all()


TOKENIZERS: dict[str, dict[str, Any]] = {
    "panic in a map of characters": {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
    "id of 2**32 - 1": {"model": {"type": "WordLevel", "unk_token": "a", "vocab": {"a": 0, "b": 2**32 - 1}}},
    "no unknown token": {
        "model": {"type": "WordLevel", "unk_token": "x", "vocab": {"a": 0, "b": 1, "c": 2, "d": 3}}
    },
    "id beyond": {"model": {"type": "Unigram", "unk_id": 9, "vocab": [[word, 0.0] for word in "abcd"]}},
    "no words": {"model": {"type": "WordLevel", "unk_token": "a", "vocab": {}}},
    "bad expression": {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Removed"}},
    "version": {"version": "a\nb"},
}


@pytest.mark.parametrize("changes", TOKENIZERS.values(), ids=TOKENIZERS.keys())
@pytest.mark.parametrize(
    ("kind", "repair"), [("own", certify), ("model2vec", lambda folder: None)], ids=["own", "model2vec"]
)
def test_tokenizers_that_can_not_work_are_refused(
    kind: str, repair: Callable[[Path], None], changes: dict[str, Any], models: Path
) -> None:
    with a_copy(models, kind) as folder:
        document = json.loads((folder / "tokenizer.json").read_text())
        (folder / "tokenizer.json").write_text(json.dumps(document | changes))
        repair(folder)
        with Path(os.devnull).open("w") as nowhere, quiet_rust(nowhere.fileno()):
            assert vectors_of(folder) is None


@contextmanager
def quiet_rust(handle: int) -> Iterator[None]:
    """Keep what a panic writes by itself off the screen."""
    screen = os.dup(2)
    os.dup2(handle, 2)
    try:
        yield
    finally:
        os.dup2(screen, 2)
        os.close(screen)


@pytest.mark.parametrize(
    "path", ["../model", "/etc", "a/../..", "a\0b", "a\nb", "\ud800", "x" * 2000, "..", "~root"]
)
def test_modules_that_lead_outside_are_refused_or_not_followed(path: str, models: Path) -> None:
    right = vectors_of(models / "model2vec")
    with a_copy(models, "model2vec") as folder:
        (folder / "modules.json").write_text(json.dumps([{"path": path, "type": "x.StaticEmbedding"}]))
        found = vectors_of(folder)
    assert found is None or found.tobytes() == right.tobytes()


@pytest.mark.parametrize(
    "name", ["../canary", "/etc/hostname", "a/b", "", ".", "..", ".hidden", "x" * 300, "a\n"]
)
def test_manifest_that_names_other_files_is_refused(name: str, models: Path) -> None:
    with a_copy(models, "own") as folder:
        manifest = json.loads((folder / "lakevec.json").read_text())
        manifest["files"][name] = {"bytes": 5, "sha256": hashlib.sha256(b"stays").hexdigest()}
        (folder / "lakevec.json").write_text(json.dumps(manifest))
        assert vectors_of(folder) is None


def make_giant(file: Path) -> None:
    """A terabyte of nothing, which takes no place on the disk."""
    with file.open("wb") as stream:
        stream.truncate(1 << 40)


SPECIAL_FILES: dict[str, Callable[[Path], Any]] = {
    "missing": lambda file: None,
    "pipe": os.mkfifo,
    "folder": os.mkdir,
    "device": lambda file: file.symlink_to("/dev/zero"),
    "loop": lambda file: file.symlink_to(file),
    "giant": make_giant,
}
DOCUMENT_NAMES = ["lakevec.json", "config.json", "modules.json"]
# Other libraries' tokenizers and tensors may be of any size.
NOT_LIMITED = {
    ("model2vec", "tokenizer.json"),
    ("own", "model.safetensors"),
    ("model2vec", "model.safetensors"),
}


@pytest.mark.parametrize(
    ("kind", "name", "how"),
    [
        (kind, name, how)
        for kind in ("own", "model2vec")
        for name in (*DOCUMENT_NAMES, "tokenizer.json", "model.safetensors")
        for how in SPECIAL_FILES
        if how != "giant" or (kind, name) not in NOT_LIMITED
    ],
)
def test_special_files_neither_hang_nor_fill_the_memory(kind: str, name: str, how: str, models: Path) -> None:
    """A pipe would wait for ever for a writer, a device gives without an end."""
    right = vectors_of(models / kind)
    with a_copy(models, kind) as folder:
        (folder / name).unlink(missing_ok=True)
        SPECIAL_FILES[how](folder / name)
        found = vectors_of(folder)
    assert found is None or found.tobytes() == right.tobytes()
