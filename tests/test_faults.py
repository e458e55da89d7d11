"""Kills of the job in short; ``make faults`` does it at length."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.commits import PLAYS, Play, Stage, with_worse
from faults.faults import STEP, WORKER, Fault
from faults.harness import Harness
from faults.modes import Workshop
from faults.plan import Case, plan

pytest.importorskip("deltalake")


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    made = Workshop(tmp_path_factory.mktemp("faults"), rows=4_000)
    made.prepare()
    return made


@pytest.mark.parametrize(
    "case",
    [
        # A commit that is not in the log, one that is, and one that is half done.
        Case("new", (Fault(STEP, "checked:2"), Fault(STEP, "logged:1"), Fault(STEP, "moved:2"))),
        # Just before readers see new rows in the place of old ones, and just behind that.
        Case("key", (Fault(STEP, "built:1"), Fault(STEP, "switched:1"))),
        Case("retries", (Fault(WORKER, "writing"),)),
    ],
    ids=lambda case: case.mode,
)
def test_killed_job_ends_as_if_nothing_had_happened(workshop: Workshop, case: Case) -> None:
    workshop.know(case.mode, undisturbed=False)
    outcome = Harness(workshop).run(case)
    assert outcome.is_good, str(outcome)
    assert outcome.kills == len(case.faults)
    assert outcome.left == []
    assert outcome.views > 0


@pytest.mark.parametrize("play", PLAYS, ids=lambda play: play.name)
def test_commit_that_is_killed_at_some_change_is_finished_or_forgotten(play: Play, tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    start, old, points = stage.prepare(play)
    # A prime, so that all kinds of steps have their turn.
    for point in with_worse(points)[::11]:
        assert stage.strike(play, start, old, [point]) == [], point


def test_plan_has_every_step_of_every_mode(workshop: Workshop) -> None:
    known = {}
    for name in ("new", "key"):
        known[name] = workshop.know(name, undisturbed=False)
        known[name].points[:] = ["leased:1", "moved:1", "moved:2", "change:1"]
    cases = plan(known, 10_000, has_disks=True)
    for name in known:
        struck = {
            fault.point.partition(":")[0] for case in cases for fault in case.faults if case.mode == name
        }
        assert {"leased", "moved", "change", "torn"} <= struck
