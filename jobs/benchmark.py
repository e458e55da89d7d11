"""``lakevec benchmark``: the speed of lakevec and its peers on this machine.

A rate is the median of its runs, and compared ways run in turn. To measure one core, bind the whole process
tree to one CPU: ``--cpus 0 --master 'local[1]'``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from lakevec.jobs.benchmarks.corpus import Workload
from lakevec.jobs.benchmarks.report import describe_setup, plot_comparisons, show_comparison, write_report
from lakevec.jobs.benchmarks.timing import Comparison, bind_to_cpus
from lakevec.jobs.cli import RunContext, format_settings, run_command
from lakevec.jobs.spark.session import has_only_client
from lakevec.pipeline.encoding.encoder import warm_up
from lakevec.pipeline.errors import SetupError
from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.settings.benchmark import BenchmarkSettings
from lakevec.pipeline.storage import require_free

SETTINGS = BenchmarkSettings


def run(settings: BenchmarkSettings, context: RunContext) -> None:
    """Measure the parts in the order of the settings; rewrite the figures after each one, and plot them last.

    Raises
    ------
    OutputError
        If the output exists.
    SetupError
        If a peer is not installed, or PySpark is the thin client.
    """
    if has_only_client():
        raise SetupError(
            "the benchmark starts a Spark of its own",
            got="the thin client pyspark-client",
            remedy="pip install 'lakevec[benchmark]' in an environment without it",
        )
    require_free(settings.output, "benchmark output")
    table = load(settings.model).table
    print(format_settings(settings, full=context.verbose), flush=True)
    if context.dry_run:
        print("dry run: nothing was measured")
        return
    if settings.cpus:
        bind_to_cpus(settings.cpus)
    # Stop the tokenizer's own threads, since a Spark task has one core.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    setup = describe_setup()
    workload = Workload(settings, table, Path(settings.output), context.verbose)
    workload.folder.mkdir(parents=True)
    facts: dict[str, Any] = {
        "source_rows": workload.source.num_rows,
        "characters": pc.mean(pc.utf8_length(workload.source[settings.text])).as_py(),
        "tokens": table.rows,
        "dimensions": table.dimensions,
    }
    warm_up(table)
    comparisons: list[Comparison] = []
    for part in settings.part:
        print(f"measuring: {part}", flush=True)
        for comparison in find_measure(part)(workload):
            comparisons.append(comparison)
            print(f"\n{show_comparison(comparison)}\n", flush=True)
            write_report(workload.folder, setup, facts, comparisons)
    plot_comparisons(comparisons, workload.folder / "benchmark.png")
    workload.remove_rows()
    print(f"wrote benchmark.json, benchmark.md and benchmark.png to {settings.output}")


def find_measure(part: str) -> Callable[[Workload], Iterable[Comparison]]:
    """Return the function `measure_PART` of a part."""
    from lakevec.jobs.benchmarks import input_shapes, kernel_parts, spark_parts, teacher_parts

    names: dict[str, Any] = {}
    for module in (kernel_parts, spark_parts, input_shapes, teacher_parts):
        names |= vars(module)
    measure: Callable[[Workload], Iterable[Comparison]] = names[f"measure_{part}"]
    return measure


if __name__ == "__main__":
    sys.exit(run_command("benchmark"))
