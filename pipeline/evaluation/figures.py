"""Axes and colours of the report's figures, and the figure of quality against speed and bytes."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, count
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from lakevec.pipeline.encoding.stored_vectors import VectorType
from lakevec.pipeline.evaluation.summary import text_rates

# Names of colours; c0 to c7 are those of models.
_LIGHT = {
    **{"ground": "#fff", "ink": "#1c2126", "soft": "#5b6670", "line": "#d8dee3", "shade": "#f4f6f8"},
    **{"c0": "#1b6ca8", "c1": "#c2571a", "c2": "#2b8a57", "c3": "#8a4fb0"},
    **{"c4": "#b3284f", "c5": "#80700c", "c6": "#19808a", "c7": "#6b6f76"},
}
_DARK = {
    **{"ground": "#14181c", "ink": "#e6eaee", "soft": "#9aa6b1", "line": "#36404a", "shade": "#1d2329"},
    **{"c0": "#62b0ea", "c1": "#f0955a", "c2": "#63cf95", "c3": "#c796ea"},
    **{"c4": "#f07f9f", "c5": "#d8c24a", "c6": "#5fcbd6", "c7": "#a9b0b8"},
}


@dataclass(frozen=True)
class Axis:
    """A figure's axis from its first tick to its last, linear unless `transform` says otherwise."""

    ticks: list[float]
    transform: Callable[[float], float] = float

    def position(self, value: float) -> float:
        """Return where a value lies: 0 at the first tick, 1 at the last."""
        low, high, place = map(self.transform, (self.ticks[0], self.ticks[-1], value))
        return (place - low) / (high - low)


class Mark(NamedTuple):
    """A measured model in a panel: positions from 0 to 1, number of its colour, and what a reader is told."""

    x: float
    y: float
    colour: int
    vector_type: str
    facts: str


class Panel(NamedTuple):
    """Mean scores against one quantity; `lines` join marks of one model."""

    title: str
    label: str
    axis: Axis
    marks: list[Mark]
    lines: list[list[Mark]]


class QualityFigure(NamedTuple):
    """Panels with one vertical axis; models with the number of their colour, and types of their vectors."""

    panels: list[Panel]
    scores: Axis
    models: dict[str, int]
    vector_types: list[str]


