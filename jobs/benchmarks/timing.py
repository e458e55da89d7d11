"""How a rate is taken: ways take turns, on CPUs that are fixed beforehand, and the median counts."""

from __future__ import annotations

import multiprocessing
import os
import re
import statistics
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Rate:
    """How fast a way is.

    Parameters
    ----------
    way : str
        Its name.
    rows : int
        Rows of one run.
    runs : tuple of float
        Rows per second of each run, in the order they were made.
    """

    way: str
    rows: int
    runs: tuple[float, ...]

    @property
    def rows_per_s(self) -> float:
        """Median over the runs."""
        return statistics.median(self.runs)


@dataclass(frozen=True)
class Comparison:
    """Ways that took turns over the same rows.

    Parameters
    ----------
    title : str
        What was measured.
    rates : list of Rate
    baseline : str
        The way that counts as 1.
    notes : list of str
        What else there is to say about it, one sentence each.
    facts : dict
        Other figures, for the JSON file.
    """

    title: str
    rates: list[Rate]
    baseline: str
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


def take_turns(ways: dict[str, Callable[[], int]], repeats: int) -> list[Rate]:
    """Time ways one after the other, as often as wanted, so that a slow minute hits all of them.

    Parameters
    ----------
    ways : dict of str to callable
        Each returns how many rows it took. What it has to do before, and is not timed, is its `prepare`.
    repeats : int
        Rounds.

    Returns
    -------
    list of Rate
        In the order of `ways`.
    """
    runs: dict[str, list[float]] = {way: [] for way in ways}
    rows = {}
    for _ in range(repeats):
        for way, run in ways.items():
            getattr(run, "prepare", _nothing)()
            started = time.perf_counter()
            rows[way] = run()
            runs[way].append(rows[way] / (time.perf_counter() - started))
    return [Rate(way, rows[way], tuple(seen)) for way, seen in runs.items()]


def _nothing() -> None:
    """Prepare a way that needs no preparation."""


def bind_to_cpus(cpus: Iterable[int]) -> None:
    """Bind this process, all its threads and what it starts from now on to CPUs.

    Parameters
    ----------
    cpus : iterable of int

    Notes
    -----
    One core means one CPU for the whole process tree: with ``local[1]`` alone the JVM takes a second core,
    which flatters everybody.
    """
    chosen = set(cpus)
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(thread.name), chosen)


def in_new_process(cpus: Iterable[int], work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a function in a process of its own, bound to CPUs from its start.

    Parameters
    ----------
    cpus : iterable of int
    work : callable
        Importable by name.
    *args, **kwargs
        Passed to `work`.

    Returns
    -------
    object
        What `work` returned.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=bind_to_cpus, initargs=(set(cpus),)) as pool:
        return pool.submit(work, *args, **kwargs).result()


def peak_memory_bytes() -> int:
    """Return the most memory that this process has had resident, 0 where Linux doesn't tell."""
    status = Path("/proc/self/status")
    found = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE) if status.exists() else None
    return int(found[1]) * 1024 if found else 0
