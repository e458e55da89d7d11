"""Tasks that the mteb library runs on our models, with MTEB's own data, code and scores."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lakevec.pipeline.errors import DataError, InputError, SettingsError, rephrase, requires_extra
from lakevec.pipeline.evaluation.embedding_model import EmbeddingModel, encode_distinct
from lakevec.pipeline.evaluation.metrics import TaskScores, one_thread
from lakevec.pipeline.evaluation.tasks import GROUPS, Group, Task

_TYPES = {
    "STS": "sts",
    "Classification": "classification",
    "Clustering": "clustering",
    "PairClassification": "pair_classification",
    "Reranking": "reranking",
    "Retrieval": "retrieval",
    "Summarization": "summarization",
}
_ENGLISH = ["eng"]
_BATCH_TEXTS = 1000


@dataclass(frozen=True)
class MtebTask:
    """One task of the mteb library.

    Parameters
    ----------
    group : Group
        The group of tasks of the same type.
    task : mteb.AbsTask
    is_averaged : bool
        Whether the group's average includes it.
    note : str
        Who runs it, and its languages if English is not among them.
    """

    group: Group
    task: Any
    is_averaged: bool
    note: str

    @property
    def name(self) -> str:
        """Name in MTEB."""
        return str(self.task.metadata.name)

    @property
    def file(self) -> str:
        """Its name, since it has no file."""
        return self.name

    @property
    def key(self) -> str:
        """Name after ``mteb/``, as in ``mteb/STS12``, so that it differs from a file's task of that name."""
        return f"mteb/{self.name}"

    def score(self, encoder: MtebEncoder) -> TaskScores:
        """Run the task in mteb's harness. The data come from the Hugging Face hub, or from its local cache.

        Raises
        ------
        InputError
            If the data can't be loaded.
        DataError
            If mteb returns no number as the main score.
        """
        import mteb

        with rephrase(
            InputError,
            f"the data of mteb's task {self.name!r} can't be loaded",
            remedy="mteb downloads them from the Hugging Face hub; see docs/evaluation.md",
        ):
            self.task.load_data()
        with one_thread():
            found = mteb.evaluate(
                encoder,
                self.task,
                cache=None,
                co2_tracker=False,
                encode_kwargs={"batch_size": _BATCH_TEXTS, "show_progress_bar": False},
                show_progress_bar=False,
            )
        self.task.unload_data()
        [result] = found.task_results
        main, value = str(self.task.metadata.main_score), float(result.get_score())
        if not math.isfinite(value):
            raise DataError(f"mteb's task {self.name!r} has no score", got=str(value))
        entries = [entry for split in result.scores.values() for entry in split]
        return TaskScores(main, {**_average(entries), main: value}, {})


class MtebEncoder:
    """A model as mteb's harness calls it: mteb's ``EncoderProtocol``.

    Attributes
    ----------
    seconds : float
        Time spent on embedding.
    """

    def __init__(self, model: EmbeddingModel, cache: Path | None = None) -> None:
        from mteb.models.model_meta import ModelMeta

        self.mteb_model_meta = ModelMeta.create_empty(
            {"name": f"lakevec/{model.name}", "revision": model.fingerprint}
        )
        self.seconds = 0.0
        self._model = model
        self._cache = cache

    def encode(self, inputs: Iterable[dict[str, Any]], **_: Any) -> np.ndarray:
        """Embed the texts of all batches: float32 of shape (N, D)."""
        texts = [text for batch in inputs for text in batch["text"]]
        began = time.perf_counter()
        vectors = encode_distinct(self._model, texts, self._cache)
        self.seconds += time.perf_counter() - began
        return vectors

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Return the cosines of all pairs of rows as a torch tensor."""
        from mteb.similarity_functions import cos_sim

        return cos_sim(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Return the cosine of each row and the same row of the other array, as a torch tensor."""
        from mteb.similarity_functions import pairwise_cos_sim

        return pairwise_cos_sim(embeddings1, embeddings2)


def find_mteb_tasks(names: Sequence[str], local: Sequence[Task] = ()) -> list[MtebTask]:
    """Look up tasks of the mteb library by name. Of tasks in several languages, this takes the English part.

    Parameters
    ----------
    names : sequence of str
        Names in MTEB, such as ``STS12``.
    local : sequence of Task, optional
        Tasks of a folder. A group's average leaves out a task here if the folder has one of its name.

    Raises
    ------
    SetupError
        If mteb is not installed.
    SettingsError
        If mteb has no task of a name, or the report has no group for its type.
    """
    if not names:
        return []
    with requires_extra("mteb", "--mteb"):
        import mteb  # noqa: F401
    taken = {task.key for task in local}
    return [_find_task(name, taken) for name in dict.fromkeys(names)]


def _find_task(name: str, taken: set[str]) -> MtebTask:
    import mteb

    try:
        task, is_english = mteb.get_task(name, languages=_ENGLISH, exclusive_language_filter=True), True
    except ValueError:
        task, is_english = mteb.get_task(name), False
    except KeyError as error:
        _, _, hint = str(error.args[0]).partition(" Did you mean: ")
        raise SettingsError(
            f"mteb: no task {name!r} in the mteb library", remedy=f"did you mean {hint}" if hint else ""
        ) from None
    kind = str(task.metadata.type)
    if kind not in _TYPES or list(task.metadata.modalities) != ["text"]:
        raise SettingsError(
            f"mteb: task {name!r}",
            got=f"type {kind}",
            expected=f"a task on texts, of type {', '.join(_TYPES)}",
        )
    group = GROUPS[_TYPES[kind]]
    note = "run by mteb" if is_english else f"run by mteb; {', '.join(task.languages)}"
    return MtebTask(group, task, is_english and f"{group.name}/{name}" not in taken, note)


def _average(entries: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Average each metric over splits and languages; leave out areas under curves and what isn't a number."""
    values = {
        name: [entry.get(name, math.nan) for entry in entries]
        for name, value in entries[0].items()
        if isinstance(value, float) and name != "main_score" and not name.startswith("nauc")
    }
    means = {name: float(np.mean(found)) for name, found in values.items()}
    return {name: mean for name, mean in means.items() if math.isfinite(mean)}
