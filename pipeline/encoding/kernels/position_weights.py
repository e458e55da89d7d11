"""Position weights: how much each token of a text counts, by its distance from the text's beginning."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from lakevec.pipeline.encoding.kernels.compilation import compile_loop

# Weights of the first positions are computed once, since a division for each token would be slow.
_KNOWN_POSITIONS = 1024


def weigh_positions(offsets: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the weight of each token, and the sum of each text's weights.

    Parameters
    ----------
    offsets : int64 ndarray of shape (N + 1,)
        Text n has the tokens ``offsets[n]`` to ``offsets[n + 1]``, and the first text begins at 0.
    scale : float
        Above 0; the position, counted from 0, whose token counts half.

    Returns
    -------
    weights : float32 ndarray of shape (T,)
    totals : float64 ndarray of shape (N,)

    Notes
    -----
    Position p has the weight ``1 / (1 + p / scale)``, computed in float64 and rounded to float32. A total is
    the sum of the rounded weights in float64, in token order.

    Examples
    --------
    >>> weights, totals = weigh_positions(np.array([0, 3, 3, 4]), 2.0)
    >>> weights.round(2).tolist(), totals.round(2).tolist()
    ([1.0, 0.6700000166893005, 0.5, 1.0], [2.17, 0.0, 1.0])
    """
    weights, totals = np.empty(offsets[-1], np.float32), np.empty(len(offsets) - 1, np.float64)
    fill_weights(offsets, float(scale), *_known_weights(float(scale)), weights, totals)
    return weights, totals


@lru_cache(maxsize=8)
def _known_weights(scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights of the first positions, and the sums of the first 0, 1, 2, ... of them."""
    with np.errstate(over="ignore"):  # p / scale may become infinite, and the weight 0
        weights = (1.0 / (1.0 + np.arange(_KNOWN_POSITIONS) / scale)).astype(np.float32)
    return weights, np.append(0.0, np.cumsum(weights, dtype=np.float64))


@compile_loop
def fill_weights(
    offsets: np.ndarray,
    scale: float,
    known: np.ndarray,
    known_totals: np.ndarray,
    weights: np.ndarray,
    totals: np.ndarray,
) -> None:
    """Write the arrays that `weigh_positions` returns."""
    for text in range(len(offsets) - 1):
        first = offsets[text]
        tokens = offsets[text + 1] - first
        few = min(tokens, len(known))
        for position in range(few):
            weights[first + position] = known[position]
        total = known_totals[few]
        for position in range(few, tokens):
            weight = np.float32(1.0 / (1.0 + position / scale))
            weights[first + position] = weight
            total += np.float64(weight)
        totals[text] = total
