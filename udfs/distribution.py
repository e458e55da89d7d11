"""How bytes and code get to executors: a broadcast, or artifacts where a session has no SparkContext."""

from __future__ import annotations

import atexit
import hashlib
import io
import pkgutil
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from pyspark.sql import SparkSession

from lakevec import pipeline, udfs
from lakevec.udfs.node_files import NodeFiles


class BroadcastFiles:
    """Files that travel by Spark's broadcast.

    Parameters
    ----------
    broadcast : pyspark.Broadcast
        Its value is read, and then dropped, only by workers that call.
    """

    def __init__(self, broadcast: Any) -> None:
        self._broadcast = broadcast

    def __call__(self) -> dict[str, bytes]:
        """Return the files' bytes."""
        files: dict[str, bytes] = self._broadcast.value
        # The worker maps the node's copy from here on; a broadcast would keep the bytes in its memory.
        del self._broadcast._value
        return files


class ArtifactFiles:
    """Files that travel as artifacts of a Spark Connect session.

    Parameters
    ----------
    names : dict of str to str
        Name of each file and of the artifact that carries it.
    """

    def __init__(self, names: dict[str, str]) -> None:
        self._names = names

    def __call__(self) -> dict[str, bytes]:
        """Return the files' bytes."""
        from pyspark import SparkFiles  # which the thin client lacks, and a worker has

        return {name: Path(SparkFiles.get(artifact)).read_bytes() for name, artifact in self._names.items()}


def distribute_files(
    spark: SparkSession, table: NodeFiles, files: dict[str, bytes]
) -> Callable[[], dict[str, bytes]]:
    """Send a table's files to the cluster once.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
        Classic or Connect.
    table : NodeFiles
        Names the artifacts of a Connect session.
    files : dict of str to bytes
        From `lakevec.udfs.node_files.pack_table`.

    Returns
    -------
    callable
        Small; called in a worker it returns `files`.
    """
    digests = {**table.sha256, **table.machine_code}
    owner = spark.sparkContext if has_spark_context(spark) else spark
    # A notebook that runs a cell again ships nothing again.
    shipped = _shipped.setdefault(owner, {})
    key = tuple(sorted(digests.items()))
    if key not in shipped:
        shipped[key] = _ship(spark, digests, files)
    return shipped[key]


_Fetch = Callable[[], dict[str, bytes]]
_shipped: WeakKeyDictionary[Any, dict[tuple[tuple[str, str], ...], _Fetch]] = WeakKeyDictionary()


def _ship(spark: SparkSession, digests: dict[str, str], files: dict[str, bytes]) -> _Fetch:
    if has_spark_context(spark):
        return BroadcastFiles(spark.sparkContext.broadcast(files))
    names = {name: f"lakevec-{digests[name][:32]}-{name}" for name in files}
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            path = Path(folder) / names[name]
            path.write_bytes(content)
            spark.addArtifacts(str(path), file=True)
    return ArtifactFiles(names)


def ship_code(spark: SparkSession, *packages: Any) -> None:
    """Send lakevec without its jobs to the executors, so that they run what the driver runs.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
        Executors still need the core dependencies (numba, numpy, pyarrow, tokenizers).
    *packages : module
        Other packages to send instead.
    """
    # Executors fetch the file from this one whenever they start, so it stays as long as the driver does.
    folder = tempfile.mkdtemp(prefix="lakevec-code-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    code = build_code_archive(packages or (pipeline, udfs))
    # Named for its sources: a lakevec.zip given with --py-files must not meet another of that name.
    archive = Path(folder) / f"lakevec-{hashlib.sha256(code).hexdigest()[:12]}.zip"
    archive.write_bytes(code)
    if has_spark_context(spark):
        spark.sparkContext.addPyFile(str(archive))
    else:
        spark.addArtifacts(str(archive), pyfile=True)


def build_code_archive(packages: Sequence[Any] = (pipeline, udfs)) -> bytes:
    """Return a zip of packages that Python imports from, the same bytes every time.

    Parameters
    ----------
    packages : sequence of module, default=(pipeline, udfs)

    Returns
    -------
    bytes
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        own = pkgutil.get_data("lakevec", "__init__.py") or b""
        archive.writestr(zipfile.ZipInfo("lakevec/__init__.py"), own)
        for package in packages:
            for name, content in _sources(package):
                archive.writestr(zipfile.ZipInfo(f"{_folder(package)}/{name}"), content)
    return buffer.getvalue()


def has_spark_context(spark: SparkSession) -> bool:
    """Tell a classic session from a Spark Connect one."""
    return not type(spark).__module__.startswith("pyspark.sql.connect")


def is_local(spark: SparkSession) -> bool:
    """Tell whether Python workers run on this machine, with the code that is here."""
    master = str(spark.sparkContext.master) if has_spark_context(spark) else ""
    return master == "local" or master.startswith("local[")


def _folder(package: Any) -> str:
    return str(package.__name__).replace(".", "/")


def _sources(package: Any) -> list[tuple[str, bytes]]:
    """List a package's modules, whether it lies in a folder or was itself imported from a zip."""
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
