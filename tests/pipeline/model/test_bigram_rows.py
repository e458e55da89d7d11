"""Models with bigrams: their folder, their identity, and who refuses them."""

from __future__ import annotations

import hashlib
import json
import mmap
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import safetensors.numpy

from lakevec.pipeline.encoding.encoder import Encoder, warm_up
from lakevec.pipeline.encoding.kernels.bigram_search import fill_buckets
from lakevec.pipeline.encoding.node_files import open_encoder, pack_table, table_files
from lakevec.pipeline.encoding.options import EncodeOptions
from lakevec.pipeline.errors import ModelError
from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.model.bigrams import pack_pairs
from lakevec.pipeline.model.description import describe
from lakevec.pipeline.model.publishing import publish
from lakevec.pipeline.model.table import StaticTable
from tests.support.commands import convert
from tests.support.models import BIGRAM_PAIRS, make_bigrams


@pytest.fixture
def table(tiny_table: StaticTable) -> StaticTable:
    return replace(tiny_table, bigrams=make_bigrams())


@pytest.fixture
def model(table: StaticTable, tmp_path: Path) -> Path:
    quality = {"score": 0.75, "without_bigrams_score": 0.25}
    publish(table, str(tmp_path / "model"), quality=quality)
    return tmp_path / "model"


def test_published_bigrams_are_loaded(table: StaticTable, model: Path) -> None:
    manifest = json.loads((model / "lakevec.json").read_text())
    assert (manifest["format_version"], manifest["bigrams"]) == ("1.2", 3)
    assert manifest["files"].keys() == {"model.safetensors", "tokenizer.json", "bigrams.safetensors"}
    loaded = load(str(model))
    assert loaded.table.bigrams is not None
    assert loaded.table.bigrams.pairs.tolist() == BIGRAM_PAIRS
    assert loaded.table.fingerprint == table.fingerprint
    assert loaded.encode(["north east"]).tolist() == [[2.5, 0.5]]


def test_fingerprint_covers_pairs_and_rows(tiny_table: StaticTable, table: StaticTable) -> None:
    own = make_bigrams()
    others = [
        replace(own, pairs=np.array([[1, 1], [2, 2], [3, 1]], np.int32)),
        replace(own, embeddings=own.embeddings + 1),
        replace(own, scales=own.scales / 2),
    ]
    found = {replace(tiny_table, bigrams=bigrams).fingerprint for bigrams in others}
    assert len({*found, tiny_table.fingerprint, table.fingerprint}) == 5


