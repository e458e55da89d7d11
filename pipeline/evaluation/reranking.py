"""Reranking: whether a query's own candidates come in the right order."""

from __future__ import annotations

import numpy as np

from lakevec.pipeline.errors import InputError
from lakevec.pipeline.evaluation.metrics import TaskData, TaskScores, count_unknown, paired_cosines
from lakevec.pipeline.evaluation.ranking import mean_average_precision, mean_reciprocal_rank, ndcg
from lakevec.pipeline.evaluation.task_files import read_columns
from lakevec.pipeline.storage import Location


def load_reranking(file: Location) -> TaskData:
    """Load a reranking task: Parquet of ``query, positive, negative``, the last two lists of texts.

    As in MTEB, a query without a positive or without a negative text is left out.
    """
    columns = read_columns(file, {"query": "text", "positive": "texts", "negative": "texts"})
    rows = [row for row in zip(*columns.values(), strict=True) if row[1] and row[2]]
    if not rows:
        raise InputError(f"task file {file.path!r}", got="no query with both positive and negative texts")
    is_positive = np.concatenate([[True] * len(good) + [False] * len(bad) for _, good, bad in rows])
    sizes = [len(good) + len(bad) for _, good, bad in rows]

    def score(vectors: np.ndarray) -> TaskScores:
        gains = rank_candidates(vectors[: len(rows)], vectors[len(rows) :], is_positive, sizes)
        metrics = {
            "map_at_1000": mean_average_precision(gains),
            "mrr_at_10": mean_reciprocal_rank(gains),
            "ndcg_at_10": ndcg(gains),
        }
        counts = {"queries": len(rows), "candidates": len(is_positive), "unknown": count_unknown(vectors)}
        return TaskScores("map_at_1000", metrics, counts)

    queries = [query for query, _, _ in rows]
    texts = [*queries, *(text for _, good, bad in rows for text in (*good, *bad))]
    return TaskData(texts, score, slice(0, len(queries)))


def rank_candidates(
    queries: np.ndarray, candidates: np.ndarray, is_positive: np.ndarray, sizes: list[int]
) -> np.ndarray:
    """Order each query's candidates by cosine; of equally near ones, negative texts come first, as in MTEB.

    Parameters
    ----------
    queries : float ndarray of shape (Q, D)
    candidates : float ndarray of shape (N, D)
        Candidates, query by query.
    is_positive : bool ndarray of shape (N,)
    sizes : list of int of length Q
        Number of candidates of each query. The sum is N.

    Returns
    -------
    float ndarray of shape (Q, max(sizes))
        1 at the ranks of positive texts, else 0.
    """
    owners = np.repeat(np.arange(len(sizes)), sizes)
    cosines = paired_cosines(queries[owners], candidates)
    order = np.lexsort((is_positive, -cosines, owners))
    ranks = np.arange(len(owners)) - np.repeat(np.cumsum([0, *sizes[:-1]]), sizes)
    gains = np.zeros((len(sizes), max(sizes)))
    gains[owners, ranks] = is_positive[order]
    return gains
