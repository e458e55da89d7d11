"""The SparkSession of a job: its master or server, its log, and the code that it ships."""

from __future__ import annotations

import atexit
import os
import re
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import lakevec
from lakevec.jobs.spark.java import ensure_java
from lakevec.jobs.spark.java_options import find_spark, short_start
from lakevec.pipeline.errors import SetupError, rephrase
from lakevec.pipeline.redaction import KEY_PATTERN, PLAN_PATTERN

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from lakevec.pipeline.settings.base import SparkTasks

_SERVER_TIMEOUT_S = 20.0
_CHECKOUT = str(Path(lakevec.__file__).resolve().parents[1])


@contextmanager
def open_session(
    name: str,
    *,
    master: str | None,
    remote: str | None = None,
    conf: Mapping[str, str],
    verbose: bool = False,
    meanwhile: Callable[[], None] = lambda: None,
) -> Iterator[SparkSession]:
    """Start Spark for a job and stop it afterwards, or join the Spark of this process.

    Parameters
    ----------
    name : str
        Application name.
    master : str or None
        Spark master. Default: spark-submit's, else ``local[*]``.
    remote : str, optional
        Spark Connect server. Default: ``SPARK_REMOTE``, unless `master` is given.
    conf : mapping of str to str
        Spark properties.
    verbose : bool, default=False
        Show Spark's log. By default, a Spark that starts here writes it to a file.
    meanwhile : callable, optional
        Runs in a thread while Spark starts, and ends before the session is yielded.

    Raises
    ------
    SetupError
        If PySpark or Java is missing, or Spark can't start, be reached or set a property.

    Notes
    -----
    On a cluster, it ships the code of `pipeline` and `udfs`, so that executors run the driver's version.
    """
    try:
        from pyspark.sql import SparkSession
    except ImportError:
        raise SetupError(
            "PySpark is not installed",
            remedy="pip install 'lakevec[local]', or 'lakevec[connect]' for a Spark Connect server, "
            "or use your cluster's spark-submit",
        ) from None
    from lakevec.udfs.distribution import is_local, ship_code

    with ExitStack() as stack:
        spark = _running_session()
        if spark is not None:
            stack.enter_context(changed_conf(spark, conf))
            meanwhile()
        else:
            remote = _find_remote(master, remote)
            background = stack.enter_context(ThreadPoolExecutor(1)).submit(meanwhile)
            if remote is not None:
                spark = _connect(SparkSession.builder, remote)
                stack.callback(_stop, spark)
                # A builder would leave out properties that the server refuses.
                stack.enter_context(changed_conf(spark, conf))
            else:
                spark = _start(SparkSession.builder.appName(name), master, conf, verbose=verbose)
                stack.callback(_stop, spark)
            background.result()
        if not is_local(spark):  # executors aren't children of this process
            ship_code(spark)
        _spare_worker_memory(spark)
        stack.enter_context(_quiet_pyspark(verbose=verbose))
        yield spark


def _spare_worker_memory(spark: SparkSession) -> None:
    """Let Arrow in Python workers use the system's allocator: its own keep 50 MB that a worker has freed.

    Parts of Arrow ask for the allocator only once, so a worker must find it in its environment.
    """
    if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ and hasattr(spark, "sparkContext"):
        spark.sparkContext.environment.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")


def _stop(spark: SparkSession) -> None:
    with suppress(ConnectionError):  # the JVM has died already
        spark.stop()


