"""Reduce the teacher's width H to the table's width D by principal component analysis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lakevec.pipeline.errors import SettingsError
from lakevec.pipeline.settings.distill import Dimensions

# Variance beside the first axis's, below which an axis holds rounding alone.
_NOTHING = 1e-6


@dataclass(frozen=True, eq=False)
class Reduced:
    """Rows on their principal axes.

    Parameters
    ----------
    rows : float32 ndarray of shape (V, D)
    explained_variance : float
        Share of the variance that the D axes hold, in (0, 1].
    """

    rows: np.ndarray
    explained_variance: float


def reduce_rows(
    rows: np.ndarray, *, dimensions: Dimensions, shares: np.ndarray | None = None, whitening: float = 0.0
) -> Reduced:
    """Centre the rows and project them on their first principal axes.

    Parameters
    ----------
    rows : float32 ndarray of shape (V, H)
    dimensions : int, float, "auto" or "none"
        D, at most H and V; or the share of the variance that D axes must hold; or all axes; or no PCA at all,
        not even centring.
    shares : ndarray of shape (V,), optional
        How much each row counts in the mean and in the covariance; at least 0, not all 0. By default all
        alike.
    whitening : float, default=0.0
        W, in [0, 1]: each axis is divided by its variance ** (W / 2), and the first keeps its length. 0
        scales nothing, 1 gives all axes one variance.

    Returns
    -------
    Reduced

    Raises
    ------
    SettingsError
        If there are fewer than `dimensions` axes.

    Notes
    -----
    All axes are found exactly, as eigenvectors of the covariance matrix. Without shares in float32 and in the
    order of model2vec's sums, so that both round the same numbers when they make integers of them. An axis
    has no sign of its own; it is turned so that the row furthest from the origin along it is positive, which
    makes a distillation repeatable. An axis along which nothing varies becomes 0 when it is whitened.

    With word frequencies for shares, whitening is that of Yokoi, Bao, Kurita and Shimodaira, "Zipfian
    Whitening" (NeurIPS 2024).
    """
    if dimensions == "none":
        return Reduced(rows, 1.0)
    most = min(rows.shape)
    check_dimensions(dimensions, rows=rows.shape[0], width=rows.shape[1])
    if shares is None:
        centred = rows - rows.mean(axis=0)
        covariance = centred.T @ centred / max(len(rows) - 1, 1)
    else:
        share = (shares / shares.sum())[:, None]
        centred = rows - (share * rows).sum(axis=0)
        covariance = (centred * share).T @ centred
    variances, axes = np.linalg.eigh(covariance)
    # eigh sorts upwards, and rounds what is 0 to either side of it.
    variances, axes = np.clip(variances[::-1], 0, None), axes[:, ::-1]
    if not variances.sum() > 0:
        raise SettingsError(
            "dimensions",
            got=f"{len(rows)} rows that are all alike",
            expected="rows that differ",
            remedy="use none",
        )
    held = np.cumsum(variances) / variances.sum()
    kept = most
    if isinstance(dimensions, int):
        kept = dimensions
    elif dimensions != "auto":
        kept = min(int(np.searchsorted(held, dimensions)) + 1, most)
    scores = centred @ axes[:, :kept]
    if whitening:
        relative = variances[:kept] / variances[0]
        varies = relative > _NOTHING
        scores *= np.where(varies, np.where(varies, relative, 1) ** (-whitening / 2), 0)
    furthest = np.abs(scores).argmax(axis=0)
    signs = np.where(scores[furthest, np.arange(kept)] < 0, -1, 1).astype(scores.dtype)
    return Reduced((scores * signs).astype(np.float32), float(held[kept - 1]))


def check_dimensions(dimensions: Dimensions, *, rows: int, width: int) -> None:
    """Refuse more dimensions than there are axes.

    Parameters
    ----------
    dimensions : int, float, "auto" or "none"
        As `reduce_rows` takes it.
    rows, width : int
        V and H.

    Raises
    ------
    SettingsError
    """
    most = min(rows, width)
    if isinstance(dimensions, int) and dimensions > most:
        raise SettingsError(
            "dimensions",
            got=str(dimensions),
            expected=f"at most {most}, for a teacher of width {width} and {rows} rows",
        )
