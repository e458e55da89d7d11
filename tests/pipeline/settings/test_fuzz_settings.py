"""Hostile settings: an error of one line, or a run as it should be, and no traces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from lakevec.jobs.cli import format_settings, run_job
from lakevec.pipeline.settings.base import Settings
from lakevec.pipeline.settings.distill import DistillSettings
from lakevec.pipeline.settings.embed import EmbedSettings
from tests.support.commands import embed as main
from tests.support.fuzzing import fuzz, outcome, tree

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"
)


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
    return outcome(lambda: run_job(EmbedSettings, lambda settings, context: None, words, name="job"))


def _bomb() -> bytes:
    """Ten levels of nine aliases each: a hundred bytes for every billion values."""
    levels = "".join(f"  - &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 11))
    return f"model:\n  - &a0 [x]\n{levels}".encode()


def _merge_bomb() -> bytes:
    levels = "".join(f"  k{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 10))
    return f"conf:\n  k0: &a0 {{x: y}}\n{levels}".encode()


_EMBED = (EmbedSettings, ["--input", "i", "--text", "t"])
_DISTILL = (DistillSettings, ["--teacher", "t"])


@given(
    command=st.sampled_from([_EMBED, _DISTILL]),
    content=_written | _pieced | st.binary(max_size=60),
)
@example(command=_EMBED, content=_bomb())
@example(command=_EMBED, content=_merge_bomb())
@example(command=_EMBED, content=b"model: &a [*a]")
@example(command=_EMBED, content="model: x".encode("utf-16"))
@example(command=_EMBED, content="\n".join(" " * n + "a:" for n in range(400)).encode())
@fuzz(80)
def test_settings_file_of_anything_is_settings_or_one_line(
    command: tuple[type[Settings], list[str]], content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    kind, required = command
    file = tmp_path_factory.mktemp("conf") / "job.yaml"
    file.write_bytes(content)
    seen: list[Settings] = []
    given_words = ["--config", str(file), "--output", "o", *required]
    code, _ = outcome(
        lambda: run_job(kind, lambda settings, context: seen.append(settings), given_words, name="job")
    )
    assert (code, len(seen)) in [(0, 1), (2, 0)]
    for settings in seen:
        shown = yaml.safe_load(format_settings(settings, full=True))["settings"]
        assert shown.keys() == kind.model_fields.keys()


@pytest.mark.parametrize("word", [word for word in _WORDS if word != "*a"], ids=range(len(_WORDS) - 1))
def test_each_odd_word_as_a_value_is_settings_or_one_line(word: str, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    for key in ("batch_rows", "wave_bytes", "model", "conf", "input"):
        file.write_text(f"{key}: {word}\n")
        words = ["--config", str(file), "--output", "o", "--text", "t"]
        assert read_settings(words)[0] in (0, 2)


@pytest.mark.parametrize(
    ("content", "model"),
    [
        ("conf: {spark.x.secret.key: 271828}", ["--model", "m"]),
        ("option: [271828]", ["--model", "m"]),
        ("conf: password=271828", ["--model", "m"]),
        ("model: ['s3://k:271828@b']", []),
    ],
)
def test_value_that_may_be_a_secret_is_not_in_the_error(
    content: str, model: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(content)
    words = ["--config", str(file), "--output", "o", "--input", "i", "--text", "t", *model]
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
