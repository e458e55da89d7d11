"""The tasks of a folder, and their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from lakevec.pipeline.errors import InputError, SettingsError
from lakevec.pipeline.evaluation.tasks import find_tasks
from tests.support.tasks import write


def test_tasks_have_the_names_of_mteb(shared_data: Path) -> None:
    names = {task.key: task for task in find_tasks(str(shared_data))}
    for key in ("sts/STS12", "sts/STSBenchmark", "sts/SICK-R", "retrieval/SciFact", "wordsim/men-tr-3k"):
        assert names[key].is_averaged
    for key in ("classification/ImdbClassification", "clustering/TwentyNewsgroupsClustering"):
        assert names[key].note
    left_out = {key for key, task in names.items() if not task.is_averaged}
    assert left_out == {"sts/JSTS", "sts/STSB-dev", "sts/STSBenchmark-dev", "retrieval/XQuADRetrieval-zh"}
    assert sum(task.group.name == "wordsim" for task in names.values()) == 13


def test_only_chooses_groups_and_tasks_by_any_of_their_names(tmp_path: Path) -> None:
    for name in ("sts/sts12", "sts/mine", "wordsim/rg-65"):
        write(tmp_path / f"{name}.parquet", a=["x"])
    (tmp_path / "retrieval" / "scifact").mkdir(parents=True)
    (tmp_path / "sts" / "README.txt").write_text("no task")

    def chosen(*only: str) -> list[str]:
        return [task.key for task in find_tasks(str(tmp_path), only)]

    assert chosen() == ["wordsim/rg-65", "sts/mine", "sts/STS12", "retrieval/SciFact"]
    assert chosen("STS") == ["sts/mine", "sts/STS12"]
    assert chosen("scifact", "sts/sts12", "RG-65") == ["wordsim/rg-65", "sts/STS12", "retrieval/SciFact"]
    with pytest.raises(SettingsError) as caught:
        chosen("scifacts")
    assert str(caught.value) == (
        "only: no task 'scifacts' in the data folder: expected one of wordsim, sts, retrieval, rg-65, mine, "
        "STS12, SciFact; did you mean 'SciFact'?"
    )


def test_folders_without_tasks_are_refused(tmp_path: Path) -> None:
    groups = "wordsim, sts, classification, clustering, pair_classification, reranking, retrieval, "
    groups += "summarization, phrases"
    with pytest.raises(InputError) as caught:
        find_tasks(str(tmp_path / "gone"))
    assert str(caught.value) == f"data folder '{tmp_path}/gone' does not exist: expected a folder of {groups}"
    with pytest.raises(InputError) as caught:
        find_tasks(str(tmp_path))
    assert str(caught.value) == f"data folder '{tmp_path}' holds no task: expected folders {groups}"
    (tmp_path / "retrieval").mkdir()
    with pytest.raises(InputError) as caught:
        find_tasks(str(tmp_path))
    assert str(caught.value) == f"'{tmp_path}/retrieval' holds no task: expected a folder for each task"
