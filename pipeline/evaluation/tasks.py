"""The tasks in a data folder, their names and their groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pyarrow import fs as pafs

from lakevec.pipeline.errors import InputError, SettingsError, did_you_mean
from lakevec.pipeline.evaluation.classification import load_classification
from lakevec.pipeline.evaluation.clustering import load_clustering
from lakevec.pipeline.evaluation.metrics import TaskData
from lakevec.pipeline.evaluation.pair_classification import load_pair_classification
from lakevec.pipeline.evaluation.phrases import load_phrases
from lakevec.pipeline.evaluation.reranking import load_reranking
from lakevec.pipeline.evaluation.retrieval import load_retrieval
from lakevec.pipeline.evaluation.similarity import load_sentences, load_words
from lakevec.pipeline.evaluation.summarization import load_summarization
from lakevec.pipeline.storage import Location, locate

_SUFFIX = ".parquet"
_ALL_ROWS = "trained on all training rows; MTEB trains ten times, on 8 rows per label"


class Group(NamedTuple):
    """A kind of task: its folder, its title, its column headings, and the function that loads a task."""

    name: str
    title: str
    label: str
    short: str
    load: Callable[[Location], TaskData]
    has_folders: bool = False


class KnownSet(NamedTuple):
    """A public set: its name in MTEB, whether the group's average includes it, and a note on its rows."""

    name: str
    is_averaged: bool = True
    note: str = ""


GROUPS = {
    group.name: group
    for group in (
        Group("wordsim", "Word similarity", "Words", "wordsim", load_words),
        Group("sts", "Semantic textual similarity", "STS", "sts", load_sentences),
        Group("classification", "Classification", "Classes", "class", load_classification, True),
        Group("clustering", "Clustering", "Clusters", "cluster", load_clustering),
        Group("pair_classification", "Pair classification", "Pairs", "pair", load_pair_classification),
        Group("reranking", "Reranking", "Reranking", "rerank", load_reranking),
        Group("retrieval", "Retrieval", "Retrieval", "retr", load_retrieval, True),
        Group("summarization", "Summarization", "Summaries", "summ", load_summarization),
        Group("phrases", "Phrases (PEARL)", "Phrases", "phrase", load_phrases),
    )
}
_KNOWN = {
    "sts/sts12": KnownSet("STS12"),
    "sts/sts13": KnownSet("STS13"),
    "sts/sts14": KnownSet("STS14"),
    "sts/sts15": KnownSet("STS15"),
    "sts/sts16": KnownSet("STS16"),
    "sts/stsb-test": KnownSet("STSBenchmark"),
    "sts/sick-r-test": KnownSet("SICK-R"),
    "sts/stsb-dev": KnownSet("STSBenchmark-dev", False, "development rows, for choosing a model"),
    "sts/ja-jsts-valid": KnownSet("JSTS", False, "Japanese"),
    "sts/zh-stsb-dev": KnownSet("STSB-dev", False, "Chinese"),
    "classification/imdb": KnownSet("ImdbClassification", note=_ALL_ROWS),
    "classification/agnews-part": KnownSet("NewsClassification", note=f"AG News, in part; {_ALL_ROWS}"),
    "clustering/20newsgroups-test": KnownSet(
        "TwentyNewsgroupsClustering", note="whole posts; MTEB has only subject lines"
    ),
    "pair_classification/sprintduplicatequestions": KnownSet("SprintDuplicateQuestions"),
    "pair_classification/twittersemeval2015": KnownSet("TwitterSemEval2015"),
    "pair_classification/twitterurlcorpus": KnownSet("TwitterURLCorpus"),
    "reranking/askubuntudupquestions": KnownSet("AskUbuntuDupQuestions"),
    "reranking/scidocsrr": KnownSet("SciDocsRR"),
    "reranking/stackoverflowdupquestions": KnownSet("StackOverflowDupQuestions"),
    "retrieval/scifact": KnownSet("SciFact"),
    "retrieval/xquad-zh": KnownSet("XQuADRetrieval-zh", False, "Chinese"),
    "summarization/summeval": KnownSet("SummEvalSummarization.v2"),
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
        Its name in MTEB, else `file`.
    place : Location
    is_averaged : bool
        Whether the group's average includes it.
    note : str
        How its rows differ from those of the set with its name; empty if they don't.
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

    @property
    def words(self) -> set[str]:
        """All names that select the task, in lower case."""
        group, names = self.group.name, {self.name.lower(), self.file.lower()}
        return {group, *names, *(f"{group}/{name}" for name in names)}

    def load(self) -> TaskData:
        """Read and check the task's files."""
        return self.group.load(self.place)


def find_tasks(data: str, only: Sequence[str] = ()) -> list[Task]:
    """List the tasks of a folder, group by group, sorted by file.

    Parameters
    ----------
    data : str
        Folder or URI as described in ``docs/evaluation.md``.
    only : sequence of str, optional
        Groups, tasks or files to choose, such as ``sts``, ``STS12`` or ``sts/sts12``, in any case.
        Default: all.

    Raises
    ------
    InputError
        If the folder doesn't exist, has no folder of a group, or has one without a task.
    SettingsError
        If a word of `only` selects no task.
    """
    folder, groups = locate(data, error=InputError), ", ".join(GROUPS)
    if folder.type() != pafs.FileType.Directory:
        raise InputError(f"data folder {data!r} does not exist", expected=f"a folder of {groups}")
    tasks = [task for group in GROUPS.values() for task in _list_group(group, folder / group.name)]
    if not tasks:
        raise InputError(f"data folder {data!r} holds no task", expected=f"folders {groups}")
    _check_words(only, tasks)
    chosen = {word.lower() for word in only}
    return [task for task in tasks if not chosen or chosen & task.words]


def _list_group(group: Group, folder: Location) -> list[Task]:
    if folder.type() != pafs.FileType.Directory:
        return []
    kind = pafs.FileType.Directory if group.has_folders else pafs.FileType.File
    names = sorted(
        entry.base_name
        for entry in folder.list()
        if entry.type == kind
        and not entry.base_name.startswith((".", "_"))
        and (group.has_folders or entry.base_name.endswith(_SUFFIX))
    )
    if not names:
        wanted = "a folder for each task" if group.has_folders else "a Parquet file for each task"
        raise InputError(f"{folder.path!r} holds no task", expected=wanted)
    return [_make_task(group, folder / name) for name in names]


def _make_task(group: Group, place: Location) -> Task:
    file = place.name.removesuffix(_SUFFIX)
    known = _KNOWN.get(f"{group.name}/{file}", KnownSet(file))
    return Task(group, file, known.name, place, known.is_averaged, known.note)


def _check_words(only: Sequence[str], tasks: Sequence[Task]) -> None:
    """Refuse words that name no task."""
    known = set().union(*(task.words for task in tasks))
    names = dict.fromkeys([*(task.group.name for task in tasks), *(task.name for task in tasks)])
    for word in only:
        if word.lower() not in known:
            raise SettingsError(
                f"only: no task {word!r} in the data folder",
                expected=f"one of {', '.join(names)}",
                remedy=did_you_mean(word, names),
            )
