"""Runs that go on where the last one ended: what is new, what is bad, what does not belong together."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
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


def test_waves_by_bytes(tiny_model: str, lake: Path, out: Path) -> None:
    for number in range(4):
        put(lake / f"{number}.parquet", [str(number)])
    size = (lake / "0.parquet").stat().st_size
    assert embed(tiny_model, lake, out, "--wave-bytes", str(2 * size))["waves"] == 2
    assert ids(out) == ["0", "1", "2", "3"]


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
    assert "is a pattern with partition folders beneath" in capsys.readouterr().err
    assert not (tmp_path / "deep").exists()


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


def test_output_inside_a_recursive_input_is_refused(
    tiny_model: str, lake: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(lake / "a.parquet", ["a"])
    embed(tiny_model, lake, lake / "out", "--option", "recursiveFileLookup=true", code=2)
    assert "holds --output" in capsys.readouterr().err


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


def test_failed_probe_does_not_append_with_sparks_writer(
    tiny_model: str, lake: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(lake / "a.parquet", ["a"])
    embed(tiny_model, lake, out)
    monkeypatch.setattr("lakevec.jobs.embedding.spark_writer.is_local", lambda spark: False)
    monkeypatch.setattr(
        "lakevec.jobs.embedding.spark_writer.probe_output", lambda spark, output: "a mount is gone"
    )
    embed(tiny_model, lake, out, code=2)
    assert ids(out) == ["a"]


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
    assert "vector type int8, there float32" in capsys.readouterr().err
    put(lake / "b.parquet", ["b"])
    record = embed(other_model, lake, out, "--full-refresh", "--wave-files", "1")
    assert (record["waves"], record["total"]["rows"]) == (2, 2)
    vectors = pq.read_table(out)["text_embedding"].to_pylist()
    assert vectors == [[0.0, 2.0]] * 2
    assert sorted(path.name for path in out.parent.iterdir()) == ["lake", "out"]
    assert embed(other_model, lake, out)["status"] == "nothing new"


def test_input_that_can_not_be_streamed_is_embedded_once(
    tiny_model: str, out: Path, spark: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    spark.sql("SELECT 'a' AS id, 'north' AS text").createOrReplaceTempView("once")
    assert embed(tiny_model, "once", out, "--format", "table")["rows"] == 1
    embed(tiny_model, "once", out, "--format", "table", code=2)
    assert "has the rows of this input" in capsys.readouterr().err
    embed(tiny_model, "once", out, "--format", "table", "--full-refresh")
    assert ids(out) == ["a"]


@pytest.mark.parametrize("step", ["logged", "applied", "recorded"])
def test_input_that_can_not_be_streamed_is_finished_by_the_next_run(
    tiny_model: str, lake: Path, out: Path, step: str, spark: Any
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
    assert embed(tiny_model, lake, out, *option, code=0 if step != "recorded" else 2)["total"]["rows"] == 1
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


BAD = pa.table(
    {
        "id": ["good", "invalid", "long", "null"],
        "text": pa.array([b"north", b"north \xff", b"north east north", None], pa.binary()),
        "k": ["1", "1", "2", "2"],
    }
)


def write_bad_rows(lake: Path, kind: pa.DataType) -> None:
    text = BAD["text"].combine_chunks().view(kind)
    pq.write_table(BAD.set_column(1, "text", text), lake / "a.parquet")


ON_BAD_ROWS = ["--max-chars", "12", "--partition-by", "k", "--keep", "id", "--on-bad-row"]


@pytest.mark.parametrize("kind", [pa.binary(), pa.string()], ids=str)
def test_bad_rows_become_null(tiny_model: str, lake: Path, out: Path, kind: pa.DataType, spark: Any) -> None:
    write_bad_rows(lake, kind)
    record = embed(tiny_model, lake, out, *ON_BAD_ROWS, "null")
    found = {row.id: row.text_embedding for row in spark.read.parquet(str(out)).collect()}
    assert found == {"good": [0.0, 1.0], "invalid": None, "long": None, "null": None}
    assert record["columns"]["text"]["bad"] == 2


@pytest.mark.parametrize("kind", [pa.binary(), pa.string()], ids=str)
def test_bad_rows_go_into_quarantine(
    tiny_model: str, lake: Path, out: Path, kind: pa.DataType, spark: Any
) -> None:
    write_bad_rows(lake, kind)
    record = embed(tiny_model, lake, out, *ON_BAD_ROWS, "quarantine")
    found = {row.id: row.text_embedding for row in spark.read.parquet(str(out)).collect()}
    assert found == {"good": [0.0, 1.0], "null": None}
    assert (record["rows_read"], record["rows"], record["rows_quarantined"]) == (4, 2, 2)
    assert record["columns"]["text"]["quarantined"] == 2
    bad = pq.read_table(out / "_lakevec" / "quarantine").sort_by("id").to_pylist()
    assert bad == [
        {"id": "invalid", "text": b"north \xff", "k": "1", "lakevec_reason": "text: not valid UTF-8"},
        {
            "id": "long",
            "text": b"north east north",
            "k": "2",
            "lakevec_reason": "text: longer than 12 characters",
        },
    ]


@pytest.mark.parametrize(
    ("more", "message"),
    [([], "a text is not valid UTF-8"), (["--max-chars", "5"], "a text of column 'text' can't be embedded")],
)
def test_bad_row_ends_the_run_by_default(
    tiny_model: str, lake: Path, out: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pq.write_table(BAD, lake / "a.parquet")
    embed(tiny_model, lake, out, *more, code=1)
    err = capsys.readouterr().err
    assert message in err
    assert "north" not in err
    assert not out.exists()
    embed(tiny_model, lake, out, *more, "--on-bad-row", "quarantine")
    assert "good" in ids(out)


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
    from lakevec.pipeline.output.output_folder import OutputFolder

    put(lake / "a.parquet", ["a"])
    embed(tiny_model, lake, out)
    with OutputFolder(str(out), "first").open(grace_s=0.0):
        put(lake / "b.parquet", ["b"])
        embed(tiny_model, lake, out, code=3)
    assert "another run is writing to output" in capsys.readouterr().err
    embed(tiny_model, lake, out)
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
