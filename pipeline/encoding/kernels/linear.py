"""Scores and probabilities of linear models, with the same bits for a row whatever the other rows are.

A matrix product of BLAS sums in an order that depends on the number of rows. These loops sum each row in the
order of its elements, in float64. They call no function of a math library, whose last bits differ between
processors.
"""

from __future__ import annotations

import math

import numpy as np

from lakevec.pipeline.encoding.kernels.compilation import compile_loop, compile_part

# ln 2 in two parts. The first has trailing zeros, so that its product with a small integer is exact.
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_PER_LN2 = 1.44269504088896338700
# e**x is 0 in float32 below this.
_LEAST = -700.0
_TERMS = 14


@compile_part
def _exp(x: float) -> float:
    """Return e**x for x <= 0: ``2**k * e**r`` with ``|r| <= ln(2) / 2``, and Taylor's series of e**r."""
    if not x > _LEAST:
        return 0.0
    k = math.floor(x * _PER_LN2 + 0.5)
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    total = 1.0
    for term in range(_TERMS, 0, -1):
        total = 1.0 + total * r / term
    return total * math.ldexp(1.0, int(k))


@compile_loop
def score_rows(
    vectors: np.ndarray, coefficients: np.ndarray, intercepts: np.ndarray, scores: np.ndarray
) -> None:
    """Write ``vectors @ coefficients + intercepts``.

    Parameters
    ----------
    vectors : float32 ndarray of shape (N, D)
    coefficients : float64 ndarray of shape (D, K)
    intercepts : float64 ndarray of shape (K,)
    scores : float64 ndarray of shape (N, K)
    """
    columns = len(intercepts)
    for row in range(len(vectors)):
        for column in range(columns):
            scores[row, column] = intercepts[column]
        for place in range(vectors.shape[1]):
            value = np.float64(vectors[row, place])
            # The sums of different columns are independent, so this loop becomes vector instructions.
            for column in range(columns):
                scores[row, column] += value * coefficients[place, column]


@compile_loop
def to_shares(scores: np.ndarray) -> None:
    """Replace scores (float64 of shape (N, K)) by ``exp(z_k) / sum_j exp(z_j)``, the softmax of their row."""
    for row in range(len(scores)):
        largest = scores[row, 0]
        for column in range(1, scores.shape[1]):
            largest = max(largest, scores[row, column])
        total = 0.0
        for column in range(scores.shape[1]):
            scores[row, column] = _exp(scores[row, column] - largest)
            total += scores[row, column]
        for column in range(scores.shape[1]):
            scores[row, column] /= total


@compile_loop
def to_chances(scores: np.ndarray) -> None:
    """Replace scores (float64 of shape (N, K)) by ``1 / (1 + exp(-z))``, the logistic function of each."""
    for row in range(len(scores)):
        for column in range(scores.shape[1]):
            small = _exp(-abs(scores[row, column]))
            scores[row, column] = (1.0 if scores[row, column] >= 0.0 else small) / (1.0 + small)
