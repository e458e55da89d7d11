"""K-means clusters of rows; all tokens of a cluster share one row."""

from __future__ import annotations

import numpy as np
from sklearn.cluster import KMeans

from lakevec.pipeline.errors import SettingsError


def cluster_rows(rows: np.ndarray, clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """Cluster rows by k-means, with the initialization and seed of model2vec, so that centres agree.

    Parameters
    ----------
    rows : float32 ndarray of shape (V, H)
    clusters : int
        R, at most V.

    Returns
    -------
    centres : float32 ndarray of shape (R, H)
    mapping : int32 ndarray of shape (V,)
        Index of each token's centre.
    """
    check_clusters(clusters, len(rows))
    kmeans = KMeans(n_clusters=clusters, random_state=42, init="random").fit(rows.astype(np.float32))
    return kmeans.cluster_centers_.astype(np.float32), kmeans.labels_.astype(np.int32)


def check_clusters(clusters: int, tokens: int) -> None:
    """Refuse more clusters than tokens."""
    if clusters > tokens:
        expected = f"at most {tokens}, the number of tokens"
        raise SettingsError("vocabulary_clusters", got=str(clusters), expected=expected)
