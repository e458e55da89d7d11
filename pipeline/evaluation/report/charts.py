"""Figures as SVG that takes its colours from the page: readable in the light and in the dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from lakevec.pipeline.evaluation.report.labels import Circle, place_labels

# Classes c0 to c7 of the page's style sheet.
COLOURS = 8
_WIDTH = 720
_LARGEST_RADIUS = 34.0
_LEAST_RADIUS = 4.0


@dataclass(frozen=True)
class Point:
    """A model in the figure of speed and quality.

    Parameters
    ----------
    name : str
    texts_per_s : float
        Above 0.
    score : float
        Mean score, times 100.
    size_bytes : int
    """

    name: str
    texts_per_s: float
    score: float
    size_bytes: int


@dataclass(frozen=True)
class Span:
    """A difference with its interval.

    Parameters
    ----------
    name : str
    difference, low, high : float
    """

    name: str
    difference: float
    low: float
    high: float


def draw_scatter(points: Sequence[Point]) -> str:
    """Draw speed against quality, with sizes as the areas of circles.

    Parameters
    ----------
    points : sequence of Point
        At least one.

    Returns
    -------
    str
        An ``svg`` element.
    """
    height, left, right, top, bottom = 406, 56, 24, 30, 52
    first, last = _decades([point.texts_per_s for point in points])
    low, high, step = _ticks([point.score for point in points])
    largest = max(point.size_bytes for point in points)

    def across(rate: float) -> float:
        return left + (math.log10(rate) - first) / (last - first) * (_WIDTH - left - right)

    def up(score: float) -> float:
        return height - bottom - (score - low) / (high - low) * (height - top - bottom)

    parts = []
    for decade in range(first, last + 1):
        x = across(10.0**decade)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{height - bottom}"/>')
        parts.append(_text(x, height - bottom + 18, f"{10**decade:,}", anchor="middle"))
    for number in range(round((high - low) / step) + 1):
        score = low + number * step
        y = up(score)
        parts.append(f'<line class="grid" x1="{left}" x2="{_WIDTH - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(left - 8, y + 4, f"{score:g}", anchor="end"))
    parts.append(
        _text((left + _WIDTH - right) / 2, height - 10, "texts per second (log scale)", anchor="middle")
    )
    parts.append(_text(left - 40, 12, "mean score, times 100"))
    circles = [
        Circle(
            across(point.texts_per_s),
            up(point.score),
            max(_LEAST_RADIUS, _LARGEST_RADIUS * math.sqrt(point.size_bytes / largest)),
        )
        for point in points
    ]
    # The large ones first, so that the small ones lie on them.
    for place in sorted(range(len(points)), key=lambda place: -points[place].size_bytes):
        circle, told = circles[place], escape(_tell(points[place]))
        parts.append(
            f'<circle class="c{place % COLOURS}" cx="{circle.x:.1f}" cy="{circle.y:.1f}"'
            f' r="{circle.radius:.1f}"><title>{told}</title></circle>'
        )
    names = [point.name for point in points]
    for name, (x, y) in zip(names, place_labels(names, circles, width=_WIDTH, height=height), strict=True):
        parts.append(_text(x, y, name, kind="label"))
    told = "; ".join(_tell(point) for point in points)
    return _svg(height, "Speed and quality", told, parts)


def draw_bars(groups: Sequence[tuple[str, Sequence[tuple[str, float | None]]]], *, title: str) -> str:
    """Draw scores as bars, models under one another, group by group.

    Parameters
    ----------
    groups : sequence of (str, sequence of (str, float or None))
        Title of a group; names of models and their scores, times 100.
    title : str
        What the figure is called.

    Returns
    -------
    str
        An ``svg`` element.
    """
    names = max((len(name) for _, bars in groups for name, _ in bars), default=0)
    left, right, bar, gap = min(40 + 7 * names, 280), 56, 16, 5
    parts: list[str] = []
    y = 8.0
    for group, bars in groups:
        y += 14
        parts.append(_text(0, y, group, kind="head"))
        y += 10
        for place, (name, score) in enumerate(bars):
            parts.append(_text(left - 8, y + bar - 4, _shorten(name, (left - 12) // 7), anchor="end"))
            width = max(0.0, (score or 0.0) / 100) * (_WIDTH - left - right)
            box = f'x="{left}" y="{y:.1f}" width="{width:.1f}" height="{bar}"'
            parts.append(f'<rect class="c{place % COLOURS}" {box}/>')
            parts.append(_text(left + width + 6, y + bar - 4, "" if score is None else f"{score:.1f}"))
            y += bar + gap
        y += 8
    told = "; ".join(
        f"{group}: " + ", ".join(f"{name} {score:.1f}" for name, score in bars if score is not None)
        for group, bars in groups
    )
    return _svg(round(y), title, told, parts)


def draw_spans(spans: Sequence[Span], *, title: str, axis: str) -> str:
    """Draw differences with their intervals beside a line at zero.

    Parameters
    ----------
    spans : sequence of Span
        At least one.
    title : str
        What the figure is called.
    axis : str
        What is on the axis.

    Returns
    -------
    str
        An ``svg`` element.
    """
    left, right, row, top = min(40 + 7 * max(len(span.name) for span in spans), 280), 40, 28, 12
    bounds = [0.0, *(bound for span in spans for bound in (span.low, span.high))]
    low, high, step = _ticks(bounds)
    foot = top + row * len(spans) + 6

    def across(value: float) -> float:
        return left + (value - low) / (high - low) * (_WIDTH - left - right)

    parts = []
    for number in range(round((high - low) / step) + 1):
        value = low + number * step
        x = across(value)
        kind = "zero" if abs(value) < step / 2 else "grid"
        parts.append(f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{foot}"/>')
        parts.append(_text(x, foot + 16, f"{round(value, 6):g}", anchor="middle"))
    for place, span in enumerate(spans):
        y = top + row * place + row / 2
        colour = (place + 1) % COLOURS  # the first model is what others are compared with
        parts.append(_text(left - 8, y + 4, _shorten(span.name, (left - 12) // 7), anchor="end"))
        parts.append(
            f'<line class="span c{colour}" x1="{across(span.low):.1f}" x2="{across(span.high):.1f}"'
            f' y1="{y}" y2="{y}"/>'
        )
        parts.append(f'<circle class="c{colour} dot" cx="{across(span.difference):.1f}" cy="{y}" r="5"/>')
    parts.append(_text((left + _WIDTH - right) / 2, foot + 38, axis, anchor="middle"))
    told = "; ".join(
        f"{span.name} {span.difference:+.3f}, {span.low:+.3f} to {span.high:+.3f}" for span in spans
    )
    return _svg(foot + 48, title, told, parts)


def _decades(rates: Sequence[float]) -> tuple[int, int]:
    first = math.floor(math.log10(min(rates)))
    last = math.ceil(math.log10(max(rates)))
    return first, max(last, first + 1)


def _ticks(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the ends of an axis and the step between its marks, all round numbers."""
    spread = max(values) - min(values) or max(abs(max(values)), 1.0)
    rough = spread / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return math.floor(min(values) / step - 0.25) * step, math.ceil(max(values) / step + 0.25) * step, step


def _tell(point: Point) -> str:
    return (
        f"{point.name}: {point.texts_per_s:,.0f} texts a second, mean score {point.score:.1f},"
        f" {point.size_bytes / 1e6:,.1f} MB"
    )


def _shorten(name: str, most: int) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _text(x: float, y: float, content: str, *, anchor: str = "start", kind: str = "") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text{style} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(content)}</text>'


def _svg(height: int, title: str, told: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title><desc>{escape(told)}</desc>{''.join(parts)}</svg>"
    )
