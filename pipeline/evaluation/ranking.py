"""Metrics of rankings, over one row of gains per query.

A row holds the gain of the document at each rank, best rank first: above 0 if the document is relevant.
"""

from __future__ import annotations

import numpy as np
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score

DEPTH = 10


def ndcg(gains: np.ndarray) -> float:
    """Return the normalised discounted cumulative gain at 10, averaged over queries.

    Parameters
    ----------
    gains : float ndarray of shape (Q, N)
        Gains by rank. A relevant document that was not found has a rank beyond 10.

    Examples
    --------
    >>> round(ndcg(np.array([[0.0, 1.0]])), 6)
    0.63093
    """
    return float(ndcg_score(gains, _by_rank(gains), k=DEPTH, ignore_ties=True))


def recall(gains: np.ndarray) -> float:
    """Return the share of relevant documents at ranks 1 to 10, averaged; `gains` as in `ndcg`."""
    is_relevant = gains > 0
    return float((is_relevant[:, :DEPTH].sum(axis=1) / is_relevant.sum(axis=1)).mean())


def mean_average_precision(gains: np.ndarray) -> float:
    """Return the mean average precision over all ranks of gains of shape (Q, N).

    Examples
    --------
    >>> mean_average_precision(np.array([[0.0, 1.0, 1.0, 0.0]]))
    0.5833333333333333
    """
    return float(label_ranking_average_precision_score(gains > 0, _by_rank(gains)))


def mean_reciprocal_rank(gains: np.ndarray) -> float:
    """Return the mean of 1 / rank of the first relevant document of gains of shape (Q, N); 0 beyond rank 10.

    Examples
    --------
    >>> mean_reciprocal_rank(np.array([[0.0, 1.0, 1.0, 0.0]]))
    0.5
    """
    first = (gains > 0).argmax(axis=1) + 1
    return float(np.where(first <= DEPTH, 1 / first, 0.0).mean())


def _by_rank(gains: np.ndarray) -> np.ndarray:
    """Return scores that fall from rank to rank."""
    return np.broadcast_to(np.arange(gains.shape[1], 0, -1.0), gains.shape)
