"""What an earlier version left on a disk is read and continued, and the names in it stay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from lakevec.pipeline.model.artifact import load
from tests.support.commands import distill, tune, verify
from tests.support.continuity import (
    OUTPUTS,
    call,
    embed_lake,
    lay_out,
    names_in,
    read_commands,
    write_all,
    write_lake,
)
from tests.support.paths import ROOT
from tests.support.tiny_teacher import make_texts

KEPT = ROOT / "tests" / "data" / "written-by-0.1"
pytestmark = pytest.mark.usefixtures("spark")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    lay_out(KEPT, tmp_path / "old")
    return tmp_path / "old"


def read_rows(output: Path) -> pa.Table:
    """Read an output's rows as any reader of Parquet does."""
    files = [str(file) for file in output.rglob("*.parquet") if "_lakevec" not in file.parts]
    return ds.dataset(files, partitioning="hive").to_table().sort_by("id")


def test_names_in_every_file_are_still_there(old: Path, tmp_path: Path) -> None:
    write_all(tmp_path / "new")
    (old / "commands.json").unlink()
    before, now = names_in(old), names_in(tmp_path / "new")
    assert {kind: set(names) - set(now.get(kind, ())) for kind, names in before.items()} == {
        kind: set() for kind in before
    }


def test_commands_keep_their_options_and_settings() -> None:
    now = read_commands()
    for command, before in json.loads((KEPT / "commands.json").read_text()).items():
        assert set(before["options"]) <= set(now[command]["options"])
        settings = now[command]["settings"]
        assert [name for name, kind in before["settings"].items() if not accepts(settings[name], kind)] == []


def accepts(now: Any, before: Any) -> bool:
    """Whether a setting's schema has all that it had, and perhaps further choices.

    A default may have become one that depends on other settings, so that the setting may also be null.
    """
    if isinstance(before, dict):
        if "anyOf" in now and "anyOf" not in before:
            allowed = {key: value for key, value in before.items() if key != "default"}
            return any(accepts(one, allowed) for one in now["anyOf"])
        return now.keys() == before.keys() and all(accepts(now[key], before[key]) for key in before)
    if isinstance(before, list):
        return all(any(accepts(one, other) for one in now) for other in before)
    return bool(now == before)


@pytest.mark.parametrize("name", OUTPUTS)
def test_output_is_verified_and_continued(old: Path, name: str) -> None:
    before = read_rows(old / name)
    call(verify, old / name)
    embed_lake(old, name)
    assert read_rows(old / name).equals(before)
    write_lake(old / "lake" / "c.parquet", 10)
    embed_lake(old, name)
    call(verify, old / name)
    rows = read_rows(old / name)
    assert rows.num_rows == before.num_rows + 5
    assert rows.slice(0, before.num_rows).equals(before)
    # The lake's first file, once more: what it held gets the same bits.
    vectors = [
        batch["text_embedding"].slice(start, 5) for batch, start in ((rows, 0), (rows, rows.num_rows - 5))
    ]
    assert vectors[0].equals(vectors[1])


def test_model_has_its_fingerprint(old: Path) -> None:
    told = json.loads((old / "model" / "lakevec.json").read_text())
    assert load(str(old / "model")).table.fingerprint == told["fingerprint"]


def test_counts_weigh_a_table(old: Path) -> None:
    words = ["--teacher", old / "teacher", "--output", old / "weighed", "--dimensions", 8]
    call(distill, *words, "--counts", old / "counts")
    assert load(str(old / "weighed")).table.fingerprint != load(str(old / "model")).table.fingerprint


def test_vectors_of_the_teacher_are_used_again(old: Path, capsys: Any) -> None:
    write_lake(old / "tuning" / "a.parquet", 0, make_texts(40))
    words = ["--teacher", old / "teacher", "--input", old / "tuning", "--text", "text"]
    words += ["--output", old / "again", "--vectors", old / "teacher-vectors", "--dimensions", 8]
    call(tune, *words, "--epochs", 1, "--piece-rows", 10)
    assert "teacher: 0 of 4 shards" in capsys.readouterr().out
