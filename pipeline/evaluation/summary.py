"""The averages of an evaluation as a table of plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_SHORT = {"classification": "class", "clustering": "cluster", "retrieval": "retr", "phrases": "phrase"}


def show_averages(record: dict[str, Any], timings: dict[str, Any]) -> str:
    """Show a line for each model: the averages of its groups, and how fast and large it is.

    Parameters
    ----------
    record, timings : dict
        Content of ``evaluation.json`` and ``timings.json``.

    Returns
    -------
    str
        Scores are times 100.
    """
    speeds = text_rates(timings)
    models = [*record["models"], *(record["ablations"] or {"models": []})["models"]]
    groups = list(dict.fromkeys(group for model in models for group in model["averages"]))
    head = ["model", *(_SHORT.get(group, group) for group in groups), "mean", "texts/s", "MB"]
    lines = [head] if groups else []
    for model in models if groups else []:
        scores = [show_score(model["averages"].get(group)) for group in groups]
        rate = speeds.get(model["name"])
        shown_rate = "" if rate is None else f"{rate:,.0f}"
        lines.append(
            [model["name"], *scores, show_score(model["mean"]), shown_rate, f"{model['bytes'] / 1e6:,.1f}"]
        )
    shown = _align(lines)
    if (fidelity := record["fidelity"]) is not None:
        title = f"fidelity to {fidelity['teacher']['name']} on {fidelity['rows']:,} texts"
        shown += ["", title] if shown else [title]
        shown += _align(
            [
                ["model", "correlation", "rank", "neighbours", "difference to the first"],
                *(_fidelity_line(entry) for entry in fidelity["models"]),
            ]
        )
    return "\n".join(shown)


def text_rates(timings: dict[str, Any]) -> dict[str, float]:
    """Return how many texts a second each model embeds.

    Parameters
    ----------
    timings : dict
        Content of ``timings.json``.

    Returns
    -------
    dict of str to float
        Models whose speed was not measured are left out.
    """
    return {
        model["name"]: model["speed"]["texts_per_s"]
        for model in timings["models"]
        if model["speed"] is not None
    }


def show_score(value: float | None) -> str:
    """Show a score times 100, or nothing where there is none.

    Parameters
    ----------
    value : float or None

    Returns
    -------
    str

    Examples
    --------
    >>> show_score(0.55449), show_score(None)
    ('55.4', '')
    """
    return "" if value is None else f"{100 * value:.1f}"


def show_interval(difference: dict[str, float] | None) -> str:
    """Show a difference and its interval.

    Parameters
    ----------
    difference : dict or None
        With keys ``difference``, ``low`` and ``high``.

    Returns
    -------
    str
    """
    if difference is None:
        return ""
    return f"{difference['difference']:+.3f} ({difference['low']:+.3f} to {difference['high']:+.3f})"


def _fidelity_line(entry: dict[str, Any]) -> list[str]:
    figures = [f"{entry[name]:.3f}" for name in ("correlation", "rank_correlation", "neighbours")]
    return [entry["name"], *figures, show_interval(entry.get("difference"))]


def _align(lines: Sequence[Sequence[str]]) -> list[str]:
    """Pad cells, the first of a line to the left and all others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
