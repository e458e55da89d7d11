"""Runs that go on where the last one ended: what is new, what is bad, what does not belong together."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.lakes import embed, ids, put
from tests.support.paths import ROOT

pytestmark = pytest.mark.usefixtures("spark")


def test_only_new_files_are_embedded_and_a_rerun_says_so(
    tiny_model: str, lake: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(5):
        put(lake / f"{number}.parquet", [f"{number}a", f"{number}b"])
    record = embed(tiny_model, lake, out, "--wave-files", "2")
    assert (record["waves"], record["rows"], record["status"]) == (3, 10, "done")
    record = embed(tiny_model, lake, out)
    assert (record["waves"], record["rows"], record["status"]) == (0, 0, "nothing new")
    assert "nothing new, after" in capsys.readouterr().out
    put(lake / "odd [x]{a,b}*? %20 é.parquet", ["new"])
    put(lake / "_hidden.parquet", ["hidden"])
    record = embed(tiny_model, lake, out)
    assert (record["waves"], record["rows"]) == (1, 1)
    assert record["total"] == {
        "commits": 4,
        "rows": 11,
        "rows_quarantined": 0,
        "files": record["total"]["files"],
        "bytes": record["total"]["bytes"],
    }
    assert ids(out) == sorted([f"{n}{x}" for n in range(5) for x in "ab"] + ["new"])


def test_one_input_has_one_name(
    tiny_model: str, lake: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spark: Any
) -> None:
    put(lake / "a.parquet", ["a"])
    embed(tiny_model, lake, out)
    (tmp_path / "link").symlink_to(lake)
    monkeypatch.chdir(tmp_path)
    for name in (
        f"file:{lake}",
        f"file://{lake}/",
        tmp_path / "x" / ".." / "lake",
        tmp_path / "link",
        "lake/",
    ):
        assert embed(tiny_model, name, out)["status"] == "nothing new"
    assert ids(out) == ["a"]
    spark.sql("SELECT 'a' AS id, 'north' AS text").write.mode("overwrite").saveAsTable("one_name")
    try:
        for name in (
            "one_name",
            "default.one_name",
            "ONE_NAME",
            "spark_catalog.default.one_name",
        ):
            embed(tiny_model, name, tmp_path / "table", "--format", "table")
    finally:
        spark.sql("DROP TABLE one_name")
    assert ids(tmp_path / "table") == ["a"]


def test_input_that_can_not_be_streamed_is_embedded_once(
    tiny_model: str, out: Path, spark: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    spark.sql("SELECT 'a' AS id, 'north' AS text").createOrReplaceTempView("once")
    assert embed(tiny_model, "once", out, "--format", "table")["rows"] == 1
    embed(tiny_model, "once", out, "--format", "table", code=2)
    assert "has the rows of this input" in capsys.readouterr().err
    embed(tiny_model, "once", out, "--format", "table", "--full-refresh")
    assert ids(out) == ["a"]


@pytest.mark.parametrize(("step", "code"), [("logged", 0), ("applied", 0), ("recorded", 2)])
def test_input_that_can_not_be_streamed_is_finished_by_the_next_run(
    tiny_model: str, lake: Path, out: Path, step: str, code: int
) -> None:
    """A process of its own, since SIGKILL ends it; its rerun ends as it would have."""
    put(lake / "a.parquet", ["a"])
    words = ["--model", tiny_model, "--input", str(lake), "--text", "text", "--output", str(out)]
    words += ["--option", "modifiedBefore=2100-01-01T00:00:00"]
    killed = "import os, signal; from functools import partial; from lakevec.jobs.cli import run_job; "
    killed += "from lakevec.jobs import embed; from lakevec.pipeline.settings.embed import EmbedSettings; "
    killed += f"die = lambda step: step == {step!r} and os.kill(os.getpid(), signal.SIGKILL); "
    killed += f"run_job(EmbedSettings, partial(embed.run, on_step=die), {words!r}, name='embed')"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", killed], env=env, capture_output=True).returncode == -9
    option = words[-2:]
    assert embed(tiny_model, lake, out, *option, code=code)["total"]["rows"] == 1
    assert ids(out) == ["a"]
    assert (out / "_SUCCESS").exists()
    put(lake / "b.parquet", ["b"])
    embed(tiny_model, lake, out, *option, code=2)
    assert ids(out) == ["a"]


def test_other_inputs_do_not_make_a_finished_one_seem_cut_off(
    tiny_model: str, lake: Path, out: Path, spark: Any
) -> None:
    spark.sql("SELECT 'a' AS id, 'north' AS text").createOrReplaceTempView("once")
    spark.sql("SELECT 'b' AS id, 'north' AS text").createOrReplaceTempView("another")
    embed(tiny_model, "once", out, "--format", "table")
    embed(tiny_model, "another", out, "--format", "table")
    embed(tiny_model, "once", out, "--format", "table", code=2)
    assert ids(out) == ["a", "b"]


def test_table_that_can_be_streamed_goes_on(tiny_model: str, out: Path, tmp_path: Path, spark: Any) -> None:
    spark.sql(f"CREATE TABLE grows (id STRING, text STRING) USING parquet LOCATION '{tmp_path / 'grows'}'")
    try:
        spark.sql("INSERT INTO grows VALUES ('a', 'north')")
        assert embed(tiny_model, "grows", out, "--format", "table")["rows"] == 1
        spark.sql("INSERT INTO grows VALUES ('b', 'east')")
        assert embed(tiny_model, "grows", out, "--format", "table")["rows"] == 1
        assert embed(tiny_model, "grows", out, "--format", "table")["status"] == "nothing new"
        assert ids(out) == ["a", "b"]
    finally:
        spark.sql("DROP TABLE grows")
