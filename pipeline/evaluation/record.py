"""What an evaluation found, as the JSON of ``evaluation.json`` and ``timings.json``.

The first holds nothing that a clock or a machine says: the same models on the same data make the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np

from lakevec import __version__
from lakevec.pipeline.evaluation.embedding_model import EmbeddingModel
from lakevec.pipeline.evaluation.fidelity import compare_fidelity, measure_fidelity
from lakevec.pipeline.evaluation.metrics import one_thread
from lakevec.pipeline.evaluation.runner import Speed, TaskResult
from lakevec.pipeline.evaluation.tasks import GROUPS, Task

FORMAT = 1
# What is beyond differs from processor to processor.
_DIGITS = 6
_PACKAGES = ("numpy", "scipy", "scikit-learn", "tokenizers")
_RESAMPLES = 1000


def describe_model(model: EmbeddingModel, results: Sequence[TaskResult]) -> dict[str, Any]:
    """Record a model and what it got.

    Parameters
    ----------
    model : EmbeddingModel
    results : sequence of TaskResult

    Returns
    -------
    dict
        Metrics are from -1 or 0 to 1. ``mean`` is the mean of the groups' averages.
    """
    tasks = {
        result.task.key: {
            "metric": result.scores.main,
            "value": result.scores.value,
            "metrics": result.scores.metrics,
            "counts": result.scores.counts,
        }
        for result in results
    }
    averages = average_groups(results)
    record: dict[str, Any] = rounded(
        {
            "name": model.name,
            "fingerprint": model.fingerprint,
            "dimensions": model.dimensions,
            "parameters": model.parameters,
            "bytes": model.size_bytes,
            "averages": averages,
            "mean": float(np.mean(list(averages.values()))) if averages else None,
            "tasks": tasks,
        }
    )
    return record


def average_groups(results: Sequence[TaskResult]) -> dict[str, float]:
    """Return each group's mean of its tasks' main metrics, development sets and other languages left out.

    Parameters
    ----------
    results : sequence of TaskResult

    Returns
    -------
    dict of str to float
        Groups in the order of `GROUPS`; those without a task that counts are left out.
    """
    values: dict[str, list[float]] = {name: [] for name in GROUPS}
    for result in results:
        if result.task.is_averaged:
            values[result.task.group.name].append(result.scores.value)
    return {name: float(np.mean(found)) for name, found in values.items() if found}


def describe_tasks(tasks: Sequence[Task]) -> list[dict[str, Any]]:
    """Record which tasks were run.

    Parameters
    ----------
    tasks : sequence of Task

    Returns
    -------
    list of dict
    """
    return [
        {
            "key": task.key,
            "group": task.group.name,
            "name": task.name,
            "file": task.file,
            "averaged": task.is_averaged,
            "note": task.note,
        }
        for task in tasks
    ]


def describe_fidelity(
    models: Sequence[EmbeddingModel],
    vectors: Sequence[np.ndarray],
    teacher: EmbeddingModel,
    truth: np.ndarray,
) -> dict[str, Any]:
    """Record how far models keep to a teacher on the rows of a sample.

    Parameters
    ----------
    models : sequence of EmbeddingModel
    vectors : sequence of float32 ndarray of shape (N, D)
        One array for each model.
    teacher : EmbeddingModel
    truth : float32 ndarray of shape (N, H)
        The teacher's.

    Returns
    -------
    dict
        ``difference`` is a model's correlation less that of the first, with the bounds of a 95 % bootstrap
        interval over rows.

    Raises
    ------
    DataError
        If a side's cosines are all alike.
    """
    found = []
    for place, (model, own) in enumerate(zip(models, vectors, strict=True)):
        with one_thread():
            entry: dict[str, Any] = {"name": model.name, **asdict(measure_fidelity(own, truth))}
            if place:
                entry["difference"] = asdict(
                    compare_fidelity(own, vectors[0], truth, resamples=_RESAMPLES, seed=0)
                )
        found.append(entry)
    record: dict[str, Any] = rounded(
        {
            "teacher": {"name": teacher.name, "fingerprint": teacher.fingerprint},
            "rows": len(truth),
            "resamples": _RESAMPLES,
            "models": found,
        }
    )
    return record


def describe_versions() -> dict[str, str]:
    """Return the versions of what decides about figures.

    Returns
    -------
    dict of str to str
    """
    return {"lakevec": __version__, **{name: version(name) for name in _PACKAGES}}


def describe_time(
    model: EmbeddingModel, speed: Speed | None, results: Sequence[TaskResult]
) -> dict[str, Any]:
    """Record how long a model took.

    Parameters
    ----------
    model : EmbeddingModel
    speed : Speed or None
    results : sequence of TaskResult

    Returns
    -------
    dict
        All in seconds.
    """
    return {
        "name": model.name,
        "speed": None if speed is None else {**asdict(speed), "texts_per_s": speed.texts_per_s},
        "tasks": {
            result.task.key: {"encode_s": round(result.encode_s, 3), "score_s": round(result.score_s, 3)}
            for result in results
        },
    }


def rounded(value: Any) -> Any:
    """Round all floats inside a value to six digits.

    Parameters
    ----------
    value : dict, list, float or other

    Returns
    -------
    Of the same shape.
    """
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(part) for part in value]
    # Minus zero is zero.
    return round(value, _DIGITS) + 0.0 if isinstance(value, float) else value


def to_json(record: dict[str, Any]) -> bytes:
    """Write a record as people can read it.

    Parameters
    ----------
    record : dict

    Returns
    -------
    bytes
    """
    return (json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
