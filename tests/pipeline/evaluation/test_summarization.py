"""Summarization: by hand, and files that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from lakevec.pipeline.errors import InputError
from lakevec.pipeline.evaluation.summarization import load_summarization
from tests.support.tasks import point, score, write

MACHINES = ["north", "east", "southwest", "nowhere"]


def test_summaries_by_hand(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.parquet",
        human_summaries=[["north"], ["north", "east"], ["north"]],
        machine_summaries=[MACHINES, MACHINES, ["east", "nowhere"]],
        relevance=[[5.0, 3.0, 1.0, 2.0], [5.0, 3.0, 1.0, 2.0], [1.0, 2.0]],
    )
    scores = score(load_summarization(file), point)
    # The largest cosine to a human summary. Those of the third document are equal.
    one, two = [1, 0, -(0.5**0.5), 0], [1, 1, -(0.5**0.5), 0]
    for metric, correlate in (("cosine_spearman", stats.spearmanr), ("cosine_pearson", stats.pearsonr)):
        both = [correlate(cosines, [5, 3, 1, 2]).statistic for cosines in (one, two)]
        assert scores.metrics[metric] == pytest.approx(sum(both) / 2)
    assert scores.main == "cosine_spearman"
    assert scores.counts == {"documents": 3, "left_out": 1, "summaries": 10, "unknown": 3}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"relevance": [[1.0]]}, "'relevance': got lists of other lengths than those of 'machine_summaries'"),
        ({"relevance": [[2.0, 2.0]]}, "'relevance': got equal ratings in each row"),
        ({"relevance": [[2.0, float("nan")]]}, "'relevance': got NaN or infinity"),
        ({"relevance": [[2.0, None]]}, "'relevance': got nulls"),
        ({"human_summaries": [[]]}, "'human_summaries': got .*; expected"),
    ],
    ids=["lengths", "equal", "NaN", "null", "empty"],
)
def test_files_that_rate_nothing_are_refused(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    columns = {"human_summaries": [["a"]], "machine_summaries": [["b", "c"]], "relevance": [[1.0, 2.0]]}
    with pytest.raises(InputError, match=message):
        load_summarization(write(tmp_path / "a.parquet", **{**columns, **changed}))
