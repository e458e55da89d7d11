"""Hostile settings, models, rows and state files: an error of one line, or the right answer, and no traces.

Examples are drawn the same way in every run. What a model, an input or an output holds was written by others:
it may be damaged or planted, but it must never end in a traceback, a wrong vector, or a file elsewhere.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import resource
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from jobs.command_line import Call, run_job
from jobs.embed import main
from jobs.summary import effective_settings
from pipeline.encoding.encoder import Encoder
from pipeline.errors import LakevecError
from pipeline.model.artifact import load
from pipeline.model.publishing import publish
from pipeline.model.table import StaticTable
from pipeline.output import history, lease
from pipeline.output.commit import OutputFolder
from pipeline.output.contract import Contract
from pipeline.output.history import Commit, Wave
from pipeline.output.sink import FileLayout, TaskFiles
from pipeline.settings import DistillSettings, EmbedSettings, InspectSettings, Settings

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"
)


def fuzz(examples: int) -> Callable[[Any], Any]:
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def outcome(run: Callable[[], int]) -> tuple[int, str]:
    """Run a job; return its exit code and what it told of an error, which is one line or nothing."""
    told = StringIO()
    with redirect_stderr(told), redirect_stdout(StringIO()):
        code = run()
    error = told.getvalue()
    assert code in (0, 1, 2, 3)
    assert error.count("\n") == (code != 0), error
    assert error.removesuffix("\n").isprintable(), error
    assert len(error) < 5_000
    return code, error


def tree(folder: Path, *, but: str = "") -> dict[str, str]:
    """Everything below a folder and its content, without a folder and the hidden ones beside it."""
    found = {}
    for file in sorted(folder.rglob("*")):
        name = str(file.relative_to(folder))
        top = name.split("/")[0]
        if but and (top == but or top.startswith(f".{but}.lakevec-")):
            continue
        is_file = file.is_file() and not file.is_symlink()
        found[name] = hashlib.sha256(file.read_bytes()).hexdigest() if is_file else ""
    return found


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# Settings

_KEYS = sorted({*EmbedSettings.model_fields, *DistillSettings.model_fields, "", "nonsense", "MODEL", "0"})
_WORDS = [
    "2020-13-45",
    "!!bool maybe",
    "!!int x",
    "!!float x",
    "!!timestamp x",
    "!!binary '?'",
    "0x_",
    "=",
    "~",
]
_WORDS += ["!!python/object/apply:os.system [x]", "!!python/name:os.system ''", "9" * 5000, "1e999", ".nan"]
_WORDS += [
    "-1",
    "0x" + "f" * 6000,
    "1:59:59:59:59",
    "2020-01-01T00:00:00+99:99",
    "!!set {a, b}",
    "*a",
    "&a b",
]
_WORDS += [
    "[" * 3000,
    "{a: " * 3000,
    "[&a [x, x], &b [*a, *a], [*b, *b]]",
    "{<<: {a: b}}",
    "? [a]",
    "|",
    '"\\ud800"',
]
_WORDS += [
    '"a\\nb"',
    '"\\e[31m"',
    "'~nobody/x'",
    "\t",
    "- a",
    "%TAG",
    "---",
    "...",
    "١٢",
    "2147483648",
    "1e3",
]
_plain = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=10)
    | st.binary(max_size=5)
    | st.dates()
)
_values = st.recursive(
    _plain,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | _plain, inner, max_size=3)
    ),
    max_leaves=8,
)
_written = st.dictionaries(st.sampled_from(_KEYS) | st.text(max_size=8), _values, max_size=4).map(
    lambda content: yaml.dump(content).encode("utf-8", "surrogatepass")
)
_pieced = st.lists(st.tuples(st.sampled_from(_KEYS), st.sampled_from(_WORDS)), min_size=1, max_size=3).map(
    lambda lines: "".join(f"{key or 'x'}: {word}\n" for key, word in lines).encode()
)


def _bomb() -> bytes:
    """Ten levels of nine aliases each: a hundred bytes for every billion values."""
    levels = "".join(f"  - &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 11))
    return f"model:\n  - &a0 [x]\n{levels}".encode()


def _merge_bomb() -> bytes:
    levels = "".join(f"  k{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 10))
    return f"conf:\n  k0: &a0 {{x: y}}\n{levels}".encode()


@given(
    kind=st.sampled_from([EmbedSettings, DistillSettings]),
    content=_written | _pieced | st.binary(max_size=60),
)
@example(kind=EmbedSettings, content=_bomb())
@example(kind=EmbedSettings, content=_merge_bomb())
@example(kind=EmbedSettings, content=b"model: &a [*a]")
@example(kind=EmbedSettings, content="model: x".encode("utf-16"))
@example(kind=EmbedSettings, content="\n".join(" " * n + "a:" for n in range(1500)).encode())
@fuzz(250)
def test_settings_file_of_anything_is_settings_or_one_line(
    kind: type[Settings], content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("conf") / "job.yaml"
    file.write_bytes(content)
    seen: list[Call[Any]] = []
    given_words = ["--config", str(file), "--output", "o"]
    given_words += ["--teacher", "t"] if kind is DistillSettings else ["--input", "i", "--text", "t"]
    code, _ = outcome(lambda: run_job(kind, seen.append, given_words, name="job", summary=""))
    assert code == (0 if seen else 2)
    for call in seen:
        assert (
            yaml.safe_load(effective_settings(call.settings))["settings"].keys() == kind.model_fields.keys()
        )


@pytest.mark.parametrize("word", [word for word in _WORDS if word != "*a"], ids=range(len(_WORDS) - 1))
def test_each_odd_word_as_a_value_is_settings_or_one_line(word: str, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    for key in ("batch_rows", "wave_bytes", "model", "conf", "input"):
        file.write_text(f"{key}: {word}\n")
        words = ["--config", str(file), "--output", "o", "--text", "t"]
        code, _ = outcome(lambda: run_job(EmbedSettings, lambda call: None, words, name="job", summary=""))
        assert code in (0, 2)


@pytest.mark.parametrize(
    "content",
    [
        "conf: {spark.x.secret.key: 271828}",
        "option: [271828]",
        "conf: password=271828",
        "model: ['s3://k:271828@b']",
    ],
)
def test_value_that_may_be_a_secret_is_not_in_the_error(content: str, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(content)
    words = ["--config", str(file), "--output", "o", "--input", "i", "--text", "t"]
    words += [] if content.startswith("model") else ["--model", "m"]
    code, error = outcome(lambda: run_job(EmbedSettings, lambda call: None, words, name="job", summary=""))
    assert code == 2
    assert "is not allowed" in error
    assert "271828" not in error


_odd_settings = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from(
            ["~nobody/x", "a\0b", "/", "s3://", "hdfs://x:y/z", "file:", "ftp://a/b", "\udcff"]
        ),
        "input": st.sampled_from(
            [["~nobody/x"], ["a\0b"], ["{a,b"], ["[x"], ["s3a://b/x"], [":"], ["\udcff"], [""]]
        ),
        "output": st.sampled_from(["/proc/x", "a\0b", "~nobody/x", "s3://", "", "\udcff", "x" * 300]),
        "format": st.sampled_from(
            ["", "parquet", "table", "../x", "jdbc", "binaryFile", "a.b", "\0", "rate"]
        ),
        "text": st.lists(st.text(max_size=5), min_size=1, max_size=2),
        "keep": st.lists(st.sampled_from(["id", "ID", "", "t`t", "t.t"]), max_size=2),
        "embedding_column": st.sampled_from(["", "{column}", "a b", "`", "a\0b", "{column}" * 99]),
        "partition_by": st.lists(st.sampled_from(["id", "", "text"]), max_size=2),
        "option": st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2),
        "batch_rows": st.sampled_from([1, 2**31 - 1, 2**31, 2**63, 2**64]),
        "input_split_mb": st.sampled_from([1, 2**31 - 1, 2**31, 2**63]),
    },
)


@given(odd=_odd_settings)
@fuzz(40)
def test_dry_run_of_odd_settings_is_one_line_and_writes_nothing(
    odd: dict[str, Any], tiny_model: str, tmp_path_factory: pytest.TempPathFactory, spark: Any
) -> None:
    folder = tmp_path_factory.mktemp("dry")
    pq.write_table(pa.table({"id": [1], "text": ["north"]}), folder / "lake.parquet")
    plain = {"model": tiny_model, "input": [str(folder / "lake.parquet")], "text": ["text"]}
    plain |= {"output": str(folder / "out")}
    file = folder / "job.yaml"
    file.write_bytes(json.dumps({**plain, **odd}).encode())
    before = tree(folder)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)  # where relative names lead
        patched.setenv("HF_HUB_OFFLINE", "1")
        code, _ = outcome(lambda: main(["--config", str(file), "--dry-run"]))
    assert code in (0, 2)
    assert tree(folder) == before


# Models

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

    def read(call: Call[InspectSettings]) -> None:
        found.append(load(call.settings.model).table)

    code, error = outcome(lambda: run_job(InspectSettings, read, [str(folder)], name="inspect", summary=""))
    assert (code, bool(found)) in ((0, True), (2, False))
    return Encoder.from_table(found[0]).encode(TEXTS).vectors if found else None


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
    # Whoever removes the manifest has another library's model, which nothing vouches for.
    if (models / "spoiled" / "model" / "lakevec.json").exists() and found is not None:
        assert found.tobytes() == right.tobytes()


def spoil(file: Path, data: st.DataObject) -> None:
    """Truncate, flip, prolong, replace or remove a file."""
    content = bytearray(file.read_bytes())
    how = data.draw(st.sampled_from(["truncate", "flip", "prolong", "replace", "remove"]))
    if how == "remove":
        file.unlink()
        return
    place = data.draw(st.integers(0, len(content) - 1))
    if how == "truncate":
        del content[place:]
    elif how == "flip":
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    elif how == "prolong":
        content += data.draw(st.binary(min_size=1, max_size=9))
    else:
        content[:] = data.draw(st.binary(max_size=40))
    file.write_bytes(content)


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


@pytest.mark.parametrize("kind", ["own", "model2vec"])
@pytest.mark.parametrize("content", TENSORS.values(), ids=TENSORS.keys())
def test_tensors_of_anything_are_refused_or_finite(kind: str, content: bytes, models: Path) -> None:
    right = vectors_of(models / kind)
    with a_copy(models, kind) as folder:
        (folder / "model.safetensors").write_bytes(content)
        if kind == "own":
            assert vectors_of(folder) is None
            certify(folder)
        found = vectors_of(folder)
    if kind == "own":  # the fingerprint still tells
        assert found is None
    elif found is not None:
        assert found.shape == right.shape
        assert np.isfinite(found).all()


@pytest.mark.parametrize("kind", ["own", "model2vec"])
def test_nested_header_of_100_megabytes_is_refused(kind: str, models: Path) -> None:
    with a_copy(models, kind) as folder:
        with (folder / "model.safetensors").open("wb") as file:
            file.write(struct.pack("<Q", 100_000_000))
            file.write(b"[" * 100_000_000)
        assert vectors_of(folder) is None


DOCUMENTS = {
    "deep list": "[" * 100_000,
    "deep object": '{"a":' * 100_000,
    "list": "[]",
    "null": "null",
    "number of 5000 digits": "9" * 5000,
    "half a character": '{"format": "lakevec-model", "format_version": "\\ud800", "path": "\\ud800"}',
    "line's end": '{"format": "lakevec-model", "format_version": "2\\n0", "normalize": "a\\nb"}',
    "terminal code": '{"format": "lakevec-model", "format_version": "\\u001b[31m"}',
    "infinite": '{"normalize": Infinity, "format": NaN}',
}


@pytest.mark.parametrize("name", ["lakevec.json", "tokenizer.json", "config.json", "modules.json"])
@pytest.mark.parametrize("content", DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_documents_of_anything_are_refused(name: str, content: str, models: Path) -> None:
    with a_copy(models, "own") as folder:
        (folder / name).write_text(content)
        assert vectors_of(folder) is None
    with a_copy(models, "model2vec") as folder:
        (folder / name).write_text(content)
        # A model2vec folder without a list of modules is one too.
        assert vectors_of(folder) is None or (name, content) == ("modules.json", "[]")


_json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


def places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner: Any = ()
    if isinstance(document, dict):
        inner = document.items()
    elif isinstance(document, list):
        inner = enumerate(document)
    return [path, *(place for key, value in inner for place in places(value, (*path, key)))]


def change(document: Any, data: st.DataObject) -> Any:
    """Put something else somewhere into a JSON document."""
    path = data.draw(st.sampled_from(places(document)))
    value = data.draw(_json_values)
    if not path:
        return value
    document = copy.deepcopy(document)
    holder = document
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    return document


@given(
    data=st.data(), name=st.sampled_from(["lakevec.json", "tokenizer.json", "config.json", "modules.json"])
)
@fuzz(150)
def test_documents_with_other_values_are_refused_or_harmless(
    data: st.DataObject, name: str, models: Path
) -> None:
    right = vectors_of(models / "own")
    with a_copy(models, "own") as folder:
        document = change(json.loads((folder / name).read_text()), data)
        (folder / name).write_text(json.dumps(document))
        if name != "lakevec.json":
            certify(folder)
        found = vectors_of(folder)
        assert found is None or found.tobytes() == right.tobytes()
    if name == "lakevec.json":
        return
    with a_copy(models, "model2vec") as folder:
        (folder / name).write_text(json.dumps(document))
        found = vectors_of(folder)
        assert found is None or np.isfinite(found).all()


TOKENIZERS: dict[str, dict[str, Any]] = {
    "panic in a map of characters": {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
    "id of 2**32 - 1": {"model": {"type": "WordLevel", "unk_token": "a", "vocab": {"a": 0, "b": 2**32 - 1}}},
    "no unknown token": {
        "model": {"type": "WordLevel", "unk_token": "x", "vocab": dict(zip("abcd", range(4)))}
    },
    "id beyond": {"model": {"type": "Unigram", "unk_id": 9, "vocab": [[word, 0.0] for word in "abcd"]}},
    "no words": {"model": {"type": "WordLevel", "unk_token": "a", "vocab": {}}},
    "bad expression": {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Removed"}},
    "version": {"version": "a\nb"},
}


@pytest.mark.parametrize("changes", TOKENIZERS.values(), ids=TOKENIZERS.keys())
@pytest.mark.parametrize("kind", ["own", "model2vec"])
def test_tokenizers_that_can_not_work_are_refused(kind: str, changes: dict[str, Any], models: Path) -> None:
    with a_copy(models, kind) as folder:
        document = json.loads((folder / "tokenizer.json").read_text())
        (folder / "tokenizer.json").write_text(json.dumps(document | changes))
        if kind == "own":
            certify(folder)
        with open(os.devnull, "w") as nowhere, quiet_rust(nowhere.fileno()):
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
    "path", ["../model", "/etc", "a/../..", "a\0b", "a\nb", "\ud800", "x" * 5000, "..", "~root"]
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


@pytest.mark.parametrize(
    "name", ["lakevec.json", "tokenizer.json", "config.json", "modules.json", "model.safetensors"]
)
@pytest.mark.parametrize("how", ["pipe", "folder", "device", "loop", "giant"])
def test_special_files_neither_hang_nor_fill_the_memory(name: str, how: str, models: Path) -> None:
    """A pipe would wait for ever for a writer, a device gives without an end."""
    for kind in ("own", "model2vec"):
        right = vectors_of(models / kind)
        with a_copy(models, kind) as folder:
            file = folder / name
            file.unlink(missing_ok=True)
            if how == "pipe":
                os.mkfifo(file)
            elif how == "folder":
                file.mkdir()
            elif how == "device":
                file.symlink_to("/dev/zero")
            elif how == "loop":
                file.symlink_to(file)
            elif name.endswith(".json") and (kind == "own" or name != "tokenizer.json"):
                with file.open("wb") as stream:
                    stream.truncate(1 << 40)  # a hole, which takes no place
            found = vectors_of(folder)
        assert found is None or found.tobytes() == right.tobytes()
