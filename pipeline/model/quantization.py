"""Table rows in the type that stores them: float32, float16 or int8."""

from __future__ import annotations

import numpy as np

LARGEST_INT8 = 127.0


def quantize_rows(
    rows: np.ndarray,
    dtype: str,
    *,
    weights: np.ndarray | None = None,
    mapping: np.ndarray | None = None,
    has_one_scale: bool = False,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Convert rows and weights to the types in which a table stores them.

    Parameters
    ----------
    rows : float ndarray of shape (R, D)
    dtype : {"float32", "float16", "int8"}
    weights : float ndarray of shape (V,), optional
    mapping : int32 ndarray of shape (V,), optional
    has_one_scale : bool, default=False
        Scale all int8 rows by the largest value of the table, as model2vec does.

    Returns
    -------
    embeddings : ndarray of shape (R, D)
        Of the type `dtype`.
    weights : float32 ndarray of shape (V,), or None

    Notes
    -----
    int8 numbers are ``round(row / scale)`` with ``scale = max |row| / 127``, for each row by itself. Scales
    go into the weights. A row of zeros has scale 1.
    """
    if dtype == "int8":
        largest = np.abs(rows).max(axis=1)
        if has_one_scale:
            largest[:] = largest.max()
            # model2vec divides in float16, which rounds one number in thirty to another integer.
            if largest.max() <= np.finfo(np.float16).max:
                rows = rows.astype(np.float16)
        scales = np.where(largest > 0, largest, LARGEST_INT8) / LARGEST_INT8
        rows = np.rint((rows / scales[:, None]).astype(rows.dtype))
        scales = scales if mapping is None else scales[mapping]
        weights = scales if weights is None else weights * scales
    return np.ascontiguousarray(rows, dtype=dtype), None if weights is None else weights.astype(np.float32)
