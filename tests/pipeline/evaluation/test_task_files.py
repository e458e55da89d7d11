"""Files that are no task are refused, and their texts are not shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakevec.pipeline.errors import InputError
from lakevec.pipeline.evaluation.classification import load_classification
from lakevec.pipeline.evaluation.clustering import load_clustering
from lakevec.pipeline.evaluation.phrases import load_phrases
from lakevec.pipeline.evaluation.retrieval import load_retrieval
from lakevec.pipeline.evaluation.similarity import load_sentences, load_words
from tests.support.tasks import place, write


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"text1": ["a"], "score": [1.0]},
            "task file '{file}' lacks 'text2': got columns 'text1', 'score'; "
            "expected 'text1', 'text2', 'score'",
        ),
        (
            {"text1": ["a", None], "text2": ["a", "b"], "score": [1.0, 2.0]},
            "task file '{file}': column 'text1': got nulls; expected none",
        ),
        (
            {
                "text1": pa.array([], pa.string()),
                "text2": pa.array([], pa.string()),
                "score": pa.array([], "f4"),
            },
            "task file '{file}' holds no row: expected at least one",
        ),
        (
            {"text1": ["a", "b"], "text2": ["a", "b"], "score": [1.0, np.nan]},
            "task file '{file}': column 'score': got NaN or infinity; expected finite numbers",
        ),
        (
            {"text1": ["a"], "text2": ["b"], "score": ["private words"]},
            "task file '{file}': column 'score': got string; expected numbers, or strings of them",
        ),
    ],
    ids=["column", "null", "no row", "no number", "text"],
)
def test_files_that_are_no_task_are_refused(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    file = write(tmp_path / "a.parquet", **columns)
    with pytest.raises(InputError) as caught:
        load_sentences(file)
    assert str(caught.value) == message.format(file=file.path)


def test_file_that_is_no_parquet_is_refused_without_its_text(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("private words")
    with pytest.raises(InputError, match=r"a\.parquet' can't be read: got .*; expected Parquet as described"):
        load_words(place(tmp_path / "a.parquet"))


@pytest.mark.parametrize("kind", ["classification", "clustering", "paraphrases", "retrieval"])
def test_tasks_that_tell_nothing_apart_are_refused(tmp_path: Path, kind: str) -> None:
    one = {"text": ["north", "east"], "label": ["n", "n"]}
    calls = {
        "classification": lambda: (
            write(tmp_path / "t" / "train.parquet", **one),
            write(tmp_path / "t" / "test.parquet", **one),
            load_classification(place(tmp_path / "t")),
        ),
        "clustering": lambda: load_clustering(write(tmp_path / "a.parquet", **one)),
        "paraphrases": lambda: load_phrases(
            write(tmp_path / "a.parquet", text1=["a"], text2=["b"], label=[1])
        ),
        "retrieval": lambda: (
            write(tmp_path / "t" / "corpus.parquet", id=["a"], title=[""], text=["east"]),
            write(tmp_path / "t" / "queries.parquet", id=["1"], text=["north"]),
            write(tmp_path / "t" / "qrels.parquet", query_id=["1"], corpus_id=["a"], score=[0]),
            load_retrieval(place(tmp_path / "t")),
        ),
    }
    with pytest.raises(InputError, match=r"label': got one value only; expected labels|no query with"):
        calls[kind]()


@pytest.mark.parametrize("load_pairs", [load_sentences, load_phrases])
def test_scores_that_do_not_differ_are_refused(tmp_path: Path, load_pairs: Any) -> None:
    columns = {"text1": ["a", "b"], "text2": ["a", "b"], "score": [3, 3]}
    pq.write_table(pa.table(columns), tmp_path / "s.parquet")
    with pytest.raises(InputError, match="column 'score': got one value only; expected scores that differ"):
        load_pairs(place(tmp_path / "s.parquet"))
