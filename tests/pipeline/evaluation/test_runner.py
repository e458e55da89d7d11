"""Speed, averages, and vectors that are refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from lakevec.pipeline.encoding.stored_vectors import VectorType
from lakevec.pipeline.errors import DataError
from lakevec.pipeline.evaluation.embedding_model import StaticEmbeddingModel
from lakevec.pipeline.evaluation.metrics import TaskScores
from lakevec.pipeline.evaluation.runner import (
    TaskResult,
    average_groups,
    choose_speed_texts,
    measure_speed,
    run_task,
)
from lakevec.pipeline.evaluation.tasks import find_tasks
from lakevec.pipeline.model.table import StaticTable
from tests.support.models import make_word_tokenizer
from tests.support.tasks import Counting, write


def test_speed_is_measured_on_the_same_texts_until_time_is_over() -> None:
    model = Counting()
    speed = measure_speed(model, ["north"] * 2500, limit_s=60)
    assert [len(texts) for texts in model.asked] == [1, 1000, 1000, 500]
    assert (speed.texts, speed.characters) == (2500, 5.0)
    assert measure_speed(Counting(), ["north"] * 2500, limit_s=1e-12).texts == 1000


@pytest.mark.parametrize("group", ["sts", "reranking", "retrieval"])
def test_float_queries_meet_binary_documents(small_data: Path, group: str) -> None:
    rows = np.random.default_rng(4).normal(size=(4, 24)).astype(np.float32)
    words = make_word_tokenizer(["[UNK]", "north", "east", "southwest"]).to_str()
    model = StaticEmbeddingModel("m", StaticTable(rows, words), VectorType.BINARY)
    task = find_tasks(str(small_data), [group])[0]
    data, floats = task.load(), StaticEmbeddingModel("m", StaticTable(rows, words))
    vectors = floats.encode(data.texts)
    signs = np.where(vectors > 0, 1.0, -1.0) * vectors.any(axis=1, keepdims=True)
    result = run_task(model, task)
    assert result.scores.value == pytest.approx(data.score(signs).value)
    assert data.queries is not None
    signs[data.queries] = vectors[data.queries]
    assert result.float_query == pytest.approx(data.score(signs).value)
    assert run_task(floats, task).float_query is None


def test_speed_texts_are_those_of_a_file_or_of_the_tasks(tmp_path: Path) -> None:
    write(tmp_path / "sts" / "a.parquet", text1=["a", "b"], text2=["b", "c"], score=[1.0, 2.0])
    write(tmp_path / "sts" / "b.parquet", text1=["a", "d"], text2=["b", "c"], score=[1.0, 2.0])
    tasks = find_tasks(str(tmp_path))
    assert choose_speed_texts(str(tmp_path), tasks, most=10) == ["a", "b", "c", "d"]
    assert choose_speed_texts(str(tmp_path), tasks, most=3) == ["a", "b", "c"]
    write(tmp_path / "texts" / "general-en.parquet", text=["v", "w", "v", "x", "y", "z"])
    assert choose_speed_texts(str(tmp_path), tasks, most=3) == ["v", "x", "z"]


def test_vectors_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    class Broken(Counting):
        def encode(self, texts: Sequence[str]) -> np.ndarray:
            return np.full((len(texts), 2), np.nan, np.float32)

    write(tmp_path / "sts" / "a.parquet", text1=["a", "b"], text2=["b", "c"], score=[1.0, 2.0])
    with pytest.raises(DataError, match="model 'counting' returned vectors that are NaN or infinite"):
        run_task(Broken(), *find_tasks(str(tmp_path)))


def test_averages_leave_out_development_rows_and_other_languages(tmp_path: Path) -> None:
    for name in ("sts12", "stsb-dev", "zh-stsb-dev", "mine"):
        write(tmp_path / "sts" / f"{name}.parquet", a=["x"])
    values = {"STS12": 0.5, "mine": 0.7, "STSBenchmark-dev": 0.0, "STSB-dev": 0.0}
    results = [
        TaskResult(task, TaskScores("m", {"m": values[task.name]}, {}), 0.0, 0.0)
        for task in find_tasks(str(tmp_path))
    ]
    assert average_groups(results) == {"sts": pytest.approx(0.6)}
