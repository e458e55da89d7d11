"""The commit of an output, step by step: what is checked, what a killed run leaves, who may write."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyarrow.fs import LocalFileSystem

from lakevec.pipeline.errors import BusyError, CommitError, OutputError
from lakevec.pipeline.output import lease
from lakevec.pipeline.output.commit_log import Commit, CommitLog, InputBatch
from lakevec.pipeline.output.file_entry import FileEntry
from lakevec.pipeline.output.lease import Lease
from lakevec.pipeline.output.output_folder import OpenOutput, OutputFolder
from lakevec.pipeline.output.stored_output import read_output
from lakevec.pipeline.storage import Location
from tests.support.commits import Killed, a_commit, a_run, die_at, write
from tests.support.paths import ROOT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "output"


def ids_in(folder: Path) -> list[str]:
    """What a reader sees that lists the folder."""
    files = [file for file in folder.glob("*.parquet") if not file.name.startswith((".", "_"))]
    return sorted(word for file in files for word in pq.read_table(file)["id"].to_pylist())


def names_below(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def test_waves_add_up_and_only_what_the_layout_says_is_left(folder: Path) -> None:
    with a_run(folder, "r1") as output:
        output.commit(a_commit(output, "r1", [write(output, "a", ["x", "y"]), write(output, "b", ["z"])]))
        write(output, "of a failed attempt", ["lost"])
        output.commit(a_commit(output, "r1", [write(output, "c", ["w"])]))
        output.finish({"rows": 4})
        generation = output.generation
    assert ids_in(folder) == ["w", "x", "y", "z"]
    assert set(names_below(folder)) == {
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
    with a_run(folder, "r2") as output:
        assert (output.state.rows, output.state.rows_read, output.state.number) == (4, 4, 1)
        assert output.state.counts == {"id": {"rows": 4}}


def test_rows_read_and_written_must_be_equal(folder: Path) -> None:
    with pytest.raises(CommitError) as caught, a_run(folder, "r1") as output:
        output.commit(a_commit(output, "r1", [write(output, "a", ["x"])], rows_read=2))
    assert str(caught.value) == (
        f"output '{folder}': rows read and rows written differ: got 1 rows written; expected 2; "
        "nothing of this wave was committed; run again"
    )
    assert not folder.exists()


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
def test_failed_wave_keeps_what_was_there(folder: Path, damage: Any, message: str) -> None:
    with a_run(folder, "r1") as output:
        output.commit(a_commit(output, "r1", [write(output, "a", ["x"])]))
    with pytest.raises(CommitError, match=message), a_run(folder, "r2") as output:
        entries = [write(output, "good", ["v"]), write(output, "b", ["y", "z"])]
        damage(Path(output.staging.path) / "b-000.parquet")
        output.commit(a_commit(output, "r2", entries))
    assert ids_in(folder) == ["x"]
    assert not (folder / "_lakevec" / "staging").exists()


def test_first_commit_refuses_when_somebody_else_wrote_meanwhile(folder: Path) -> None:
    with (
        pytest.raises(CommitError, match="another program wrote to output"),
        a_run(folder, "r1") as output,
    ):
        entry = write(output, "a", ["x"])
        (folder / "other.parquet").write_text("theirs")
        output.commit(a_commit(output, "r1", [entry]))
    assert names_below(folder) == ["other.parquet"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_output_of_somebody_else_is_refused(folder: Path, kind: str) -> None:
    place = {"file": folder, "folder": folder / "part-0.parquet"}[kind]
    place.parent.mkdir(exist_ok=True)
    place.write_text("theirs")
    with pytest.raises(OutputError, match="exists and was not written by this version of lakevec"):
        OutputFolder(str(folder), "r1").inspect()


def test_run_without_a_row_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), a_run(folder, "r1"):
        raise RuntimeError
    assert not folder.exists()
    folder.mkdir()
    with pytest.raises(RuntimeError), a_run(folder, "r1"):
        raise RuntimeError
    assert list(folder.iterdir()) == []
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fingerprint": "sha256:two"}, "model fingerprint sha256:two, there sha256:one"),
        ({"columns": {"body": "v"}}, r"text columns \{body: v\}, there \{id: v\}"),
        ({"vector_type": "int8"}, "vector type int8, there float32"),
        ({"max_tokens": 3}, "max tokens 3, there none"),
        ({"partition_by": ("k",)}, r"partition columns \(k\), there \(\)"),
        ({"key": "id"}, "key id, there none"),
        ({"table_format": "delta"}, "table format delta, there parquet"),
    ],
)
def test_rows_of_another_kind_are_refused_with_what_differs(
    folder: Path, changes: dict[str, Any], message: str
) -> None:
    with a_run(folder, "r1") as output:
        output.commit(a_commit(output, "r1", [write(output, "a", ["x"])]))
    before = names_below(folder)
    with (
        pytest.raises(OutputError, match=f"holds rows of another kind: got {message}"),
        a_run(folder, "r2", **changes),
    ):
        pass
    assert names_below(folder) == before


def killed_at(folder: Path, step: str, act: Any, **changes: Any) -> list[list[str]]:
    """Let a run die at a step; return what readers saw at each step."""
    seen: list[list[str]] = []
    on_step = die_at(step, lambda: seen.append(ids_in(folder)))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(OpenOutput, "abandon", lambda self: None)
        patched.setattr(Lease, "give_back", lambda self: None)
        with pytest.raises(Killed), a_run(folder, "dead", on_step=on_step, **changes) as output:
            act(output)
    return seen


STEPS = ["embedded", "checked", "logged", "moved", "applied", "compacted"]


@pytest.mark.usefixtures("stale_claims")
@pytest.mark.parametrize("step", STEPS)
def test_killed_commit_is_finished_or_forgotten(folder: Path, step: str) -> None:
    with a_run(folder, "r1") as output:
        output.commit(a_commit(output, "r1", [write(output, "a", ["x"])]))

    def act(output: OpenOutput, run: str = "dead") -> None:
        entries = [write(output, "b", ["y"]), write(output, "c", ["z"])]
        output.commit(a_commit(output, run, entries))

    for view in killed_at(folder, step, act):
        assert len(view) == len(set(view))
        assert "x" in view
    with a_run(folder, "r2") as output:
        was_logged = STEPS.index(step) >= STEPS.index("logged")
        assert output.state.number == int(was_logged)
        # The job commits what the log lacks.
        for _ in range(1 - output.state.number):
            act(output, "r2")
    assert ids_in(folder) == ["x", "y", "z"]
    assert not (folder / "_lakevec" / "staging").exists()


def test_what_killed_writes_left_is_removed_by_the_next_run(folder: Path) -> None:
    with a_run(folder, "r1") as output:
        output.commit(a_commit(output, "r1", [write(output, "a", ["x"])]))
        generation = output.generation
    own = folder / "_lakevec"
    shutil.copytree(own / generation, own / "0123456789ab")
    hidden = [own / ".run.json.1", own / generation / "log" / ".00000001.json.2", own / "lease" / ".claim.3"]
    for file in hidden:
        file.parent.mkdir(exist_ok=True)
        file.write_text("half")
    kept = own / "quarantine" / "rows.parquet"
    kept.parent.mkdir()
    kept.write_text("rows of the user's")
    with a_run(folder, "r2") as output:
        assert output.state.number == 0
    assert not any(file.exists() for file in [*hidden, own / "0123456789ab"])
    assert kept.exists()
    assert ids_in(folder) == ["x"]


@pytest.fixture
def stale_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    """Claims of this very process belong to a run that is dead."""
    monkeypatch.setattr(lease, "is_process_alive", lambda claim: False)


@pytest.mark.usefixtures("stale_claims")
@pytest.mark.parametrize("step", ["begun", "logged", "moved", "built"])
def test_readers_see_the_old_rows_until_a_killed_refresh_is_repeated(folder: Path, step: str) -> None:
    with a_run(folder, "r1") as output:
        output.commit(a_commit(output, "r1", [write(output, "a", ["old"])]))
        output.finish({})

    def act(output: OpenOutput) -> None:
        output.commit(a_commit(output, "dead", [write(output, "b", ["n1"])]))
        output.finish({})

    changes: dict[str, Any] = {"fingerprint": "sha256:two", "refresh": True}
    seen: list[list[str]] = []
    on_step = die_at(step, lambda: seen.append(ids_in(folder)))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(OpenOutput, "abandon", lambda self: None)
        with pytest.raises(Killed), a_run(folder, "dead", on_step=on_step, **changes) as output:
            act(output)
    assert all(view == ["old"] for view in seen)
    with a_run(folder, "between") as output:  # a run of the old kind goes on meanwhile
        assert output.state.rows == 1
    with a_run(folder, "r3", on_step=lambda step: seen.append(ids_in(folder)), **changes) as output:
        assert output.state.number == -1
        output.commit(a_commit(output, "r3", [write(output, "b", ["n1"])]))
        output.commit(a_commit(output, "r3", [write(output, "c", ["n2"])]))
        output.finish({})
    assert all(view in (["old"], ["n1", "n2"]) for view in seen)
    assert ids_in(folder) == ["n1", "n2"]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_refresh_without_an_exchange_takes_two_renames_and_survives_the_gap(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakevec.pipeline.output.atomic_swap.exchange_folders", lambda one, other: False)
    with a_run(folder, "r1") as output:
        output.commit(a_commit(output, "r1", [write(output, "a", ["old"])]))
    with a_run(folder, "r2", refresh=True) as output:
        output.commit(a_commit(output, "r2", [write(output, "b", ["new"])]))
        output.finish({})
    assert ids_in(folder) == ["new"]
    # Killed between the renames: the output is not there, its successor is.
    folder.rename(folder.parent / ".output.lakevec-next")
    (folder.parent / ".output.lakevec-next" / "_lakevec" / "ready").write_bytes(b"")
    with a_run(folder, "r3") as output:
        assert output.state.rows == 1
    assert ids_in(folder) == ["new"]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.fixture
def gap(folder: Path) -> Path:
    """An output whose swap was cut off between its two renames; returns the waiting successor."""
    with a_run(folder, "r1") as output:
        output.commit(a_commit(output, "r1", [write(output, "a", ["x"])]))
        output.finish({})
    waiting = folder.parent / ".output.lakevec-next"
    folder.rename(waiting)
    (waiting / "_lakevec" / "ready").write_bytes(b"")
    return waiting


def test_looking_completes_no_swap(folder: Path, gap: Path) -> None:
    output = OutputFolder(str(folder), "r2")
    output.inspect()
    assert output.is_begun
    assert read_output(str(folder)).state.rows == 1
    assert [path.name for path in folder.parent.iterdir()] == [gap.name]


def test_swap_of_a_living_run_is_left_to_it(folder: Path, gap: Path) -> None:
    with Lease(Location(LocalFileSystem(), str(gap / "_lakevec")), "living", "output"):
        with pytest.raises(BusyError, match="got run living"), a_run(folder, "r2"):
            pass
        assert [path.name for path in folder.parent.iterdir()] == [gap.name]
    with a_run(folder, "r3") as output:
        assert output.state.rows == 1
        assert names_below(folder / "_lakevec" / "lease") == ["r3.json"]
        output.commit(a_commit(output, "r3", [write(output, "b", ["y"])]))
    assert ids_in(folder) == ["x", "y"]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_claim_that_waits_behind_dead_ones_shows_life(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "this_machine", dict)  # as if every claim were of another machine
    monkeypatch.setattr(lease, "EXPIRY_S", 0.6)
    monkeypatch.setattr(lease, "POLL_S", 0.05)
    monkeypatch.setattr(lease, "BEAT_S", 0.1)
    own = Location(LocalFileSystem(), str(folder / "_lakevec"))
    claims = folder / "_lakevec" / "lease"
    claims.mkdir(parents=True)
    for name in ("y", "z"):
        (claims / f"{name}.json").write_text("{}")
    first = Lease(own, "first", "output")
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(first.__enter__)
        while not (claims / "first.json").exists():
            time.sleep(0.01)
        with pytest.raises(BusyError, match="got run first"):
            Lease(own, "second", "output").__enter__()
        taken.result()
    first.check()
    first.give_back()


def test_replaced_files_go_in_one_step(folder: Path) -> None:
    with a_run(folder, "r1", key="id") as output:
        output.commit(a_commit(output, "r1", [write(output, "a", ["x", "y"]), write(output, "b", ["z"])]))
    seen = []
    with a_run(folder, "r2", key="id", on_step=lambda step: seen.append(ids_in(folder))) as output:
        added = [write(output, "c", ["x", "yy"])]
        output.commit(a_commit(output, "r2", added, removed=["a-000.parquet"]))
        assert output.state.rows == 3
        output.finish({})
    assert {tuple(view) for view in seen} == {("x", "y", "z"), ("x", "yy", "z")}
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    with a_run(folder, "r3", key="id") as output:
        assert sorted(output.state.files) == ["b-000.parquet", "c-000.parquet"]


def test_log_is_compacted_and_a_hole_is_told(tmp_path: Path) -> None:
    """Ten thousand runs of a file each."""
    from lakevec.pipeline.storage import locate

    place = locate(str(tmp_path / "state"), error=OutputError)
    history = CommitLog(place)
    for number in range(10_000):
        entry = FileEntry(f"part-{number:05d}.parquet", 10, 100, {"t": {"rows": 10}})
        wave = InputBatch(input="i", batch=number, query="q")
        history.append(Commit(number=number, run="r", wave=wave, rows_read=10, added=[entry]))
        history.compact()
    log = tmp_path / "state" / "log"
    assert len(list(log.iterdir())) <= 41
    assert sum(file.stat().st_size for file in log.iterdir()) < 2_000_000
    again = CommitLog(place)
    again.read()
    assert again.state == history.state
    assert (again.state.rows, again.state.number, again.state.inputs["i"].batch) == (100_000, 9_999, 9_999)
    for number in (10_000, 10_001, 10_002):
        commit = Commit(
            number=number, run="r", wave=InputBatch(input="i", batch=number), rows_read=0, added=[]
        )
        again.append(commit)
    (log / "000000010001.json").unlink()
    with pytest.raises(CommitError, match="no commit 10001 before commit 10002"):
        CommitLog(place).read()


def test_commit_that_somebody_else_made_is_not_overwritten(folder: Path) -> None:
    with (
        pytest.raises(CommitError, match="another run wrote to this output meanwhile"),
        a_run(folder, "r1") as output,
    ):
        log = folder / "_lakevec" / output.generation / "log"
        log.mkdir()
        (log / "000000000000.json").write_text("{}")
        output.commit(a_commit(output, "r1", [write(output, "a", ["x"])]))


def test_second_run_is_refused_while_the_first_lives(folder: Path) -> None:
    with a_run(folder, "r1") as output:
        with (
            pytest.raises(BusyError, match=f"another run is writing to output '{folder}': got run r1"),
            a_run(folder, "r2"),
        ):
            pass
        output.commit(a_commit(output, "r1", [write(output, "a", ["x"])]))
    with a_run(folder, "r2") as output:
        assert output.state.rows == 1


def test_lease_of_a_killed_process_is_free_at_once(folder: Path) -> None:
    code = f"""
