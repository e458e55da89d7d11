"""The report of a benchmark: JSON, Markdown tables, and a plot."""

from __future__ import annotations

import json
import shlex
import sys
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lakevec.jobs.benchmarks.timing import Comparison, rows_per_s
from lakevec.jobs.machine import describe_machine

_PACKAGES = ("lakevec", "pyspark", "pyarrow", "numpy", "numba", "tokenizers")
_PEERS = ("model2vec", "sentence-transformers", "torch")
_OURS, _OTHERS = "#1b6ca8", "#b0b7be"


def describe_setup() -> dict[str, Any]:
    """Describe the setup of a measurement: the machine, versions of packages, and the command."""
    packages = {}
    for name in (*_PACKAGES, *_PEERS):
        with suppress(PackageNotFoundError):
            packages[name] = version(name)
    words = sys.argv[2:] if sys.argv[1:2] == ["benchmark"] else sys.argv[1:]
    command = shlex.join(["lakevec", "benchmark", *words])
    return {**describe_machine(), "packages": packages, "command": command}


def show_comparison(comparison: Comparison) -> str:
    """Return a comparison as a Markdown table, with its notes below."""
    parts = []
    if comparison.rates:
        baseline = rows_per_s(comparison.rates)[comparison.baseline]
        lines = [f"| {comparison.title} | rows | rows/s, median | runs | ratio |", "|---|--:|--:|---|--:|"]
        for rate in comparison.rates:
            speed, runs = _number(rate.rows_per_s), ", ".join(map(_number, rate.runs))
            ratio = f"{rate.rows_per_s / baseline:.2f}x"
            lines.append(f"| {rate.way} | {rate.rows:,} | {speed} | {runs} | {ratio} |")
        parts.append("\n".join(lines))
    if comparison.notes:
        parts.append(" ".join(comparison.notes))
    return "\n\n".join(parts)


def write_report(
    folder: Path, machine: dict[str, Any], facts: dict[str, Any], comparisons: list[Comparison]
) -> None:
    """Write ``benchmark.json`` and ``benchmark.md``.

    Parameters
    ----------
    folder : Path
    machine : dict
        From `describe_setup`.
    facts : dict
        Facts about all comparisons, such as the number of real rows.
    comparisons : list of Comparison
    """
    plain = [{**asdict(each), "rows_per_s": rows_per_s(each.rates)} for each in comparisons]
    content = json.dumps({"machine": machine, **facts, "comparisons": plain}, indent=2) + "\n"
    (folder / "benchmark.json").write_text(content)
    versions = ", ".join(f"{name} {found}" for name, found in machine["packages"].items())
    head = [
        f"`{machine['command']}`",
        f"{machine['processor']}, CPUs {machine['cpus']}, {machine['memory_bytes'] / 2**30:.0f} GiB;"
        f" Python {machine['python']}; {versions}",
        f"{facts['source_rows']:,} real rows, mean {facts['characters']:.0f} characters; further rows repeat"
        f" them with fresh words. {facts['tokens']:,} tokens x {facts['dimensions']} dimensions.",
    ]
    (folder / "benchmark.md").write_text("\n\n".join([*head, *map(show_comparison, comparisons)]) + "\n")


def plot_comparisons(comparisons: list[Comparison], file: Path) -> None:
    """Draw a panel for each comparison of several ways, with a bar for each way, if matplotlib is there."""
    try:
        import matplotlib
    except ImportError:
        print("no plot: matplotlib is not installed (pip install 'lakevec[benchmark]')")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    comparisons = [comparison for comparison in comparisons if len(comparison.rates) > 1]
    if not comparisons:
        return
    heights = [len(comparison.rates) for comparison in comparisons]
    figure, axes = pyplot.subplots(
        len(comparisons),
        1,
        figsize=(8, 0.9 + 0.34 * sum(heights) + 0.5 * len(comparisons)),
        squeeze=False,
        height_ratios=[height + 0.3 for height in heights],
        layout="constrained",
        sharex=True,
    )
    for comparison, axis in zip(comparisons, axes[:, 0], strict=True):
        speeds = rows_per_s(comparison.rates[::-1])
        colors = [_OURS if way.startswith("lakevec") else _OTHERS for way in speeds]
        bars = axis.barh(list(speeds), list(speeds.values()), color=colors)
        axis.bar_label(bars, [_number(value) for value in speeds.values()], padding=3, fontsize=8)
        axis.set_title(comparison.title, loc="left", fontsize=10)
        axis.set_xscale("log")
        axis.margins(x=0.15)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1, 0].set_xlabel("rows per second (logarithmic)")
    figure.savefig(file, dpi=150)
    pyplot.close(figure)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.3g}"
