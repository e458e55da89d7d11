"""``lakevec doctor``: report installed and missing packages, with a remedy for each problem."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from lakevec import __version__
from lakevec.jobs.cli import RunContext, run_command
from lakevec.jobs.spark.java import OLDEST_JAVA, find_java
from lakevec.jobs.spark.session import has_only_client
from lakevec.pipeline.errors import SetupError
from lakevec.pipeline.settings.base import Settings

_LEAST_MEMORY_GIB = 4
_LEAST_TEMP_GIB = 2
# What extras are for. `local` and `connect` exclude each other; the line about Spark says which is there.
EXTRAS = {
    "distill": "to distil models",
    "convert": "to convert models of other libraries",
    "onnx": "to write ONNX models",
    "evaluate": "to evaluate models",
    "mteb": "to run the tasks of mteb",
    "chunk": "to split texts into chunks",
    "delta": "to write Delta tables",
    "iceberg": "to write Iceberg tables",
    "lance": "to export to Lance",
    "faiss": "to export to FAISS",
    "metrics": "to write metrics for Prometheus",
    "lineage": "to send OpenLineage events",
    "beam": "to embed in Beam pipelines",
    "heads": "to train heads",
    "demo": "to run the demo",
    "benchmark": "to compare with other libraries",
}


class DoctorSettings(Settings):
    """Report what is installed here and what is missing, with a remedy for each problem.

    exit code: 0 if embedding can run on this machine, 2 if it lacks something
    """


SETTINGS = DoctorSettings


@dataclass(frozen=True)
class Finding:
    """A line of the report. A failed check has a `remedy`; embedding requires `needed` checks to pass."""

    subject: str
    found: str
    remedy: str = ""
    needed: bool = True


def run(settings: DoctorSettings, context: RunContext) -> None:
    """Print the report; raise SetupError if something that embedding needs is missing."""
    print(f"lakevec {__version__}")
    findings = [
        check_python(),
        check_packages(),
        check_spark(),
        check_java(),
        check_memory(),
        check_temp(),
        *(check_packages(extra, purpose) for extra, purpose in EXTRAS.items()),
    ]
    for finding in findings:
        mark = "ok     " if not finding.remedy else "MISSING" if finding.needed else "absent "
        print(f"  {mark}  {finding.subject:<10} {finding.found}")
        if finding.remedy:
            print(f"           {'':<10} -> {finding.remedy}")
    missing = [finding.subject for finding in findings if finding.remedy and finding.needed]
    if missing:
        raise SetupError(f"missing: {', '.join(missing)}", remedy="see the remedies above")
    print("embedding can run here")


def check_python() -> Finding:
    """Check the interpreter."""
    found = f"{sys.version.split()[0]} ({sys.executable})"
    return Finding("Python", found, "" if sys.version_info >= (3, 11) else "use Python 3.11 or later")


def check_packages(extra: str = "", purpose: str = "") -> Finding:
    """Check the packages that lakevec's metadata lists for an extra, or for the core."""
    subject, needed = extra or "core", not extra
    remedy = f"pip install 'lakevec[{extra}]', {purpose}" if extra else "pip install lakevec"
    try:
        requirements = requires("lakevec") or []
    except PackageNotFoundError:
        return Finding(subject, "unknown: lakevec runs from a checkout", needed=needed)
    names = [
        re.split(r"[^\w.-]", requirement)[0]
        for requirement in requirements
        if re.findall(r"extra == ['\"](\w+)", requirement) == ([extra] if extra else [])
    ]
    present, absent = [], []
    for name in names:
        try:
            present.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            absent.append(name)
    if absent:
        return Finding(subject, f"without {', '.join(absent)}", remedy, needed)
    return Finding(subject, ", ".join(present), needed=needed)


def check_spark() -> Finding:
    """Check PySpark."""
    if importlib.util.find_spec("pyspark") is None:
        remedy = "pip install 'lakevec[local]', or start jobs with your cluster's spark-submit"
        return Finding("Spark", "no pyspark", remedy)
    from pyspark import __version__ as spark_version

    remedy = "" if int(spark_version.split(".")[0]) >= 4 else "install pyspark 4.0 or later"
    if has_only_client():
        return Finding("Spark", f"pyspark-client {spark_version}, for --remote and SPARK_REMOTE only", remedy)
    return Finding("Spark", f"pyspark {spark_version}", remedy)


def check_java() -> Finding:
    """Check for a Java that Spark runs on."""
    java = find_java()
    if java is None:
        if has_only_client():
            return Finding("Java", "none, and the thin client needs none")
        remedy = f"install a JRE {OLDEST_JAVA} or later, set JAVA_HOME, or pip install 'lakevec[local]'"
        return Finding("Java", "none", remedy)
    return Finding("Java", f"{java.version} from {java.source} ({java.home})")


def check_memory() -> Finding:
    """Check the machine's memory."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    remedy = "" if total >= _LEAST_MEMORY_GIB else f"use at least {_LEAST_MEMORY_GIB} GiB"
    return Finding("memory", f"{total:.1f} GiB, {os.cpu_count()} cores", remedy, needed=False)


def check_temp() -> Finding:
    """Check the temporary folder, which holds this node's copy of a table."""
    folder = Path(tempfile.gettempdir())
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"lakevec")
    except OSError as error:
        return Finding("temp", f"{folder}: {error.strerror}", "set TMPDIR to a writable folder")
    free = shutil.disk_usage(folder).free / 2**30
    remedy = "" if free >= _LEAST_TEMP_GIB else "free some space, or set TMPDIR to another disk"
    return Finding("temp", f"{folder}, {free:.1f} GiB free", remedy)


if __name__ == "__main__":
    sys.exit(run_command("doctor"))
