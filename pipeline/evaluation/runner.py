"""One model on many tasks, and how fast it is."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lakevec.pipeline.errors import DataError
from lakevec.pipeline.evaluation.embedding_model import EmbeddingModel, VectorCache, encode_distinct
from lakevec.pipeline.evaluation.metrics import TaskScores
from lakevec.pipeline.evaluation.tasks import Task

_BATCH_TEXTS = 1000


@dataclass(frozen=True)
class TaskResult:
    """What a model got on a task.

    Parameters
    ----------
    task : Task
    scores : TaskScores
    encode_s : float
        Seconds of embedding.
    score_s : float
        Seconds of all else: reading, heads, clusters, rankings.
    """

    task: Task
    scores: TaskScores
    encode_s: float
    score_s: float


@dataclass(frozen=True)
class Speed:
    """How fast a model embeds.

    Parameters
    ----------
    texts : int
        How many texts were embedded.
    characters : float
        Their mean length.
    seconds : float
        How long it took.
    """

    texts: int
    characters: float
    seconds: float

    @property
    def texts_per_s(self) -> float:
        """Texts in a second."""
        return self.texts / max(self.seconds, 1e-9)


def run_tasks(
    model: EmbeddingModel, tasks: Sequence[Task], *, cache: VectorCache | None = None
) -> Iterator[TaskResult]:
    """Evaluate a model, task by task.

    Parameters
    ----------
    model : EmbeddingModel
    tasks : sequence of Task
    cache : VectorCache, optional
        Where vectors of earlier runs lie; by default all are computed.

    Yields
    ------
    TaskResult

    Raises
    ------
    InputError
        If a task's files are not what they should be.
    DataError
        If a model returns vectors that are not finite.
    """
    for task in tasks:
        yield _run(model, task, cache)


def _run(model: EmbeddingModel, task: Task, cache: VectorCache | None) -> TaskResult:
    encoding_s = 0.0

    def encode(texts: Sequence[str]) -> np.ndarray:
        nonlocal encoding_s
        began = time.perf_counter()
        vectors = encode_distinct(model, texts, cache)
        encoding_s += time.perf_counter() - began
        if not np.isfinite(vectors).all():
            raise DataError(f"model {model.name!r} returned vectors that are NaN or infinite")
        return vectors

    started = time.perf_counter()
    scores = task.evaluate(encode)
    return TaskResult(task, scores, encoding_s, time.perf_counter() - started - encoding_s)


def measure_speed(model: EmbeddingModel, texts: Sequence[str], *, limit_s: float) -> Speed:
    """Embed texts in batches of 1,000, in order, until they are all embedded or the time is over.

    Parameters
    ----------
    model : EmbeddingModel
        A fresh one: what it remembers of texts seen before makes it faster.
    texts : sequence of str
    limit_s : float
        No batch begins after so many seconds.

    Returns
    -------
    Speed
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
