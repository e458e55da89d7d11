"""Signs of vectors as bits: 32 times smaller than float32."""

from __future__ import annotations

import numpy as np


def packed_width(dimensions: int) -> int:
    """Return the bytes of a vector's bits.

    Examples
    --------
    >>> packed_width(256), packed_width(100)
    (32, 13)
    """
    return -(-dimensions // 8)


def pack_signs(vectors: np.ndarray) -> np.ndarray:
    """Return a bit for each element: 1 if it is above 0, else 0, also for zero and minus zero.

    Parameters
    ----------
    vectors : float ndarray of shape (N, D)

    Returns
    -------
    uint8 ndarray of shape (N, ceil(D / 8))
        The first element is the highest bit of the first byte, as in ``numpy.packbits``. Spare bits at the
        end are 0.

    Notes
    -----
    FAISS's ``IndexBinary`` and ``quantize_embeddings(precision="ubinary")`` of Sentence Transformers pack
    alike.

    Examples
    --------
    >>> pack_signs(np.array([[0.5, -0.5, 0.0], [0.0, 0.0, 0.0]])).tolist()
    [[128], [0]]
    """
    return np.packbits(vectors > 0, axis=1)


def unpack_signs(packed: np.ndarray, dimensions: int) -> np.ndarray:
    """Return the signs that bits stand for: 1 and -1, but zeros for a vector without a set bit.

    Such a vector is that of a text without a known token.

    Parameters
    ----------
    packed : uint8 ndarray of shape (N, ceil(D / 8))
    dimensions : int
        D.

    Returns
    -------
    int8 ndarray of shape (N, D)

    Examples
    --------
    >>> unpack_signs(np.array([[128], [0]], dtype=np.uint8), 3).tolist()
    [[1, -1, -1], [0, 0, 0]]
    """
    signs: np.ndarray = np.unpackbits(packed, axis=1, count=dimensions).view(np.int8)
    np.multiply(signs, 2, out=signs)
    is_known = packed.any(axis=1, keepdims=True)
    np.subtract(signs, is_known, out=signs, dtype=np.int8)
    return signs