import os, signal
from lakevec.pipeline.output.output_folder import OpenOutput, OutputFolder
output = OutputFolder({str(folder)!r}, "dead")
output.inspect()
with output.open(grace_s=0.0):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == -9
    claim = json.loads((folder / "_lakevec" / "lease" / "dead.json").read_text())
    assert claim["pid"] not in (0, os.getpid())
    with a_run(folder, "r1") as output:
        output.commit(a_commit(output, "r1", [write(output, "a", ["x"])]))
    assert names_below(folder / "_lakevec" / "lease") == []


def test_claim_of_another_machine_is_watched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "EXPIRY_S", 3.0)
    claims = folder / "_lakevec" / "lease"
    claims.mkdir(parents=True)
    (claims / "far.json").write_text('{"host": "far", "beats": 1}')
    with a_run(folder, "r1"):  # no sign of life: dead
        assert not (claims / "far.json").exists()

    (claims).mkdir(parents=True, exist_ok=True)
    (claims / "far.json").write_text('{"host": "far", "beats": 1}')
    beats = iter(range(2, 100))
    read = lease.Lease._read

    def renewed(self: Any, name: str) -> Any:
        (claims / "far.json").write_text(json.dumps({"host": "far", "beats": next(beats)}))
        return read(self, name)

    monkeypatch.setattr(lease.Lease, "_read", renewed)
    with pytest.raises(BusyError, match="got run far"), a_run(folder, "r2"):
        pass


def test_run_that_was_taken_over_commits_nothing_more(folder: Path) -> None:
    with pytest.raises(CommitError, match="was taken over by another run"), a_run(folder, "r1") as output:
        entry = write(output, "a", ["x"])
        (folder / "_lakevec" / "lease" / "r1.json").unlink()
        output.commit(a_commit(output, "r1", [entry]))
    assert ids_in(folder) == [] if folder.exists() else True


def test_staging_of_a_dead_run_waits_for_its_grace(folder: Path) -> None:
    with a_run(folder, "r1") as output:
        output.commit(a_commit(output, "r1", [write(output, "a", ["x"])]))
    left = folder / "_lakevec" / "staging" / "dead"
    left.mkdir(parents=True)
    (left / "run").write_bytes(b"")
    with OutputFolder(str(folder), "r2").open(grace_s=3600.0):
        assert left.exists()
    os.utime(left / "run", (0, 0))
    with OutputFolder(str(folder), "r3").open(grace_s=3600.0):
        assert not left.exists()
