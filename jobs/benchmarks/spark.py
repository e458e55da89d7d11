"""Ways from Parquet to Parquet: lakevec's job, its ceiling, and the pipelines one would write without it."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.sql import functions as f
from pyspark.sql.pandas import functions as pandas_functions

from jobs.benchmarks.kernel import load_static_embedding
from jobs.command_line import Call
from jobs.embed import embed
from jobs.session import open_session
from pipeline.encoding.encoder import Encoded, EncodingCounts
from pipeline.settings import BenchmarkSettings, EmbedSettings
from udfs.embed_task import EmbedTask

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_VECTOR = "array<float>"
# Spark's overloads can't tell which of its factories a plain function fits.
_pandas_udf: Any = pandas_functions.pandas_udf

CEILING = "ceiling: lakevec, constant vectors"
MODEL2VEC = "model2vec in a pandas UDF"
STATIC_EMBEDDING = "StaticEmbedding in a pandas UDF"


class CeilingTask(EmbedTask):
    """The same task with vectors that cost nothing: what remains is Spark, Arrow and Parquet."""

    def make_encoder(self) -> Any:
        """Return what stands for an encoder."""
        return _Constant(super().make_encoder().dimensions)


class _Constant:
    """Gives every batch the same random vectors."""

    def __init__(self, dimensions: int) -> None:
        self._vectors = np.empty((0, dimensions), dtype=np.float32)

    def encode(self, texts: pa.Array) -> Encoded:
        if len(self._vectors) < len(texts):
            shape = (len(texts), self._vectors.shape[1])
            self._vectors = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        counts = EncodingCounts(rows=len(texts))
        return Encoded(self._vectors[: len(texts)], np.zeros(len(texts), dtype=bool), counts)


@contextmanager
def quiet_session(
    settings: BenchmarkSettings, *, master: str | None, verbose: bool
) -> Iterator[SparkSession]:
    """Open a session that draws no progress bars.

    Parameters
    ----------
    settings : BenchmarkSettings
    master : str or None
    verbose : bool

    Yields
    ------
    pyspark.sql.SparkSession
    """
    conf = {"spark.ui.showConsoleProgress": "false", **settings.conf}
    with open_session("lakevec benchmark", master=master, conf=conf, verbose=verbose) as spark:
        yield spark


def job_settings(settings: BenchmarkSettings, lake: Path, output: Path) -> EmbedSettings:
    """Return the job that embeds a lake as ``lakevec embed`` does by default.

    Parameters
    ----------
    settings : BenchmarkSettings
    lake, output : Path

    Returns
    -------
    EmbedSettings
    """
    return EmbedSettings(model=settings.model, input=[str(lake)], text=[settings.text], output=str(output))


def run_job(job: EmbedSettings, *, task_type: type[EmbedTask] = EmbedTask) -> dict[str, Any]:
    """Run ``lakevec embed`` on the running session and remove its output.

    Parameters
    ----------
    job : EmbedSettings
    task_type : type, default=EmbedTask
        `CeilingTask` for vectors that cost nothing.

    Returns
    -------
    dict
        ``run.json``.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        embed(Call(job, verbose=False, dry_run=False), task_type=task_type)
    record: dict[str, Any] = json.loads((Path(job.output) / "_lakevec" / "run.json").read_text())
    shutil.rmtree(job.output)
    return record


def count_rows(job: EmbedSettings, *, task_type: type[EmbedTask] = EmbedTask) -> int:
    """Run the job and return how many rows it embedded.

    Parameters
    ----------
    job : EmbedSettings
    task_type : type, default=EmbedTask

    Returns
    -------
    int
    """
    return int(run_job(job, task_type=task_type)["rows"])


def peer_ways(
    spark: SparkSession, settings: BenchmarkSettings, lake: Path, output: Path
) -> dict[str, Callable[[], int]]:
    """Return the pipelines of other libraries: a pandas UDF, and Spark's Parquet writer.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
    settings : BenchmarkSettings
    lake : Path
        Rows for them.
    output : Path
        Folder to write to and to remove.

    Returns
    -------
    dict of str to callable
        Each embeds the lake and returns its rows.
    """
    model = str(Path(settings.model).absolute())
    ways = {MODEL2VEC: _embed_with_model2vec(model), STATIC_EMBEDDING: _embed_with_static_embedding(model)}
    return {
        way: partial(_run_pandas_udf, spark, function, settings.text, lake, output)
        for way, function in ways.items()
    }


def _run_pandas_udf(
    spark: SparkSession, function: Callable[[pd.Series], pd.Series], text: str, lake: Path, output: Path
) -> int:
    frame = spark.read.parquet(str(lake))
    frame.withColumn("vector", _pandas_udf(function, _VECTOR)(f.col(text))).write.mode("overwrite").parquet(
        str(output)
    )
    shutil.rmtree(output)
    return frame.count()


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


def _embed_with_static_embedding(model: str) -> Callable[[pd.Series], pd.Series]:
    def embed_texts(texts: pd.Series) -> pd.Series:
        if "static_embedding" not in _loaded:
            _loaded["static_embedding"] = load_static_embedding(model)
        vectors = _loaded["static_embedding"].encode(texts.fillna("").tolist(), batch_size=1024)
        return pd.Series(list(vectors))

    return embed_texts
