"""``lakevec benchmark``: how fast it is here, on these rows, beside what one would write without it.

Every rate is a median, and ways that are compared take turns. For one core give ``--cpus 0 --master
'local[1]'``: the whole process tree is bound to that CPU then.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lakevec.jobs.benchmarks import kernel_parts, spark_parts
from lakevec.jobs.benchmarks.bench import Bench, machine_cpus
from lakevec.jobs.benchmarks.changes import measure_changes
from lakevec.jobs.benchmarks.count_part import measure_count
from lakevec.jobs.benchmarks.distill_part import measure_distill
from lakevec.jobs.benchmarks.report import describe_machine, show_comparison, write_report
from lakevec.jobs.benchmarks.timing import Comparison, bind_to_cpus
from lakevec.jobs.benchmarks.warm_up import measure_worker
from lakevec.jobs.cli import RunContext, format_settings, run_command
from lakevec.pipeline.encoding.encoder import warm_up
from lakevec.pipeline.errors import OutputError
from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.settings.benchmark import BenchmarkSettings

SETTINGS = BenchmarkSettings

_PARTS: dict[str, Callable[[Bench], Iterator[Comparison]]] = {
    "worker": measure_worker,
    "kernel": kernel_parts.measure_kernel,
    "texts": kernel_parts.measure_texts,
    "lengths": kernel_parts.measure_lengths,
    "dimensions": kernel_parts.measure_dimensions,
    "vocabulary": kernel_parts.measure_vocabulary,
    "extremes": kernel_parts.measure_extremes,
    "job": spark_parts.measure_job,
    "rows": spark_parts.measure_rows,
    "cores": spark_parts.measure_cores,
    "changes": measure_changes,
    "count": measure_count,
    "distill": measure_distill,
}


def run(settings: BenchmarkSettings, context: RunContext) -> None:
    """Measure the parts that are asked for, one after the other.

    Raises
    ------
    OutputError
        If the output exists.
    SetupError
        If a peer is not installed.
    """
    folder = Path(settings.output)
    if folder.exists():
        raise OutputError(f"output {settings.output!r} exists", remedy="choose another --output")
    table = load(settings.model).table
    print(format_settings(settings, full=context.verbose), flush=True)
    if context.dry_run:
        print("dry run: nothing was measured")
        return
    if settings.cpus:
        bind_to_cpus(settings.cpus)
    # A task slot is one core; the tokenizer's own threads would take others'.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    machine = describe_machine()
    folder.mkdir(parents=True)
    bench = Bench(settings, table, folder, machine_cpus(), context.verbose)
    facts: dict[str, Any] = {
        "source_rows": bench.source.num_rows,
        "characters": bench.characters,
        "tokens": table.rows,
        "dimensions": table.dimensions,
    }
    warm_up(table)
    comparisons: list[Comparison] = []
    for part in settings.part:
        print(f"measuring: {part}", flush=True)
        for comparison in _PARTS[part](bench):
            comparisons.append(comparison)
            print(f"\n{show_comparison(comparison)}\n", flush=True)
            write_report(folder, machine, facts, comparisons)
    bench.remove_lakes()
    print(f"wrote benchmark.json, benchmark.md and benchmark.png to {settings.output}")


if __name__ == "__main__":
    sys.exit(run_command("benchmark"))
