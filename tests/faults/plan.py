"""Choose faults for each mode: every step of every commit, every process, and random times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice, zip_longest

import numpy as np

from .faults import CHANGE, DISK, EXECUTOR, JVM, MACHINE, STALL, STEP, TIME, WORKER, Fault
from .modes import Known

# Points to kill the run that recovers: during its recovery, and right after it.
_AGAIN = ("leased:1", "recovered:1", "begun:1", "checked:1", "moved:1", "applied:1")
# Seconds in which a run only starts Python.
_FIRST_S = 2.0
# Additional seconds of a run on a cluster, whose executors start before its tasks.
_CLUSTER_S = 8.0


@dataclass(frozen=True)
class Case:
    """Faults of consecutive runs, which an undisturbed run follows.

    Parameters
    ----------
    mode : str
    faults : tuple of Fault
        One for each run; empty for an undisturbed run.
    """

    mode: str
    faults: tuple[Fault, ...]


def plan(known: dict[str, Known], kills: int, *, has_disks: bool, seed: int = 0) -> list[Case]:
    """Choose cases with `kills` kills in all, spread evenly over all kinds.

    Parameters
    ----------
    known : dict of str to Known
        Modes to strike.
    kills : int
    has_disks : bool
        Whether a disk can be filled.
    seed : int, default=0
    """
    rng = np.random.default_rng(seed)
    by_mode = [list(_cases(one, rng, has_disks=has_disks)) for one in known.values()]
    # Take modes in turn, and every step before any step twice, so that even a few cases vary.
    cases = _varied([case for turn in zip_longest(*by_mode) for case in turn if case is not None])
    chosen = []
    while cases and kills > 0:
        chosen.append(cases.pop(0))
        kills -= len(chosen[-1].faults)
    return chosen + plan_by_chance(known, kills, seed=seed)


def plan_by_chance(known: dict[str, Known], kills: int, *, seed: int) -> list[Case]:
    """Kill drivers and machines at random times, in one mode after the other."""
    rng = np.random.default_rng(seed)
    modes = islice(cycle(known.values()), max(kills, 0))
    return [Case(one.mode.name, (_by_chance(one, rng),)) for one in modes]


def _varied(cases: list[Case]) -> list[Case]:
    """Sort cases so that targets that were not struck yet come first."""
    seen: Counter[str] = Counter()
    ranked = []
    for case in cases:
        what = str(case.faults[0]).partition(":")[0].partition(" after ")[0] if case.faults else ""
        ranked.append((seen[what], case))
        seen[what] += 1
    return [case for _, case in sorted(ranked, key=lambda pair: pair[0])]


def _cases(known: Known, rng: np.random.Generator, *, has_disks: bool) -> Iterator[Case]:
    """Yield the cases that a mode must survive."""
    name = known.mode.name
    if known.mode.is_standalone:
        for _ in range(4):
            yield Case(name, (_stall(rng),))
        yield Case(name, (_child(EXECUTOR, known, rng, "writing"),))
        yield Case(name, (_driver(known, rng), _stall(rng)))
        return
    if known.mode.is_cluster:
        for _ in range(4):
            yield Case(name, (_child(EXECUTOR, known, rng, "writing"),))
        yield Case(name, (_child(WORKER, known, rng, "busy"),))
        yield Case(name, (_driver(known, rng), _child(EXECUTOR, known, rng, "writing")))
        return
    if known.mode.like and not known.mode.is_maintained:
        for point in ("writing", "busy"):
            for _ in range(3):
                yield Case(name, (_child(WORKER, known, rng, point),))
        return
    steps = {point.partition(":")[0] for point in known.points} - {"change"}
    must = [Fault(STEP, _some(step, known, rng)) for step in sorted(steps)]
    must += [Fault(CHANGE, _some("change", known, rng)) for _ in range(2)]
    must += [Fault(CHANGE, _some("change", known, rng).replace("change", "torn")) for _ in range(2)]
    must += [_driver(known, rng), Fault(MACHINE, delay_s=_moment(known, rng))]
    must += [_child(WORKER, known, rng, "writing"), _child(JVM, known, rng, "")]
    for index in rng.permutation(len(must)):
        fault = must[index]
        # Also kill the run that recovers: never, once or twice.
        again = [_again(known, rng) for _ in range(index % 3)]
        yield Case(name, (fault, *again))
    if has_disks:
        for share in rng.uniform(0.0, 0.9, 2):
            yield Case(name, (Fault(DISK, share=float(share)),))


def _some(step: str, known: Known, rng: np.random.Generator) -> str:
    """Choose one of the occurrences of a step."""
    return str(rng.choice([point for point in known.points if point.partition(":")[0] == step]))


def _again(known: Known, rng: np.random.Generator) -> Fault:
    kind = rng.choice([STEP, CHANGE, TIME])
    if kind == STEP:
        return Fault(STEP, str(rng.choice([point for point in _AGAIN if point in known.points])))
    if kind == CHANGE:
        return Fault(CHANGE, f"{rng.choice(['change', 'torn'])}:{rng.integers(1, 12)}")
    return _driver(known, rng)


def _by_chance(known: Known, rng: np.random.Generator) -> Fault:
    return _driver(known, rng) if rng.random() < 0.7 else Fault(MACHINE, delay_s=_moment(known, rng))


def _driver(known: Known, rng: np.random.Generator) -> Fault:
    return Fault(TIME, delay_s=_moment(known, rng))


def _child(kind: str, known: Known, rng: np.random.Generator, point: str) -> Fault:
    return Fault(kind, point, delay_s=_moment(known, rng) / 2)


def _stall(rng: np.random.Generator) -> Fault:
    # Stall an early task, so that a slot is free for its copy.
    return Fault(STALL, "writing", delay_s=float(rng.uniform(_FIRST_S, _CLUSTER_S)))


def _moment(known: Known, rng: np.random.Generator) -> float:
    longest = known.seconds + (_CLUSTER_S if known.mode.is_cluster else 0.0)
    return float(rng.uniform(_FIRST_S, max(longest, _FIRST_S + 1.0)))
