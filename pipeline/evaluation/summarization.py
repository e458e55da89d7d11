"""Summarization: whether summaries that people rate higher are more similar to summaries by people."""

from __future__ import annotations

import numpy as np

from lakevec.pipeline.errors import InputError
from lakevec.pipeline.evaluation.metrics import (
    TaskData,
    TaskScores,
    all_cosines,
    correlation,
    count_unknown,
    rank_correlation,
)
from lakevec.pipeline.evaluation.task_files import check_filled, read_columns
from lakevec.pipeline.storage import Location


def load_summarization(file: Location) -> TaskData:
    """Load a summarization task: a row for each document, in Parquet.

    The columns ``human_summaries, machine_summaries, relevance`` are lists; ``relevance`` has a rating for
    each machine summary. A machine summary's score is its largest cosine to a human summary. The metric is
    the mean over documents of the correlation of scores and ratings. As in MTEB, documents whose scores or
    ratings are all equal are left out.
    """
    columns = read_columns(
        file, {"human_summaries": "texts", "machine_summaries": "texts", "relevance": "numbers"}
    )
    people, machines, ratings = columns.values()
    check_filled(file, "human_summaries", people)
    _check_ratings(file, machines, ratings)
    lists = [*people, *machines]

    def score(vectors: np.ndarray) -> TaskScores:
        parts = np.split(vectors, np.cumsum([len(texts) for texts in lists])[:-1])
        pairs = [
            (all_cosines(machine, person).max(axis=1, initial=-1), np.array(rated))
            for person, machine, rated in zip(
                parts[: len(people)], parts[len(people) :], ratings, strict=True
            )
        ]
        by_rank, by_value = (
            [found for pair in pairs if (found := correlate(*pair)) is not None]
            for correlate in (rank_correlation, correlation)
        )
        metrics = {
            "cosine_spearman": float(np.mean(by_rank or [0.0])),
            "cosine_pearson": float(np.mean(by_value or [0.0])),
        }
        counts = {
            "documents": len(people),
            "left_out": len(people) - len(by_rank),
            "summaries": sum(map(len, machines)),
            "unknown": count_unknown(vectors),
        }
        return TaskScores("cosine_spearman", metrics, counts)

    return TaskData([text for texts in lists for text in texts], score)


def _check_ratings(file: Location, machines: list[list[str]], ratings: list[list[float]]) -> None:
    if any(len(texts) != len(rated) for texts, rated in zip(machines, ratings, strict=True)):
        raise InputError(
            f"task file {file.path!r}: column 'relevance'",
            got="lists of other lengths than those of 'machine_summaries'",
            expected="one number for each machine summary",
        )
    if all(len(set(rated)) < 2 for rated in ratings):
        raise InputError(
            f"task file {file.path!r}: column 'relevance'",
            got="equal ratings in each row",
            expected="ratings that differ",
        )
