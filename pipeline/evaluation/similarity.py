"""Pairs of words or sentences that people have rated: rank correlation of cosine and rating."""

from __future__ import annotations

import numpy as np
from scipy import stats

from lakevec.pipeline.evaluation.metrics import Encode, TaskScores, is_zero, paired_cosines
from lakevec.pipeline.evaluation.task_files import read_columns, read_scores
from lakevec.pipeline.storage import Location


def evaluate_words(file: Location, encode: Encode) -> TaskScores:
    """Evaluate word similarity.

    Parameters
    ----------
    file : Location
        Parquet of ``word1, word2, score``.
    encode : callable
        Strings to float32 ndarray of shape (N, D).

    Returns
    -------
    TaskScores
        ``cosine_spearman`` over all pairs and ``cosine_spearman_known`` over those of known words.

    Notes
    -----
    A word without a known token has the zero vector, and its pairs the cosine 0: a vocabulary that lacks
    words pays for it. Left out, the pairs that remain would be other ones for every model.
    """
    columns = read_columns(file, {"word1": "text", "word2": "text", "score": "number"})
    return _evaluate_pairs(
        columns["word1"], columns["word2"], read_scores(file, columns), encode, with_known=True
    )


def evaluate_sentences(file: Location, encode: Encode) -> TaskScores:
    """Evaluate semantic textual similarity.

    Parameters
    ----------
    file : Location
        Parquet of ``text1, text2, score``.
    encode : callable
        Strings to float32 ndarray of shape (N, D).

    Returns
    -------
    TaskScores
        ``cosine_spearman`` and ``cosine_pearson``.
    """
    columns = read_columns(file, {"text1": "text", "text2": "text", "score": "number"})
    return _evaluate_pairs(
        columns["text1"], columns["text2"], read_scores(file, columns), encode, with_known=False
    )


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """Return Spearman's rank correlation; 0 where either side has but one value.

    Parameters
    ----------
    one, other : ndarray of shape (N,)

    Returns
    -------
    float
    """
    return float(stats.spearmanr(one, other).statistic) if _vary(one, other) else 0.0


def pearson(one: np.ndarray, other: np.ndarray) -> float:
    """Return Pearson's correlation; 0 where either side has but one value.

    Parameters
    ----------
    one, other : ndarray of shape (N,)

    Returns
    -------
    float
    """
    return float(stats.pearsonr(one, other).statistic) if _vary(one, other) else 0.0


def _vary(one: np.ndarray, other: np.ndarray) -> bool:
    return len(one) > 1 and bool(np.ptp(one) > 0 and np.ptp(other) > 0)


def _evaluate_pairs(
    left: list[str], right: list[str], ratings: list[float], encode: Encode, *, with_known: bool
) -> TaskScores:
    vectors = encode([*left, *right])
    first, second = vectors[: len(left)], vectors[len(left) :]
    cosines, rated = paired_cosines(first, second), np.array(ratings)
    unknown = is_zero(first) | is_zero(second)
    metrics = {"cosine_spearman": spearman(cosines, rated), "cosine_pearson": pearson(cosines, rated)}
    if with_known:
        metrics["cosine_spearman_known"] = spearman(cosines[~unknown], rated[~unknown])
    counts = {"pairs": len(left), "pairs_with_unknown": int(unknown.sum())}
    return TaskScores("cosine_spearman", metrics, counts)
