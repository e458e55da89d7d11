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

import pandas as pd
from pyspark.sql import functions as f
from pyspark.sql.pandas import functions as pandas_functions

from lakevec import jobs, pipeline, udfs
from lakevec.jobs import embed
from lakevec.jobs.benchmarks.spark_tasks import ColdTask, embed_with_model2vec, embed_with_static_embedding
from lakevec.jobs.cli import RunContext
from lakevec.jobs.spark.session import open_session
from lakevec.pipeline.settings.benchmark import BenchmarkSettings
from lakevec.pipeline.settings.embed import EmbedSettings
from lakevec.udfs.distribution import is_local, ship_code
from lakevec.udfs.embed_task import EmbedTask

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_VECTOR = "array<float>"
# Spark's overloads can't tell which of its factories a plain function fits.
_pandas_udf: Any = pandas_functions.pandas_udf

CEILING = "ceiling: lakevec, constant vectors"
MODEL2VEC = "model2vec in a pandas UDF"
STATIC_EMBEDDING = "StaticEmbedding in a pandas UDF"


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
        if not is_local(spark):
            ship_code(spark, pipeline, udfs, jobs)
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


def run_job(job: EmbedSettings, *, task_type: type[EmbedTask] = ColdTask) -> dict[str, Any]:
    """Run ``lakevec embed`` on the running session and remove its output.

    Parameters
    ----------
    job : EmbedSettings
    task_type : type, default=ColdTask
        `CeilingTask` for vectors that cost nothing.

    Returns
    -------
    dict
        ``run.json``.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        embed.run(job, RunContext(), task_type=task_type)
    record: dict[str, Any] = json.loads((Path(job.output) / "_lakevec" / "run.json").read_text())
    shutil.rmtree(job.output)
    return record


def count_rows(job: EmbedSettings, *, task_type: type[EmbedTask] = ColdTask) -> int:
    """Run the job and return how many rows it embedded.

    Parameters
    ----------
    job : EmbedSettings
    task_type : type, default=ColdTask

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
    rows = spark.read.parquet(str(lake)).count()
    ways = {MODEL2VEC: embed_with_model2vec(model), STATIC_EMBEDDING: embed_with_static_embedding(model)}

    def run(function: Callable[[pd.Series], pd.Series]) -> int:
        udf = _pandas_udf(function, _VECTOR)
        embedded = spark.read.parquet(str(lake)).withColumn("vector", udf(f.col(settings.text)))
        embedded.write.mode("overwrite").parquet(str(output))
        shutil.rmtree(output)
        return rows

    return {way: partial(run, function) for way, function in ways.items()}
