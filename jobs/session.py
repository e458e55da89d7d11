"""The SparkSession of a job: where it runs, how loud it is, and what it ships."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.java import ensure_java
from pipeline.errors import SetupError
from pipeline.redaction import KEY_PATTERN, PLAN_PATTERN

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_CHECKOUT = str(Path(__file__).resolve().parent.parent)


@contextmanager
def open_session(
    name: str,
    *,
    master: str | None,
    conf: Mapping[str, str],
    verbose: bool = False,
    meanwhile: Callable[[], None] = lambda: None,
) -> Iterator[SparkSession]:
    """Start the Spark that a job runs on and stop it afterwards, or join one that runs in this process.

    Parameters
    ----------
    name : str
        Application name.
    master : str or None
        Spark master; None takes spark-submit's, or else ``local[*]``.
    conf : mapping of str to str
        Spark properties.
    verbose : bool, default=False
        Whether Spark's log goes to the screen.
    meanwhile : callable, optional
        Called in a thread of its own while Spark starts, which takes seconds; done before the session is
        handed out.

    Yields
    ------
    pyspark.sql.SparkSession

    Raises
    ------
    SetupError
        If PySpark or Java is missing, or Spark can't start.

    Notes
    -----
    A Spark that is started here writes its log to a file unless `verbose`: Java's stack traces are for
    whoever looks for them, and every error is reported in one line. On a cluster the code of `pipeline` and
    `udfs` is shipped, so that executors run exactly what the driver runs.
    """
    try:
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError:
        raise SetupError(
            "PySpark is not installed",
            remedy="pip install 'lakevec[local]', or use your cluster's spark-submit",
        ) from None
    if (running := SparkSession.getActiveSession()) is not None:
        for key, value in conf.items():
            try:
                running.conf.set(key, value)
            except PySparkException as error:
                raise SetupError(
                    f"Spark property {key!r} can't be changed",
                    got=str(error.getCondition()),
                    remedy="set it where this Spark is started",
                ) from None
        yield running
        return
    pool = ThreadPoolExecutor(1)
    other_work = pool.submit(meanwhile)
    # Spark's own rule leaves the keys of Azure's stores in event logs and on its pages.
    redacted = {
        "spark.redaction.regex": KEY_PATTERN,
        "spark.redaction.string.regex": PLAN_PATTERN,
        **conf,
    }
    spark = _start_session(SparkSession.builder.appName(name), master, redacted, verbose=verbose)
    try:
        other_work.result()
        _ship_code(spark)
        yield spark
    finally:
        pool.shutdown()
        with suppress(ConnectionError):  # a JVM that has died needs no stopping
            spark.stop()


def _start_session(
    builder: SparkSession.Builder, master: str | None, conf: Mapping[str, str], *, verbose: bool
) -> SparkSession:
    """Join the Spark of spark-submit, or start one."""
    for key, value in conf.items():
        builder = builder.config(key, value)
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        if master is not None:
            builder = builder.master(master)
        spark = builder.getOrCreate()
        _quiet_submitted(spark, verbose=verbose)
        return spark
    ensure_java()
    builder = builder.master(master or "local[*]")
    # Local workers must be this interpreter, with this code, whatever python3 is on the PATH.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    return _start(builder.config("spark.executorEnv.PYTHONPATH", _CHECKOUT), verbose=verbose)


def spark_log() -> str | None:
    """Return the file that holds Spark's log of this process, if there is one."""
    return _log_file


_log_file: str | None = None


def _start(builder: SparkSession.Builder, *, verbose: bool) -> SparkSession:
    """Start a JVM; its stderr, and that of its Python workers, goes to a file unless verbose."""
    global _log_file
    if verbose or _log_file is not None:  # a JVM that runs already keeps the stderr it was started with
        try:
            return builder.getOrCreate()
        except Exception as error:
            raise _no_start(error) from None
    handle, _log_file = tempfile.mkstemp(prefix="lakevec-spark-", suffix=".log")
    screen = os.dup(2)
    os.dup2(handle, 2)
    try:
        return builder.getOrCreate()
    except Exception as error:  # whatever the launcher finds
        raise _no_start(error) from None
    finally:
        os.dup2(screen, 2)
        os.close(screen)
        os.close(handle)


def _no_start(error: Exception) -> SetupError:
    log = f"its log is {_log_file}; " if _log_file else ""
    return SetupError("Spark can't start", got=type(error).__name__, remedy=f"{log}'lakevec doctor' may help")


def _quiet_submitted(spark: SparkSession, *, verbose: bool) -> None:
    """Keep stack traces off the screen of spark-submit; the log of a cluster's driver is left alone."""
    if verbose or not hasattr(spark, "sparkContext"):
        return
    settings = spark.sparkContext.getConf()
    on_screen = settings.get("spark.submit.deployMode", "client") == "client"
    if on_screen and settings.get("spark.log.level") is None:
        spark.sparkContext.setLogLevel("OFF")


def _ship_code(spark: SparkSession) -> None:
    """Send our code where executors are other processes than this one's children."""
    from udfs.shipping import is_local, ship_code

    if not is_local(spark):
        ship_code(spark)
