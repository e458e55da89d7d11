"""Which tasks a folder of data holds, and what they are called."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pyarrow import fs as pafs

from lakevec.pipeline.errors import InputError, SettingsError
from lakevec.pipeline.evaluation.classification import evaluate_classification
from lakevec.pipeline.evaluation.clustering import evaluate_clustering
from lakevec.pipeline.evaluation.metrics import Encode, TaskScores
from lakevec.pipeline.evaluation.phrases import evaluate_phrases
from lakevec.pipeline.evaluation.retrieval import evaluate_retrieval
from lakevec.pipeline.evaluation.similarity import evaluate_sentences, evaluate_words
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.storage import Location, locate

_SUFFIX = ".parquet"


@dataclass(frozen=True)
class Group:
    """A kind of task.

    Parameters
    ----------
    name : str
        Name of its folder.
    title : str
        What people call it.
    metric : str
        The metric that counts, as MTEB calls it; phrases have two.
    is_of_folders : bool
        Whether a task is a folder, or a file.
    evaluate : callable
        Task's place and an encoder to `TaskScores`.
    """

    name: str
    title: str
    metric: str
    is_of_folders: bool
    evaluate: Callable[[Location, Encode], TaskScores]


GROUPS = {
    group.name: group
    for group in (
        Group("wordsim", "Word similarity", "cosine_spearman", False, evaluate_words),
        Group("sts", "Semantic textual similarity", "cosine_spearman", False, evaluate_sentences),
        Group("classification", "Classification", "accuracy", True, evaluate_classification),
        Group("clustering", "Clustering", "v_measure", False, evaluate_clustering),
        Group("retrieval", "Retrieval", "ndcg_at_10", True, evaluate_retrieval),
        Group("phrases", "Phrases (PEARL)", "cosine_pearson or accuracy", False, evaluate_phrases),
    )
}


@dataclass(frozen=True)
class _Known:
    """What is known of a public set: its name in MTEB, and whether the group's average takes it in."""

    name: str
    is_averaged: bool = True
    note: str = ""


_ALL_ROWS = "the head learns from all training rows; MTEB's from 8 of each label, ten times"
_KNOWN = {
    "sts/sts12": _Known("STS12"),
    "sts/sts13": _Known("STS13"),
    "sts/sts14": _Known("STS14"),
    "sts/sts15": _Known("STS15"),
    "sts/sts16": _Known("STS16"),
    "sts/stsb-test": _Known("STSBenchmark"),
    "sts/sick-r-test": _Known("SICK-R"),
    "sts/stsb-dev": _Known("STSBenchmark-dev", False, "development rows, to choose by"),
    "sts/ja-jsts-valid": _Known("JSTS", False, "Japanese"),
    "sts/zh-stsb-dev": _Known("STSB-dev", False, "Chinese"),
    "classification/imdb": _Known("ImdbClassification", note=_ALL_ROWS),
    "classification/agnews-part": _Known("NewsClassification", note=f"AG News, in part; {_ALL_ROWS}"),
    "clustering/20newsgroups-test": _Known(
        "TwentyNewsgroupsClustering", note="whole posts; MTEB's are subject lines"
    ),
    "retrieval/scifact": _Known("SciFact"),
    "retrieval/xquad-zh": _Known("XQuADRetrieval-zh", False, "Chinese"),
}


@dataclass(frozen=True)
class Task:
    """One task of a folder.

    Parameters
    ----------
    group : Group
    file : str
        Name of its file or folder, without suffix.
    name : str
        MTEB's name, or `file` where MTEB has none.
    place : Location
    is_averaged : bool
        Whether the group's average takes it in: English test rows.
    note : str
        How it differs from what its name promises; empty where it does not.
    """

    group: Group
    file: str
    name: str
    place: Location
    is_averaged: bool
    note: str

    @property
    def key(self) -> str:
        """Group and name, as in ``sts/STS12``."""
        return f"{self.group.name}/{self.name}"

    def evaluate(self, encode: Encode) -> TaskScores:
        """Evaluate an encoder on the task.

        Parameters
        ----------
        encode : callable
            Strings to float32 ndarray of shape (N, D).

        Returns
        -------
        TaskScores
        """
        return self.group.evaluate(self.place, encode)


def find_tasks(data: str, only: Sequence[str] = ()) -> list[Task]:
    """List the tasks of a folder.

    Parameters
    ----------
    data : str
        Folder or URI laid out as ``docs/evaluation.md`` tells.
    only : sequence of str, optional
        Groups, tasks, or files of tasks, as in ``sts``, ``STS12`` or ``sts/sts12``, in any case; by default
        all that are there.

    Returns
    -------
    list of Task
        In the order of `GROUPS`, and by name of file.

    Raises
    ------
    InputError
        If there is no such folder, none of the groups' folders in it, or a group's folder without a task.
    SettingsError
        If a word of `only` names nothing that is there.
    """
    folder, shown = locate(data, error=InputError), redact(data)
    if folder.type() != pafs.FileType.Directory:
        raise InputError(f"data folder {shown!r} does not exist", expected=f"a folder of {_group_folders()}")
    tasks = [task for group in GROUPS.values() for task in _tasks_of(group, folder / group.name)]
    if not tasks:
        raise InputError(f"data folder {shown!r} holds no task", expected=f"folders {_group_folders()}")
    return _choose(tasks, only)


def _group_folders() -> str:
    return ", ".join(GROUPS)


def _tasks_of(group: Group, folder: Location) -> list[Task]:
    if folder.type() != pafs.FileType.Directory:
        return []
    kind = pafs.FileType.Directory if group.is_of_folders else pafs.FileType.File
    names = sorted(
        entry.base_name
        for entry in folder.list()
        if entry.type == kind and not entry.base_name.startswith((".", "_"))
    )
    tasks = [
        _make_task(group, folder / name) for name in names if group.is_of_folders or name.endswith(_SUFFIX)
    ]
    if not tasks:
        wanted = "a folder for each task" if group.is_of_folders else "a Parquet file for each task"
        raise InputError(f"{folder.path!r} holds no task", expected=wanted)
    return tasks


def _make_task(group: Group, place: Location) -> Task:
    file = place.name.removesuffix(_SUFFIX)
    known = _KNOWN.get(f"{group.name}/{file}", _Known(file))
    return Task(group, file, known.name, place, known.is_averaged, known.note)


def _choose(tasks: list[Task], only: Sequence[str]) -> list[Task]:
    chosen: set[str] = set()
    for word in only:
        found = {task.key for task in tasks if word.lower() in _words_for(task)}
        if not found:
            words = dict.fromkeys([*(task.group.name for task in tasks), *(task.name for task in tasks)])
            by_case = {known.lower(): known for known in words}
            near = difflib.get_close_matches(word.lower(), by_case, n=1)
            raise SettingsError(
                f"only: no task {word!r} in the data folder",
                expected=f"one of {', '.join(words)}",
                remedy=f"did you mean {by_case[near[0]]!r}?" if near else "",
            )
        chosen |= found
    return [task for task in tasks if not only or task.key in chosen]


def _words_for(task: Task) -> set[str]:
    """Return all that a task may be called by, in lower case."""
    group = task.group.name
    names = {task.name.lower(), task.file.lower()}
    return {group, *names, *(f"{group}/{name}" for name in names)}
