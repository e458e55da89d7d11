"""Ship bytes and code to executors, by broadcast or as artifacts of a Spark Connect session."""

from __future__ import annotations

import atexit
import hashlib
import io
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from importlib.resources import files as resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from lakevec import pipeline, udfs
from lakevec.pipeline.encoding.node_files import Fetch, NodeFiles

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_shipped: WeakKeyDictionary[Any, dict[str, NodeFiles]] = WeakKeyDictionary()


def distribute_files(spark: SparkSession, files: NodeFiles) -> NodeFiles:
    """Ship files to the cluster, once per session and content; in a task, the result fetches them there."""
    owner = spark.sparkContext if has_spark_context(spark) else spark
    # If a notebook runs a cell again, ship nothing again.
    shipped = _shipped.setdefault(owner, {})
    key = repr((sorted({**files.sha256, **files.machine_code}.items()), files.node_dir))
    if key not in shipped:
        shipped[key] = replace(files, fetch=_ship(spark, files.fetch()))
    return shipped[key]


def _ship(spark: SparkSession, files: dict[str, bytes]) -> Fetch:
    """Ship files; return the function that reads their bytes in a worker."""
    if has_spark_context(spark):
        return partial(_read_broadcast, spark.sparkContext.broadcast(files))
    names = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            names[name] = f"lakevec-{hashlib.sha256(content).hexdigest()[:32]}-{name}"
            path = Path(folder) / names[name]
            path.write_bytes(content)
            spark.addArtifacts(str(path), file=True)
    return partial(_read_artifacts, names)


def _read_broadcast(broadcast: Any) -> dict[str, bytes]:
    files: dict[str, bytes] = broadcast.value
    # The worker will map the node's copy, so don't keep the bytes in its memory, too.
    del broadcast._value
    return files


def _read_artifacts(names: dict[str, str]) -> dict[str, bytes]:
    from pyspark import SparkFiles  # pyspark-client lacks it, but workers have it

    return {name: Path(SparkFiles.get(artifact)).read_bytes() for name, artifact in names.items()}


def ship_code(spark: SparkSession, *packages: Any) -> None:
    """Send lakevec without its jobs to the executors, so that they run the driver's version.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
        Its executors need numba, numpy, pandas, pyarrow, safetensors and tokenizers.
    *packages : module
        Other packages to send instead.

    Examples
    --------
    >>> ship_code(spark)  # doctest: +SKIP
    """
    # Executors fetch the file when they start, so keep it until the driver ends.
    folder = tempfile.mkdtemp(prefix="lakevec-code-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    code = build_code_archive(packages or (pipeline, udfs))
    # The content names the file, so that it never replaces a lakevec.zip from --py-files.
    archive = Path(folder) / f"lakevec-{hashlib.sha256(code).hexdigest()[:12]}.zip"
    archive.write_bytes(code)
    if has_spark_context(spark):
        spark.sparkContext.addPyFile(str(archive))
    else:
        spark.addArtifacts(str(archive), pyfile=True)


def build_code_archive(packages: Sequence[Any] = (pipeline, udfs)) -> bytes:
    """Return an importable zip of packages; the same sources give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        _add_modules(archive, "lakevec/__init__.py", resources("lakevec") / "__init__.py")
        for package in packages:
            _add_modules(archive, package.__name__.replace(".", "/"), resources(package))
    return buffer.getvalue()


def _add_modules(archive: zipfile.ZipFile, name: str, source: Traversable) -> None:
    """Add a module, or the modules of a folder; the source may lie in a zip itself."""
    if source.is_dir():
        for entry in sorted(source.iterdir(), key=lambda entry: entry.name):
            _add_modules(archive, f"{name}/{entry.name}", entry)
    elif name.endswith(".py"):
        archive.writestr(zipfile.ZipInfo(name), source.read_bytes())


def has_spark_context(spark: SparkSession) -> bool:
    """Return whether a session is classic, not Spark Connect."""
    return not type(spark).__module__.startswith("pyspark.sql.connect")


def is_local(spark: SparkSession) -> bool:
    """Return whether Python workers run on this machine, with its code."""
    master = str(spark.sparkContext.master) if has_spark_context(spark) else ""
    return master == "local" or master.startswith("local[")
