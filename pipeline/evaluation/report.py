"""The report of an evaluation: tables and figures on one HTML page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from lakevec.pipeline.evaluation.summary import (
    FLOAT_QUERY,
    format_fidelity,
    format_rate,
    format_score,
    format_size,
    measured_groups,
    text_rates,
)
from lakevec.pipeline.evaluation.tasks import GROUPS


@dataclass(frozen=True)
class Axis:
    """A figure's axis from its first tick to its last, linear unless `transform` says otherwise."""

    ticks: list[float]
    transform: Callable[[float], float] = float

    def position(self, value: float) -> float:
        """Return where a value lies: 0 at the first tick, 1 at the last."""
        low, high, place = map(self.transform, (self.ticks[0], self.ticks[-1], value))
        return (place - low) / (high - low)


class Cell(NamedTuple):
    """A cell of a table."""

    text: str
    is_best: bool = False


class Row(NamedTuple):
    """A row of a table; `kind` is its CSS class."""

    name: str
    cells: Sequence[Cell]
    kind: str = ""


def render_report(record: dict[str, Any], timings: dict[str, Any]) -> str:
    """Render the content of ``evaluation.json`` and ``timings.json`` as HTML that is well-formed XML."""
    environment = Environment(
        loader=PackageLoader("lakevec.pipeline.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    tasks, models, ablations = record["tasks"], record["models"], record["ablations"]
    has_results = bool(tasks and models)
    measured = {task["group"] for task in tasks}
    context = {
        "record": record,
        "timings": timings,
        "models": len(models) + (len(ablations["models"]) if ablations else 0),
        "overview": _overview(models, text_rates(timings)) if has_results else None,
        "groups": [_group(record, group) for group in GROUPS if has_results and group in measured],
        "ablations": _ablations(ablations["models"]) if ablations else None,
        "fidelity": _fidelity(record["fidelity"]["models"]) if record["fidelity"] else None,
        "speeds": [model["speed"] for model in timings["models"] if model["speed"] is not None],
    }
    return environment.get_template("report.html.j2").render(context)


def _overview(models: Sequence[dict[str, Any]], rates: dict[str, float]) -> dict[str, Any]:
    points = [
        {**model, "colour": place, "rate": rates[model["name"]]}
        for place, model in enumerate(models)
        if model["mean"] is not None and rates.get(model["name"], 0) > 0
    ]
    return {
        **_averages(models, [format_rate(rates.get(model["name"])) for model in models]),
        "points": points,
        "rates": log_axis([point["rate"] for point in points]) if points else None,
        "scores": linear_axis([100 * point["mean"] for point in points]) if points else None,
    }


def _ablations(models: Sequence[dict[str, Any]]) -> dict[str, Any]:
    whole = models[0]
    # Instead of speed, the last column shows the value of the omitted step.
    differences = [
        "" if model is whole or model["mean"] is None else f"{100 * (model['mean'] - whole['mean']):+.1f}"
        for model in models
    ]
    return _averages(models, differences)


def _averages(models: Sequence[dict[str, Any]], extra: Sequence[str]) -> dict[str, Any]:
    """Return the groups, models and rows of a table of averages; `extra` is the column after the mean."""
    groups = measured_groups(models)
    columns = [
        *(_mark_best([model["averages"].get(group) for model in models]) for group in groups),
        _mark_best([model["mean"] for model in models]),
        map(Cell, extra),
    ]
    rows = []
    for model, *cells in zip(models, *columns, strict=True):
        sizes = format_size(model["bytes"]), str(model["dimensions"]), f"{model['vector_bytes']:,}"
        rows.append(Row(model["name"], [*cells, *map(Cell, sizes)]))
        if found := model["averages_float_query"]:
            scores = [format_score(found.get(group)) for group in groups]
            empty = [""] * (len(cells) - len(scores) + len(sizes))
            rows.append(Row(f"{model['name']}{FLOAT_QUERY}", [*map(Cell, [*scores, *empty])], "apart"))
    return {"groups": [GROUPS[group] for group in groups], "models": models, "rows": rows}


def _group(record: dict[str, Any], group: str) -> dict[str, Any]:
    models = record["models"]
    # Tasks that the average leaves out come below it.
    tasks = sorted(
        (task for task in record["tasks"] if task["group"] == group), key=lambda task: not task["averaged"]
    )
    rows = []
    for task in tasks:
        found = [model["tasks"][task["key"]] for model in models]
        cells = [Cell(found[0]["metric"]), *_mark_best([entry["value"] for entry in found])]
        rows.append(Row(_task_name(task), cells, "" if task["averaged"] else "apart"))
    averaged = [task for task in tasks if task["averaged"]]
    if averaged:
        cells = [Cell(""), *_mark_best([model["averages"].get(group) for model in models])]
        rows.insert(len(averaged), Row("Average", cells, "average"))
    return {
        "name": group,
        "title": GROUPS[group].title,
        "head": ["Task", "Metric", *(model["name"] for model in models)],
        "rows": rows,
        "notes": [task for task in averaged if task["note"]],
    }


def _task_name(task: dict[str, Any]) -> str:
    if not task["note"]:
        return str(task["name"])
    return f"{task['name']} †" if task["averaged"] else f"{task['name']} ({task['note']})"


def _fidelity(models: Sequence[dict[str, Any]]) -> dict[str, Any]:
    spans = [
        {"name": model["name"], "colour": place, **model["difference"]}
        for place, model in enumerate(models)
        if "difference" in model
    ]
    bounds = [span[bound] for span in spans for bound in ("low", "high")]
    rows = [Row(model["name"], [Cell(text) for text in format_fidelity(model)]) for model in models]
    return {"rows": rows, "spans": spans, "axis": linear_axis([0.0, *bounds])}


def _mark_best(values: Sequence[float | None]) -> list[Cell]:
    """Format scores; mark the best ones if the scores differ."""
    shown = [format_score(value) for value in values]
    known = [float(text) for text in shown if text]
    differs = len(set(known)) > 1
    return [Cell(text, differs and bool(text) and float(text) == max(known)) for text in shown]


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


def log_axis(values: Sequence[float]) -> Axis:
    """Make a logarithmic axis around positive values, with a tick at each power of ten.

    Examples
    --------
    >>> log_axis([400.0, 20_000.0]).ticks
    [100.0, 1000.0, 10000.0, 100000.0]
    """
    first, last = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return Axis([10.0**power for power in range(first, max(last, first + 1) + 1)], math.log10)
