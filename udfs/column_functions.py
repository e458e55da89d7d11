"""The embedding as a column function: ``df.select(embed("text"))``, and by name in SQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyspark
from pyspark.sql import SparkSession
from pyspark.sql.pandas import functions as pandas_functions
from pyspark.sql.types import ArrayType, FloatType

from lakevec.pipeline.encoding.encoder import warm_up
from lakevec.pipeline.encoding.options import EncodeOptions
from lakevec.pipeline.errors import SetupError
from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.model.table import StaticTable
from lakevec.udfs.distribution import distribute_files
from lakevec.udfs.node_files import NodeFiles, pack_table
from lakevec.udfs.worker_cache import get_encoder

_VECTOR = ArrayType(FloatType())
# Spark's overloads can't tell which of its factories a plain function fits.
_pandas_udf: Any = pandas_functions.pandas_udf
_arrow_udf: Any = getattr(pandas_functions, "arrow_udf", None)  # Spark 4.1


def make_embed_udf(
    spark: SparkSession,
    model: str | StaticTable,
    *,
    kind: Literal["auto", "arrow", "pandas"] = "auto",
    max_tokens: int | None = None,
    node_dir: str | None = None,
) -> Callable[..., Any]:
    """Make a column function that embeds a string column.

    The table is read and checked here, on the driver, and shipped once, with the kernel's machine code, which
    takes some six seconds to compile where it never was. A worker opens the node's copy when its first batch
    comes and keeps it. Null text becomes null, text without a known token the zero vector.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
        Classic or Connect.
    model : str or StaticTable
        Folder or URI of a published model, or a table at hand.
    kind : {"auto", "arrow", "pandas"}, default="auto"
        Arrow UDF (Spark 4.1 and later), or pandas UDF, which pays for Python strings on the way in; ``auto``
        takes Arrow where there is one.
    max_tokens : int, optional
        Embed only the first `max_tokens` known tokens of a text; None embeds all.
    node_dir : str, optional
        Folder on every node for the one copy of the table.

    Returns
    -------
    callable
        Takes a column or its name, returns an ``array<float>`` column of length D.

    Raises
    ------
    ModelError
        If the model is missing, damaged or of an unknown format.
    SetupError
        If an Arrow UDF is asked for and this Spark has none.

    Examples
    --------
    >>> embed = make_embed_udf(spark, "models/minilm")  # doctest: +SKIP
    >>> df.select("id", embed("text").alias("vector"))  # doctest: +SKIP
    """
    table = load(model).table if isinstance(model, str) else model
    warm_up(table)
    node_table = distribute_files(spark, pack_table(table, node_dir=node_dir))
    options = EncodeOptions(max_tokens)
    embed: Callable[..., Any]
    if kind == "pandas" or (kind == "auto" and _arrow_udf is None):
        embed = _pandas_udf(_embed_pandas(node_table, options), _VECTOR)
        return embed
    if _arrow_udf is None:
        raise SetupError(
            "this Spark has no Arrow UDFs",
            got=pyspark.__version__,
            expected="4.1 or later",
            remedy="use kind='pandas'",
        )
    embed = _arrow_udf(_embed_arrow(node_table, options), _VECTOR)
    return embed


def register(
    spark: SparkSession, model: str | StaticTable, name: str = "lakevec_embed", **options: Any
) -> None:
    """Give the embedding a name in SQL: ``SELECT lakevec_embed(text) FROM ...``.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
    model : str or StaticTable
        As for `make_embed_udf`.
    name : str, default="lakevec_embed"
        Name of the function in this session.
    **options
        Passed to `make_embed_udf`.
    """
    spark.udf.register(name, make_embed_udf(spark, model, **options))


class _ArrowSeries(pd.Series):
    """A Series that goes back to Spark as the Arrow array it holds.

    Spark runs ``list(value)`` through ``Series.apply`` on every array that a pandas UDF returns, a Python
    float per dimension; what is Arrow already needs no conversion.
    """

    def apply(self, *_args: Any, **_options: Any) -> pd.Series:  # type: ignore[override]
        return self


def _embed_arrow(table: NodeFiles, options: EncodeOptions) -> Callable[[pa.Array], pa.Array]:
    def lakevec_embed(texts: pa.Array) -> pa.Array:
        return get_encoder(table, options).encode(texts).to_arrow()

    return lakevec_embed


def _embed_pandas(table: NodeFiles, options: EncodeOptions) -> Callable[[pd.Series], pd.Series]:
    def lakevec_embed(texts: pd.Series) -> pd.Series:
        strings = pa.array(texts, type=pa.large_string(), from_pandas=True)
        vectors = get_encoder(table, options).encode(strings).to_arrow()
        return _ArrowSeries(pd.arrays.ArrowExtensionArray(vectors))

    return lakevec_embed