def test_damaged_and_unlisted_bigrams_are_found(model: Path) -> None:
    file, manifest = model / "bigrams.safetensors", model / "lakevec.json"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ModelError, match=r"bigrams\.safetensors is damaged"):
        load(str(model))
    listed = json.loads(manifest.read_text())
    del listed["files"]["bigrams.safetensors"]
    manifest.write_text(json.dumps(listed))
    # So a reader that knows no bigrams refuses the folder: its fingerprint is that of the tokens' table.
    with pytest.raises(ModelError, match="does not describe this table"):
        load(str(model))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pairs": np.zeros((3, 2), np.int64)}, "pairs of bigrams: got int64"),
        ({"pairs": np.zeros((0, 2), np.int32)}, "pairs of bigrams: got int32 of shape"),
        ({"pairs": np.array([[1, 2], [1, 2], [2, 2]], np.int32)}, "bigrams are not in order"),
        ({"pairs": np.array([[2, 2], [1, 2], [3, 1]], np.int32)}, "bigrams are not in order"),
        ({"pairs": np.array([[1, 2], [2, 2], [3, 4]], np.int32)}, "tokens that the table lacks"),
        ({"pairs": np.array([[-1, 2], [2, 2], [3, 1]], np.int32)}, "tokens that the table lacks"),
        ({"embeddings": np.zeros((3, 3), np.int8)}, r"embeddings of bigrams: got int8 of shape \(3, 3\)"),
        (
            {"embeddings": np.zeros((3, 2), np.float32)},
            r"got float32 of shape \(3, 2\); expected int8 of shape \(3, 2\); tune the model again",
        ),
        ({"scales": np.ones(3, np.float32)}, "scales of bigrams: got float32 of shape"),
        ({"scales": np.ones(2)}, "scales of bigrams: got float64 of shape"),
        ({"scales": np.array([1, 0], np.float32)}, "scales of bigrams: got 0 for column 1; expected above 0"),
        ({"scales": np.array([-1, 1], np.float32)}, "scales of bigrams: got -1 for column 0"),
        ({"scales": np.array([1, np.nan], np.float32)}, "scales of bigrams: got nan for column 1"),
        ({"scales": np.array([np.inf, 1], np.float32)}, "scales of bigrams: got inf for column 0"),
        (
            {"scales": np.array([1, 1e29], np.float32)},
            r"got 1e[+]29 for column 1; expected above 0, at most 7\.874e[+]27; tune the model again",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bigrams_that_do_not_fit_are_refused(
    tiny_table: StaticTable, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        replace(tiny_table, bigrams=replace(make_bigrams(), **change))


def test_file_of_other_tensors_is_refused(model: Path) -> None:
    """Such as a file with one scale, which no release has written."""
    file, manifest = model / "bigrams.safetensors", model / "lakevec.json"
    tensors = safetensors.numpy.load_file(file)
    del tensors["scales"]
    safetensors.numpy.save_file({**tensors, "scale": np.ones(1, np.float32)}, file)
    listed = json.loads(manifest.read_text())
    data = file.read_bytes()
    entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    listed["files"]["bigrams.safetensors"] = entry
    manifest.write_text(json.dumps(listed))
    with pytest.raises(ModelError, match="got embeddings, pairs, scale; expected embeddings, pairs, scales;"):
        load(str(model))


def test_machine_code_of_a_warm_process_serves_mapped_files(
    tiny_table: StaticTable, table: StaticTable, tmp_path: Path
) -> None:
    warm_up(table)
    before = list(fill_buckets.signatures)
    assert before
    open_encoder(pack_table(table, node_dir=str(tmp_path)).provide(), EncodeOptions())
    assert fill_buckets.signatures == before, "a worker would compile"


def test_encoder_keeps_its_bigrams_when_pickled_and_on_nodes(
    tiny_table: StaticTable, table: StaticTable, tmp_path: Path
) -> None:
    texts = pa.array(["north east east", None, "southwest north"])
    expected = Encoder(table).encode(texts).vectors.tobytes()
    assert expected != Encoder(tiny_table).encode(texts).vectors.tobytes()
    assert pickle.loads(pickle.dumps(Encoder(table))).encode(texts).vectors.tobytes() == expected
    opened = open_encoder(pack_table(table, node_dir=str(tmp_path)).provide(), EncodeOptions())
    assert opened.encode(texts).vectors.tobytes() == expected
    assert opened._bigrams is not None
    base = opened._bigrams.bigrams.embeddings
    while isinstance(base, np.ndarray):
        base = base.base  # type: ignore[assignment]
    assert isinstance(base, mmap.mmap), "workers would copy the rows"
    assert table_files(tiny_table).keys() == {"embeddings.npy", "table.json"}


@pytest.mark.parametrize("lost", ["bigram_*.npy", "bigram_scales.npy"], ids=["all", "one"])
def test_copy_that_lost_its_bigrams_is_not_taken_for_a_plain_table(
    table: StaticTable, tmp_path: Path, lost: str
) -> None:
    """Another process may remove files of a copy. Then the task fails, and Spark starts it again."""
    folder = pack_table(table, node_dir=str(tmp_path)).provide()
    for file in folder.glob(lost):
        file.unlink()
    with pytest.raises(FileNotFoundError, match="bigram_"):
        open_encoder(folder, EncodeOptions())


def test_other_libraries_refuse_the_folder(model: Path) -> None:
    from model2vec import StaticModel
    from sentence_transformers import SentenceTransformer

    with pytest.raises(ValueError, match="Could not find expected model files"):
        StaticModel.from_pretrained(str(model))
    with pytest.raises(ValueError, match="Unrecognized model"):
        SentenceTransformer(str(model), device="cpu")


@pytest.mark.parametrize("to", ["model2vec", "sentence-transformers"])
def test_export_leaves_the_bigrams_out_and_says_so(
    tiny_table: StaticTable, model: Path, to: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    assert convert([str(model), "--output", str(other), "--to", to]) == 0
    sentence = "xported without its 3 bigram rows; figures measured with them do not apply"
    assert sentence in capsys.readouterr().out
    card = (other / "README.md").read_text()
    assert sentence in card
    assert "| score | 0.25 |" in card
    assert load(str(other)).table.dense_rows().tolist() == tiny_table.dense_rows().tolist()


def test_converted_types_keep_the_bigrams(model: Path, tmp_path: Path) -> None:
    assert convert([str(model), "--output", str(tmp_path / "int8"), "--dtype", "int8"]) == 0
    small = load(str(tmp_path / "int8"))
    assert small.table.bigrams is not None
    assert small.table.bigrams.rows().tolist() == make_bigrams().rows().tolist()
    assert small.table.embeddings.dtype == np.int8
    np.testing.assert_allclose(small.encode(["north east"]), [[2.5, 0.5]], rtol=0.01)


def test_inspection_and_card_tell_the_bigrams(model: Path) -> None:
    assert describe(load(str(model)))["bigrams"] == "3 pairs of neighbouring tokens have rows of their own"
    card = (model / "README.md").read_text()
    assert "3 pairs of neighbouring known tokens have rows of their own" in card
    assert "library_name: lakevec" in card
    assert "StaticModel" not in card


def test_packed_pairs_have_the_order_of_pairs() -> None:
    assert np.diff(pack_pairs(np.array(BIGRAM_PAIRS, np.int32))).min() > 0
