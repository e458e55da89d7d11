"""The fixed texts on which speed is measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lakevec.pipeline.errors import InputError
from lakevec.pipeline.evaluation.task_files import read_columns
from lakevec.pipeline.evaluation.tasks import Task
from lakevec.pipeline.storage import locate

GENERAL = "texts/general-en.parquet"


def choose_speed_texts(data: str, tasks: Sequence[Task], *, most: int) -> list[str]:
    """Choose sentences: those of ``texts/general-en.parquet``, or else all texts of the tasks at hand.

    Parameters
    ----------
    data : str
        Folder of the data.
    tasks : sequence of Task
    most : int
        How many texts to return at most.

    Returns
    -------
    list of str
        Distinct texts of a file, evenly spread over it; or of the tasks, in their order.
    """
    general = locate(data, error=InputError) / GENERAL
    if general.exists():
        texts = list(dict.fromkeys(read_columns(general, {"text": "text"})["text"]))
        return [texts[row] for row in np.linspace(0, len(texts) - 1, min(most, len(texts))).astype(int)]
    seen: dict[str, None] = {}

    def remember(found: Sequence[str]) -> np.ndarray:
        seen.update(dict.fromkeys(found))
        raise _EnoughError

    for task in tasks:
        try:
            task.evaluate(remember)
        except _EnoughError:
            continue
    return list(seen)[:most]


class _EnoughError(Exception):
    """The texts of a task are known."""
