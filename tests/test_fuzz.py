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
_short = [word for word in _WORDS if len(word) < 100]  # PyYAML takes its time with long ones
_pieced = st.lists(st.tuples(st.sampled_from(_KEYS), st.sampled_from(_short)), min_size=1, max_size=3).map(
    lambda lines: "".join(f"{key or 'x'}: {word}\n" for key, word in lines).encode()
)


def read_settings(words: list[str]) -> tuple[int, str]:
    return outcome(lambda: run_job(EmbedSettings, lambda call: None, words, name="job", summary=""))


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
@example(kind=EmbedSettings, content="\n".join(" " * n + "a:" for n in range(400)).encode())
@fuzz(80)
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
        assert read_settings(words)[0] in (0, 2)


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
    code, error = read_settings(words)
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
@fuzz(12)
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
        outcome(lambda: main(["--config", str(file), "--dry-run"]))
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

    code, _ = outcome(lambda: run_job(InspectSettings, read, [str(folder)], name="inspect", summary=""))
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
        found = vectors_of(folder)  # a configuration without a known key is one of nothing but defaults
        assert found is None or (np.isfinite(found).all() and name in ("config.json", "modules.json"))


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
        "model": {"type": "WordLevel", "unk_token": "x", "vocab": {"a": 0, "b": 1, "c": 2, "d": 3}}
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


# Rows

_BYTES = (
    st.text(max_size=20).map(str.encode)
    | st.binary(max_size=12)
    | st.sampled_from([b"", b"North EAST", b"north \xed\xa0\x80", b"\0", b"\xef\xbb\xbfnorth", b"x" * 70_000])
)
_NAMES = st.sampled_from(["text", "a b", "a.b", "`", "Ω", "a,b;{}()=\n\t", "lakevec_reason", "%41", "_x"])


@st.composite
def lakes(draw: st.DrawFn) -> tuple[str, pa.Array]:
    """A column's name and texts: binary, or strings of any bytes."""
    texts = pa.array(draw(st.lists(st.none() | _BYTES, max_size=8)), pa.binary())
    return draw(_NAMES), texts.view(pa.string()) if draw(st.booleans()) else texts


def _is_utf8(value: bytes | None) -> bool:
    try:
        (value or b"").decode()
    except UnicodeDecodeError:
        return False
    return True


def embed(folder: Path, model: str, text: str, *more: str) -> int:
    """Run the job on ``folder/lake``; whatever it does, nothing but the output changes."""
    words = ["--model", model, "--input", str(folder / "lake"), "--text", text]
    words += ["--output", str(folder / "out"), *more]
    before = tree(folder, but="out")
    code, _ = outcome(lambda: main(words))
    assert tree(folder, but="out") == before
    return code


@given(lake=lakes(), on_bad_row=st.sampled_from(["fail", "null", "quarantine"]))
@fuzz(5)
def test_any_texts_have_the_encoders_vectors_or_end_the_run(
    lake: tuple[str, pa.Array],
    on_bad_row: str,
    tiny_model: str,
    tmp_path_factory: pytest.TempPathFactory,
    spark: Any,
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    (folder / "lake").mkdir()
    name, texts = lake
    table = pa.table({"row number": pa.array(range(len(texts)), pa.int64()), name: texts})
    pq.write_table(table, folder / "lake" / "a.parquet")
    code = embed(folder, tiny_model, name, "--on-bad-row", on_bad_row)
    values = texts.view(pa.binary()).to_pylist()
    bad = {number for number, value in enumerate(values) if not _is_utf8(value)}
    if not values or (bad and on_bad_row == "fail"):
        assert code == 1
        assert not (folder / "out").exists()
        return
    assert code == 0
    good = pa.array([None if number in bad else value for number, value in enumerate(values)], pa.binary())
    vectors = Encoder.from_table(load(tiny_model).table).encode(good.view(pa.string())).to_arrow()
    found = read_rows(folder / "out", f"{name}_embedding")
    aside = read_rows(folder / "out" / "_lakevec" / "quarantine", "lakevec_reason")
    assert aside.keys() == (bad if on_bad_row == "quarantine" else set())
    assert found == {row: vector for row, vector in enumerate(vectors.to_pylist()) if row not in aside}


def read_rows(folder: Path, column: str) -> dict[int, Any]:
    tables = [pq.ParquetFile(file).read(["row number", column]) for file in folder.glob("*.parquet")]
    rows = [row for table in tables for row in zip(*(each.to_pylist() for each in table), strict=True)]
    assert len(dict(rows)) == len(rows)
    return dict(rows)


@given(data=st.data(), on_bad_file=st.sampled_from(["fail", "skip"]))
@fuzz(4)
def test_damaged_parquet_is_refused_or_left_out_and_good_files_are_whole(
    data: st.DataObject,
    on_bad_file: str,
    tiny_model: str,
    tmp_path_factory: pytest.TempPathFactory,
    spark: Any,
) -> None:
    folder = tmp_path_factory.mktemp("files")
    (folder / "lake").mkdir()
    for part in range(2):
        rows = {"row number": range(3 * part, 3 * part + 3), "text": ["north", None, "east east"]}
        pq.write_table(pa.table(rows), folder / "lake" / f"{part}.parquet")
    file = folder / "lake" / "1.parquet"
    content = bytearray(file.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=6)):
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(1, len(content) - 1)) :]
    file.write_bytes(content)
    code = embed(folder, tiny_model, "text", "--on-bad-file", on_bad_file)
    assert (folder / "out").exists() == (code == 0)
    if code == 0:
        # What a flipped bit leaves readable may be any text with any number; the other file's rows are there.
        found = [
            row for file in (folder / "out").glob("*.parquet") for row in pq.read_table(file).to_pylist()
        ]
        right = zip(range(3), ["north", None, "east east"], [[0.0, 1.0], None, [1.0, 0.0]], strict=True)
        for number, text, vector in right:
            assert {"row number": number, "text": text, "text_embedding": vector} in found


