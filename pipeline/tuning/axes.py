"""The teacher's space, narrowed to a table's width: where targets and starting rows meet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lakevec.pipeline.distillation.pca import check_dimensions


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

    def project(self, vectors: np.ndarray) -> np.ndarray:
        """Centre vectors and turn them onto the axes.

        Parameters
        ----------
        vectors : float32 ndarray of shape (N, H)

        Returns
        -------
        float32 ndarray of shape (N, D)
        """
        projected: np.ndarray = (vectors - self.mean) @ self.axes
        return projected


def fit_pca(vectors: np.ndarray, dimensions: int) -> PcaProjection:
    """Find the principal axes of the teacher's vectors.

    Parameters
    ----------
    vectors : float32 ndarray of shape (N, H)
    dimensions : int
        D, at most H and N.

    Returns
    -------
    PcaProjection

    Raises
    ------
    SettingsError
        If there are fewer than `dimensions` axes.
    """
    check_dimensions(dimensions, rows=len(vectors), width=vectors.shape[1])
    mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = vectors - mean
    variances, axes = np.linalg.eigh(centred.T @ centred)
    variances, axes = np.clip(variances[::-1], 0, None), axes[:, ::-1]
    kept = float(variances[:dimensions].sum() / variances.sum())
    return PcaProjection(mean, np.ascontiguousarray(axes[:, :dimensions], dtype=np.float32), kept)


def rotate_to_principal_axes(rows: np.ndarray) -> np.ndarray:
    """Turn rows so that their first columns hold most; no cosine changes.

    Parameters
    ----------
    rows : float32 ndarray of shape (V, D)

    Returns
    -------
    float32 ndarray of shape (V, D)
        On the principal axes of the rows about the origin; each axis is turned so that the row furthest along
        it is positive.
    """
    _, axes = np.linalg.eigh(rows.T.astype(np.float64) @ rows)
    turned = rows @ axes[:, ::-1]
    furthest = np.abs(turned).argmax(axis=0)
    signs = np.where(turned[furthest, np.arange(turned.shape[1])] < 0, -1, 1)
    rotated: np.ndarray = (turned * signs).astype(np.float32)
    return rotated


def align_rows(means: np.ndarray, targets: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Bring another table's rows into the space of the targets.

    Parameters
    ----------
    means : float32 ndarray of shape (N, E)
        That table's mean of each text's rows.
    targets : float32 ndarray of shape (N, D)
        What the means shall come to.
    rows : float32 ndarray of shape (V, E)

    Returns
    -------
    float32 ndarray of shape (V, D)
        By the linear map that is best for the texts in the least-squares sense; a little ridge keeps axes
        that no text uses at 0. The map is linear, so means of mapped rows are mapped means.
    """
    means, targets = means.astype(np.float64), targets.astype(np.float64)
    gram = means.T @ means
    gram[np.diag_indices_from(gram)] += 1e-6 * np.trace(gram) / len(gram) + 1e-12
    mapped: np.ndarray = (rows @ np.linalg.solve(gram, means.T @ targets)).astype(np.float32)
    return mapped
