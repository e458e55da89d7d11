"""What was measured, for machines and for people: JSON, a Markdown table, a plot."""

from __future__ import annotations

import json
import os
import platform
import sys
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jobs.benchmarks.kernel import Rate

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


def describe_machine() -> dict[str, Any]:
    """Say where a measurement was made.

    Returns
    -------
    dict
        Processor, processors that may be used, memory, system, versions and the command line.
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
        "command": " ".join(["lakevec", "benchmark", *sys.argv[1:]]),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def rate_table(title: str, rates: list[Rate], baseline: str) -> str:
    """Show rates as a Markdown table.

    Parameters
    ----------
    title : str
        Heading of the first column.
    rates : list of Rate
    baseline : str
        The way that counts as 1.

    Returns
    -------
    str
    """
    one = next(rate.rows_per_s for rate in rates if rate.way == baseline)
    lines = [f"| {title} | rows | rows/s, median | runs | ratio |", "|---|---|---|---|---|"]
    for rate in rates:
        runs = ", ".join(f"{seen:,.0f}" for seen in rate.runs)
        ratio = f"{rate.rows_per_s / one:.1f}x"
        lines.append(f"| {rate.way} | {rate.rows:,} | {rate.rows_per_s:,.0f} | {runs} | {ratio} |")
    return "\n".join(lines)


def write_report(folder: Path, parts: dict[str, Any], tables: list[str]) -> None:
    """Write ``benchmark.json``, ``benchmark.md`` and, where matplotlib is installed, ``benchmark.png``.

    Parameters
    ----------
    folder : Path
    parts : dict
        Per part of the benchmark a list of `Rate`, or plain values.
    tables : list of str
        The parts as Markdown.
    """
    machine = describe_machine()
    plain = {
        name: [asdict(rate) for rate in part] if _are_rates(part) else part for name, part in parts.items()
    }
    content = json.dumps({"machine": machine, **plain}, indent=2) + "\n"
    (folder / "benchmark.json").write_text(content)
    versions = ", ".join(f"{name} {found}" for name, found in machine["packages"].items())
    head = (
        f"`{machine['command']}`\n\n{machine['processor']}, CPUs {machine['cpus']},"
        f" {machine['memory_bytes'] / 2**30:.0f} GiB; Python {machine['python']}; {versions}"
    )
    (folder / "benchmark.md").write_text("\n\n".join([head, *tables]) + "\n")
    try:
        import matplotlib
    except ImportError:
        print("no plot: matplotlib is not installed (pip install 'lakevec[benchmark]')")
        return
    matplotlib.use("Agg")
    _plot({name: part for name, part in parts.items() if _are_rates(part)}, folder / "benchmark.png")


def _are_rates(part: Any) -> bool:
    return isinstance(part, list) and bool(part) and isinstance(part[0], Rate)


def _plot(parts: dict[str, list[Rate]], file: Path) -> None:
    """Draw a bar for every way, a panel for every part; rates on a logarithmic axis."""
    from matplotlib import pyplot

    heights = [len(rates) for rates in parts.values()]
    figure, axes = pyplot.subplots(
        len(parts), 1, figsize=(8, 0.9 + 0.42 * sum(heights) + 0.6 * len(parts)), squeeze=False,
        height_ratios=heights, layout="constrained", sharex=True,
    )  # fmt: skip
    for (name, rates), axis in zip(parts.items(), axes[:, 0], strict=True):
        names = [rate.way for rate in rates][::-1]
        values = [rate.rows_per_s for rate in rates][::-1]
        colours = ["#1b6ca8" if way.startswith("lakevec") else "#b0b7be" for way in names]
        bars = axis.barh(names, values, color=colours)
        axis.bar_label(bars, [f"{value:,.0f}" for value in values], padding=3, fontsize=8)
        axis.set_title(name, loc="left", fontsize=10)
        axis.set_xscale("log")
        axis.margins(x=0.15)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1, 0].set_xlabel("rows per second")
    figure.savefig(file, dpi=150)
    pyplot.close(figure)
