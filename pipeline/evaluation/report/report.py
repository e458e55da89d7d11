"""The report for people: tables and figures of an evaluation on one page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lakevec.pipeline.evaluation.report.charts import Point, Span, draw_bars, draw_scatter, draw_spans
from lakevec.pipeline.evaluation.report.page import heading, make_figure, make_page, make_table, paragraph
from lakevec.pipeline.evaluation.summary import show_interval, show_score, text_rates
from lakevec.pipeline.evaluation.tasks import GROUPS

_WHAT = {
    "wordsim": "Spearman correlation of cosines and people's ratings, over all pairs; a word without a known "
    "token has cosine 0 to all others.",
    "sts": "Spearman correlation of cosines and people's ratings (MTEB: cosine_spearman).",
    "classification": "Accuracy of a logistic regression on the vectors (L2, C = 1, standardised columns), "
    "trained on all training rows.",
    "clustering": "V-measure of mini-batch k-means, the mean of five seeds (MTEB: v_measure).",
    "retrieval": "nDCG at 10 by cosine over all documents (MTEB: ndcg_at_10).",
    "phrases": "PEARL: Pearson correlation on BIRD, accuracy at the best threshold of cosine on PPDB, on "
    "Turney the share of phrases whose synonym is nearer than all distractors.",
}

_SHORT = {
    "wordsim": "Words",
    "sts": "STS",
    "classification": "Classification",
    "clustering": "Clustering",
    "retrieval": "Retrieval",
    "phrases": "Phrases",
}


def render_report(record: dict[str, Any], timings: dict[str, Any]) -> str:
    """Make the page.

    Parameters
    ----------
    record, timings : dict
        Content of ``evaluation.json`` and ``timings.json``.

    Returns
    -------
    str
        HTML.
    """
    body = ["<h1>How good the models are</h1>", paragraph(_tell_what(record), "soft")]
    if record["tasks"] and record["models"]:
        body += _overview(record, timings)
        for group in GROUPS:
            body += _group(record, group)
    if record["ablations"] is not None:
        body += _ablations(record, timings)
    if record["fidelity"] is not None:
        body += _fidelity(record["fidelity"])
    body += _method(record, timings)
    return make_page("lakevec evaluation", body)


def _tell_what(record: dict[str, Any]) -> str:
    models = len(record["models"]) + len((record["ablations"] or {"models": []})["models"])
    parts = [
        f"{_count(models, 'model')}, {_count(len(record['tasks']), 'task')}.",
        "Scores are times 100, and higher is better. A star marks the best of a row or column.",
    ]
    if record["tasks"]:
        parts.append(
            "A group's average leaves out development rows and other languages than English; the mean is "
            "that of the groups' averages."
        )
    return " ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _overview(record: dict[str, Any], timings: dict[str, Any]) -> list[str]:
    models = record["models"]
    shown = [make_table("Average of each group, speed and size", *_averages_table(models, timings))]
    groups = _groups_of(models)
    if groups:
        bars = [
            (
                GROUPS[group].title,
                [(model["name"], _hundred(model["averages"].get(group))) for model in models],
            )
            for group in groups
        ]
        shown.append(make_figure(draw_bars(bars, title="Averages of each group"), "Averages of each group."))
    rates = text_rates(timings)
    points = [
        Point(model["name"], rates[model["name"]], 100 * model["mean"], model["bytes"])
        for model in models
        if model["mean"] is not None and rates.get(model["name"], 0) > 0
    ]
    if points:
        caption = (
            "Texts embedded in a second against the mean score; the area of a circle is the model's size in "
            "bytes. Up and to the right is better."
        )
        shown.append(make_figure(draw_scatter(points), caption))
    return [heading("Overview"), *shown]


def _averages_table(
    models: Sequence[dict[str, Any]], timings: dict[str, Any]
) -> tuple[list[str], list[list[str]]]:
    groups, rates = _groups_of(models), text_rates(timings)
    head = ["Model", *(_SHORT[group] for group in groups), "Mean", "Texts/s", "MB", "Width"]
    columns = [
        *(_starred([model["averages"].get(group) for model in models]) for group in groups),
        _starred([model["mean"] for model in models]),
    ]
    rows = []
    for place, model in enumerate(models):
        rate = rates.get(model["name"])
        rows.append(
            [
                model["name"],
                *(column[place] for column in columns),
                "" if rate is None else f"{rate:,.0f}",
                f"{model['bytes'] / 1e6:,.1f}",
                str(model["dimensions"]),
            ]
        )
    return head, rows


def _groups_of(models: Sequence[dict[str, Any]]) -> list[str]:
    return [group for group in GROUPS if any(group in model["averages"] for model in models)]


def _starred(values: Sequence[float | None]) -> list[str]:
    """Show scores, the best with a star where there is something to choose from."""
    shown = [show_score(value) for value in values]
    known = [float(text) for text in shown if text]
    if len(set(known)) < 2:
        return shown
    return [f"{text}*" if text and float(text) == max(known) else text for text in shown]


def _hundred(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _group(record: dict[str, Any], group: str) -> list[str]:
    tasks = [task for task in record["tasks"] if task["group"] == group]
    if not tasks:
        return []
    models = record["models"]
    # What the average leaves out stands under it.
    tasks = sorted(tasks, key=lambda task: not task["averaged"])
    rows, kinds = [], []
    for task in tasks:
        found = [model["tasks"][task["key"]] for model in models]
        rows.append([_name(task), found[0]["metric"], *_starred([entry["value"] for entry in found])])
        kinds.append("" if task["averaged"] else "apart")
    averages = [model["averages"].get(group) for model in models]
    counted = sum(task["averaged"] for task in tasks)
    if counted:
        rows.insert(counted, ["Average", "", *_starred(averages)])
        kinds.insert(counted, "average")
    head = ["Task", "Metric", *(model["name"] for model in models)]
    notes = [
        paragraph(f"† {task['name']}: {task['note']}.", "note")
        for task in tasks
        if task["note"] and task["averaged"]
    ]
    title = GROUPS[group].title
    return [
        heading(title),
        paragraph(_WHAT[group]),
        make_table(f"{title}: score of each task", head, rows, kinds=kinds, has_words=True),
        *notes,
    ]


def _name(task: dict[str, Any]) -> str:
    if not task["averaged"]:
        return f"{task['name']} ({task['note']})" if task["note"] else task["name"]
    return f"{task['name']} †" if task["note"] else str(task["name"])


def _ablations(record: dict[str, Any], timings: dict[str, Any]) -> list[str]:
    ablations = record["ablations"]
    models = ablations["models"]
    width = models[0]["dimensions"]
    recipe = (
        "SIF weights by counts, axes of tokens as texts hold them, half whitened"
        if ablations["is_counted"]
        else "SIF weights by rank"
    )
    shown = [
        heading("What each step of the recipe is worth"),
        paragraph(
            f"Tables distilled from {ablations['teacher']}: the whole recipe (the teacher's output for each "
            f"token, PCA to {width} dimensions, {recipe}), and the recipe without a step; the difference is "
            "that of the mean."
        ),
    ]
    if _groups_of(models):
        head, rows = _averages_table(models, timings)
        # Speed is that of the overview's tables; in its place stands what the step is worth.
        place = head.index("Texts/s")
        head[place] = "Difference"
        for model, row in zip(models, rows, strict=True):
            row[place] = "" if model is models[0] else f"{100 * (model['mean'] - models[0]['mean']):+.1f}"
        shown.append(make_table("Ablations: average of each group", head, rows))
        bars = [
            (
                GROUPS[group].title,
                [(model["name"], _hundred(model["averages"].get(group))) for model in models],
            )
            for group in _groups_of(models)
        ]
        shown.append(make_figure(draw_bars(bars, title="Ablations"), "Ablations: averages of each group."))
    name = ablations["plain_name"]
    shown.append(
        paragraph(
            f"“{name}” was not measured: no weights of a plain transformer were given "
            "(setting plain_teacher)."
            if ablations["plain_teacher"] is None
            else f"“{name}” is the whole recipe with {ablations['plain_teacher']}, pooled by the mean.",
            "note",
        )
    )
    return shown


def _fidelity(fidelity: dict[str, Any]) -> list[str]:
    models = fidelity["models"]
    teacher = fidelity["teacher"]["name"]
    columns = [
        [f"{entry[name]:.3f}" for entry in models]
        for name in ("correlation", "rank_correlation", "neighbours")
    ]
    rows = [
        [entry["name"], *(column[place] for column in columns), show_interval(entry.get("difference"))]
        for place, entry in enumerate(models)
    ]
    head = [
        "Model",
        "Correlation of cosines",
        "Rank correlation",
        "Neighbours kept",
        f"Correlation less that of {models[0]['name']}",
    ]
    shown = [
        heading("Fidelity to the teacher on your own rows"),
        paragraph(
            f"{fidelity['rows']:,} distinct texts of column {fidelity['column']}, embedded by each model and "
            f"by {teacher}. Correlations are Pearson's and Spearman's over the cosines of pairs of texts; "
            "neighbours kept is the share of a text's ten nearest by the teacher that are among the model's "
            "ten nearest."
        ),
        make_table(f"Fidelity to {teacher}", head, rows),
    ]
    spans = [
        Span(entry["name"], **entry["difference"]) for entry in models if entry.get("difference") is not None
    ]
    if spans:
        axis = f"correlation less that of {models[0]['name']}"
        caption = (
            f"Difference of the correlation to that of {models[0]['name']}, with 95 % intervals of "
            f"{fidelity['resamples']:,} bootstrap resamples of the texts."
        )
        shown.append(make_figure(draw_spans(spans, title="Fidelity", axis=axis), caption))
    return shown


def _method(record: dict[str, Any], timings: dict[str, Any]) -> list[str]:
    versions = ", ".join(f"{name} {found}" for name, found in record["versions"].items())
    shown = [heading("How it was measured")]
    speeds = [model["speed"] for model in timings["models"] if model["speed"] is not None]
    if speeds:
        machine = timings["machine"]
        counts = sorted({speed["texts"] for speed in speeds})
        told = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
        shown.append(
            paragraph(
                f"Speed: {told} distinct texts of {speeds[0]['characters']:.0f} characters in the mean, the "
                "same in the same order for each model, in batches of 1,000, in one process, after what is "
                "compiled or loaded once; tables embed in one thread, teachers in as many as torch takes. "
                f"{machine['processor']}, {_count(machine['cpus'], 'CPU')}."
            )
        )
    shown.append(
        paragraph(
            "Size: all numbers of the model as they are stored; a teacher's as float32. "
            "Each task embeds every distinct text once. Seeds are fixed, so that the same model has the same "
            "figures twice."
        )
    )
    shown.append(paragraph(f"Made with {versions}.", "soft"))
    return shown
