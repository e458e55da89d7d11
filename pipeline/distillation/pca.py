"""Principal component analysis, which reduces the teacher's width H to the table's width D."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lakevec.pipeline.distillation.options import Dimensions
from lakevec.pipeline.errors import SettingsError

# Below this share of the first axis's variance, an axis holds only rounding errors.
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Reduced:
    """Rows in the coordinates of their principal axes.

    Parameters
    ----------
    rows : float32 ndarray of shape (V, D)
    explained_variance : float
        Share of the variance that the D axes hold, in (0, 1].
    """

    rows: np.ndarray
    explained_variance: float


@dataclass(frozen=True, eq=False)
class PcaProjection:
    """Principal axes of the teacher's vectors of texts.

    Parameters
    ----------
    mean : float32 ndarray of shape (H,)
    axes : float32 ndarray of shape (H, D)
        Orthonormal columns, greatest variance first.
    explained_variance : float
        Share of the variance that the D axes hold, in (0, 1].
    """

    mean: np.ndarray
    axes: np.ndarray
    explained_variance: float

    @classmethod
    def fit(cls, vectors: np.ndarray, dimensions: int) -> PcaProjection:
        """Find the first D axes of float32 vectors of shape (N, H)."""
        check_dimensions(dimensions, rows=len(vectors), width=vectors.shape[1])
        mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
        centred = vectors - mean
        variances, axes = fit_pca(centred.T @ centred)
        explained = float(variances[:dimensions].sum() / variances.sum())
        return cls(mean, np.ascontiguousarray(axes[:, :dimensions], dtype=np.float32), explained)

    def project(self, vectors: np.ndarray) -> np.ndarray:
        """Centre vectors of shape (N, H) and project them on the axes: float32 of shape (N, D)."""
        return np.asarray((vectors - self.mean) @ self.axes)


def fit_pca(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find all principal axes exactly, as eigenvectors of the covariance matrix.

    Parameters
    ----------
    covariance : float ndarray of shape (H, H)
        The covariance matrix or a multiple of it.

    Returns
    -------
    variances : ndarray of shape (H,)
        Greatest first.
    axes : ndarray of shape (H, H)
        Orthonormal columns in the same order; their signs are arbitrary.
    """
    # eigh sorts in ascending order, and may round a variance of 0 to below 0.
    variances, axes = np.linalg.eigh(covariance)
    return np.clip(variances[::-1], 0, None), axes[:, ::-1]


def reduce_rows(
    rows: np.ndarray, *, dimensions: Dimensions, shares: np.ndarray | None = None, whitening: float = 0.0
) -> Reduced:
    """Centre the rows and project them on their first principal axes.

    Parameters
    ----------
    rows : float32 ndarray of shape (V, H)
    dimensions : int, float, "auto" or "none"
        D, at most H and V; a share of the variance that D axes must hold; "auto" for all axes; "none" for
        neither PCA nor centring.
    shares : ndarray of shape (V,), optional
        Weight of each row in mean and covariance; at least 0, not all 0. Default: equal weights.
    whitening : float, default=0.0
        W, in [0, 1]: divide each axis by its variance ** (W / 2), relative to the first axis. 0 disables
        whitening; 1 gives all axes the same variance.

    Raises
    ------
    SettingsError
        If there are fewer than `dimensions` axes, or all rows are equal.

    Notes
    -----
    Without shares, sums are float32 in model2vec's order, so that both round to the same int8 numbers. Each
    axis points so that the row furthest along it is positive, which makes distillation repeatable. Whitening
    sets an axis without variance to 0.

    If shares are word frequencies, this is the whitening of Yokoi, Bao, Kurita and Shimodaira, "Zipfian
    Whitening" (NeurIPS 2024).
    """
    if dimensions == "none":
        return Reduced(rows, 1.0)
    check_dimensions(dimensions, rows=rows.shape[0], width=rows.shape[1])
    if shares is None:
        centred = rows - rows.mean(axis=0)
        covariance = centred.T @ centred / max(len(rows) - 1, 1)
    else:
        share = (shares / shares.sum())[:, None]
        centred = rows - (share * rows).sum(axis=0)
        covariance = (centred * share).T @ centred
    variances, axes = fit_pca(covariance)
    if not variances.sum() > 0:
        got = f"{len(rows)} rows that are all alike"
        raise SettingsError("dimensions", got=got, expected="rows that differ", remedy="use none")
    explained = np.cumsum(variances) / variances.sum()
    kept = min(rows.shape)
    if isinstance(dimensions, int):
        kept = dimensions
    elif dimensions != "auto":
        kept = min(int(np.searchsorted(explained, dimensions)) + 1, kept)
    scores = centred @ axes[:, :kept]
    if whitening:
        relative = variances[:kept] / variances[0]
        varies = relative > _ROUNDING
        scores *= np.where(varies, np.where(varies, relative, 1) ** (-whitening / 2), 0)
    return Reduced(_fix_signs(scores), float(explained[kept - 1]))


def rotate_to_principal_axes(
    rows: np.ndarray, *, by: np.ndarray | None = None, dimensions: int | None = None
) -> np.ndarray:
    """Rotate rows onto uncentred principal axes, which keeps all cosines if it keeps all axes.

    Parameters
    ----------
    rows : float32 ndarray of shape (V, E)
    by : float32 ndarray of shape (N, E), optional
        Vectors whose axes to take. Default: the rows.
    dimensions : int, optional
        Number of first axes to keep, D. Default: all.

    Returns
    -------
    float32 ndarray of shape (V, D)
    """
    vectors = rows if by is None else by
    _, axes = fit_pca(vectors.T.astype(np.float64) @ vectors)
    return _fix_signs(rows @ axes[:, :dimensions])


def _fix_signs(scores: np.ndarray) -> np.ndarray:
    """Flip axes so that the row furthest along each is positive."""
    furthest = np.abs(scores).argmax(axis=0)
    signs = np.where(scores[furthest, np.arange(scores.shape[1])] < 0, -1, 1).astype(scores.dtype)
    return np.asarray(scores * signs, dtype=np.float32)


def check_dimensions(dimensions: Dimensions, *, rows: int, width: int, name: str = "dimensions") -> None:
    """Refuse more dimensions than the data has principal axes; `name` is the setting."""
    most = min(rows, width)
    if isinstance(dimensions, int) and dimensions > most:
        expected = f"at most {most}, for a teacher of width {width} and {rows} rows"
        raise SettingsError(name, got=str(dimensions), expected=expected)
