"""One model: its scores on tasks and its speed, as its entries in the JSON files of an evaluation."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from lakevec.pipeline.errors import InputError
from lakevec.pipeline.evaluation.embedding_model import EmbeddingModel, encode_distinct
from lakevec.pipeline.evaluation.metrics import TaskScores
from lakevec.pipeline.evaluation.mteb_tasks import MtebEncoder, MtebTask
from lakevec.pipeline.evaluation.task_files import read_columns
from lakevec.pipeline.evaluation.tasks import GROUPS, Task
from lakevec.pipeline.storage import locate

_BATCH_TEXTS = 1000
_SPEED_TEXTS = "texts/general-en.parquet"
_LOG_EVERY_S = 30.0


@dataclass(frozen=True)
class TaskResult:
    """Scores of a model on a task, seconds of embedding, and seconds of everything else.

    `float_query` is the main metric with queries as floats, where only other texts are binary.
    """

    task: Task | MtebTask
    scores: TaskScores
    encode_s: float
    score_s: float
    float_query: float | None = None


@dataclass(frozen=True)
class Speed:
    """Number of texts embedded, their mean length in characters, and seconds of embedding."""

    texts: int
    characters: float
    seconds: float

    @property
    def texts_per_s(self) -> float:
        """Texts per second."""
        return self.texts / max(self.seconds, 1e-9)


def measure_model(
    model: EmbeddingModel,
    tasks: Sequence[Task | MtebTask],
    *,
    speed_texts: Sequence[str],
    limit_s: float,
    cache: Path | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Measure speed while the model's token cache is empty, then run the tasks.

    Returns
    -------
    scores : dict
        Entry in ``evaluation.json``. Metrics are from -1 or 0 to 1; ``mean`` is the mean of the groups'
        averages.
    seconds : dict
        Entry in ``timings.json``.
    """
    speed = measure_speed(model, speed_texts, limit_s=limit_s) if speed_texts else None
    results = []
    # In a log, write a line every 30 seconds.
    every_s = 0.1 if sys.stderr.isatty() else _LOG_EVERY_S
    bar = tqdm(tasks, model.name, unit="task", mininterval=every_s, disable=not tasks)
    for task in bar:
        results.append(run_task(model, task, cache=cache))
        bar.set_postfix_str(task.key, refresh=False)
    averages = average_groups(results)
    scores = {
        "name": model.name,
        "source": model.source,
        "fingerprint": model.fingerprint,
        "dimensions": model.dimensions,
        "parameters": model.parameters,
        "bytes": model.size_bytes,
        "vector_type": str(model.vector_type),
        "vector_bytes": model.vector_type.vector_bytes(model.dimensions),
        "averages": averages,
        "averages_float_query": average_groups(results, float_query=True),
        "mean": float(np.mean(list(averages.values()))) if averages else None,
        "tasks": {
            result.task.key: {
                "metric": result.scores.main,
                "value": result.scores.value,
                "metrics": result.scores.metrics,
                "counts": result.scores.counts,
                **({} if result.float_query is None else {"float_query": result.float_query}),
            }
            for result in results
        },
    }
    seconds = {
        "name": model.name,
        "speed": speed and {**asdict(speed), "texts_per_s": speed.texts_per_s},
        "tasks": {
            result.task.key: {"encode_s": round(result.encode_s, 3), "score_s": round(result.score_s, 3)}
            for result in results
        },
    }
    return scores, seconds


def run_task(model: EmbeddingModel, task: Task | MtebTask, *, cache: Path | None = None) -> TaskResult:
    """Evaluate a model on a task.

    Raises
    ------
    InputError
        If the task's files are not as described in ``docs/evaluation.md``, or mteb can't load its data.
    DataError
        If the model returns vectors that are not finite.
    """
    started = time.perf_counter()
    if isinstance(task, MtebTask):
        encoder = MtebEncoder(model, cache)
        scores = task.score(encoder)
        return TaskResult(task, scores, encoder.seconds, time.perf_counter() - started - encoder.seconds)
    data = task.load()
    loaded = time.perf_counter()
    vectors = encode_distinct(model, data.texts, cache)
    encode_s = time.perf_counter() - loaded
    scores, float_query = data.score(vectors), None
    if model.query_model is not None and data.queries is not None:
        vectors[data.queries] = encode_distinct(model.query_model, data.texts[data.queries])
        float_query = data.score(vectors).value
    return TaskResult(task, scores, encode_s, time.perf_counter() - started - encode_s, float_query)


def average_groups(results: Sequence[TaskResult], *, float_query: bool = False) -> dict[str, float]:
    """Average the main metrics of each group, in the order of `GROUPS`.

    A group's average leaves out development sets and languages other than English. A group that has no other
    task has no average. With `float_query`, average the tasks that have that figure.
    """
    values: dict[str, list[float]] = {name: [] for name in GROUPS}
    for result in results:
        value = result.float_query if float_query else result.scores.value
        if result.task.is_averaged and value is not None:
            values[result.task.group.name].append(value)
    return {name: float(np.mean(found)) for name, found in values.items() if found}


def choose_speed_texts(data: str, tasks: Sequence[Task], *, most: int) -> list[str]:
    """Choose at most `most` distinct texts to measure speed on.

    They are evenly spread over ``texts/general-en.parquet`` in the data folder. If there is no such file,
    they are the first texts of the tasks.
    """
    general = locate(data, error=InputError) / _SPEED_TEXTS
    if not general.exists():
        return list(dict.fromkeys(text for task in tasks for text in task.load().texts))[:most]
    texts = list(dict.fromkeys(read_columns(general, {"text": "text"})["text"]))
    return [texts[row] for row in np.linspace(0, len(texts) - 1, min(most, len(texts))).astype(int)]


def measure_speed(model: EmbeddingModel, texts: Sequence[str], *, limit_s: float) -> Speed:
    """Embed texts in batches of 1,000, in order, until all are embedded or `limit_s` seconds have passed.

    The texts should be new to the model, since a token cache embeds known segments faster.
    """
    model.prepare()
    done, characters, seconds = 0, 0, 0.0
    while done < len(texts) and seconds < limit_s:
        batch = texts[done : done + _BATCH_TEXTS]
        began = time.perf_counter()
        model.encode(batch)
        seconds += time.perf_counter() - began
        done += len(batch)
        characters += sum(map(len, batch))
    return Speed(done, characters / max(done, 1), seconds)
