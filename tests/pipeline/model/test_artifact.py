from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import fs as pafs

from lakevec.pipeline import storage
from lakevec.pipeline.encoding.encoder import Encoder, TableRows
from lakevec.pipeline.encoding.options import EncodeOptions
from lakevec.pipeline.errors import DataError, ModelError, OutputError
from lakevec.pipeline.model import hub
from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.model.publishing import publish
from lakevec.pipeline.model.table import StaticTable
from lakevec.pipeline.storage import Location, absolute_uri, locate
from tests.support.models import make_word_tokenizer


@pytest.fixture
def model(tiny_table: StaticTable, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    publish(
        tiny_table, str(folder), provenance={"teacher": {"name": "t", "revision": "r"}}, quality={"x": 0.5}
    )
    return folder


def edit(model: Path, change: dict[str, Any]) -> None:
    file = model / "lakevec.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))


def test_loads_what_was_published(tiny_table: StaticTable, model: Path) -> None:
    loaded = load(str(model))
    assert loaded.table.embeddings.tobytes() == tiny_table.embeddings.tobytes()
    assert loaded.table.fingerprint == tiny_table.fingerprint
    assert (loaded.table.normalize, loaded.table.unknown_token_id) == (False, 0)
    assert loaded.provenance == {"teacher": {"name": "t", "revision": "r"}}


def test_folder_holds_what_the_format_says(model: Path) -> None:
    names = {
        "model.safetensors",
        "tokenizer.json",
        "config.json",
        "modules.json",
        "README.md",
        "lakevec.json",
    }
    assert {file.name for file in model.iterdir()} == names
    manifest = json.loads((model / "lakevec.json").read_text())
    assert manifest["files"].keys() == names - {"README.md", "lakevec.json"}
    assert manifest["quality"] == {"x": 0.5}
    card = (model / "README.md").read_text()
    assert manifest["fingerprint"] in card
    assert "Vectors are not normalised" in card


def test_publishing_leaves_nothing_beside_the_folder(model: Path) -> None:
    assert list(model.parent.iterdir()) == [model]


def test_published_model_is_never_overwritten(tiny_table: StaticTable, model: Path) -> None:
    with pytest.raises(OutputError) as caught:
        publish(tiny_table, str(model), provenance={}, quality={})
    assert str(caught.value) == (
        f"model output '{model}' exists: expected a new place, since published models never change; "
        "choose another --output, or remove it first"
    )


def test_model_is_published_to_a_filesystem_by_uri(tiny_table: StaticTable, tmp_path: Path) -> None:
    uri = f"file://{tmp_path}/deep/below/model"
    publish(tiny_table, uri, provenance={}, quality={})
    assert load(uri).table.fingerprint == tiny_table.fingerprint


def complaint(uri: str) -> str:
    """Why a model is refused; empty for one that loads."""
    try:
        load(uri)
    except ModelError as error:
        return str(error)
    return ""


def test_without_folder_renames_the_manifest_is_written_last(
    tiny_table: StaticTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object store has no folder to rename: until the last file is there, the folder is refused."""
    written: list[str] = []
    refused: list[str] = []
    original = Location.write_bytes

    def note(self: Location, content: bytes) -> None:
        original(self, content)
        written.append(Path(self.path).name)
        refused.append(complaint("any"))

    store = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem())
    monkeypatch.setattr(Location, "write_bytes", note)
    for module in (hub, storage):
        monkeypatch.setattr(module, "locate", lambda uri, error: Location(store, "bucket/model"))
    publish(tiny_table, "any", provenance={}, quality={})
    assert (written[0], written[-1]) == ("lakevec.json", "lakevec.json")
    assert written.count("model.safetensors") == 1
    assert {said.split(";")[0] for said in refused[:-1]} == {
        "model 'any' is incomplete: got a folder whose publishing is under way or was interrupted"
    }
    assert refused[-1] == ""
    assert load("any").table.fingerprint == tiny_table.fingerprint


@pytest.mark.parametrize("change", ["embeddings", "normalize", "tokenizer", "dtype"])
def test_fingerprint_covers_everything_that_changes_a_vector(tiny_table: StaticTable, change: str) -> None:
    other_words = make_word_tokenizer(["[UNK]", "north", "west", "southwest"])
    changed = {
        "embeddings": StaticTable(tiny_table.embeddings + 1, tiny_table.tokenizer_json, normalize=False),
        "normalize": StaticTable(tiny_table.embeddings, tiny_table.tokenizer_json, normalize=True),
        "tokenizer": StaticTable(tiny_table.embeddings, other_words.to_str(), normalize=False),
        "dtype": StaticTable(
            tiny_table.embeddings.astype(np.float16), tiny_table.tokenizer_json, normalize=False
        ),
    }
    assert changed[change].fingerprint != tiny_table.fingerprint


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json", "modules.json"])
def test_one_flipped_byte_is_found_and_named(model: Path, name: str) -> None:
    content = bytearray((model / name).read_bytes())
    content[len(content) // 2] ^= 1
    (model / name).write_bytes(content)
    with pytest.raises(ModelError) as caught:
        load(str(model))
    assert str(caught.value) == (
        f"{model}/{name} is damaged: got another sha256 than recorded; "
        "restore the folder from where it was published"
    )


def test_truncated_file_is_found_before_it_is_read(model: Path) -> None:
    size = (model / "model.safetensors").stat().st_size
    os.truncate(model / "model.safetensors", size - 1)
    with pytest.raises(ModelError, match=f"is damaged: got {size - 1} bytes; expected {size}"):
        load(str(model))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_missing_file_is_named(model: Path, name: str) -> None:
    (model / name).unlink()
    with pytest.raises(ModelError, match=rf"{name} can't be read"):
        load(str(model))


def test_folder_without_manifest_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load(str(tmp_path))
    assert str(caught.value) == (
        f"'{tmp_path}' is not a model that lakevec knows: got a folder without lakevec.json and of no other "
        "known format; expected a folder of lakevec, model2vec or Sentence Transformers (StaticEmbedding), "
        "word vectors (.txt, .vec, .bin), a SentencePiece .model with its vectors, or WordLlama's "
        ".safetensors"
    )


def test_missing_model_is_said_to_be_missing() -> None:
    with pytest.raises(ModelError, match=r"^model '/nowhere' does not exist: expected an existing folder"):
        load("/nowhere")


def test_unknown_scheme_is_refused() -> None:
    with pytest.raises(ModelError, match=r"^can't reach 'ftp://x/y'.*expected a local path or a URI"):
        load("ftp://x/y")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": "2.0"}, r"has another format version: got 2\.0; expected 1\.x"),
        ({"format": "other"}, 'expected "format": "lakevec-model"'),
        (
            {"files": {"../secret": {"bytes": 1, "sha256": "x"}}},
            r"a file outside the folder: got '\.\./secret'",
        ),
        ({"files": {"/etc/passwd": {"bytes": 1, "sha256": "x"}}}, "a file outside the folder"),
        ({"files": {"model.safetensors": {}}}, "expected its bytes and sha256"),
        ({"files": {}}, "does not list model.safetensors"),
        ({"files": None}, "'files': got NoneType; expected dict"),
        ({"normalize": 1}, "'normalize': got int; expected bool"),
        ({"normalize": True}, "does not describe this table"),
        ({"fingerprint": "sha256:0"}, "does not describe this table"),
    ],
    ids=["version", "format", "parent", "absolute", "no sums", "no files", "null", "type", "flag", "print"],
)
def test_manifest_that_lies_is_refused(model: Path, change: dict[str, Any], message: str) -> None:
    edit(model, change)
    with pytest.raises(ModelError, match=message):
        load(str(model))


def test_link_in_the_folder_is_refused(model: Path, tmp_path: Path) -> None:
    (model / "tokenizer.json").rename(tmp_path / "elsewhere.json")
    (model / "tokenizer.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(ModelError, match=r"tokenizer\.json is a link: expected a regular file"):
        load(str(model))


def test_manifest_that_is_no_json_is_refused(model: Path) -> None:
    (model / "lakevec.json").write_text("{")
    with pytest.raises(ModelError, match=r"lakevec\.json can't be read"):
        load(str(model))


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("exploded",))


def test_pickle_in_place_of_tensors_is_never_run(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hashlib

    monkeypatch.chdir(tmp_path)
    content = pickle.dumps(_Bomb())
    (model / "model.safetensors").write_bytes(content)
    files = json.loads((model / "lakevec.json").read_text())["files"]
    files["model.safetensors"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    edit(model, {"files": files})
    with pytest.raises(ModelError, match="tensors or tokenizer can't be read"):
        load(str(model))
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        (np.zeros((3, 2), np.float32), "got 4 tokens and 3 rows; expected one row per token"),
        (np.zeros((4, 2), np.float64), "got dtype float64; expected float32, float16 or int8"),
        (np.zeros((4,), np.float32), r"got shape \(4,\); expected \(V, D\)"),
        (np.full((4, 2), np.nan, np.float32), "hold NaN, infinity or values beyond 1e30"),
        (np.full((4, 2), np.inf, np.float32), "hold NaN, infinity or values beyond 1e30"),
        (np.full((4, 2), -2e30, np.float32), "hold NaN, infinity or values beyond 1e30"),
    ],
    ids=["rows", "dtype", "shape", "nan", "infinity", "giant"],
)
def test_table_that_can_not_be_pooled_is_refused(
    tiny_table: StaticTable, embeddings: np.ndarray, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        StaticTable(embeddings, tiny_table.tokenizer_json)


def test_tokenizer_that_can_not_be_read_is_refused() -> None:
    with pytest.raises(ModelError, match=r"^tokenizer\.json can't be read"):
        StaticTable(np.zeros((4, 2), np.float32), "{}")


def test_model2vec_and_sentence_transformers_load_the_folder_and_agree(
    minilm_model: str, general_texts: list[str]
) -> None:
    """Ten thousand texts, with ones of unknown tokens, none and many among them."""
    from model2vec import StaticModel
    from sentence_transformers import SentenceTransformer

    texts = [*general_texts[:-3], "", "\u1234 known \u1235", "long " * 3000]
    table = load(minilm_model).table
    encoder = Encoder(TableRows(table.embeddings, table.tokenizer_json, True, 1))
    encoded = encoder.encode(pa.array(texts))
    assert encoded.counts.unknown_tokens > 100
    by_model2vec = StaticModel.from_pretrained(minilm_model).encode(texts)
    by_transformers = SentenceTransformer(minilm_model, device="cpu").encode(texts)
    assert np.abs(encoded.vectors - by_model2vec).max() <= 1e-5
    assert np.abs(encoded.vectors - by_transformers).max() <= 1e-5


def test_without_normalisation_sentence_transformers_agrees_but_for_unknown_tokens(
    tiny_table: StaticTable, model: Path
) -> None:
    from model2vec import StaticModel
    from sentence_transformers import SentenceTransformer

    texts = ["north", "north southwest east", "nowhere north"]
    encoder = Encoder(TableRows(tiny_table.embeddings, tiny_table.tokenizer_json, False, 0))
    ours = encoder.encode(pa.array(texts)).vectors
    assert ours.tobytes() == StaticModel.from_pretrained(str(model)).encode(texts).tobytes()
    theirs = SentenceTransformer(str(model), device="cpu").encode(texts)
    assert np.abs(ours[:2] - theirs[:2]).max() <= 1e-6
    assert theirs[2].tolist() == (ours[2] / 2).tolist()


def test_token_ids_with_a_gap_are_refused() -> None:
    """Nothing checks ids when rows are added up."""
    tokenizer = make_word_tokenizer(["[UNK]", "a"])
    document = json.loads(tokenizer.to_str())
    document["model"]["vocab"]["zzz"] = 400_000
    with pytest.raises(
        ModelError, match=r"token ids beyond the table's rows: got 400000; expected ids from 0 to 2"
    ):
        StaticTable(np.zeros((3, 2), np.float32), json.dumps(document))


TEXTS = ["north east", None, "nowhere", "", "east north north"]


@pytest.mark.parametrize(
    "texts",
    [
        TEXTS,
        tuple(TEXTS),
        np.array(TEXTS, dtype=object),
        pa.array(TEXTS),
        pa.array(TEXTS, type=pa.large_string()),
        pa.chunked_array([TEXTS[:2], TEXTS[2:]]),
    ],
    ids=["list", "tuple", "numpy", "arrow", "large", "chunked"],
)
def test_artifact_embeds_texts_and_gives_zeros_for_what_holds_no_token(model: Path, texts: Any) -> None:
    vectors = load(str(model)).encode(texts)
    assert (vectors.dtype, vectors.shape) == (np.float32, (5, 2))
    third = np.float32(1 / 3)
    assert vectors.tolist() == [[0.5, 0.5], [0, 0], [0, 0], [0, 0], [third, np.float32(2 / 3)]]


def test_artifact_embeds_no_texts(model: Path) -> None:
    assert load(str(model)).encode([]).shape == (0, 2)


def test_artifact_counts_the_tokens_that_are_asked_for(model: Path) -> None:
    loaded = load(str(model))
    for max_tokens, expected in ((1, [1, 0]), (None, [0.5, 0.5]), (1, [1, 0])):
        assert loaded.encode(["east north"], max_tokens=max_tokens).tolist() == [expected]


def test_artifact_makes_its_encoder_once_for_each_limit(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def note(table: StaticTable, options: EncodeOptions) -> Encoder:
        made.append(options.max_tokens)
        return Encoder(table, options)

    monkeypatch.setattr("lakevec.pipeline.encoding.encoder.Encoder", note)
    loaded = load(str(model))
    for max_tokens in (None, 1, None, 1):
        loaded.encode(["north"], max_tokens=max_tokens)
    assert made == [None, 1]
    load(str(model)).encode(["north"])
    assert len(made) == 3


def test_artifact_that_has_embedded_travels_without_its_encoder(model: Path) -> None:
    loaded = load(str(model))
    loaded.encode(["north"])
    copied = pickle.loads(pickle.dumps(loaded))
    assert len(pickle.dumps(loaded)) < 5000
    assert copied.encode(["north"]).tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("north", r"^texts: got one string; expected a list of texts; pass \[text\]$"),
        (["north", 1], r"^texts: got ArrowTypeError; expected valid UTF-8 strings or None$"),
        ([b"\xff"], r"^texts: got ArrowInvalid"),
        (["\ud800"], r"^texts: got UnicodeEncodeError"),
        (7, r"^texts: got TypeError"),
        (pa.array([1, 2]), r"^can't embed this column: got int64; expected strings"),
    ],
    ids=["string", "number", "bytes", "half a character", "no sequence", "column of numbers"],
)
def test_what_is_no_list_of_texts_is_refused(model: Path, texts: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(str(model)).encode(texts)


def test_model_without_provenance_and_quality_can_be_published(
    tiny_table: StaticTable, tmp_path: Path
) -> None:
    publish(tiny_table, str(tmp_path / "model"))
    loaded = load(str(tmp_path / "model"))
    assert (loaded.provenance, loaded.quality, loaded.is_checked) == ({}, {}, True)


@pytest.mark.parametrize("name", ["hdfs:/user/me/out", "dbfs:/out", "s3a:/bucket/x", "viewfs://cluster/x"])
def test_names_with_a_scheme_never_become_local_folders(name: str) -> None:
    assert absolute_uri(name) == name
    with pytest.raises(OutputError, match="can't reach"):
        locate(name, error=OutputError)
