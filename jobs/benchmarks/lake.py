"""Parquet to Parquet on Spark: lakevec's job, its ceiling, and the pipelines one would write without it."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.sql import functions as f
from pyspark.sql.pandas import functions as pandas_functions

from jobs.command_line import Call
from jobs.embed import embed
from pipeline.encoding.encoder import Encoded, EncodingCounts
from pipeline.settings import EmbedSettings
from udfs.embed_task import EmbedTask

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_VECTOR = "array<float>"
# Spark's overloads can't tell which of its factories a plain function fits.
_pandas_udf: Any = pandas_functions.pandas_udf


class CeilingTask(EmbedTask):
    """The same task with vectors that cost nothing: what remains is Spark, Arrow and Parquet."""

    def make_encoder(self) -> Any:
        """Return what stands for an encoder."""
        return _Constant(super().make_encoder().dimensions)


class _Constant:
    """Gives every batch the same random vectors."""

    def __init__(self, dimensions: int) -> None:
        self._vectors = np.random.default_rng(0).standard_normal((1, dimensions), dtype=np.float32)

    def encode(self, texts: pa.Array) -> Encoded:
        if len(self._vectors) < len(texts):
            shape = (len(texts), self._vectors.shape[1])
            self._vectors = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        counts = EncodingCounts(rows=len(texts))
        return Encoded(self._vectors[: len(texts)], np.zeros(len(texts), dtype=bool), counts)


def run_job(settings: EmbedSettings, *, is_ceiling: bool = False) -> dict[str, Any]:
    """Run ``lakevec embed`` on the running session and remove its output.

    Parameters
    ----------
    settings : EmbedSettings
    is_ceiling : bool, default=False
        Whether vectors cost nothing.

    Returns
    -------
    dict
        ``run.json``.
    """
    task_type = CeilingTask if is_ceiling else EmbedTask
    with contextlib.redirect_stdout(io.StringIO()):
        embed(Call(settings, verbose=False, dry_run=False), task_type=task_type)
    record: dict[str, Any] = json.loads((Path(settings.output) / "_lakevec" / "run.json").read_text())
    shutil.rmtree(settings.output)
    return record


def peer_ways(
    spark: SparkSession, model: str, lake: str, text: str, output: str
) -> dict[str, Callable[[], int]]:
    """Return the pipelines of other libraries: a pandas UDF, and Spark's Parquet writer.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
    model : str
        Folder of the published model, which executors can read.
    lake : str
        Folder of Parquet files.
    text : str
        Text column.
    output : str
        Folder to write to and to remove.

    Returns
    -------
    dict of str to callable
        Each embeds the lake and returns its rows.
    """
    frame = spark.read.parquet(lake)
    rows = frame.count()

    def way(function: Callable[[pd.Series], pd.Series]) -> Callable[[], int]:
        def run() -> int:
            embedded = frame.withColumn("vector", _pandas_udf(function, _VECTOR)(f.col(text)))
            embedded.write.mode("overwrite").parquet(output)
            shutil.rmtree(output)
            return rows

        return run

    return {
        "model2vec in a pandas UDF": way(_embed_with_model2vec(model)),
        "StaticEmbedding in a pandas UDF": way(_embed_with_sentence_transformers(model)),
    }


# One model per worker process.
_loaded: dict[str, Any] = {}


def _embed_with_model2vec(model: str) -> Callable[[pd.Series], pd.Series]:
    def embed_texts(texts: pd.Series) -> pd.Series:
        from model2vec import StaticModel

        if "model2vec" not in _loaded:
            _loaded["model2vec"] = StaticModel.from_pretrained(model)
        strings = texts.fillna("").tolist()
        vectors = _loaded["model2vec"].encode(strings, max_length=None, use_multiprocessing=False)
        return pd.Series(list(vectors))

    return embed_texts


def _embed_with_sentence_transformers(model: str) -> Callable[[pd.Series], pd.Series]:
    def embed_texts(texts: pd.Series) -> pd.Series:
        from sentence_transformers import SentenceTransformer

        if "sentence_transformers" not in _loaded:
            _loaded["sentence_transformers"] = SentenceTransformer(model, device="cpu")
        vectors = _loaded["sentence_transformers"].encode(texts.fillna("").tolist(), batch_size=1024)
        return pd.Series(list(vectors))

    return embed_texts