@cache
def make_environment() -> Environment:
    """Make the environment of this folder's templates, once per process; their output is well-formed XML."""
    environment = Environment(
        loader=PackageLoader("lakevec.pipeline.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    variables = {name: f"var(--{name})" for name in _LIGHT}
    environment.globals["palettes"] = {"light": _LIGHT, "dark": _DARK, "page": variables}
    return environment


def render_quality(record: dict[str, Any], timings: dict[str, Any]) -> str | None:
    """Draw quality against speed and bytes as an SVG file of its own.

    Parameters
    ----------
    record, timings : dict
        Content of ``evaluation.json`` and ``timings.json``.

    Returns
    -------
    str or None
        None if no model has a mean score.
    """
    figure = plan_quality(record["models"], text_rates(timings))
    if figure is None:
        return None
    return make_environment().get_template("quality.svg.j2").render(figure=figure)


def plan_quality(models: Sequence[dict[str, Any]], rates: dict[str, float]) -> QualityFigure | None:
    """Place models in a panel of texts per second, if any was measured, and in one of bytes per vector.

    The lines in the panel of bytes join a table's dimensions of one type, and its types at full width.
    """
    shown = [model for model in models if model["mean"] is not None]
    if not shown:
        return None
    scores = linear_axis([100 * model["mean"] for model in shown])
    colours = number_colours(models)
    timed = [model for model in shown if rates.get(model["name"], 0) > 0]

    def mark(axis: Axis, value: float, model: dict[str, Any]) -> Mark:
        place, height = axis.position(value), scores.position(100 * model["mean"])
        facts = _describe(model, rates.get(model["name"]))
        return Mark(place, height, colours[model["source"]], model["vector_type"], facts)

    panels = []
    if timed:
        speeds = log_axis([rates[model["name"]] for model in timed])
        marks = [mark(speeds, rates[model["name"]], model) for model in timed]
        panels.append(Panel("Mean score against speed", "texts per second (log scale)", speeds, marks, []))
    sizes = log_axis([model["vector_bytes"] for model in shown], base=4, between=[2], most=8)
    marks = [mark(sizes, model["vector_bytes"], model) for model in shown]
    lines = [[marks[place] for place in line] for line in _join(shown)]
    panels.append(Panel("Mean score against bytes", "bytes per vector (log scale)", sizes, marks, lines))
    used = {model["vector_type"] for model in shown}
    names = {model["source"]: colours[model["source"]] for model in shown}
    return QualityFigure(panels, scores, names, [kind.value for kind in VectorType if kind in used])


def number_colours(models: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Return the number of each model's colour, by ``source``: all variants of a table have one."""
    return {name: place for place, name in enumerate(dict.fromkeys(model["source"] for model in models))}


def _describe(model: dict[str, Any], rate: float | None) -> str:
    facts = [f"mean score {100 * model['mean']:.1f}", f"{model['vector_bytes']:,} bytes per vector"]
    facts += [] if rate is None else [f"{rate:,.0f} texts per second"]
    return f"{model['name']}: {', '.join(facts)}, model of {model['bytes'] / 1e6:,.1f} MB"


def _join(models: Sequence[dict[str, Any]]) -> list[list[int]]:
    """Return places of models to join: widths of each type from wide to narrow, and types at full width."""
    kinds: dict[tuple[str, str], list[int]] = {}
    for place in sorted(range(len(models)), key=lambda place: -models[place]["dimensions"]):
        kinds.setdefault((models[place]["source"], models[place]["vector_type"]), []).append(place)
    full: dict[str, list[int]] = {}
    for (source, _), places in kinds.items():
        full.setdefault(source, []).append(places[0])
    for places in full.values():
        places.sort(key=lambda place: -models[place]["vector_bytes"])
    return [places for places in chain(kinds.values(), full.values()) if len(places) > 1]


def linear_axis(values: Sequence[float]) -> Axis:
    """Make an axis around values, with about five steps of 1, 2, 5 or 10 times a power of ten.

    Examples
    --------
    >>> linear_axis([41.0, 58.0]).ticks
    [35.0, 40.0, 45.0, 50.0, 55.0, 60.0]
    """
    rough = (max(values) - min(values) or max(abs(max(values)), 1.0)) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first, last = math.floor(min(values) / step - 0.25), math.ceil(max(values) / step + 0.25)
    return Axis([number * step for number in range(first, last + 1)])


def log_axis(
    values: Sequence[float], *, base: float = 10, between: Sequence[float] = (2, 5), most: int = 6
) -> Axis:
    """Make a logarithmic axis around positive values, with at most `most` ticks.

    Ticks are the powers of `base` and their multiples by `between`. If these are too many, they are the
    powers, or every second power, and so on.

    Examples
    --------
    >>> log_axis([1500.0, 20_000.0]).ticks
    [1000.0, 2000.0, 5000.0, 10000.0, 20000.0]
    >>> log_axis([400.0, 20_000.0]).ticks
    [100.0, 1000.0, 10000.0, 100000.0]
    """
    low, high = min(values), max(values)
    powers = (_ticks_around(low, high, base**power, [1]) for power in count(1))
    tried = chain([_ticks_around(low, high, base, [1, *between])], powers)
    return Axis(next(ticks for ticks in tried if len(ticks) <= most), math.log10)


def _ticks_around(low: float, high: float, base: float, multiples: Sequence[float]) -> list[float]:
    """Return the fewest ticks around two values; equal ones get a tick on either side."""
    first, last = math.floor(math.log(low, base)) - 1, math.ceil(math.log(high, base)) + 1
    ticks = [float(base) ** power * multiple for power in range(first, last + 1) for multiple in multiples]
    if low == high:
        return ticks[bisect_left(ticks, low) - 1 : bisect_right(ticks, high) + 1]
    return ticks[bisect_right(ticks, low) - 1 : bisect_left(ticks, high) + 1]
