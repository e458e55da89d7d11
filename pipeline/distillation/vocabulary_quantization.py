"""Fewer rows than tokens: rows that tokens share."""

from __future__ import annotations

import numpy as np
from sklearn.cluster import KMeans

from lakevec.pipeline.errors import SettingsError


def cluster_rows(rows: np.ndarray, clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """Find rows that many tokens can share, by k-means.

    Parameters
    ----------
    rows : float32 ndarray of shape (V, H)
    clusters : int
        R, at most V.

    Returns
    -------
    centres : float32 ndarray of shape (R, H)
    mapping : int32 ndarray of shape (V,)
        Centre of each token.

    Raises
    ------
    SettingsError
        If there are fewer tokens than clusters.

    Notes
    -----
    With the start and the seed of model2vec, so that both find the same centres.
    """
    check_clusters(clusters, len(rows))
    kmeans = KMeans(n_clusters=clusters, random_state=42, init="random").fit(rows.astype(np.float32))
    return kmeans.cluster_centers_.astype(np.float32), kmeans.labels_.astype(np.int32)


def check_clusters(clusters: int, tokens: int) -> None:
    """Refuse more shared rows than tokens.

    Parameters
    ----------
    clusters, tokens : int

    Raises
    ------
    SettingsError
    """
    if clusters > tokens:
        raise SettingsError(
            "vocabulary_clusters", got=str(clusters), expected=f"at most {tokens}, the number of tokens"
        )
