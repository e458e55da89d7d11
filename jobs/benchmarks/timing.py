"""Measure rates: compared ways run in turn on fixed CPUs, and a rate is the median of its runs."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from lakevec.pipeline.errors import SetupError

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Rate:
    """The speed of one way to do the work.

    Parameters
    ----------
    way : str
    rows : int
        Rows of one run.
    runs : tuple of float
        Rows per second of each run, in order.
    """

    way: str
    rows: int
    runs: tuple[float, ...]

    @property
    def rows_per_s(self) -> float:
        """Median over the runs."""
        return statistics.median(self.runs)

    @property
    def seconds(self) -> float:
        """Time of the median run."""
        return self.rows / self.rows_per_s


@dataclass(frozen=True)
class Comparison:
    """Rates of ways that took turns over the same rows.

    Parameters
    ----------
    title : str
    rates : list of Rate
    baseline : str
        Way whose ratio is 1.
    notes : list of str
        Sentences to print below the table.
    facts : dict
        Other figures, for the JSON file.
    """

    title: str
    rates: list[Rate]
    baseline: str
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """A way with preparation: `run` takes the result of `prepare`, and only `run` is timed."""

    prepare: Callable[[], Any]
    run: Callable[[Any], int]


def rows_per_s(rates: Iterable[Rate]) -> dict[str, float]:
    """Return each way's median rate."""
    return {rate.way: rate.rows_per_s for rate in rates}


def take_turns(
    ways: Mapping[str, Callable[[], int] | Prepared],
    repeats: int,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Rate]:
    """Time ways in turn, so that a slow minute affects all of them.

    Parameters
    ----------
    ways : mapping of str to callable or Prepared
        A run returns its number of rows.
    repeats : int
        Number of rounds.
    clock : callable, default=time.perf_counter
        Returns seconds. ``time.process_time`` counts the CPU time of this process.
    """
    runs: dict[str, list[float]] = {way: [] for way in ways}
    rows = {}
    for _ in range(repeats):
        for way, run in ways.items():
            if isinstance(run, Prepared):
                run = partial(run.run, run.prepare())
            started = clock()
            rows[way] = run()
            runs[way].append(rows[way] / (clock() - started))
    return [Rate(way, rows[way], tuple(seen)) for way, seen in runs.items()]


def bind_to_cpus(cpus: Iterable[int]) -> None:
    """Bind this process, its threads and its future children to CPUs.

    Notes
    -----
    A measurement on one core binds the whole process tree to one CPU. With ``local[1]`` alone, the JVM uses a
    second core, which raises all rates.
    """
    chosen = set(cpus)
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(thread.name), chosen)


def in_new_process(cpus: Iterable[int], work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run an importable function in a new process, bound to CPUs from its start; return its result."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=bind_to_cpus, initargs=(set(cpus),)) as pool:
        return pool.submit(work, *args, **kwargs).result()


def run_python(words: Sequence[str]) -> int:
    """Run this Python with arguments in a new process, and return 1, for one row.

    Raises
    ------
    SetupError
        If it fails.
    """
    with tempfile.TemporaryFile("w+") as log:  # not a pipe: its end would wait for the Java that lives on
        done = subprocess.run([sys.executable, *words], stdout=log, stderr=log)  # noqa: S603
        if done.returncode:
            log.seek(0)
            told = log.read().strip().splitlines()[-1:]
            got = told[0] if told else f"code {done.returncode}"
            raise SetupError("a measured process failed", got=got, remedy="run it by itself")
    return 1
