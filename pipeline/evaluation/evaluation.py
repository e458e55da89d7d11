"""An evaluation from top to bottom: models on tasks, their fidelity to a teacher, and ablations.

``evaluation.json`` holds nothing that depends on a clock or a machine: the same models on the same data give
the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakevec import __version__
from lakevec.pipeline.errors import OutputError, requires_extra
from lakevec.pipeline.evaluation import embedding_model
from lakevec.pipeline.evaluation.embedding_model import EmbeddingModel, encode_distinct, name_teacher
from lakevec.pipeline.evaluation.fidelity import compare_fidelity, measure_fidelity
from lakevec.pipeline.evaluation.metrics import one_thread
from lakevec.pipeline.evaluation.mteb_tasks import MtebTask
from lakevec.pipeline.evaluation.runner import choose_speed_texts, measure_model
from lakevec.pipeline.evaluation.sampling import sample_texts
from lakevec.pipeline.evaluation.tasks import Task

if TYPE_CHECKING:
    from lakevec.pipeline.settings.evaluate import EvaluateSettings

# A model's entries in evaluation.json and timings.json.
Entries = tuple[dict[str, Any], dict[str, Any]]
_FORMAT = 1
# Further digits differ from processor to processor.
_DIGITS = 6
_PACKAGES = ("numpy", "scipy", "scikit-learn", "tokenizers")
_RESAMPLES = 1000


def evaluate(
    settings: EvaluateSettings, tasks: Sequence[Task | MtebTask]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Evaluate all models of the settings.

    Returns
    -------
    record : dict
        Content of ``evaluation.json``.
    timings : list of dict
        Seconds of each model, for ``timings.json``.
    """
    cache = _make_cache(settings.cache)
    uris = list(dict.fromkeys(settings.model))
    names = zip(uris, embedding_model.name_models(uris), strict=True)
    opened = [embedding_model.open_model(uri, name, device=settings.device) for uri, name in names]
    models = embedding_model.make_variants(opened, settings.dimensions, settings.vector_type)
    # Start with the user's sample, since it is the most likely part to fail.
    fidelity = _compare_with_teacher(settings, models, cache)
    local = [task for task in tasks if isinstance(task, Task)]
    texts = choose_speed_texts(str(settings.data), local, most=settings.speed_texts) if local else []
    measure = partial(measure_model, tasks=tasks, speed_texts=texts, limit_s=settings.speed_s, cache=cache)
    measured = [measure(model) for model in models]
    ablations, distilled = _run_ablations(settings, cache, measure)
    packages = [*_PACKAGES, *(["mteb"] if len(local) < len(tasks) else [])]
    record = {
        "format": _FORMAT,
        "tasks": [
            {
                "key": task.key,
                "group": task.group.name,
                "name": task.name,
                "file": task.file,
                "averaged": task.is_averaged,
                "note": task.note,
            }
            for task in tasks
        ],
        "models": [scores for scores, _ in measured],
        "ablations": ablations,
        "fidelity": fidelity,
        "versions": {"lakevec": __version__, **{name: version(name) for name in packages}},
    }
    return rounded(record), [seconds for _, seconds in [*measured, *distilled]]


def _make_cache(folder: str | None) -> Path | None:
    if folder is None:
        return None
    cache = Path(folder).expanduser()
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cache {str(cache)!r} can't be made", got=str(error.strerror), remedy="choose another --cache"
        ) from None
    return cache


def _compare_with_teacher(
    settings: EvaluateSettings, models: Sequence[EmbeddingModel], cache: Path | None
) -> dict[str, Any] | None:
    """Measure the models' fidelity to the teacher on the user's own rows.

    ``difference`` is a model's correlation minus that of the first model, with a 95 % bootstrap interval.
    """
    if settings.sample is None or settings.teacher is None:
        return None
    texts = sample_texts(settings.sample, settings.text, rows=settings.sample_rows)
    name = name_teacher(settings.teacher)
    teacher = embedding_model.open_teacher(settings.teacher, name, device=settings.device)
    truth = encode_distinct(teacher, texts, cache)
    vectors = [encode_distinct(model, texts, cache) for model in models]
    found: list[dict[str, Any]] = []
    with one_thread():
        for model, own in zip(models, vectors, strict=True):
            entry = {"name": model.name, **asdict(measure_fidelity(own, truth))}
            if found:
                entry["difference"] = asdict(compare_fidelity(own, vectors[0], truth, resamples=_RESAMPLES))
            found.append(entry)
    return {
        "column": settings.text,
        "teacher": {"name": name, "fingerprint": teacher.fingerprint},
        "rows": len(truth),
        "resamples": _RESAMPLES,
        "models": found,
    }


def _run_ablations(
    settings: EvaluateSettings, cache: Path | None, measure: Callable[[EmbeddingModel], Entries]
) -> tuple[dict[str, Any] | None, list[Entries]]:
    """Distil and measure one table after the other."""
    if settings.ablations is None:
        return None, []
    with requires_extra("distill", "distilling"):
        from lakevec.pipeline.distillation.ablations import PLAIN, distill_ablations

    teacher, plain = settings.ablations, settings.plain_teacher
    tables = distill_ablations(teacher, plain, counts=settings.counts, device=settings.device, cache=cache)
    measured = [measure(embedding_model.StaticEmbeddingModel(name, table)) for name, table in tables]
    record = {
        "teacher": name_teacher(teacher),
        "is_counted": settings.counts is not None,
        "plain_teacher": None if plain is None else name_teacher(plain),
        "plain_name": PLAIN,
        "models": [scores for scores, _ in measured],
    }
    return record, measured


def rounded(value: Any) -> Any:
    """Round all floats in a value to six digits, and turn minus zero into zero."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return round(value, _DIGITS) + 0.0 if isinstance(value, float) else value


def to_json(record: dict[str, Any]) -> bytes:
    """Serialise a record as indented JSON."""
    return (json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
