"""Kills of the commit in short; ``make faults`` kills the whole job, at length."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.commits import PLAYS, Play, Stage, with_worse

pytest.importorskip("deltalake")


@pytest.mark.parametrize("play", PLAYS, ids=lambda play: play.name)
def test_commit_that_is_killed_at_some_change_is_finished_or_forgotten(play: Play, tmp_path: Path) -> None:
    """Each run is a process that SIGKILL ends; another one goes on."""
    stage = Stage(tmp_path)
    start, old, points = stage.prepare(play)
    # A prime, so that all kinds of steps have their turn.
    for point in with_worse(points)[::31]:
        assert stage.strike(play, start, old, [point]) == [], point
