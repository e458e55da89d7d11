"""What was measured, for machines and for people: JSON, Markdown tables, a plot."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lakevec.jobs.benchmarks.timing import Comparison

_PACKAGES = (
    "lakevec",
    "pyspark",
    "pyarrow",
    "numpy",
    "numba",
    "tokenizers",
    "model2vec",
    "sentence-transformers",
    "torch",
)
_OURS, _OTHERS = "#1b6ca8", "#b0b7be"


def describe_machine() -> dict[str, Any]:
    """Say where a measurement is made.

    Returns
    -------
    dict
        Processor, CPUs that may be used, memory, system, versions and the command line.
    """
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        processor = names[0].partition(":")[2].strip() if names else processor
    return {
        "processor": processor,
        "cpus": sorted(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "command": shlex.join(
            ["lakevec", "benchmark", *sys.argv[2 if sys.argv[1:2] == ["benchmark"] else 1 :]]
        ),
    }


def show_comparison(comparison: Comparison) -> str:
    """Show a comparison as Markdown.

    Parameters
    ----------
    comparison : Comparison

    Returns
    -------
    str
        A table, and the notes behind it.
    """
    parts = []
    if comparison.rates:
        speeds = {rate.way: rate.rows_per_s for rate in comparison.rates}
        lines = [f"| {comparison.title} | rows | rows/s, median | runs | ratio |", "|---|--:|--:|---|--:|"]
        for rate in comparison.rates:
            runs = ", ".join(_number(seen) for seen in rate.runs)
            ratio = f"{rate.rows_per_s / speeds[comparison.baseline]:.2f}x"
            lines.append(f"| {rate.way} | {rate.rows:,} | {_number(rate.rows_per_s)} | {runs} | {ratio} |")
        parts.append("\n".join(lines))
    if comparison.notes:
        parts.append(" ".join(comparison.notes))
    return "\n\n".join(parts)


def write_report(
    folder: Path, machine: dict[str, Any], facts: dict[str, Any], comparisons: list[Comparison]
) -> None:
    """Write ``benchmark.json``, ``benchmark.md`` and, where matplotlib is installed, ``benchmark.png``.

    What was compared with nothing is not plotted.

    Parameters
    ----------
    folder : Path
    machine : dict
        From `describe_machine`.
    facts : dict
        What holds for all comparisons, such as the rows.
    comparisons : list of Comparison
    """
    plain = [
        {**asdict(comparison), "rows_per_s": {rate.way: rate.rows_per_s for rate in comparison.rates}}
        for comparison in comparisons
    ]
    content = json.dumps({"machine": machine, **facts, "comparisons": plain}, indent=2) + "\n"
    (folder / "benchmark.json").write_text(content)
    versions = ", ".join(f"{name} {found}" for name, found in machine["packages"].items())
    head = [
        f"`{machine['command']}`",
        f"{machine['processor']}, CPUs {machine['cpus']}, {machine['memory_bytes'] / 2**30:.0f} GiB;"
        f" Python {machine['python']}; {versions}",
        f"{facts['source_rows']:,} real rows, mean {facts['characters']:.0f} characters; repeated with fresh"
        f" words where more are wanted. {facts['tokens']:,} tokens x {facts['dimensions']} dimensions.",
    ]
    shown = [show_comparison(comparison) for comparison in comparisons]
    (folder / "benchmark.md").write_text("\n\n".join([*head, *shown]) + "\n")
    try:
        import matplotlib
    except ImportError:
        print("no plot: matplotlib is not installed (pip install 'lakevec[benchmark]')")
        return
    matplotlib.use("Agg")
    plotted = [comparison for comparison in comparisons if len(comparison.rates) > 1]
    if plotted:
        _plot(plotted, folder / "benchmark.png")


def _plot(comparisons: list[Comparison], file: Path) -> None:
    """Draw a bar for every way, a panel for every comparison; rates on a logarithmic axis."""
    from matplotlib import pyplot

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
        ways = [rate.way for rate in comparison.rates][::-1]
        values = [rate.rows_per_s for rate in comparison.rates][::-1]
        bars = axis.barh(
            ways, values, color=[_OURS if way.startswith("lakevec") else _OTHERS for way in ways]
        )
        axis.bar_label(bars, [_number(value) for value in values], padding=3, fontsize=8)
        axis.set_title(comparison.title, loc="left", fontsize=10)
        axis.set_xscale("log")
        axis.margins(x=0.15)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1, 0].set_xlabel("rows per second (logarithmic)")
    figure.savefig(file, dpi=150)
    pyplot.close(figure)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.3g}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