def task_properties(settings: SparkTasks) -> dict[str, str]:
    """Return Spark's properties for the size of tasks and of their batches."""
    return {
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(settings.batch_rows),
        # Long texts make large batches, and a worker holds two. Spark's default is 64 MB, and 256 MB in 4.0.
        "spark.sql.execution.arrow.maxBytesPerBatch": "16m",
        "spark.sql.files.maxPartitionBytes": f"{settings.input_split_mb}m",
        # As many small files in a task as with the defaults, 4 MB of 128.
        "spark.sql.files.openCostInBytes": str(settings.input_split_mb * 1024 * 1024 // 32),
    }


@contextmanager
def changed_conf(spark: SparkSession, conf: Mapping[str, str]) -> Iterator[None]:
    """Set properties of a session, and restore them afterwards; raise SetupError for fixed ones."""
    from pyspark.errors import PySparkException

    before: dict[str, str | None] = {}
    try:
        for key, value in conf.items():
            current = spark.conf.get(key, None)
            try:
                spark.conf.set(key, value)
            except PySparkException as error:
                if current == value:
                    continue
                raise SetupError(
                    f"Spark property {key!r} can't be changed",
                    got=str(error.getCondition()),
                    remedy="set it where this Spark is started",
                ) from None
            before[key] = current
        yield
    finally:
        with suppress(PySparkException, ConnectionError):
            for key, value_before in before.items():
                if value_before is None:
                    spark.conf.unset(key)
                else:
                    spark.conf.set(key, value_before)


def has_only_client() -> bool:
    """Return whether PySpark is the thin client, pyspark-client, which lacks all that needs a JVM."""
    return find_spec("pyspark") is not None and find_spec("pyspark.core") is None


def runs_locally(master: str | None) -> bool:
    """Return whether tasks die with this process; a running Spark takes precedence over `master`."""
    if "PYSPARK_GATEWAY_PORT" in os.environ or os.environ.get("SPARK_REMOTE"):
        return False
    if sys.modules.get("pyspark") is not None and (running := _running_session()) is not None:
        from lakevec.udfs.distribution import is_local

        return is_local(running)
    return (master or "local").startswith("local") and "cluster" not in (master or "")


def _find_remote(master: str | None, remote: str | None) -> str | None:
    """Return the Connect server to use; raise SetupError if it is given as a master, or missing."""
    if master is not None and master.startswith("sc://"):
        raise SetupError(
            f"master {master!r} is a Spark Connect server",
            expected="a Spark master such as local[2] or spark://host:7077",
            remedy=f"give it as --remote {master}",
        )
    if master is not None and remote is not None:
        raise SetupError("master and remote can't both be given", remedy="leave one of them out")
    remote = remote or (None if master else os.environ.get("SPARK_REMOTE"))
    if remote is None and has_only_client():
        raise SetupError(
            "PySpark's thin client can't start Spark itself",
            expected="a Spark Connect server",
            remedy="give --remote sc://host:15002 or set SPARK_REMOTE, or install pyspark in its place",
        )
    return remote


def _connect(builder: SparkSession.Builder, remote: str) -> SparkSession:
    """Open a session on a Spark Connect server."""
    what, expected = f"can't reach Spark Connect at {remote!r}", "a running server, as in sc://host:15002"
    with rephrase(SetupError, what, expected=expected):  # errors of grpc share no base class with others
        # Fail at once if no server listens; the client would retry for ten minutes. A remote without a host,
        # such as local[*], starts a server.
        address = urlsplit(remote)
        if address.hostname:
            place = (address.hostname, address.port or 15002)
            socket.create_connection(place, timeout=_SERVER_TIMEOUT_S).close()
        try:
            spark = builder.remote(remote).getOrCreate()
            spark.version  # noqa: B018  (a request to the server)
        except ImportError as error:
            raise SetupError(
                "Spark Connect needs a package that is not installed",
                got=str(error.name or error),
                remedy="pip install 'pyspark[connect]', or pip install pyspark-client",
            ) from None
    return spark


def _start(
    builder: SparkSession.Builder, master: str | None, conf: Mapping[str, str], *, verbose: bool
) -> SparkSession:
    """Join the Spark of spark-submit, or start one. Unless verbose, its log is off or goes to a file."""
    # Spark's default pattern leaves Azure storage keys readable in event logs and in its web UI.
    redaction = {"spark.redaction.regex": KEY_PATTERN, "spark.redaction.string.regex": PLAN_PATTERN}
    builder = builder.config(map={**redaction, **conf})
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        spark = (builder if master is None else builder.master(master)).getOrCreate()
        if not verbose and hasattr(spark, "sparkContext"):
            _turn_log_off(spark)
        return spark
    java = ensure_java()
    # Local workers must use this interpreter and this code, not the PATH's python3.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = builder.master(master or "local[*]").config("spark.executorEnv.PYTHONPATH", _CHECKOUT)
    # A running JVM keeps its stderr.
    is_logged = not verbose and _log_file is None
    try:
        with _stderr_to_log() if is_logged else nullcontext(), short_start(java, find_spark(), conf):
            return builder.getOrCreate()
    except Exception as error:  # launcher errors of any class
        raise _start_error(error) from None


_log_file: str | None = None


def spark_log() -> str | None:
    """Return the file of Spark's log, if there is one; keep the file when this process ends."""
    atexit.unregister(_remove_log)
    return _log_file


def _remove_log(log: str) -> None:
    with suppress(OSError):
        Path(log).unlink()


@contextmanager
def _stderr_to_log() -> Iterator[None]:
    """Send the stderr of child processes, the JVM and its Python workers, to a file."""
    global _log_file
    log, _log_file = tempfile.mkstemp(prefix="lakevec-spark-", suffix=".log")
    atexit.register(_remove_log, _log_file)
    stderr = os.dup(2)
    os.dup2(log, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(log)


# A line with which Spark's launcher, Java or Spark's package resolver reports a failure.
_REASON = re.compile(
    r"^(?:Exception in thread \"main\" |Caused by: |Error: |ERROR:? |.*\bERROR \S+: )?"
    r"(?P<reason>(?:[\w.$]+(?:Exception|Error): |Could not |Unrecognized |Too many open files|Cannot allocate"
    r"|Initial heap|Invalid maximum|unresolved dependency|.*Too many open files).*)$",
    re.MULTILINE,
)


def _start_error(error: Exception) -> SetupError:
    log = spark_log()
    text = Path(log).read_text(errors="replace") if log else str(error)
    found = _REASON.search(text) or _REASON.search(str(error))
    reason = found["reason"] if found else str(error).strip().split("\n")[0] or type(error).__name__
    where = f"its log is {log}; " if log else ""
    return SetupError(
        "Spark can't start", got=reason.strip()[:300], remedy=f"{where}'lakevec doctor' may help"
    )


def _turn_log_off(spark: SparkSession) -> None:
    """Turn off the log in client mode; leave the log of a driver on the cluster as it is."""
    settings = spark.sparkContext.getConf()
    is_client = settings.get("spark.submit.deployMode", "client") == "client"
    if is_client and settings.get("spark.log.level") is None:
        spark.sparkContext.setLogLevel("OFF")


def _running_session() -> SparkSession | None:
    """Return this thread's session, else the process's: another thread may have created it."""
    from pyspark.sql import SparkSession

    if (active := SparkSession.getActiveSession()) is not None:
        return active
    started = getattr(SparkSession, "_instantiatedSession", None)
    if started is not None and started._sc._jsc is not None:
        return cast("SparkSession", started)
    # Do not import it: few installations have the packages that the client needs.
    connect = sys.modules.get("pyspark.sql.connect.session")
    return getattr(connect.SparkSession, "_default_session", None) if connect is not None else None


@contextmanager
def _quiet_pyspark(*, verbose: bool) -> Iterator[None]:
    """Stop PySpark from logging an exception, which may hold a row's text."""
    from pyspark.logger import PySparkLogger

    loggers = [PySparkLogger.getLogger(f"{kind}QueryContextLogger") for kind in ("DataFrame", "SQL")]
    quieted = [logger for logger in loggers if not (verbose or logger.disabled)]
    for logger in quieted:
        logger.disabled = True
    try:
        yield
    finally:
        for logger in quieted:
            logger.disabled = False
