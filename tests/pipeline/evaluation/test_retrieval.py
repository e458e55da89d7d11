"""Retrieval, by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakevec.pipeline.errors import InputError
from lakevec.pipeline.evaluation.ranking import ndcg, recall
from lakevec.pipeline.evaluation.retrieval import arrange_gains, load_retrieval, rank_documents
from tests.support.tasks import place, point, score, write


def test_gains_by_hand() -> None:
    relevant = {"b": 1.0, "c": 1.0, "d": 1.0}
    found = [["a", "b", "c"], [*"aefghijklm"], ["d", "c", "b"]]
    gains = arrange_gains(found, [relevant] * 3)
    # Behind ten ranks, what was not found.
    assert gains.shape == (3, 13)
    assert [np.flatnonzero(row).tolist() for row in gains] == [[1, 2, 10], [10, 11, 12], [0, 1, 2]]
    # Ranks 2 and 3 of three that could stand at 1, 2 and 3.
    expected = (1 / math.log2(3) + 1 / 2) / (1 + 1 / math.log2(3) + 1 / 2)
    assert [ndcg(row[None]) for row in gains] == pytest.approx([expected, 0.0, 1.0])
    assert recall(gains) == pytest.approx((2 / 3 + 0 + 1) / 3)


def test_of_documents_that_are_equally_near_the_greater_id_comes_first() -> None:
    documents = point(["east", "north", "north", "north"])
    assert list(rank_documents(point(["north"]), documents, ["9", "1", "3", "2"])) == [["3", "2", "1", "9"]]
    many = np.tile(documents, (10, 1))
    names = [f"{number:02d}" for number in range(40)]
    [found] = rank_documents(point(["east"]), many, names, depth=3)
    assert found == ["36", "32", "28"]


def test_retrieval_by_hand(tmp_path: Path) -> None:
    folder = tmp_path / "task"
    write(folder / "corpus.parquet", id=["a", "b"], title=["", "north"], text=["east", ""])
    write(folder / "queries.parquet", id=["1", "2", "3"], text=["north", "east", "unjudged"])
    write(
        folder / "qrels.parquet",
        query_id=["1", "2", "2", "3"],
        corpus_id=["b", "b", "gone", "a"],
        score=[1, 2, 1, 0],
    )
    scores = score(load_retrieval(place(folder)), point)
    # Query 1 finds its document first; query 2 at rank 2, and one of its documents is not in the corpus.
    second = (2 / math.log2(3)) / (2 + 1 / math.log2(3))
    assert scores.metrics["ndcg_at_10"] == pytest.approx((1 + second) / 2)
    assert scores.metrics["recall_at_10"] == pytest.approx((1 + 0.5) / 2)
    assert scores.counts == {"documents": 2, "queries": 2, "unknown": 0}


@pytest.mark.parametrize(("repeated", "corpus", "queries"), [("corpus", 2, 1), ("queries", 1, 2)])
def test_ids_that_repeat_are_refused(tmp_path: Path, repeated: str, corpus: int, queries: int) -> None:
    """A document that is found twice would count twice."""
    folder = tmp_path / "t"
    write(folder / "corpus.parquet", id=["a"] * corpus, title=[""] * corpus, text=["east"] * corpus)
    write(folder / "queries.parquet", id=["1"] * queries, text=["north"] * queries)
    write(folder / "qrels.parquet", query_id=["1"], corpus_id=["a"], score=[1])
    with pytest.raises(InputError, match=f"got ids of {repeated} that repeat; expected one row per id"):
        load_retrieval(place(folder))


def test_judgements_of_no_document_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["d"], "title": ["t"], "text": ["x"]}), tmp_path / "corpus.parquet")
    pq.write_table(pa.table({"id": ["q"], "text": ["x"]}), tmp_path / "queries.parquet")
    judged = {"query_id": ["q"], "corpus_id": ["other"], "score": [1]}
    pq.write_table(pa.table(judged), tmp_path / "qrels.parquet")
    with pytest.raises(InputError, match="column 'corpus_id': got no id of the corpus"):
        load_retrieval(place(tmp_path))
