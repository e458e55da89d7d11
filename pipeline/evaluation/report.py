"""The report of an evaluation: tables and figures on one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from lakevec.pipeline.evaluation.figures import linear_axis, make_environment, number_colours, plan_quality
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
    tasks, models, ablations = record["tasks"], record["models"], record["ablations"]
    rates = text_rates(timings)
    has_results = bool(tasks and models)
    measured = {task["group"] for task in tasks}
    context = {
        "record": record,
        "timings": timings,
        "models": len(models) + (len(ablations["models"]) if ablations else 0),
        "overview": _overview(models, rates) if has_results else None,
        "quality": plan_quality(models, rates),
        "groups": [_group(record, group) for group in GROUPS if has_results and group in measured],
        "ablations": _ablations(ablations["models"]) if ablations else None,
        "fidelity": _fidelity(record["fidelity"]["models"], models) if record["fidelity"] else None,
        "speeds": [model["speed"] for model in timings["models"] if model["speed"] is not None],
    }
    return make_environment().get_template("report.html.j2").render(context)


def _overview(models: Sequence[dict[str, Any]], rates: dict[str, float]) -> dict[str, Any]:
    return _averages(models, [format_rate(rates.get(model["name"])) for model in models])


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
    colours = number_colours(models)
    coloured = [{**model, "colour": colours[model["source"]]} for model in models]
    return {"groups": [GROUPS[group] for group in groups], "models": coloured, "rows": rows}


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


def _fidelity(entries: Sequence[dict[str, Any]], models: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return rows and differences; `entries` are those of the models, in the same order."""
    colours = number_colours(models)
    spans = [
        {"name": entry["name"], "colour": colours[model["source"]], **entry["difference"]}
        for entry, model in zip(entries, models, strict=True)
        if "difference" in entry
    ]
    bounds = [span[bound] for span in spans for bound in ("low", "high")]
    rows = [Row(entry["name"], [Cell(text) for text in format_fidelity(entry)]) for entry in entries]
    return {"rows": rows, "spans": spans, "axis": linear_axis([0.0, *bounds])}


def _mark_best(values: Sequence[float | None]) -> list[Cell]:
    """Format scores; mark the best ones if the scores differ."""
    shown = [format_score(value) for value in values]
    known = [float(text) for text in shown if text]
    differs = len(set(known)) > 1
    return [Cell(text, differs and bool(text) and float(text) == max(known)) for text in shown]
