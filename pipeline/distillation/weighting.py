"""Weights that make frequent tokens count less in a mean."""

from __future__ import annotations

import numpy as np


def sif_weights_by_rank(tokens: int, *, coefficient: float) -> np.ndarray:
    """Return smooth-inverse-frequency weights with frequencies guessed from Zipf's law.

    Parameters
    ----------
    tokens : int
        Number of tokens V; a vocabulary is ordered by frequency, so a token's id is its rank.
    coefficient : float
        a in the formula, in (0, 1).

    Returns
    -------
    float64 ndarray of shape (V,)
        Weights in (0, 1), rising with rank.

    Notes
    -----
    ``w = a / (a + p)`` from Arora, Liang and Ma, "A Simple but Tough-to-Beat Baseline for Sentence
    Embeddings" (ICLR 2017); ``p`` is proportional to ``1 / rank``, ranks counted from 2 as model2vec does.

    Examples
    --------
    >>> sif_weights_by_rank(3, coefficient=0.1).round(3)
    array([0.178, 0.245, 0.302])
    """
    inverse_rank = 1.0 / np.arange(2, tokens + 2)
    probability = inverse_rank / inverse_rank.sum()
    weights: np.ndarray = coefficient / (coefficient + probability)
    return weights
