"""Whole runs: what they record, and what ends them."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lakevec.pipeline.output.output_folder import OutputFolder
from tests.support.lakes import embed, ids, put

pytestmark = pytest.mark.usefixtures("spark")


def test_output_inside_a_recursive_input_is_refused(
    tiny_model: str, lake: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(lake / "a.parquet", ["a"])
    embed(tiny_model, lake, lake / "out", "--option", "recursiveFileLookup=true", code=2)
    assert "holds --output" in capsys.readouterr().err


def test_output_behind_a_link_is_refreshed_where_it_lies(tiny_model: str, lake: Path, tmp_path: Path) -> None:
    put(lake / "a.parquet", ["a"])
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "real")
    embed(tiny_model, lake, tmp_path / "out")
    embed(tiny_model, lake, tmp_path / "out", "--full-refresh")
    assert (tmp_path / "out").is_symlink()
    assert ids(tmp_path / "real") == ["a"]


def test_refused_run_leaves_the_record_of_the_last_one(tiny_model: str, lake: Path, out: Path) -> None:
    put(lake / "a.parquet", ["a"])
    before = embed(tiny_model, lake, out)
    assert embed(tiny_model, lake, out, "--vector-type", "int8", code=2) == before


def test_other_rows_are_refused_until_a_full_refresh(
    tiny_model: str, other_model: str, lake: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(lake / "a.parquet", ["a"])
    embed(tiny_model, lake, out)
    embed(other_model, lake, out, code=2)
    err = capsys.readouterr().err
    assert "holds rows of another kind: got model fingerprint sha256:" in err
    assert err.count("\n") == 1
    embed(tiny_model, lake, out, "--vector-type", "int8", code=2)
    assert "vector type int8, not float32" in capsys.readouterr().err
    put(lake / "b.parquet", ["b"])
    record = embed(other_model, lake, out, "--full-refresh", "--wave-files", "1")
    assert (record["waves"], record["total"]["rows"]) == (2, 2)
    vectors = pq.read_table(out)["text_embedding"].to_pylist()
    assert vectors == [[0.0, 2.0]] * 2
    assert sorted(path.name for path in out.parent.iterdir()) == ["lake", "out"]
    assert embed(other_model, lake, out)["status"] == "nothing new"


def test_failed_run_is_told_in_run_json(tiny_model: str, lake: Path, out: Path) -> None:
    put(lake / "a.parquet", ["a"])
    embed(tiny_model, lake, out)
    (lake / "b.parquet").write_bytes(b"PAR1 no parquet PAR1")
    record = embed(tiny_model, lake, out, code=1)
    assert (record["status"], record["total"]["rows"]) == ("failed", 1)
    assert record["error"].startswith("an input file can't be read: got file:")
    assert ids(out) == ["a"]


def test_second_run_is_told_to_wait(
    tiny_model: str, lake: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(lake / "a.parquet", ["a"])
    embed(tiny_model, lake, out)
    with OutputFolder(str(out), "first").open(grace_s=0.0):
        put(lake / "b.parquet", ["b"])
        embed(tiny_model, lake, out, code=3)
    assert "another run is writing to output" in capsys.readouterr().err
    embed(tiny_model, lake, out)
    assert ids(out) == ["a", "b"]
