"""Embed texts, or their chunks, with a column function or an SQL function: ``df.select(embed("text"))``."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyspark
from pyspark.sql import Column, SparkSession
from pyspark.sql.pandas import functions as pandas_functions
from pyspark.sql.types import ArrayType, BinaryType, DataType, FloatType, IntegerType, StructType

from lakevec.pipeline.arrow_arrays import null_mask, validity
from lakevec.pipeline.encoding.chunking import Chunker
from lakevec.pipeline.encoding.encoder import Encoder, warm_up
from lakevec.pipeline.encoding.node_files import NodeFiles, pack_table
from lakevec.pipeline.encoding.options import ChunkOptions, EncodeOptions
from lakevec.pipeline.encoding.stored_vectors import VectorType, to_arrow_columns
from lakevec.pipeline.encoding.text_segmentation import check_segmentation
from lakevec.pipeline.errors import SetupError
from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.model.table import StaticTable
from lakevec.udfs.distribution import distribute_files
from lakevec.udfs.worker_cache import get_encoder

UdfKind = Literal["auto", "arrow", "pandas"]
_VECTOR = ArrayType(FloatType())
_CHUNKS = ArrayType(
    StructType()
    .add("index", IntegerType())
    .add("start", IntegerType())
    .add("end", IntegerType())
    .add("vector", _VECTOR)
)
# Untyped, since Spark's overloads accept no plain function.
_pandas_udf: Any = pandas_functions.pandas_udf
_arrow_udf: Any = getattr(pandas_functions, "arrow_udf", None)  # Spark 4.1


def make_embed_udf(
    spark: SparkSession,
    model: str | StaticTable,
    *,
    kind: UdfKind = "auto",
    max_tokens: int | None = None,
    dimensions: int | None = None,
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
    dimensions : int, optional
        Width D of the vectors, made of the table's first columns. Default: all columns.
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
    SettingsError
        If `max_tokens` or `dimensions` is below 1, or the table has fewer columns than `dimensions`.
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
    _check_kind(kind)
    options = EncodeOptions(max_tokens, dimensions=dimensions)
    files = _distribute(spark, model, node_dir, dimensions)

    def lakevec_embed(texts: pa.Array) -> pa.Array:
        return get_encoder(files, options).encode(texts).to_arrow()

    return make_udf(lakevec_embed, _VECTOR, kind)


def make_signs_udf(
    spark: SparkSession,
    table: StaticTable,
    *,
    max_tokens: int | None = None,
    dimensions: int | None = None,
    node_dir: str | None = None,
) -> Callable[..., Column]:
    """Make a column function that returns vectors as ``lakevec embed --vector-type binary`` stores them.

    See `make_embed_udf` for the parameters. The result is a ``binary`` column of ceil(D / 8) bytes.
    """
    options = EncodeOptions(max_tokens, dimensions=dimensions)
    files = _distribute(spark, table, node_dir, dimensions)

    def lakevec_embed(texts: pa.Array) -> pa.Array:
        encoded = get_encoder(files, options).encode(texts)
        return to_arrow_columns(encoded, "", VectorType.BINARY)[""].cast(pa.binary())

    return make_udf(lakevec_embed, BinaryType(), "auto")


def make_chunk_udf(
    spark: SparkSession,
    model: str | StaticTable,
    *,
    chunk_tokens: int = 256,
    chunk_overlap: int = 0,
    kind: UdfKind = "auto",
    node_dir: str | None = None,
) -> Callable[..., Column]:
    """Make a column function that splits a string column into chunks, and embeds each.

    Texts are split as by ``lakevec embed --chunk-tokens``. A null stays null, and an empty text has one empty
    chunk. Executors need ICU: ``pip install 'lakevec[chunk]'``.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
        Classic or Connect.
    model : str or StaticTable
        A path or id that `lakevec.load` accepts, or a table.
    chunk_tokens : int, default=256
        Most known tokens of a chunk. A chunk that is one word may have more.
    chunk_overlap : int, default=0
        Most tokens at the end of a chunk that the next one repeats: at most half of `chunk_tokens`.
    kind, node_dir
        As in `make_embed_udf`.

    Returns
    -------
    callable
        Takes a column or its name, returns a column of type
        ``array<struct<index:int,start:int,end:int,vector:array<float>>>``. A chunk is ``text[start:end]`` in
        Python, and ``substring(text, start + 1, end - start)`` in Spark.

    Raises
    ------
    ModelError
        If the model is missing, damaged or of an unknown format.
    SettingsError
        If `chunk_tokens` or `chunk_overlap` is out of range.
    SetupError
        If ICU is missing here, or if `kind` is ``arrow`` and this Spark has no Arrow UDFs.

    Examples
    --------
    >>> chunk = make_chunk_udf(spark, "models/minilm", chunk_tokens=256)  # doctest: +SKIP
    >>> chunks = df.select("id", f.inline(chunk("text")))  # doctest: +SKIP
    """
    _check_kind(kind)
    check_segmentation()
    chunk_options = ChunkOptions(chunk_tokens, chunk_overlap)
    files = _distribute(spark, model, node_dir)

    def lakevec_chunk(texts: pa.Array) -> pa.Array:
        return embed_chunks(get_encoder(files, EncodeOptions()), chunk_options, texts)

    return make_udf(lakevec_chunk, _CHUNKS, kind)


def embed_chunks(encoder: Encoder, options: ChunkOptions, texts: pa.Array) -> pa.ListArray:
    """Return the chunks of each text as structs with ``index``, ``start``, ``end`` and ``vector``."""
    chunks = Chunker(encoder, options).split(texts)
    vectors = encoder.encode(chunks.texts).to_arrow()
    columns = {"index": chunks.index, "start": chunks.start, "end": chunks.end, "vector": vectors}
    structs = pa.StructArray.from_arrays(list(columns.values()), names=list(columns))
    offsets = np.searchsorted(chunks.parents.to_numpy(), np.arange(len(texts) + 1)).astype(np.int32)
    kind = pa.list_(pa.field("element", structs.type))
    buffers = [validity(null_mask(texts)), pa.py_buffer(offsets)]
    return pa.Array.from_buffers(kind, len(texts), buffers, children=[structs])


def _check_kind(kind: UdfKind) -> None:
    if kind == "arrow" and _arrow_udf is None:
        raise SetupError(
            "this Spark has no Arrow UDFs",
            got=pyspark.__version__,
            expected="4.1 or later",
            remedy="use kind='pandas'",
        )


def _distribute(
    spark: SparkSession, model: str | StaticTable, node_dir: str | None, dimensions: int | None = None
) -> NodeFiles:
    """Load a model, compile its kernels, and ship its first columns."""
    table = (load(model).table if isinstance(model, str) else model).cut(dimensions)
    warm_up(table)
    return distribute_files(spark, pack_table(table, node_dir=node_dir))


def make_udf(
    function: Callable[[pa.Array], pa.Array], result: DataType, kind: UdfKind
) -> Callable[..., Column]:
    """Make a column function from one of Arrow arrays."""
    is_pandas = kind == "pandas" or _arrow_udf is None
    udf: Callable[..., Column] = (
        _pandas_udf(_over_series(function), result) if is_pandas else _arrow_udf(function, result)
    )
    return udf


def register(
    spark: SparkSession,
    model: str | StaticTable,
    name: str = "lakevec_embed",
    *,
    kind: UdfKind = "auto",
    max_tokens: int | None = None,
    dimensions: int | None = None,
    node_dir: str | None = None,
) -> None:
    """Register the embedding as an SQL function of this session: ``SELECT lakevec_embed(text) FROM ...``.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
    model : str or StaticTable
    name : str, default="lakevec_embed"
        Name of the function.
    kind, max_tokens, dimensions, node_dir
        As in `make_embed_udf`.

    Examples
    --------
    >>> register(spark, "models/minilm")  # doctest: +SKIP
    >>> spark.sql("SELECT id, lakevec_embed(body) AS vector FROM docs")  # doctest: +SKIP
    """
    embed: Any = make_embed_udf(
        spark, model, kind=kind, max_tokens=max_tokens, dimensions=dimensions, node_dir=node_dir
    )
    spark.udf.register(name, embed)


class _ArrowSeries(pd.Series):
    """A Series that returns to Spark as its Arrow array.

    Spark runs ``list(value)`` through ``Series.apply`` on every array that a pandas UDF returns. That makes a
    Python float per dimension, although Arrow data needs no conversion.
    """

    def apply(self, *_args: Any, **_options: Any) -> pd.Series:  # type: ignore[override]
        return self


def _over_series(function: Callable[[pa.Array], pa.Array]) -> Callable[[pd.Series], pd.Series]:
    @wraps(function)
    def over_series(texts: pd.Series) -> pd.Series:
        result = function(pa.array(texts, type=pa.large_string(), from_pandas=True))
        return _ArrowSeries(pd.arrays.ArrowExtensionArray(result))

    # Spark reads the kind of a pandas UDF from its annotations.
    over_series.__annotations__ = {"texts": pd.Series, "return": pd.Series}
    return over_series
