"""A whole output put in another's place: by a full refresh, and by a commit that replaces files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyarrow.fs import LocalFileSystem

from lakevec.pipeline.errors import BusyError
from lakevec.pipeline.output import lease
from lakevec.pipeline.output.lease import Lease
from lakevec.pipeline.output.output_folder import OpenOutput, OutputFolder
from lakevec.pipeline.output.stored_output import read_output
from lakevec.pipeline.storage import Location
from tests.support.commits import a_commit, a_run, ids_in, kill_run, names_below, write


@pytest.mark.parametrize("step", ["begun", "logged", "moved", "built"])
def test_readers_see_the_old_rows_until_a_killed_refresh_is_repeated(
    out: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "is_process_alive", lambda claim: False)
    with a_run(out, "r1") as output:
        output.commit(a_commit(output, "r1", [write(output, "a", ["old"])]))
        output.finish({})

    def work(output: OpenOutput) -> None:
        output.commit(a_commit(output, "dead", [write(output, "b", ["n1"])]))
        output.finish({})

    changes: dict[str, Any] = {"fingerprint": "sha256:two", "refresh": True}
    seen = kill_run(out, step, work, see=lambda: ids_in(out), **changes)
    assert all(view == ["old"] for view in seen)
    with a_run(out, "between") as output:  # a run of the old kind continues meanwhile
        assert output.state.rows == 1
    with a_run(out, "r3", on_step=lambda step: seen.append(ids_in(out)), **changes) as output:
        assert output.state.number == -1
        output.commit(a_commit(output, "r3", [write(output, "b", ["n1"])]))
        output.commit(a_commit(output, "r3", [write(output, "c", ["n2"])]))
        output.finish({})
    assert all(view in (["old"], ["n1", "n2"]) for view in seen)
    assert ids_in(out) == ["n1", "n2"]
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_refresh_without_an_exchange_takes_two_renames_and_survives_the_gap(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakevec.pipeline.output.atomic_swap.exchange_folders", lambda one, other: False)
    with a_run(out, "r1") as output:
        output.commit(a_commit(output, "r1", [write(output, "a", ["old"])]))
    with a_run(out, "r2", refresh=True) as output:
        output.commit(a_commit(output, "r2", [write(output, "b", ["new"])]))
        output.finish({})
    assert ids_in(out) == ["new"]
    # Killed between the renames: the output is not there, its successor is.
    out.rename(out.parent / ".out.lakevec-next")
    (out.parent / ".out.lakevec-next" / "_lakevec" / "ready").write_bytes(b"")
    with a_run(out, "r3") as output:
        assert output.state.rows == 1
    assert ids_in(out) == ["new"]
    assert [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.fixture
def gap(out: Path) -> Path:
    """An output whose swap was cut off between its two renames; returns the waiting successor."""
    with a_run(out, "r1") as output:
        output.commit(a_commit(output, "r1", [write(output, "a", ["x"])]))
        output.finish({})
    waiting = out.parent / ".out.lakevec-next"
    out.rename(waiting)
    (waiting / "_lakevec" / "ready").write_bytes(b"")
    return waiting


def test_looking_completes_no_swap(out: Path, gap: Path) -> None:
    output = OutputFolder(str(out), "r2")
    output.inspect()
    assert output.is_begun
    assert read_output(str(out)).state.rows == 1
    assert [path.name for path in out.parent.iterdir()] == [gap.name]


def test_swap_of_a_living_run_is_left_to_it(out: Path, gap: Path) -> None:
    with Lease(Location(LocalFileSystem(), str(gap / "_lakevec")), "living", "output"):
        with pytest.raises(BusyError, match="got run living"), a_run(out, "r2"):
            pass
        assert [path.name for path in out.parent.iterdir()] == [gap.name]
    with a_run(out, "r3") as output:
        assert output.state.rows == 1
        assert names_below(out / "_lakevec" / "lease") == ["r3.json"]
        output.commit(a_commit(output, "r3", [write(output, "b", ["y"])]))
    assert ids_in(out) == ["x", "y"]
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_replaced_files_go_in_one_step(out: Path) -> None:
    with a_run(out, "r1", key="id") as output:
        output.commit(a_commit(output, "r1", [write(output, "a", ["x", "y"]), write(output, "b", ["z"])]))
    seen = []
    with a_run(out, "r2", key="id", on_step=lambda step: seen.append(ids_in(out))) as output:
        added = [write(output, "c", ["x", "yy"])]
        output.commit(a_commit(output, "r2", added, removed=["a-000.parquet"]))
        assert output.state.rows == 3
        output.finish({})
    assert {tuple(view) for view in seen} == {("x", "y", "z"), ("x", "yy", "z")}
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    with a_run(out, "r3", key="id") as output:
        assert sorted(output.state.files) == ["b-000.parquet", "c-000.parquet"]
