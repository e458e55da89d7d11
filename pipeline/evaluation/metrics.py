"""Content and scores of a task, and the cosines and correlations that most tasks use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import pearsonr, spearmanr
from threadpoolctl import threadpool_limits

# Round, since cosines of equal texts must tie: sums in another order differ in their last bits.
_DIGITS = 9


@dataclass(frozen=True)
class TaskScores:
    """The results of one task.

    Parameters
    ----------
    main : str
        Name of the main metric, as MTEB calls it.
    metrics : dict of str to float
        All metrics, from -1 or 0 to 1.
    counts : dict of str to int
        Numbers of rows, of texts without a known token, and so on.
    """

    main: str
    metrics: dict[str, float]
    counts: dict[str, int]

    @property
    def value(self) -> float:
        """The main metric."""
        return self.metrics[self.main]


@dataclass(frozen=True)
class TaskData:
    """The checked content of one task.

    Parameters
    ----------
    texts : list of str
        N texts to embed.
    score : callable
        Turns their vectors, of shape (N, D), into `TaskScores`.
    queries : slice, optional
        Which of the texts are compared with others, as queries are with stored documents.
    """

    texts: list[str]
    score: Callable[[np.ndarray], TaskScores]
    queries: slice | None = None


def one_thread() -> threadpool_limits:
    """Return a context in which BLAS sums in the same order on any number of cores."""
    return threadpool_limits(1)


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Scale rows to length 1 in float64; rows of zeros stay.

    Examples
    --------
    >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    rows = vectors.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    units: np.ndarray = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return units


def paired_cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the rounded cosine of each row and the same row of the other array; 0 if one is zero."""
    cosines: np.ndarray = np.round(np.einsum("nd,nd->n", unit_rows(left), unit_rows(right)), _DIGITS)
    return cosines


def all_cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the rounded cosines of all pairs of rows: shape (N, M); 0 if one is zero."""
    with one_thread():
        cosines: np.ndarray = np.round(unit_rows(left) @ unit_rows(right).T, _DIGITS)
    return cosines


def is_zero(vectors: np.ndarray) -> np.ndarray:
    """Return a mask of the zero rows, which are texts without a known token: shape (N,)."""
    return np.asarray(~vectors.any(axis=1))


def count_unknown(vectors: np.ndarray) -> int:
    """Count the texts without a known token."""
    return int(is_zero(vectors).sum())


def correlation(one: np.ndarray, other: np.ndarray) -> float | None:
    """Return Pearson's correlation in float64; None if one side has fewer than two distinct values.

    Examples
    --------
    >>> round(correlation(np.array([1, 2, 3]), np.array([1, 2, 4])), 6)
    0.981981
    """
    if not _both_vary(one, other):
        return None
    return float(pearsonr(one.astype(np.float64), other.astype(np.float64)).statistic)


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float | None:
    """Return Spearman's rank correlation; None if one side has fewer than two distinct values."""
    return float(spearmanr(one, other).statistic) if _both_vary(one, other) else None


def _both_vary(one: np.ndarray, other: np.ndarray) -> bool:
    return len(one) > 1 and bool(np.ptp(one) > 0 and np.ptp(other) > 0)
