"""A column function that labels texts with heads, for Spark's own writer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, SparkSession
from pyspark.sql.types import ArrayType, StructField, StructType

from lakevec.pipeline.arrow_arrays import validity
from lakevec.pipeline.encoding.node_files import pack_table
from lakevec.pipeline.encoding.options import EncodeOptions
from lakevec.pipeline.heads.columns import to_arrow_columns
from lakevec.pipeline.heads.head import Head
from lakevec.pipeline.model.table import StaticTable
from lakevec.udfs.column_functions import make_udf
from lakevec.udfs.distribution import distribute_files
from lakevec.udfs.worker_cache import get_encoder


def make_label_udf(
    spark: SparkSession,
    table: StaticTable,
    heads: tuple[Head, ...],
    fields: Sequence[StructField],
    *,
    max_tokens: int | None = None,
    node_dir: str | None = None,
) -> Callable[..., Column]:
    """Make a column function from texts to their labels.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
    table : StaticTable
    heads : tuple of Head
    fields : sequence of StructField
        The columns of the heads.
    max_tokens, node_dir
        As in `make_embed_udf`.

    Returns
    -------
    callable
        Takes a column, returns an array with one struct of `fields`; null for a null text. It is an array
        since Spark takes the struct of a pandas UDF as a pandas DataFrame, which converts every value.
    """
    files = distribute_files(spark, pack_table(table, node_dir=node_dir))
    options = EncodeOptions(max_tokens)
    names = [field.name for field in fields]

    def lakevec_label(texts: pa.Array) -> pa.Array:
        encoded = get_encoder(files, options).encode(texts)
        columns = to_arrow_columns(heads, encoded.vectors, encoded.is_null)
        structs = pa.StructArray.from_arrays(list(columns.values()), names=names)
        offsets = pa.py_buffer(np.arange(len(texts) + 1, dtype=np.int32))
        kind = pa.list_(pa.field("element", structs.type))
        buffers = [validity(encoded.is_null), offsets]
        return pa.Array.from_buffers(kind, len(texts), buffers, children=[structs])

    return make_udf(lakevec_label, ArrayType(StructType(list(fields))), "auto")
