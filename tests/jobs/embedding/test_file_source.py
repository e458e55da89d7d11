"""Files as input: which are new, which can't be read, and which options belong to them."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.support.lakes import embed, ids, put

pytestmark = pytest.mark.usefixtures("spark")


def test_old_files_that_come_late_are_not_forgotten(tiny_model: str, lake: Path, out: Path) -> None:
    """Spark's file source ignores what is a week older than the newest file, unless told otherwise."""
    put(lake / "new.parquet", ["new"])
    embed(tiny_model, lake, out)
    put(lake / "old.parquet", ["old"])
    os.utime(lake / "old.parquet", (10**9, 10**9))
    embed(tiny_model, lake, out)
    assert ids(out) == ["new", "old"]


def test_partition_folders_globs_files_and_days(
    tiny_model: str, lake: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for day in (1, 2):
        put(lake / f"day={day}" / "a.parquet", [f"d{day}"])
    embed(tiny_model, lake, out)
    put(lake / "day=3" / "b.parquet", ["d3"])
    embed(tiny_model, lake, out)
    rows = pq.read_table(out).sort_by("id")
    assert rows["day"].to_pylist() == [1, 2, 3]
    days = tmp_path / "days"  # a folder a day, each given as it comes
    for day in (1, 2):
        embed(tiny_model, lake / f"day={day}", days, "--keep", "id")
    assert ids(days) == ["d1", "d2"]
    embed(tiny_model, [lake / "day=2", lake / "day=3"], days, "--keep", "id")
    assert ids(days) == ["d1", "d2", "d3"]
    embed(tiny_model, lake, days, "--keep", "id", code=2)
    assert "may hold files that are in the output already" in capsys.readouterr().err
    files = tmp_path / "files"
    embed(tiny_model, [lake / "day=1" / "a.parquet", lake / "day=3" / "b.parquet"], files)
    assert ids(files) == ["d1", "d3"]
    globs = tmp_path / "globs"
    embed(tiny_model, lake / "day=[12]", globs)
    assert ids(globs) == ["d1", "d2"]
    put(tmp_path / "other" / "day=1" / "k=v" / "c.parquet", ["deep"])
    embed(tiny_model, tmp_path / "other" / "day=*", tmp_path / "deep", code=2)
    assert "is a pattern above partition folders" in capsys.readouterr().err
    assert not (tmp_path / "deep").exists()


def test_input_that_was_read_at_once_is_not_streamed_after(
    tiny_model: str, lake: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(lake / "a.parquet", ["a"])
    late = ["--option", "modifiedBefore=2100-01-01T00:00:00"]
    embed(tiny_model, lake, out, *late)
    embed(tiny_model, lake, out, *late, code=2)
    embed(tiny_model, lake, out, code=2)
    assert "was read with other options before" in capsys.readouterr().err
    assert ids(out) == ["a"]


def test_no_file_is_left_out_in_silence(
    tiny_model: str, lake: Path, out: Path, spark: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the user's Spark is told to ignore."""
    put(lake / "a.parquet", ["a"])
    (lake / "b.parquet").write_bytes(b"PAR1 no parquet PAR1")
    try:
        embed(tiny_model, lake, out, "--conf", "spark.sql.files.ignoreCorruptFiles=true", code=1)
    finally:
        spark.conf.unset("spark.sql.files.ignoreCorruptFiles")
    assert "an input file can't be read" in capsys.readouterr().err


def test_csv_with_options_and_text(
    tiny_model: str, lake: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (lake / "a.csv").write_text("id,text\n1,north\n2,east\n")
    words = ["--format", "csv", "--option", "header=true"]
    assert embed(tiny_model, lake, out, *words)["rows"] == 2
    (lake / "b.csv").write_text("id,text\n3,north\n")
    assert embed(tiny_model, lake, out, *words)["rows"] == 1
    embed(tiny_model, lake, out, *words, "sep=,", code=2)
    assert "was read with other options before" in capsys.readouterr().err
    assert ids(out) == ["1", "2", "3"]


def put_json(file: Path, keys: list[str]) -> None:
    lines = [json.dumps({"id": key, "text": "north"}) + "\n" for key in keys]
    file.write_bytes(gzip.compress("".join(lines).encode()))


@pytest.mark.parametrize(
    ("form", "suffix", "put_rows", "bad"),
    [
        ("parquet", "parquet", put, b"PAR1 no parquet at all PAR1"),
        ("json", "json.gz", put_json, gzip.compress(b'{"id": "x"}' * 999)[:-20]),
    ],
    ids=["parquet", "json"],
)
def test_bad_files_are_left_out_until_they_change(
    tiny_model: str,
    lake: Path,
    out: Path,
    form: str,
    suffix: str,
    put_rows: Callable[[Path, list[str]], None],
    bad: bytes,
    capsys: pytest.CaptureFixture[str],
) -> None:
    put_rows(lake / f"b.{suffix}", ["b"])
    put_rows(lake / f"c.{suffix}", ["c"])
    (lake / f"a bad %20,.{suffix}").write_bytes(bad)
    (lake / f"d.{suffix}").write_bytes(bad)
    words = ["--format", form]
    embed(tiny_model, lake, out, *words, code=1)
    assert "an input file can't be read" in capsys.readouterr().err
    assert not out.exists()
    words += ["--on-bad-file", "skip"]
    record = embed(tiny_model, lake, out, *words)
    assert ids(out) == ["b", "c"]
    names = [Path(file["path"]).name for file in record["skipped_files"]]
    assert sorted(names) == [f"a bad %20,.{suffix}", f"d.{suffix}"]
    assert "left out: 2 input files that can't be read" in capsys.readouterr().out
    assert embed(tiny_model, lake, out, *words)["status"] == "nothing new"
    put_rows(lake / f"a bad %20,.{suffix}", ["a"])
    (lake / f"d.{suffix}").write_bytes(bad + b"other")
    record = embed(tiny_model, lake, out, *words)
    assert ids(out) == ["a", "b", "c"]
    assert [Path(file["path"]).name for file in record["skipped_files"]] == [f"d.{suffix}"]
    assert record["rows"] == 1
    put_rows(lake / f"e.{suffix}", ["e"])
    assert embed(tiny_model, lake, out, *words)["rows"] == 1
