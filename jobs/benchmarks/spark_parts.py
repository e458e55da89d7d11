"""What is measured on Spark: the whole job beside others, over more rows, and on more cores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from lakevec.jobs.benchmarks import spark as ways_on_spark
from lakevec.jobs.benchmarks.bench import Bench
from lakevec.jobs.benchmarks.spark import CEILING, count_rows, job_settings, peer_ways, run_job
from lakevec.jobs.benchmarks.spark_tasks import CeilingTask
from lakevec.jobs.benchmarks.timing import Comparison, Rate, in_new_process, take_turns
from lakevec.pipeline.settings.benchmark import BenchmarkSettings

_LAKEVEC = "lakevec"


def measure_job(bench: Bench) -> Iterator[Comparison]:
    """Parquet to Parquet on one session, beside the ceiling and the pipelines of other libraries."""
    settings = bench.settings
    lake, peers_lake = bench.lake, bench.peers_lake
    job = job_settings(settings, lake, bench.folder / "vectors")
    ceiling = partial(count_rows, job, task_type=CeilingTask)
    started = time.monotonic()
    with ways_on_spark.quiet_session(settings, master=settings.master, verbose=bench.verbose) as spark:
        startup_s = time.monotonic() - started
        # Before any peer has run, so that the memory is lakevec's alone; untimed, since it warms the JVM up.
        memory = run_job(job)["memory"]
        ways: dict[str, Callable[[], int]] = {
            **peer_ways(spark, settings, peers_lake, bench.folder / "peer"),
            CEILING: ceiling,
            _LAKEVEC: partial(count_rows, job),
        }
        rates = take_turns(ways, settings.repeats)
    speeds = {rate.way: rate.rows_per_s for rate in rates}
    share = speeds[_LAKEVEC] / speeds[CEILING]
    notes = [
        f"lakevec reaches {share:.0%} of the ceiling, the same job with vectors that cost nothing.",
        f"Spark was up after {startup_s:.1f} s, which is not counted; lakevec's memo is empty in every run.",
        tell_memory(memory),
    ]
    facts = {"startup_s": startup_s, "share_of_ceiling": share, "memory": memory}
    yield Comparison("Parquet to Parquet", rates, ways_on_spark.MODEL2VEC, notes, facts)


def measure_rows(bench: Bench) -> Iterator[Comparison]:
    """Run the job over more and more rows, in turn."""
    settings = bench.settings
    ways: dict[str, Callable[[], int]] = {}
    records: dict[str, dict[str, Any]] = {}

    def run(way: str, lake: Path) -> int:
        records[way] = run_job(job_settings(settings, lake, bench.folder / "vectors"))
        return int(records[way]["rows"])

    for times in settings.growth:
        way = f"lakevec, {settings.rows * times:,} rows"
        ways[way] = partial(run, way, bench.lake_of(settings.rows * times))
    with ways_on_spark.quiet_session(settings, master=settings.master, verbose=bench.verbose):
        run_job(job_settings(settings, bench.lake, bench.folder / "vectors"))  # warm
        rates = take_turns(ways, settings.repeats)
    memory = {way: record["memory"] for way, record in records.items()}
    yield Comparison(
        "more rows", rates, rates[0].way, [tell_memory(memory[rates[-1].way])], {"memory": memory}
    )


def measure_cores(bench: Bench) -> Iterator[Comparison]:
    """Run the job on so many CPUs and as many local cores, each in a process tree of its own, in turn."""
    settings = bench.settings
    most = max(settings.cores)
    if most > len(bench.cpus):
        told = f"not measured: {most} cores are asked for, {len(bench.cpus)} CPUs may be used."
        yield Comparison("cores", [], "", [told])
        return
    runs: dict[int, list[float]] = {cores: [] for cores in settings.cores}
    memory = {}
    for _ in range(settings.repeats):
        for cores in runs:
            seconds, memory[cores] = in_new_process(
                bench.cpus[:cores], time_job, settings, bench.lake, bench.folder / "vectors", cores
            )
            runs[cores].append(settings.rows / seconds)
    ways = {cores: f"lakevec, local[{cores}] on {cores} CPU{'s' if cores > 1 else ''}" for cores in runs}
    rates = [Rate(ways[cores], settings.rows, tuple(seen)) for cores, seen in runs.items()]
    facts = {"memory": {ways[cores]: used for cores, used in memory.items()}}
    yield Comparison("cores", rates, rates[0].way, [tell_memory(memory[most])], facts)


def time_job(
    settings: BenchmarkSettings, lake: Path, output: Path, cores: int
) -> tuple[float, dict[str, Any]]:
    """Run the job twice on a new session and time the second run; the first warms the JVM up.

    Parameters
    ----------
    settings : BenchmarkSettings
    lake, output : Path
    cores : int
        Of the local Spark.

    Returns
    -------
    seconds : float
    memory : dict
        From ``run.json``.
    """
    job = job_settings(settings, lake, output)
    with ways_on_spark.quiet_session(settings, master=f"local[{cores}]", verbose=False):
        run_job(job)
        started = time.perf_counter()
        record = run_job(job)
        return time.perf_counter() - started, record["memory"]


def tell_memory(memory: dict[str, Any]) -> str:
    """Say in a sentence what ``run.json`` tells of memory.

    Parameters
    ----------
    memory : dict

    Returns
    -------
    str
    """
    return (
        f"The largest Python worker took {memory['worker_peak_bytes'] / 1e6:,.0f} MB at its peak, the mapped"
        f" table included; all workers of a node had {memory['node_own_bytes'] / 1e6:,.0f} MB for themselves"
        " at the end."
    )
