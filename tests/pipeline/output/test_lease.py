"""The lease: one run at a time writes to an output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest
from pyarrow.fs import LocalFileSystem

from lakevec.pipeline.errors import BusyError, CommitError
from lakevec.pipeline.output import lease
from lakevec.pipeline.output.lease import Lease
from lakevec.pipeline.storage import Location
from tests.support.commits import a_commit, a_run, ids_in, names_below, write
from tests.support.paths import ROOT


def test_second_run_is_refused_while_the_first_lives(out: Path) -> None:
    with a_run(out, "r1") as output:
        with (
            pytest.raises(BusyError, match=f"another run is writing to output '{out}': got run r1"),
            a_run(out, "r2"),
        ):
            pass
        output.commit(a_commit(output, "r1", [write(output, "a", ["x"])]))
    with a_run(out, "r2") as output:
        assert output.state.rows == 1


def test_lease_of_a_killed_process_is_free_at_once(out: Path) -> None:
    code = f"""
import os, signal
from lakevec.pipeline.output.output_folder import OpenOutput, OutputFolder
output = OutputFolder({str(out)!r}, "dead")
output.inspect()
with output.open(grace_s=0.0):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == -9
    claim = json.loads((out / "_lakevec" / "lease" / "dead.json").read_text())
    assert claim["pid"] not in (0, os.getpid())
    with a_run(out, "r1") as output:
        output.commit(a_commit(output, "r1", [write(output, "a", ["x"])]))
    assert names_below(out / "_lakevec" / "lease") == []


def test_claim_of_another_machine_counts_as_dead_without_a_sign_of_life(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "EXPIRY_S", 0.2)
    monkeypatch.setattr(lease, "POLL_S", 0.05)
    claim = out / "_lakevec" / "lease" / "far.json"
    claim.parent.mkdir(parents=True)
    claim.write_text('{"host": "far", "beats": 1}')
    with a_run(out, "r1"):
        assert not claim.exists()


def test_claim_of_another_machine_is_respected_while_it_is_renewed(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = out / "_lakevec" / "lease" / "far.json"
    claim.parent.mkdir(parents=True)
    claim.write_text('{"host": "far", "beats": 1}')
    beats = count(2)

    def renew(seconds: float) -> None:
        claim.write_text(json.dumps({"host": "far", "beats": next(beats)}))

    monkeypatch.setattr("time.sleep", renew)  # the other run's heartbeat, while this one waits
    with pytest.raises(BusyError, match="got run far"), a_run(out, "r2"):
        pass


def test_claim_that_waits_behind_dead_ones_shows_life(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "this_machine", dict)  # as if every claim were of another machine
    monkeypatch.setattr(lease, "EXPIRY_S", 0.6)
    monkeypatch.setattr(lease, "POLL_S", 0.05)
    monkeypatch.setattr(lease, "BEAT_S", 0.1)
    own = Location(LocalFileSystem(), str(out / "_lakevec"))
    claims = out / "_lakevec" / "lease"
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


def test_run_that_was_taken_over_commits_nothing_more(out: Path) -> None:
    with pytest.raises(CommitError, match="was taken over by another run"), a_run(out, "r1") as output:
        entry = write(output, "a", ["x"])
        (out / "_lakevec" / "lease" / "r1.json").unlink()
        output.commit(a_commit(output, "r1", [entry]))
    assert ids_in(out) == []
