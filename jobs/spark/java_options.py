"""Java's options for a Spark that lakevec starts: later optimisation, and Spark's classes from an archive.

The first run on a machine lets Java write the archive when it ends; later runs map it. Java checks the
archive itself, and starts without it if it is damaged or fits other jars. The user's own options win.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from lakevec.jobs.spark.java import Java
from lakevec.pipeline.errors import DataError
from lakevec.pipeline.local_files import cache_folder

# Java optimises a method after ten times as many calls as by default. A short run spends half of its time
# optimising methods that it hardly calls again.
LATE_OPTIMISATION = (
    "-XX:Tier4InvocationThreshold=50000",
    "-XX:Tier4MinInvocationThreshold=6000",
    "-XX:Tier4CompileThreshold=150000",
    "-XX:Tier4BackEdgeThreshold=400000",
)
# The launcher is a Java that lives for a moment, and prints the command of Spark's own Java.
_LAUNCHER = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
# Java's warnings about classes that it can't archive, thousands of lines.
_SILENT = ("-Xlog:cds=off", "-Xlog:cds+dynamic=off", "-Xlog:class+path=off")
_ARCHIVE_KEPT = 2
# An archive has 180 MB.
_FREE_BYTES = 2 << 30
_CLASS_PATH_FOLDERS = ("HADOOP_CONF_DIR", "YARN_CONF_DIR")
_UNFINISHED_S = 3600.0
# What a finished archive begins with, in native byte order: Java writes the header last.
_UNFINISHED = b"\0\0\0\0"
# What rules out an archive of lakevec's: another one, agents, which change classes, another class path.
_OWN_WAY = re.compile(
    r"SharedArchive|ArchiveClasses|-Xshare|-javaagent|-agent|driver[.]extraClassPath|driver-class-path"
)
_USERS = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "SPARK_SUBMIT_OPTS")
_PROPERTIES = ("spark.driver.extraJavaOptions", "spark.driver.defaultJavaOptions")


@contextmanager
def short_start(java: Java, spark_home: Path, conf: Mapping[str, str]) -> Iterator[None]:
    """Add lakevec's options to those that Spark's launcher reads from the environment.

    Parameters
    ----------
    java : Java
    spark_home : pathlib.Path
    conf : mapping of str to str
        Spark properties of the session.
    """
    told = _users_options(spark_home, conf)
    ours = [*LATE_OPTIMISATION]
    if not _OWN_WAY.search(told) and not os.environ.get("SPARK_DIST_CLASSPATH"):
        ours += archive_options(java, spark_home)
    ours = [option for option in ours if option.partition("=")[0] not in told]
    before = {name: os.environ.get(name) for name in ("SPARK_SUBMIT_OPTS", "SPARK_LAUNCHER_OPTS")}
    # Java takes the last of several, and these come before the options of Spark's properties.
    os.environ["SPARK_SUBMIT_OPTS"] = " ".join([*ours, before["SPARK_SUBMIT_OPTS"] or ""]).strip()
    os.environ.setdefault("SPARK_LAUNCHER_OPTS", _LAUNCHER)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def archive_options(java: Java, spark_home: Path) -> list[str]:
    """Return the options that read the archive of Spark's classes; if there is none, those that write it."""
    try:
        folder = cache_folder("spark-classes")
        archive = folder / f"{_digest(java, spark_home)}.jsa"
        _adopt(folder)
        if archive.exists():
            os.utime(archive)
            return [*_SILENT, f'-XX:SharedArchiveFile="{archive}"']
    except (OSError, DataError):  # no folder can be written
        return []
    if not _can_write_archive(java, spark_home, folder):
        return []
    # A name of its own: two runs may write one at a time, and a killed one leaves it unfinished.
    return [*_SILENT, f'-XX:ArchiveClassesAtExit="{archive.with_suffix("")}.{uuid.uuid4().hex[:8]}.new"']


def _can_write_archive(java: Java, spark_home: Path, folder: Path) -> bool:
    """Return whether Java can write an archive, and has the time and the space for it."""
    # The archive adds to Java's own, which the Java of the wheel lacks.
    has_base = any(Path(java.home).glob("lib/server/classes*.jsa"))
    # Folders on the class path rule an archive out.
    named = [os.environ[name] for name in _CLASS_PATH_FOLDERS if os.environ.get(name)]
    places = [_conf_folder(spark_home), *map(Path, named)]
    has_folder = any(place.is_dir() and any(place.iterdir()) for place in places)
    # The kernel ends all processes of a container with its first one, and Java writes the archive later.
    is_first = os.getpid() == 1
    return has_base and not has_folder and not is_first and shutil.disk_usage(folder).free > _FREE_BYTES


def _conf_folder(spark_home: Path) -> Path:
    return Path(os.environ.get("SPARK_CONF_DIR") or spark_home / "conf")


def _users_options(spark_home: Path, conf: Mapping[str, str]) -> str:
    """Return all places where a user may set Java's options or class path, as one text."""
    told = [os.environ.get(name, "") for name in _USERS] + [conf.get(name, "") for name in _PROPERTIES]
    with suppress(OSError):
        told.append((_conf_folder(spark_home) / "java-opts").read_text(errors="replace"))
    return "\n".join([*told, _read_properties(spark_home, conf)])


def read_users_properties(conf: Mapping[str, str]) -> str:
    """Return the names of all Spark properties that a user may have set, somewhere in a text."""
    # Without an import of PySpark, which takes longer than all else in a run with nothing new.
    found = find_spec("pyspark")
    package = Path(found.origin or ".").parent if found else Path()
    homes = [Path(os.environ.get("SPARK_HOME") or package), package.parent.parent]
    return "\n".join(_read_properties(home, conf) for home in homes)


def _read_properties(spark_home: Path, conf: Mapping[str, str]) -> str:
    told = [*conf, os.environ.get("PYSPARK_SUBMIT_ARGS", "")]
    with suppress(OSError):
        told.append((_conf_folder(spark_home) / "spark-defaults.conf").read_text(errors="replace"))
    return "\n".join(told)


def find_spark() -> Path:
    """Return the folder of the Spark that PySpark starts."""
    from pyspark.find_spark_home import _find_spark_home

    return Path(_find_spark_home())


def _digest(java: Java, spark_home: Path) -> str:
    """Name an archive by the Java and the jars that it holds classes of, as Java itself compares them."""
    files = [*Path(java.home).glob("lib/server/*.so"), *Path(java.home).glob("release")]
    files += [Path(java.home) / "bin" / "java", *(spark_home / "jars").glob("*.jar")]
    facts = sorted((file.name, (stat := file.stat()).st_size, stat.st_mtime_ns) for file in files)
    return hashlib.sha256(repr((java.home, str(spark_home), facts)).encode()).hexdigest()[:16]


def _adopt(folder: Path) -> None:
    """Give finished archives of earlier runs their names; remove unfinished ones and old archives."""
    for made in sorted(folder.glob("*.new")):
        with made.open("rb") as stream:
            if stream.read(4) not in (b"", _UNFINISHED):
                os.fsync(stream.fileno())
                made.replace(folder / f"{made.name.partition('.')[0]}.jsa")
                _remove_old(folder)
                continue
        if time.time() - made.stat().st_mtime > _UNFINISHED_S:
            made.unlink(missing_ok=True)


def _remove_old(folder: Path) -> None:
    """Keep the archives that were used last; a Java that has mapped a removed one keeps its pages."""
    by_use = sorted(folder.glob("*.jsa"), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in by_use[_ARCHIVE_KEPT:]:
        file.unlink(missing_ok=True)
