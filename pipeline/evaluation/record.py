"""Results of an evaluation as the JSON of ``evaluation.json`` and ``timings.json``.

The first holds nothing that depends on a clock or a machine: the same models on the same data give the same
bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np

from lakevec import __version__
from lakevec.pipeline.evaluation.embedding_model import EmbeddingModel, VectorCache, encode_distinct
from lakevec.pipeline.evaluation.fidelity import compare_fidelity, measure_fidelity
from lakevec.pipeline.evaluation.metrics import one_thread
from lakevec.pipeline.evaluation.runner import Speed, TaskResult
from lakevec.pipeline.evaluation.tasks import GROUPS, Task

FORMAT = 1
# Further digits differ from processor to processor.
_DIGITS = 6
_PACKAGES = ("numpy", "scipy", "scikit-learn", "tokenizers")
_RESAMPLES = 1000


def describe_model(model: EmbeddingModel, results: Sequence[TaskResult]) -> dict[str, Any]:
    """Record a model and its metrics, from -1 or 0 to 1; ``mean`` is the mean of the groups' averages."""
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
            "tasks": {
                result.task.key: {
                    "metric": result.scores.main,
                    "value": result.scores.value,
                    "metrics": result.scores.metrics,
                    "counts": result.scores.counts,
                }
                for result in results
            },
        }
    )
    return record


def average_groups(results: Sequence[TaskResult]) -> dict[str, float]:
    """Average the main metrics of each group, in the order of `GROUPS`.

    Development sets and other languages are left out, and so are groups without any other task.
    """
    values: dict[str, list[float]] = {name: [] for name in GROUPS}
    for result in results:
        if result.task.is_averaged:
            values[result.task.group.name].append(result.scores.value)
    return {name: float(np.mean(found)) for name, found in values.items() if found}


def describe_tasks(tasks: Sequence[Task]) -> list[dict[str, Any]]:
    """Record which tasks were run."""
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
    teacher: EmbeddingModel,
    texts: Sequence[str],
    cache: VectorCache | None,
) -> dict[str, Any]:
    """Record the fidelity of models to a teacher on a sample of texts.

    ``difference`` is a model's correlation less that of the first model, with a 95 % bootstrap interval.
    """
    truth = encode_distinct(teacher, texts, cache)
    vectors = [encode_distinct(model, texts, cache) for model in models]
    found: list[dict[str, Any]] = []
    with one_thread():
        for model, own in zip(models, vectors, strict=True):
            entry = {"name": model.name, **asdict(measure_fidelity(own, truth))}
            if found:
                difference = compare_fidelity(own, vectors[0], truth, resamples=_RESAMPLES, seed=0)
                entry["difference"] = asdict(difference)
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
    """Return the versions of the packages that the results depend on."""
    return {"lakevec": __version__, **{name: version(name) for name in _PACKAGES}}


def describe_time(
    model: EmbeddingModel, speed: Speed | None, results: Sequence[TaskResult]
) -> dict[str, Any]:
    """Record the seconds that a model took."""
    return {
        "name": model.name,
        "speed": None if speed is None else {**asdict(speed), "texts_per_s": speed.texts_per_s},
        "tasks": {
            result.task.key: {"encode_s": round(result.encode_s, 3), "score_s": round(result.score_s, 3)}
            for result in results
        },
    }


def rounded(value: Any) -> Any:
    """Round all floats inside a value to six digits; minus zero becomes zero."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return round(value, _DIGITS) + 0.0 if isinstance(value, float) else value


def to_json(record: dict[str, Any]) -> bytes:
    """Serialise a record for people to read."""
    return (json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
