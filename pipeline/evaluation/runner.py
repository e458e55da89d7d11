"""One model on one task, and the speed of a model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lakevec.pipeline.errors import DataError, InputError
from lakevec.pipeline.evaluation.embedding_model import EmbeddingModel, VectorCache, encode_distinct
from lakevec.pipeline.evaluation.metrics import TaskScores
from lakevec.pipeline.evaluation.task_files import read_columns
from lakevec.pipeline.evaluation.tasks import Task
from lakevec.pipeline.storage import locate

_BATCH_TEXTS = 1000
_SPEED_TEXTS = "texts/general-en.parquet"


@dataclass(frozen=True)
class TaskResult:
    """Scores of a model on a task, seconds of embedding, and seconds of everything else."""

    task: Task
    scores: TaskScores
    encode_s: float
    score_s: float


@dataclass(frozen=True)
class Speed:
    """Texts embedded, their mean length in characters, and the seconds that it took."""

    texts: int
    characters: float
    seconds: float

    @property
    def texts_per_s(self) -> float:
        """Texts per second."""
        return self.texts / max(self.seconds, 1e-9)


def run_task(model: EmbeddingModel, task: Task, *, cache: VectorCache | None = None) -> TaskResult:
    """Evaluate a model on a task.

    Raises
    ------
    InputError
        If the task's files are not as described.
    DataError
        If the model returns vectors that are not finite.
    """
    started = time.perf_counter()
    data = task.load()
    loaded = time.perf_counter()
    vectors = encode_distinct(model, data.texts, cache)
    encode_s = time.perf_counter() - loaded
    if not np.isfinite(vectors).all():
        raise DataError(f"model {model.name!r} returned vectors that are NaN or infinite")
    scores = data.score(vectors)
    return TaskResult(task, scores, encode_s, time.perf_counter() - started - encode_s)


def choose_speed_texts(data: str, tasks: Sequence[Task], *, most: int) -> list[str]:
    """Choose distinct texts to measure speed on.

    They are evenly spread over ``texts/general-en.parquet`` in the data folder, or the first of all tasks if
    there is no such file.
    """
    general = locate(data, error=InputError) / _SPEED_TEXTS
    if not general.exists():
        return list(dict.fromkeys(text for task in tasks for text in task.load().texts))[:most]
    texts = list(dict.fromkeys(read_columns(general, {"text": "text"})["text"]))
    return [texts[row] for row in np.linspace(0, len(texts) - 1, min(most, len(texts))).astype(int)]


def measure_speed(model: EmbeddingModel, texts: Sequence[str], *, limit_s: float) -> Speed:
    """Embed texts in batches of 1,000, in order, until all are embedded or `limit_s` has passed.

    A token cache speeds a model up, so it should not have seen the texts before.
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
