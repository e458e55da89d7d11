"""The report for people: tables and figures of an evaluation on one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from lakevec.pipeline.evaluation.report.charts import linear_axis, log_axis
from lakevec.pipeline.evaluation.summary import (
    format_fidelity,
    format_rate,
    format_score,
    format_size,
    measured_groups,
    text_rates,
)
from lakevec.pipeline.evaluation.tasks import GROUPS


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
        loader=PackageLoader("lakevec.pipeline.evaluation.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    ablations = record["ablations"]
    context = {
        "record": record,
        "timings": timings,
        "models": len(record["models"]) + (len(ablations["models"]) if ablations else 0),
        "overview": _overview(record, timings) if record["tasks"] and record["models"] else None,
        "groups": [_group(record, group) for group in _groups_of(record)],
        "ablations": _ablations(ablations) if ablations else None,
        "fidelity": _fidelity(record["fidelity"]) if record["fidelity"] else None,
        "speeds": [model["speed"] for model in timings["models"] if model["speed"] is not None],
    }
    return environment.get_template("report.html.j2").render(context)


def _groups_of(record: dict[str, Any]) -> list[str]:
    """Return the groups that get a section."""
    tasks = record["tasks"] if record["models"] else []
    return [group for group in GROUPS if any(task["group"] == group for task in tasks)]


def _overview(record: dict[str, Any], timings: dict[str, Any]) -> dict[str, Any]:
    models, rates = record["models"], text_rates(timings)
    points = [
        {**model, "colour": place, "rate": rates[model["name"]]}
        for place, model in enumerate(models)
        if model["mean"] is not None and rates.get(model["name"], 0) > 0
    ]
    return {
        "head": _averages_head(models, "Texts/s"),
        "rows": _averages_rows(models, [format_rate(rates.get(model["name"])) for model in models]),
        "bars": _bars(models),
        "points": points,
        "rates": log_axis([point["rate"] for point in points]) if points else None,
        "scores": linear_axis([100 * point["mean"] for point in points]) if points else None,
    }


def _ablations(ablations: dict[str, Any]) -> dict[str, Any]:
    whole, *others = models = ablations["models"]
    groups = measured_groups(models)
    # Speed is that of the overview's tables. Its column shows the value of a step instead.
    differences = [f"{100 * (model['mean'] - whole['mean']):+.1f}" for model in others] if groups else []
    return {
        "head": _averages_head(models, "Difference"),
        "rows": _averages_rows(models, ["", *differences]) if groups else [],
        "bars": _bars(models),
    }


def _averages_head(models: Sequence[dict[str, Any]], extra: str) -> list[str]:
    return [
        "Model",
        *(GROUPS[group].label for group in measured_groups(models)),
        "Mean",
        extra,
        "MB",
        "Width",
    ]


def _averages_rows(models: Sequence[dict[str, Any]], extra: Sequence[str]) -> list[Row]:
    columns = [
        _mark_best([model["averages"].get(group) for model in models]) for group in measured_groups(models)
    ]
    columns.append(_mark_best([model["mean"] for model in models]))
    columns.append([Cell(text) for text in extra])
    columns.append([Cell(format_size(model["bytes"])) for model in models])
    columns.append([Cell(str(model["dimensions"])) for model in models])
    return [Row(model["name"], cells) for model, *cells in zip(models, *columns, strict=True)]


def _bars(models: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the averages of each group, times 100 and None if there is none."""
    return [
        {
            "title": GROUPS[group].title,
            "bars": [{"name": model["name"], "score": model["averages"].get(group)} for model in models],
        }
        for group in measured_groups(models)
    ]


def _group(record: dict[str, Any], group: str) -> dict[str, Any]:
    models = record["models"]
    # Tasks that the average leaves out stand below it.
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


def _fidelity(fidelity: dict[str, Any]) -> dict[str, Any]:
    models = fidelity["models"]
    spans = [
        {"name": model["name"], "colour": place, **model["difference"]}
        for place, model in enumerate(models)
        if model.get("difference") is not None
    ]
    bounds = [span[bound] for span in spans for bound in ("low", "high")]
    return {
        "rows": [Row(model["name"], [Cell(text) for text in format_fidelity(model)]) for model in models],
        "spans": spans,
        "axis": linear_axis([0.0, *bounds]),
    }


def _mark_best(values: Sequence[float | None]) -> list[Cell]:
    """Format scores; mark the best ones if the scores differ."""
    shown = [format_score(value) for value in values]
    known = [float(text) for text in shown if text]
    differs = len(set(known)) > 1
    return [Cell(text, differs and bool(text) and float(text) == max(known)) for text in shown]
