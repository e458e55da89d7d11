"""Types of stored vectors: float32, or fewer bits for smaller files.

Spark, pandas and Polars read all of them. Spark refuses Parquet's own half-precision type.
``docs/decisions.md`` compares the sizes.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
import pyarrow as pa

from lakevec.pipeline.arrow_arrays import from_numpy, validity
from lakevec.pipeline.encoding.encoder import Encoded, list_array
from lakevec.pipeline.encoding.options import SCALE_SUFFIX, TOKENS_SUFFIX, WEIGHTS_SUFFIX
from lakevec.pipeline.encoding.packed_signs import pack_signs, packed_width, unpack_signs

_LARGEST_HALF = np.float32(np.finfo(np.float16).max)


class VectorType(StrEnum):
    """Type of stored vectors.

    ``FLOAT32`` is exact. ``FLOAT16`` rounds each element to half precision and stores it as float: 11
    significant bits remain, and the zero bits compress away; above 65,504 it saturates. ``INT8`` stores
    integers from -127 to 127, and one scale per vector in another column. ``BINARY`` stores one bit per
    element, its sign: see `lakevec.pipeline.encoding.packed_signs`.
    """

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"
    BINARY = "binary"

    def vector_bytes(self, dimensions: int) -> int:
        """Return the bytes of a vector, with its scale, before Parquet's encoding."""
        if self is VectorType.BINARY:
            return packed_width(dimensions)
        widths = {VectorType.FLOAT32: 4, VectorType.FLOAT16: 2, VectorType.INT8: 1}
        return widths[self] * dimensions + (4 if self is VectorType.INT8 else 0)


def to_arrow_columns(encoded: Encoded, name: str, kind: VectorType) -> dict[str, pa.Array]:
    """Return the columns for N vectors.

    Besides the vectors, int8 has a column ``<name>_scale`` (float32). Sums have ``<name>_tokens`` (int32), or
    ``<name>_weights`` (float64) if the model has position weights. Binary vectors are ``fixed_size_binary``.
    All are null for a null text.

    Notes
    -----
    With v a vector and ``s = max|v| / 127``, int8 stores ``round(v / s)`` and s; the zero vector has s = 0.
    """
    for suffix, divisors in ((TOKENS_SUFFIX, encoded.tokens), (WEIGHTS_SUFFIX, encoded.weights)):
        if divisors is not None:
            # The settings refuse sums of other types.
            return {name: encoded.to_arrow(), name + suffix: from_numpy(divisors, encoded.is_null)}
    if kind is VectorType.FLOAT32:
        return {name: encoded.to_arrow()}
    if kind is VectorType.FLOAT16:
        return {name: list_array(_round_to_half(encoded.vectors), encoded.is_null)}
    if kind is VectorType.BINARY:
        return {name: _binary_array(pack_signs(encoded.vectors), encoded.is_null)}
    integers, scales = _quantize(encoded.vectors)
    return {
        name: list_array(integers, encoded.is_null),
        name + SCALE_SUFFIX: from_numpy(scales, encoded.is_null),
    }


def read_back(vectors: np.ndarray, kind: VectorType) -> np.ndarray:
    """Return float32 vectors of shape (N, D) as a reader gets them; binary ones as 1 and -1."""
    if kind is VectorType.FLOAT16:
        return _round_to_half(vectors)
    if kind is VectorType.INT8:
        integers, scales = _quantize(vectors)
        exact: np.ndarray = integers * scales[:, None]
        return exact
    if kind is VectorType.BINARY:
        return unpack_signs(pack_signs(vectors), vectors.shape[1]).astype(np.float32)
    return vectors


def _round_to_half(vectors: np.ndarray) -> np.ndarray:
    return vectors.clip(-_LARGEST_HALF, _LARGEST_HALF).astype(np.float16).astype(np.float32)


def _quantize(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return integers of shape (N, D), and scales of shape (N,)."""
    scales = np.abs(vectors).max(axis=1, initial=0.0) / np.float32(127)
    column = scales[:, None]
    shares = np.divide(vectors, column, out=np.zeros_like(vectors), where=column > 0)
    return np.rint(shares).clip(-127, 127).astype(np.int8), scales


def _binary_array(packed: np.ndarray, is_null: np.ndarray) -> pa.FixedSizeBinaryArray:
    """Wrap C-contiguous bytes of shape (N, W) in an Arrow array, without a copy."""
    rows, width = packed.shape
    return pa.Array.from_buffers(pa.binary(width), rows, [validity(is_null), pa.py_buffer(packed)])
