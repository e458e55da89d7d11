"""The results of an evaluation as plain text, and the format of each figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lakevec.pipeline.evaluation.tasks import GROUPS

# Ends the name of a line with the scores of float queries over binary vectors.
FLOAT_QUERY = ", float queries"
_FIDELITY_HEAD = ["model", "correlation", "rank", "neighbours", "difference to the first"]


def format_averages(record: dict[str, Any], timings: dict[str, Any]) -> str:
    """Format a line per model: averages of groups times 100, speed and size; then fidelity, if measured.

    Parameters
    ----------
    record, timings : dict
        Content of ``evaluation.json`` and ``timings.json``.
    """
    models = [*record["models"], *(record["ablations"] or {"models": []})["models"]]
    rates, groups = text_rates(timings), measured_groups(models)
    shown = []
    if groups:
        head = ["model", *(GROUPS[group].short for group in groups), "mean", "texts/s", "MB", "bytes/vector"]
        shown += _align([head, *(line for model in models for line in _format_model(model, groups, rates))])
    if (fidelity := record["fidelity"]) is not None:
        title = f"fidelity to {fidelity['teacher']['name']} on {fidelity['rows']:,} texts"
        lines = [[entry["name"], *format_fidelity(entry)] for entry in fidelity["models"]]
        shown += [*([""] if shown else []), title, *_align([_FIDELITY_HEAD, *lines])]
    return "\n".join(shown)


def measured_groups(models: Sequence[dict[str, Any]]) -> list[str]:
    """Return the groups in which any model has an average, in the order of `GROUPS`."""
    return [group for group in GROUPS if any(group in model["averages"] for model in models)]


def text_rates(timings: dict[str, Any]) -> dict[str, float]:
    """Return texts per second by model, if measured."""
    speeds = {model["name"]: model["speed"] for model in timings["models"]}
    return {name: speed["texts_per_s"] for name, speed in speeds.items() if speed is not None}


def format_rate(value: float | None) -> str:
    """Format texts per second; empty if not measured."""
    return "" if value is None else f"{value:,.0f}"


def format_size(size_bytes: int) -> str:
    """Format a model's size in MB."""
    return f"{size_bytes / 1e6:,.1f}"


def format_score(value: float | None) -> str:
    """Format a score times 100; empty if there is none.

    Examples
    --------
    >>> format_score(0.55449), format_score(None)
    ('55.4', '')
    """
    return "" if value is None else f"{100 * value:.1f}"


def format_fidelity(entry: dict[str, Any]) -> list[str]:
    """Format a model's correlations, neighbours and difference; the first model has no difference."""
    figures = [f"{entry[name]:.3f}" for name in ("correlation", "rank_correlation", "neighbours")]
    difference = entry.get("difference")
    if difference is None:
        return [*figures, ""]
    return [
        *figures,
        f"{difference['difference']:+.3f} ({difference['low']:+.3f} to {difference['high']:+.3f})",
    ]


def _format_model(model: dict[str, Any], groups: Sequence[str], rates: dict[str, float]) -> list[list[str]]:
    scores = [format_score(model["averages"].get(group)) for group in groups]
    sizes = format_size(model["bytes"]), f"{model['vector_bytes']:,}"
    lines = [
        [model["name"], *scores, format_score(model["mean"]), format_rate(rates.get(model["name"])), *sizes]
    ]
    if found := model["averages_float_query"]:
        scores = [format_score(found.get(group)) for group in groups]
        lines.append([f"{model['name']}{FLOAT_QUERY}", *scores, "", "", "", ""])
    return lines


def _align(lines: Sequence[Sequence[str]]) -> list[str]:
    """Pad cells to columns: the first is aligned left, all others right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
