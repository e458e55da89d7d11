"""Ship bytes and code to executors, by broadcast or as artifacts of a Spark Connect session."""

from __future__ import annotations

import atexit
import hashlib
import io
import pkgutil
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from pyspark.sql import SparkSession

from lakevec import pipeline, udfs
from lakevec.udfs.node_files import Fetch, NodeFiles, PackedFiles


class BroadcastFiles:
    """Files in a Spark broadcast; call it in a worker to get their bytes."""

    def __init__(self, broadcast: Any) -> None:
        self._broadcast = broadcast

    def __call__(self) -> dict[str, bytes]:
        """Return the files' bytes."""
        files: dict[str, bytes] = self._broadcast.value
        # The worker now maps the node's copy. Free its memory from the broadcast's bytes.
        del self._broadcast._value
        return files


class ArtifactFiles:
    """Files in artifacts of a Spark Connect session; call it in a worker to get their bytes."""

    def __init__(self, names: dict[str, str]) -> None:
        self._names = names

    def __call__(self) -> dict[str, bytes]:
        """Return the files' bytes."""
        from pyspark import SparkFiles  # pyspark-client lacks it, but workers have it

        return {name: Path(SparkFiles.get(artifact)).read_bytes() for name, artifact in self._names.items()}


_shipped: WeakKeyDictionary[Any, dict[str, NodeFiles]] = WeakKeyDictionary()


def distribute_files(spark: SparkSession, packed: PackedFiles) -> NodeFiles:
    """Ship files to the cluster, once per session and content; return their names for tasks."""
    owner = spark.sparkContext if has_spark_context(spark) else spark
    # If a notebook runs a cell again, ship nothing again.
    shipped = _shipped.setdefault(owner, {})
    files = packed.fetched_by(dict)
    key = repr((sorted({**files.sha256, **files.machine_code}.items()), packed.node_dir))
    if key not in shipped:
        shipped[key] = replace(files, fetch=_ship(spark, packed.content))
    return shipped[key]


def _ship(spark: SparkSession, files: dict[str, bytes]) -> Fetch:
    if has_spark_context(spark):
        return BroadcastFiles(spark.sparkContext.broadcast(files))
    names = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            names[name] = f"lakevec-{hashlib.sha256(content).hexdigest()[:32]}-{name}"
            path = Path(folder) / names[name]
            path.write_bytes(content)
            spark.addArtifacts(str(path), file=True)
    return ArtifactFiles(names)


def ship_code(spark: SparkSession, *packages: Any) -> None:
    """Send lakevec without its jobs to the executors, so that they run the driver's version.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
        Its executors need the core dependencies (numba, numpy, pyarrow, tokenizers).
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
        init = pkgutil.get_data("lakevec", "__init__.py") or b""
        archive.writestr(zipfile.ZipInfo("lakevec/__init__.py"), init)
        for package in packages:
            for name, content in _sources(package):
                archive.writestr(zipfile.ZipInfo(f"{_folder(package)}/{name}"), content)
    return buffer.getvalue()


def has_spark_context(spark: SparkSession) -> bool:
    """Return whether a session is classic, not Spark Connect."""
    return not type(spark).__module__.startswith("pyspark.sql.connect")


def is_local(spark: SparkSession) -> bool:
    """Return whether Python workers run on this machine, with its code."""
    master = str(spark.sparkContext.master) if has_spark_context(spark) else ""
    return master == "local" or master.startswith("local[")


def _folder(package: Any) -> str:
    return str(package.__name__).replace(".", "/")


def _sources(package: Any) -> list[tuple[str, bytes]]:
    """List the modules of a package in a folder or in a zip."""
    loader = package.__spec__.loader
    if hasattr(loader, "archive"):
        with zipfile.ZipFile(loader.archive) as archive:
            prefix = f"{_folder(package)}/"
            return [
                (name.removeprefix(prefix), archive.read(name))
                for name in sorted(archive.namelist())
                if name.startswith(prefix) and name.endswith(".py")
            ]
    root = Path(package.__file__).parent
    return [(file.relative_to(root).as_posix(), file.read_bytes()) for file in sorted(root.rglob("*.py"))]
