"""What a task says of a model, and cosines, which most tasks begin with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from threadpoolctl import threadpool_limits

Encode = Callable[[Sequence[str]], np.ndarray]

# Equal texts must tie, though sums in another order differ in the last bits.
_DIGITS = 9


@dataclass(frozen=True)
class TaskScores:
    """The figures of one task.

    Parameters
    ----------
    main : str
        Name of the metric that counts, as MTEB calls it.
    metrics : dict of str to float
        All metrics, from -1 or 0 to 1; `main` is one of them.
    counts : dict of str to int
        How many rows, texts without a known token and so on.
    """

    main: str
    metrics: dict[str, float]
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """The metric that counts."""
        return self.metrics[self.main]


def one_thread() -> threadpool_limits:
    """Return a block in which sums are made in one order, whatever the number of cores.

    Returns
    -------
    threadpoolctl.threadpool_limits
    """
    return threadpool_limits(1)


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Scale rows to length 1; rows of zeros stay.

    Parameters
    ----------
    vectors : ndarray of shape (N, D)

    Returns
    -------
    float64 ndarray of shape (N, D)

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
    """Compare row i of one array with row i of the other.

    Parameters
    ----------
    left, right : ndarray of shape (N, D)

    Returns
    -------
    float64 ndarray of shape (N,)
        Cosines, rounded to 9 digits; 0 where either row is zero.
    """
    cosines: np.ndarray = np.round(np.einsum("nd,nd->n", unit_rows(left), unit_rows(right)), _DIGITS)
    return cosines


def all_cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Compare every row of one array with every row of the other.

    Parameters
    ----------
    left : ndarray of shape (N, D)
    right : ndarray of shape (M, D)

    Returns
    -------
    float64 ndarray of shape (N, M)
        Cosines, rounded to 9 digits; 0 where either row is zero.
    """
    with one_thread():
        cosines: np.ndarray = np.round(unit_rows(left) @ unit_rows(right).T, _DIGITS)
    return cosines


def is_zero(vectors: np.ndarray) -> np.ndarray:
    """Tell which rows are zero: texts without a known token.

    Parameters
    ----------
    vectors : ndarray of shape (N, D)

    Returns
    -------
    bool ndarray of shape (N,)
    """
    return np.asarray(~vectors.any(axis=1))
