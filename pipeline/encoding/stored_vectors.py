"""What a vector's elements are on disk: full floats, or less for smaller files.

Every type is one that Spark, pandas and Polars read without help; Parquet's own half-precision type is not,
since Spark refuses it. ``docs/decisions.md`` has the sizes.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
import pyarrow as pa

from lakevec.pipeline.encoding.encoder import Encoded, list_array

SCALE_SUFFIX = "_scale"
TOKENS_SUFFIX = "_tokens"
_LARGEST_HALF = np.float32(np.finfo(np.float16).max)


class VectorType(StrEnum):
    """Element type of stored vectors.

    ``FLOAT32`` keeps them as they are. ``FLOAT16`` rounds each element to half precision and stores it as
    float: 11 significant bits, and the bits that are zero now compress away; beyond 65,504 it saturates.
    ``INT8`` stores integers from -127 to 127 and one float per vector, in a column of its own, by which they
    are multiplied.
    """

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"


def to_arrow_columns(encoded: Encoded, name: str, kind: VectorType) -> dict[str, pa.Array]:
    """Return the columns that hold vectors.

    Parameters
    ----------
    encoded : Encoded
        N vectors of width D.
    name : str
        Name of the embedding column.
    kind : VectorType

    Returns
    -------
    dict of str to pyarrow.Array
        The embedding column; for int8 also ``<name>_scale``, float32 of length N; for sums also
        ``<name>_tokens``, int32 of length N. They are null where the text was.

    Notes
    -----
    With v a vector and ``s = max|v| / 127``, int8 stores ``round(v / s)`` and s; the zero vector has s = 0.
    """
    mask = encoded.is_null if encoded.is_null.any() else None
    if encoded.tokens is not None:
        # The settings refuse sums of any other type.
        return {name: encoded.to_arrow(), name + TOKENS_SUFFIX: pa.array(encoded.tokens, mask=mask)}
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
        name + SCALE_SUFFIX: pa.array(scales, pa.float32(), mask=mask),
    }
