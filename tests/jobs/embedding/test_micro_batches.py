"""Micro-batches: how many there are, and what a checkpoint of Spark may and may not lead to."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.lakes import embed, ids, put

pytestmark = pytest.mark.usefixtures("spark")


def test_waves_by_bytes(tiny_model: str, lake: Path, out: Path) -> None:
    for number in range(4):
        put(lake / f"{number}.parquet", [str(number)])
    size = (lake / "0.parquet").stat().st_size
    assert embed(tiny_model, lake, out, "--wave-bytes", str(2 * size))["waves"] == 2
    assert ids(out) == ["0", "1", "2", "3"]


def test_wave_that_spark_did_not_hear_of_is_not_embedded_again(
    tiny_model: str, lake: Path, out: Path
) -> None:
    """A crash between our commit and Spark's: the batch is replayed, and known."""
    put(lake / "a.parquet", ["a"])
    put(lake / "b.parquet", ["b"])
    embed(tiny_model, lake, out, "--wave-files", "1")
    for file in out.glob("_lakevec/*/checkpoint/*/commits/*1*"):
        file.unlink()
    put(lake / "c.parquet", ["c"])
    assert embed(tiny_model, lake, out)["rows"] == 1
    assert ids(out) == ["a", "b", "c"]


def test_checkpoint_that_is_gone_or_another_is_refused(
    tiny_model: str, lake: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(lake / "a.parquet", ["a"])
    put(lake / "b.parquet", ["b"])
    embed(tiny_model, lake, out, "--wave-files", "1")
    [checkpoint] = out.glob("_lakevec/*/checkpoint/*")
    shutil.move(checkpoint, checkpoint.with_name("away"))
    embed(tiny_model, lake, out, code=2)
    assert "Spark's checkpoint of input" in (err := capsys.readouterr().err)
    assert "is gone" in err
    shutil.copytree(checkpoint.with_name("away"), checkpoint)
    shutil.rmtree(checkpoint / "commits")  # an older state: everything is replayed
    shutil.rmtree(checkpoint / "offsets")
    embed(tiny_model, lake, out, code=2)
    assert "Spark's checkpoint belongs to another output: got batch 0" in capsys.readouterr().err
    assert ids(out) == ["a", "b"]
    embed(tiny_model, lake, out, "--full-refresh")
    assert ids(out) == ["a", "b"]


def test_checkpoints_stay_small(tiny_model: str, lake: Path, out: Path) -> None:
    """Thirty waves of a file each; Spark keeps ten batches, and its list of files in one piece."""
    for number in range(30):
        put(lake / f"{number}.parquet", [str(number)])
    embed(tiny_model, lake, out, "--wave-files", "1")
    [checkpoint] = out.glob("_lakevec/*/checkpoint/*")
    for kind in ("offsets", "commits"):
        assert len([file for file in (checkpoint / kind).iterdir() if file.name[0] != "."]) <= 20
    [log] = out.glob("_lakevec/*/log")
    assert len(list(log.iterdir())) <= 41
    assert len(ids(out)) == 30