# State

_CONTRACT = Contract(
    generation="",
    fingerprint="sha256:one",
    dimensions=1,
    columns={"id": "v"},
    vector_type="float32",
    max_tokens=None,
    schema_of_files={"id": "string", "v": "array<float>"},
    partition_by=(),
    key=None,
    table_format="parquet",
)


def run_once(folder: Path, run: str, *, refresh: bool = False) -> list[str]:
    """Add one file to an output, as a run does; return the name it has there."""
    output = OutputFolder(str(folder), run)
    output.look()
    with output.held(grace_s=0.0):
        output.begin(_CONTRACT, "", refresh=refresh)
        vectors = pa.array([[1.0], [2.0]], pa.list_(pa.float32()))
        layout = FileLayout(embedding_columns=("v",), compression="zstd", metadata={})
        with TaskFiles(output.staging, f"part-{run}", layout) as files:
            files.write(pa.record_batch({"id": ["a", "b"], "v": vectors}), {"id": {"rows": 2}})
            added = files.close()
        number = output.state.number + 1
        wave = Wave(input="i", batch=number, query="q")
        output.commit(Commit(number=number, run=run, wave=wave, rows_read=2, added=added))
        output.finish({"rows": 2})
    return [entry.name for entry in added]


@pytest.fixture(scope="module")
def whole_output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four commits: a state, two commits behind it, and what a killed run would leave."""
    folder = tmp_path_factory.mktemp("state") / "out"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(history, "_EVERY", 2)
        for run in ("r0", "r1", "r2"):
            run_once(folder, run)
    (folder / "_lakevec" / "staging" / "r9").mkdir(parents=True)
    (folder / "_lakevec" / "staging" / "r9" / "run").write_bytes(b"")
    (folder / "_lakevec" / "lease").mkdir()
    claim = {"host": "h", "pid": 1, "started": "1", "boot": "b", "namespace": "pid:[1]", "beats": 0}
    (folder / "_lakevec" / "lease" / "r9.json").write_text(json.dumps(claim))
    return folder


@contextmanager
def an_output(whole: Path) -> Iterator[Path]:
    """A copy of the output to spoil, with neighbours and rows that must stay as they are."""
    parent = whole.parent / "spoiled"
    shutil.rmtree(parent, ignore_errors=True)
    shutil.copytree(whole, parent / "near" / "out")
    for name in ("canary", "near/canary.parquet", "near/plant/evil.parquet"):
        (parent / name).parent.mkdir(exist_ok=True)
        (parent / name).write_text("stays")
    outside = tree(parent / "near", but="out"), (parent / "canary").read_text()
    rows = {file.name: file.read_bytes() for file in (parent / "near" / "out").glob("*.parquet")}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(lease, "_EXPIRY_S", 0.01)  # of a claim that nobody can read
        patched.setattr("time.sleep", lambda seconds: None)
        yield parent / "near" / "out"
    assert (tree(parent / "near", but="out"), (parent / "canary").read_text()) == outside
    assert {file.name for file in parent.iterdir()} == {"near", "canary"}
    for name, content in rows.items():
        assert (parent / "near" / "out" / name).read_bytes() == content


def go_on(folder: Path, *, refresh: bool = False) -> str:
    """Run again; return what is wrong in one line, or nothing."""

    def body(call: Call[InspectSettings]) -> None:
        run_once(folder, "r10", refresh=refresh)

    return outcome(lambda: run_job(InspectSettings, body, ["m"], name="embed", summary=""))[1]


def state_files(folder: Path) -> list[str]:
    own = folder / "_lakevec"
    return sorted(str(file.relative_to(folder)) for file in own.rglob("*.json") if file.name != "run.json")


@given(data=st.data())
@fuzz(60)
def test_damaged_state_is_one_line_and_nothing_is_lost(data: st.DataObject, whole_output: Path) -> None:
    with an_output(whole_output) as folder:
        spoil(folder / data.draw(st.sampled_from(state_files(folder))), data)
        go_on(folder)


@given(data=st.data())
@fuzz(80)
def test_state_with_other_values_is_one_line_and_nothing_is_lost(
    data: st.DataObject, whole_output: Path
) -> None:
    with an_output(whole_output) as folder:
        file = folder / data.draw(st.sampled_from(state_files(folder)))
        file.write_text(json.dumps(change(json.loads(file.read_text()), data)))
        go_on(folder)


@pytest.mark.parametrize("content", [*DOCUMENTS.values(), "{}", "\ufeff{}"], ids=[*DOCUMENTS, "{}", "mark"])
@pytest.mark.parametrize(
    "pattern", ["current.json", "*/output.json", "*/log/*2.json", "*/log/*.state.json", "lease/*.json"]
)
def test_state_of_anything_is_one_line(pattern: str, content: str, whole_output: Path) -> None:
    with an_output(whole_output) as folder:
        (file,) = (folder / "_lakevec").glob(pattern)
        file.write_text(content)
        # A claim that says nothing is one of a run that is dead, once it has not changed for a while.
        assert bool(go_on(folder)) == (pattern != "lease/*.json")


@pytest.mark.parametrize(
    "generation", ["../x", "..", "/etc", "a/b", "", ".", "a\0b", "\ud800", "²", 7, None, ["a"]]
)
def test_generation_that_leads_elsewhere_is_refused(generation: Any, whole_output: Path) -> None:
    with an_output(whole_output) as folder:
        (folder / "_lakevec" / "current.json").write_text(json.dumps({"generation": generation}))
        assert "no name of a generation" in go_on(folder)
    with an_output(whole_output) as folder:
        (folder / "_lakevec" / "current.json").write_text(json.dumps({"generation": generation}))
        assert "no name of a generation" in go_on(folder, refresh=True)


@pytest.mark.parametrize(
    ("changes", "name", "staged"),
    [
        ({}, "../canary.parquet", "canary.parquet"),
        ({}, "../evil.parquet", "evil.parquet"),
        ({}, "../../canary", ""),
        ({}, "/tmp/evil.parquet", ""),
        ({}, "a/../../evil.parquet", "evil.parquet"),
        ({}, "_lakevec/current.json", ""),
        ({}, "", ""),
        ({}, "a\0b", ""),
        ({}, "\ud800", ""),
        ({"run": "../../../plant"}, "evil.parquet", ""),
        ({"run": "../../../../plant"}, "evil.parquet", ""),
        ({"run": ""}, "r9/run", ""),
        ({"removed": ["../canary.parquet"]}, "part-r2-000.parquet", ""),
        ({"number": 99}, "part-r2-000.parquet", ""),
    ],
)
def test_log_that_names_files_elsewhere_is_refused(
    changes: dict[str, Any], name: str, staged: str, whole_output: Path
) -> None:
    """Recovery moves what the last commit names; a planted name must not lead out of the output."""
    with an_output(whole_output) as folder:
        (log,) = (folder / "_lakevec").glob("*/log/*2.json")
        commit = json.loads(log.read_text()) | changes
        commit["added"][0]["name"] = name
        log.write_text(json.dumps(commit))
        staging = folder / "_lakevec" / "staging"
        (staging / "r2").mkdir()
        if staged:
            (staging / staged).write_text("planted")
        assert go_on(folder)


def test_file_among_staging_folders_is_not_in_the_way(whole_output: Path) -> None:
    """As some file managers and network disks leave them everywhere."""
    with an_output(whole_output) as folder:
        (folder / "_lakevec" / "staging" / ".DS_Store").write_text("")
        assert not go_on(folder)


@pytest.mark.parametrize(
    "name", ["x.json", "000000000000².json", "-1.json", "9" * 200 + ".json", "\n.json", ".json"]
)
def test_log_with_other_files_is_refused(name: str, whole_output: Path) -> None:
    with an_output(whole_output) as folder:
        (log,) = (folder / "_lakevec").glob("*/log/*2.json")
        shutil.copy(log, log.parent / name)
        told = go_on(folder)
        assert "the log of an output is damaged" in told or name.startswith(".")
