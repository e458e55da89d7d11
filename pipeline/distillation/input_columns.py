"""Columns of the teacher's input embeddings, put beside the columns of its output."""

from __future__ import annotations

import numpy as np

from lakevec.pipeline.distillation.pca import fit_pca
from lakevec.pipeline.distillation.weighting import sif_weights
from lakevec.pipeline.errors import SettingsError

# Columns of the output beside them; all are reduced to the table's width afterwards.
WIDTH_BESIDE_INPUTS = 256
# a of the SIF weight.
_SIF_COEFFICIENT = 1e-3


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

    Raises
    ------
    SettingsError
        If `columns` exceeds H.
    """
    if columns > inputs.shape[1]:
        expected = f"at most {inputs.shape[1]}, the width of the teacher's input embeddings"
        raise SettingsError("input_columns", got=str(columns), expected=expected)
    weights = sif_weights(frequencies, coefficient=_SIF_COEFFICIENT)
    weighted = ((inputs - inputs.mean(axis=0)) * weights[:, None]).astype(np.float32)
    _, axes = fit_pca(weighted.T.astype(np.float64) @ weighted)
    return np.asarray(weighted @ axes[:, :columns], dtype=np.float32)


def scale_beside(columns: np.ndarray, length: float, other: float, *, share: float) -> np.ndarray:
    """Scale columns so that their part of a vector is `share` times as long as the others'.

    Parameters
    ----------
    columns : float32 ndarray of shape (V, K)
    length, other : float
        Mean length of vectors in these columns, and in the others.
    share : float
    """
    return np.asarray(columns * np.float32(share * other / max(length, 1e-12)))
