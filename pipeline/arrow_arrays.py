"""Arrow arrays from NumPy arrays and back, without pandas.

``pyarrow.array``, ``pyarrow.scalar`` and ``Array.to_numpy`` import pandas at their first call: 29 MB and
0.4 s in every Spark worker. Here both libraries share memory instead.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa


def from_numpy(values: np.ndarray, is_null: np.ndarray | None = None) -> pa.Array:
    """Wrap numbers in an Arrow array, without a copy.

    Parameters
    ----------
    values : ndarray of shape (N,), C-contiguous
        Of any integer or floating type.
    is_null : bool ndarray of shape (N,), optional
        Which values are null. Default: none.

    Examples
    --------
    >>> from_numpy(np.array([1, 2], dtype=np.int32), np.array([False, True])).to_pylist()
    [1, None]
    """
    kind = pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(kind, len(values), [validity(is_null), pa.py_buffer(values)])


def from_strings(texts: Sequence[str]) -> pa.StringArray:
    """Return strings as an Arrow array of type string.

    Examples
    --------
    >>> from_strings(["north", ""]).to_pylist()
    ['north', '']
    """
    encoded = [text.encode() for text in texts]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    return pa.StringArray.from_buffers(len(encoded), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded)))


def validity(is_null: np.ndarray | None) -> pa.Buffer | None:
    """Return Arrow's validity bitmap of N values; None if no value is null."""
    if is_null is None or not is_null.any():
        return None
    return pa.py_buffer(np.packbits(~is_null, bitorder="little"))


def null_mask(values: pa.Array) -> np.ndarray:
    """Return which of N values are null, as bool ndarray of shape (N,).

    Examples
    --------
    >>> null_mask(pa.array(["a", None, "b"])[1:]).tolist()
    [True, False]
    """
    if not values.null_count:
        return np.zeros(len(values), dtype=bool)
    bitmap = values.buffers()[0]
    if bitmap is None:  # an array of type null
        return np.ones(len(values), dtype=bool)
    first, bits = divmod(values.offset, 8)
    # Slices of a large array share its bitmap, so unpack their own bytes only.
    shared = np.frombuffer(bitmap, dtype=np.uint8)[first:]
    is_valid = np.unpackbits(shared, count=bits + len(values), bitorder="little")[bits:]
    return np.equal(is_valid, 0, dtype=bool)
