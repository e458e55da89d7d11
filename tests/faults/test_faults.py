"""A few kills; ``make faults`` runs many."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from tests.faults.commits import PLAYS, Play, strike_every
from tests.faults.faults import STEP, WORKER, Fault
from tests.faults.harness import Harness
from tests.faults.modes import Workshop
from tests.faults.plan import Case
from tests.support import short_java
from tests.support.commands import embed

pytest.importorskip("deltalake")


@pytest.fixture(scope="module")
def workshop(spark: object, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    folder = tmp_path_factory.mktemp("faults")
    made = Workshop(folder, rows=4_000, java=short_java.JAVA_OPTIONS, run_here=embed)
    made.prepare()
    return made


@pytest.mark.parametrize(
    "case",
    [
        # Right after the step that shows readers new rows instead of old ones.
        Case("key", (Fault(STEP, "switched:1"),)),
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
    # Plays fork, so use a new process, since other tests may have started deltalake's threads in this one.
    # It is a fork of a server that has imported all that plays need, and started nothing.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.commits", "deltalake", "pyiceberg.catalog.sql"])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        # The stride is a prime, so that all kinds of steps are struck.
        assert pool.submit(strike_every, 31, play, tmp_path).result() == []
