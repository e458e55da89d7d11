"""The commit of an output, step by step: what it checks, and what a killed run leaves."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from lakevec.pipeline.errors import CommitError, OutputError
from lakevec.pipeline.output import lease
from lakevec.pipeline.output.output_folder import OpenOutput, OutputFolder
from tests.support.commits import a_commit, a_run, ids_in, kill_run, names_below, write


def test_waves_add_up_and_only_what_the_layout_says_is_left(out: Path) -> None:
    with a_run(out, "r1") as output:
        output.commit(a_commit(output, "r1", [write(output, "a", ["x", "y"]), write(output, "b", ["z"])]))
        write(output, "of a failed attempt", ["lost"])
        output.commit(a_commit(output, "r1", [write(output, "c", ["w"])]))
        output.finish({"rows": 4})
        generation = output.generation
    assert ids_in(out) == ["w", "x", "y", "z"]
    assert set(names_below(out)) == {
        "_SUCCESS",
        f"_lakevec/{generation}/log/000000000000.json",
        f"_lakevec/{generation}/log/000000000001.json",
        f"_lakevec/{generation}/output.json",
        "_lakevec/current.json",
        "_lakevec/run.json",
        "a-000.parquet",
        "b-000.parquet",
        "c-000.parquet",
    }
    with a_run(out, "r2") as output:
        assert (output.state.rows, output.state.rows_read, output.state.number) == (4, 4, 1)
        assert output.state.counts == {"id": {"rows": 4}}


def test_rows_read_and_written_must_be_equal(out: Path) -> None:
    with pytest.raises(CommitError) as caught, a_run(out, "r1") as output:
        output.commit(a_commit(output, "r1", [write(output, "a", ["x"])], rows_read=2))
    assert str(caught.value) == (
        f"output '{out}': rows read and rows written differ: got 1 rows written; expected 2; "
        "nothing of this micro-batch was committed; run again"
    )
    assert not out.exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.unlink(), "expected a file that the driver and all executors see"),
        (lambda file: file.write_bytes(file.read_bytes()[:-9]), "can't be read back"),
        (lambda file: file.write_bytes(b"PAR1" + file.read_bytes()), "is not what its task wrote"),
        (lambda file: pq.write_table(pq.read_table(file).slice(1), file), "got 1 rows"),
    ],
    ids=["missing", "cut off", "grown", "fewer rows"],
)
def test_failed_wave_keeps_what_was_there(out: Path, damage: Any, message: str) -> None:
    with a_run(out, "r1") as output:
        output.commit(a_commit(output, "r1", [write(output, "a", ["x"])]))
    with pytest.raises(CommitError, match=message), a_run(out, "r2") as output:
        entries = [write(output, "good", ["v"]), write(output, "b", ["y", "z"])]
        damage(Path(output.staging.path) / "b-000.parquet")
        output.commit(a_commit(output, "r2", entries))
    assert ids_in(out) == ["x"]
    assert not (out / "_lakevec" / "staging").exists()


def test_first_commit_refuses_when_somebody_else_wrote_meanwhile(out: Path) -> None:
    with (
        pytest.raises(CommitError, match="another program wrote to output"),
        a_run(out, "r1") as output,
    ):
        entry = write(output, "a", ["x"])
        (out / "other.parquet").write_text("theirs")
        output.commit(a_commit(output, "r1", [entry]))
    assert names_below(out) == ["other.parquet"]


def test_commit_that_somebody_else_made_is_not_overwritten(out: Path) -> None:
    with (
        pytest.raises(CommitError, match="another run wrote to this output meanwhile"),
        a_run(out, "r1") as output,
    ):
        log = out / "_lakevec" / output.generation / "log"
        log.mkdir()
        (log / "000000000000.json").write_text("{}")
        output.commit(a_commit(output, "r1", [write(output, "a", ["x"])]))


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_output_of_somebody_else_is_refused(out: Path, kind: str) -> None:
    place = {"file": out, "folder": out / "part-0.parquet"}[kind]
    place.parent.mkdir(exist_ok=True)
    place.write_text("theirs")
    with pytest.raises(OutputError, match="exists and was not written by this version of lakevec"):
        OutputFolder(str(out), "r1").inspect()


def test_run_without_a_row_leaves_nothing(out: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), a_run(out, "r1"):
        raise RuntimeError
    assert not out.exists()
    out.mkdir()
    with pytest.raises(RuntimeError), a_run(out, "r1"):
        raise RuntimeError
    assert list(out.iterdir()) == []
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fingerprint": "sha256:two"}, "model fingerprint sha256:two, not sha256:one"),
        ({"columns": {"body": "v"}}, r"text columns \{body: v\}, not \{id: v\}"),
        ({"vector_type": "int8"}, "vector type int8, not float32"),
        ({"max_tokens": 3}, "max tokens 3, not none"),
        ({"partition_by": ("k",)}, r"partition columns \(k\), not \(\)"),
        ({"key": "id"}, "key id, not none"),
        ({"table_format": "delta"}, "table format delta, not parquet"),
    ],
)
def test_rows_of_another_kind_are_refused_with_what_differs(
    out: Path, changes: dict[str, Any], message: str
) -> None:
    with a_run(out, "r1") as output:
        output.commit(a_commit(output, "r1", [write(output, "a", ["x"])]))
    before = names_below(out)
    with (
        pytest.raises(OutputError, match=f"holds rows of another kind: got {message}"),
        a_run(out, "r2", **changes),
    ):
        pass
    assert names_below(out) == before


@pytest.mark.parametrize(
    ("step", "commits"),
    [("embedded", 0), ("checked", 0), ("logged", 1), ("moved", 1), ("applied", 1), ("compacted", 1)],
)
def test_killed_commit_is_finished_or_forgotten(
    out: Path, step: str, commits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "is_process_alive", lambda claim: False)
    with a_run(out, "r1") as output:
        output.commit(a_commit(output, "r1", [write(output, "a", ["x"])]))

    def work(output: OpenOutput, run: str = "dead") -> None:
        entries = [write(output, "b", ["y"]), write(output, "c", ["z"])]
        output.commit(a_commit(output, run, entries))

    for view in kill_run(out, step, work, see=lambda: ids_in(out)):
        assert len(view) == len(set(view))
        assert "x" in view
    with a_run(out, "r2") as output:
        assert output.state.number == commits
        for _ in range(1 - commits):  # as the job repeats the micro-batch
            work(output, "r2")
    assert ids_in(out) == ["x", "y", "z"]
    assert not (out / "_lakevec" / "staging").exists()


def test_what_killed_writes_left_is_removed_by_the_next_run(out: Path) -> None:
    with a_run(out, "r1") as output:
        output.commit(a_commit(output, "r1", [write(output, "a", ["x"])]))
        generation = output.generation
    own = out / "_lakevec"
    shutil.copytree(own / generation, own / "0123456789ab")
    hidden = [own / ".run.json.1", own / generation / "log" / ".00000001.json.2", own / "lease" / ".claim.3"]
    for file in hidden:
        file.parent.mkdir(exist_ok=True)
        file.write_text("half")
    kept = own / "quarantine" / "rows.parquet"
    kept.parent.mkdir()
    kept.write_text("rows of the user's")
    with a_run(out, "r2") as output:
        assert output.state.number == 0
    assert not any(file.exists() for file in [*hidden, own / "0123456789ab"])
    assert kept.exists()
    assert ids_in(out) == ["x"]


def test_staging_of_a_dead_run_waits_for_its_grace(out: Path) -> None:
    with a_run(out, "r1") as output:
        output.commit(a_commit(output, "r1", [write(output, "a", ["x"])]))
    left = out / "_lakevec" / "staging" / "dead"
    left.mkdir(parents=True)
    (left / "run").write_bytes(b"")
    with OutputFolder(str(out), "r2").open(grace_s=3600.0):
        assert left.exists()
    os.utime(left / "run", (0, 0))
    with OutputFolder(str(out), "r3").open(grace_s=3600.0):
        assert not left.exists()
