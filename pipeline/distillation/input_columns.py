"""Columns of the teacher's input embeddings, put beside the columns of its output."""

from __future__ import annotations

import numpy as np

from lakevec.pipeline.distillation.pca import fit_pca
from lakevec.pipeline.distillation.weighting import sif_weights

# a of the SIF weight, and how long the columns are beside the others; docs/decisions.md has figures.
_SIF_COEFFICIENT = 1e-3
_SHARE = 0.5


def make_input_columns(inputs: np.ndarray, frequencies: np.ndarray, columns: int) -> np.ndarray:
    """Reduce input embeddings to their first principal axes, weighted by SIF.

    Parameters
    ----------
    inputs : float32 ndarray of shape (V, H)
        The teacher's input embedding of each token.
    frequencies : ndarray of shape (V,)
        Share of each token in texts.
    columns : int
        K, at most H.

    Returns
    -------
    float32 ndarray of shape (V, K)
    """
    weights = sif_weights(frequencies, coefficient=_SIF_COEFFICIENT)
    weighted = ((inputs - inputs.mean(axis=0)) * weights[:, None]).astype(np.float32)
    _, axes = fit_pca(weighted.T.astype(np.float64) @ weighted)
    return np.asarray(weighted @ axes[:, :columns], dtype=np.float32)


def scale_beside(columns: np.ndarray, lengths: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Scale columns so that their part of a vector is on average half as long as the others'.

    Parameters
    ----------
    columns : float32 ndarray of shape (V, K)
    lengths, others : ndarray of shape (N,)
        Length of N vectors in these columns, and in the others.
    """
    factor = _SHARE * float(others.mean()) / max(float(lengths.mean()), 1e-12)
    return np.asarray(columns * np.float32(factor))
