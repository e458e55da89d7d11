"""Element types of stored vectors: float32, or fewer bits for smaller files.

Spark, pandas and Polars read all of them. Spark refuses Parquet's own half-precision type.
``docs/decisions.md`` compares the sizes.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
import pyarrow as pa

from lakevec.pipeline.arrow_arrays import from_numpy
from lakevec.pipeline.encoding.encoder import Encoded, list_array
from lakevec.pipeline.encoding.options import SCALE_SUFFIX, TOKENS_SUFFIX, WEIGHTS_SUFFIX

_LARGEST_HALF = np.float32(np.finfo(np.float16).max)


class VectorType(StrEnum):
    """Element type of stored vectors.

    ``FLOAT32`` is exact. ``FLOAT16`` rounds each element to half precision and stores it as float: 11
    significant bits remain, and the zero bits compress away; above 65,504 it saturates. ``INT8`` stores
    integers from -127 to 127, and one scale per vector in another column.
    """

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"


def to_arrow_columns(encoded: Encoded, name: str, kind: VectorType) -> dict[str, pa.Array]:
    """Return the columns for N vectors.

    Besides the vectors, int8 has a column ``<name>_scale`` (float32). Sums have ``<name>_tokens`` (int32), or
    ``<name>_weights`` (float64) if the model has position weights. All are null for a null text.

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
        rounded = encoded.vectors.clip(-_LARGEST_HALF, _LARGEST_HALF).astype(np.float16).astype(np.float32)
        return {name: list_array(rounded, encoded.is_null)}
    scales = np.abs(encoded.vectors).max(axis=1, initial=0.0) / np.float32(127)
    column = scales[:, None]
    shares = np.divide(encoded.vectors, column, out=np.zeros_like(encoded.vectors), where=column > 0)
    integers = np.rint(shares).clip(-127, 127).astype(np.int8)
    return {
        name: list_array(integers, encoded.is_null),
        name + SCALE_SUFFIX: from_numpy(scales, encoded.is_null),
    }
