"""Reduce the teacher's width H to the table's width D by principal component analysis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from sklearn.decomposition import PCA

from pipeline.errors import SettingsError


@dataclass(frozen=True, eq=False)
class Reduced:
    """Rows on their principal axes.

    Parameters
    ----------
    rows : float64 ndarray of shape (V, D)
    explained_variance : float
        Share of the variance that the D axes hold, in (0, 1].
    """

    rows: np.ndarray
    explained_variance: float


def reduce_rows(rows: np.ndarray, *, dimensions: int | float | Literal["auto", "none"]) -> Reduced:
    """Centre the rows and project them on their first principal axes, unscaled.

    Parameters
    ----------
    rows : float32 ndarray of shape (V, H)
    dimensions : int, float, "auto" or "none"
        D, at most H and V; or the share of the variance that D axes must hold; or all axes; or no PCA at all,
        not even centring.

    Returns
    -------
    Reduced

    Raises
    ------
    SettingsError
        If there are fewer than `dimensions` axes.

    Notes
    -----
    Exact solver in float64. An axis has no sign of its own; it is turned so that the row furthest from the
    origin along it is positive, which makes a distillation repeatable.
    """
    if dimensions == "none":
        return Reduced(rows.astype(np.float64), 1.0)
    most = min(rows.shape)
    if isinstance(dimensions, int) and dimensions > most:
        raise SettingsError(
            "dimensions",
            got=str(dimensions),
            expected=f"at most {most}, for a teacher of width {rows.shape[1]} and {rows.shape[0]} rows",
        )
    wanted = most if dimensions == "auto" else dimensions
    pca = PCA(n_components=wanted, svd_solver="covariance_eigh")
    scores = pca.fit_transform(rows.astype(np.float64))
    furthest = np.abs(scores).argmax(axis=0)
    signs = np.where(scores[furthest, np.arange(scores.shape[1])] < 0, -1.0, 1.0)
    return Reduced(scores * signs, float(pca.explained_variance_ratio_.sum()))
