"""Embed with a column function, ``df.select(embed("text"))``, or with an SQL function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyspark
from pyspark.sql import Column, SparkSession
from pyspark.sql.pandas import functions as pandas_functions
from pyspark.sql.types import ArrayType, FloatType

from lakevec.pipeline.encoding.encoder import warm_up
from lakevec.pipeline.encoding.node_files import pack_table
from lakevec.pipeline.encoding.options import EncodeOptions
from lakevec.pipeline.errors import SetupError
from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.model.table import StaticTable
from lakevec.udfs.distribution import distribute_files
from lakevec.udfs.worker_cache import get_encoder

UdfKind = Literal["auto", "arrow", "pandas"]
_VECTOR = ArrayType(FloatType())
# Untyped, since Spark's overloads accept no plain function.
_pandas_udf: Any = pandas_functions.pandas_udf
_arrow_udf: Any = getattr(pandas_functions, "arrow_udf", None)  # Spark 4.1


def make_embed_udf(
    spark: SparkSession,
    model: str | StaticTable,
    *,
    kind: UdfKind = "auto",
    max_tokens: int | None = None,
    node_dir: str | None = None,
) -> Callable[..., Column]:
    """Make a column function that embeds a string column.

    The driver reads and checks the table now, and ships it once with the kernel's machine code. A worker
    opens its node's copy at the first batch and keeps it. A null stays null. A text without a known token
    gets the zero vector.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
        Classic or Connect.
    model : str or StaticTable
        A path or id that `lakevec.load` accepts, or a table.
    kind : {"auto", "arrow", "pandas"}, default="auto"
        Arrow UDF (Spark 4.1 and later), or pandas UDF, which converts each text to a Python string. ``auto``
        uses Arrow if Spark supports it.
    max_tokens : int, optional
        Embed only the first `max_tokens` known tokens of a text. Default: all.
    node_dir : str, optional
        Folder for the one copy of the table on each node. Default: the system's temporary folder, or YARN's.

    Returns
    -------
    callable
        Takes a column or its name, returns an ``array<float>`` column of length D.

    Raises
    ------
    ModelError
        If the model is missing, damaged or of an unknown format.
    SetupError
        If `kind` is ``arrow`` and this Spark has no Arrow UDFs.

    Notes
    -----
    If this machine has not compiled the kernel yet, the driver compiles it now, in about six seconds.

    Examples
    --------
    >>> embed = make_embed_udf(spark, "models/minilm")  # doctest: +SKIP
    >>> df.select("id", embed("text").alias("vector"))  # doctest: +SKIP
    """
    if kind == "arrow" and _arrow_udf is None:
        raise SetupError(
            "this Spark has no Arrow UDFs",
            got=pyspark.__version__,
            expected="4.1 or later",
            remedy="use kind='pandas'",
        )
    table = load(model).table if isinstance(model, str) else model
    warm_up(table)
    files = distribute_files(spark, pack_table(table, node_dir=node_dir))
    options = EncodeOptions(max_tokens)

    def lakevec_embed(texts: pa.Array) -> pa.Array:
        return get_encoder(files, options).encode(texts).to_arrow()

    is_pandas = kind == "pandas" or _arrow_udf is None
    embed: Callable[..., Column] = (
        _pandas_udf(_over_series(lakevec_embed), _VECTOR) if is_pandas else _arrow_udf(lakevec_embed, _VECTOR)
    )
    return embed


def register(
    spark: SparkSession,
    model: str | StaticTable,
    name: str = "lakevec_embed",
    *,
    kind: UdfKind = "auto",
    max_tokens: int | None = None,
    node_dir: str | None = None,
) -> None:
    """Register the embedding as an SQL function of this session: ``SELECT lakevec_embed(text) FROM ...``.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
    model : str or StaticTable
    name : str, default="lakevec_embed"
        Name of the function.
    kind, max_tokens, node_dir
        As in `make_embed_udf`.

    Examples
    --------
    >>> register(spark, "models/minilm")  # doctest: +SKIP
    >>> spark.sql("SELECT id, lakevec_embed(body) AS vector FROM docs")  # doctest: +SKIP
    """
    embed: Any = make_embed_udf(spark, model, kind=kind, max_tokens=max_tokens, node_dir=node_dir)
    spark.udf.register(name, embed)


class _ArrowSeries(pd.Series):
    """A Series that returns to Spark as its Arrow array.

    Spark runs ``list(value)`` through ``Series.apply`` on every array that a pandas UDF returns. That makes a
    Python float per dimension, although Arrow data needs no conversion.
    """

    def apply(self, *_args: Any, **_options: Any) -> pd.Series:  # type: ignore[override]
        return self


def _over_series(embed: Callable[[pa.Array], pa.Array]) -> Callable[[pd.Series], pd.Series]:
    def lakevec_embed(texts: pd.Series) -> pd.Series:
        vectors = embed(pa.array(texts, type=pa.large_string(), from_pandas=True))
        return _ArrowSeries(pd.arrays.ArrowExtensionArray(vectors))

    return lakevec_embed
