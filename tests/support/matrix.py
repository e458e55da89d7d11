"""``make matrix``: the tests of `test_spark_versions` on every minor version of Spark 4 and several Pythons.

    python -m tests.support.matrix [--spark 4.0.0 4.3] [--python 3.11 3.13]

Each pair gets a virtual environment of its own below ``.venv-matrix``. The oldest and the newest Spark run on
every Python that is at hand, the others on the oldest. Prints a table for docs/versions.md.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.paths import ROOT

SPARKS = ("4.0.0", "4.1", "4.2", "4.3")
PYTHONS = ("3.11", "3.12", "3.13")
READERS = ("deltalake", "duckdb", "polars", "pytest", "hypothesis", "filelock")
_SHOWN_LINES = 40
# DataFrame.collect() of PySpark 4.0 and 4.1 leaves its socket to the garbage collector.
SOCKETS = "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning"


def find_python(version: str) -> str | None:
    """Look for an interpreter on the PATH and below pyenv's root."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [shutil.which(f"python{version}"), *sorted(root.glob(f"versions/{version}.*/bin/python"))]
    for python in filter(None, found):
        told = subprocess.run([python, "--version"], capture_output=True, text=True)
        if told.stdout.startswith(f"Python {version}."):
            return str(python)
    return None


def make_environment(python: str, version: str, spark: str) -> Path:
    """Install lakevec and one Spark, unless a former call did."""
    folder = ROOT / ".venv-matrix" / f"python{version}-spark{spark}"
    done = folder / ".done"
    if not done.exists():
        subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
        wanted = f"pyspark=={spark}.*" if spark.count(".") == 1 else f"pyspark=={spark}"
        words = ["install", "--quiet", "--no-compile", "-e", f"{ROOT}[local]", wanted, *READERS]
        subprocess.run([folder / "bin" / "python", "-m", "pip", *words], check=True)
        done.touch()
    return folder / "bin" / "python"


def run_tests(python: Path, spark: str) -> str:
    """Run the tests with warnings as errors; return the table's cell."""
    # By -o, since -W takes a message's beginning word for word.
    filters = ["-o", f"filterwarnings=error\n{SOCKETS}"] if spark.startswith(("4.0", "4.1")) else []
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", *filters, "tests/test_spark_versions.py"]
    done = subprocess.run([python, *words], cwd=ROOT, capture_output=True, text=True)
    last = (done.stdout.strip().splitlines() or ["nothing"])[-1]
    if done.returncode:
        print(*done.stdout.splitlines()[-_SHOWN_LINES:], sep="\n", flush=True)
    return re.sub(r" in [\d.]+s.*", "", last)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.matrix", description=__doc__)
    parser.add_argument("--spark", nargs="+", default=SPARKS, help="versions of pyspark, oldest first")
    parser.add_argument("--python", nargs="+", default=PYTHONS, help="minor versions of Python, oldest first")
    asked = parser.parse_args()
    pythons = {version: python for version in asked.python if (python := find_python(version))}
    print(f"Python at hand: {', '.join(pythons) or 'none'}", flush=True)
    cells: dict[tuple[str, str], str] = {}
    for spark in asked.spark:
        on_all = spark in (asked.spark[0], asked.spark[-1])
        for version in pythons if on_all else list(pythons)[:1]:
            cells[spark, version] = run_tests(make_environment(pythons[version], version, spark), spark)
            print(f"Spark {spark}, Python {version}: {cells[spark, version]}", flush=True)
    print(f"\n| Spark | {' | '.join(f'Python {version}' for version in pythons)} |")
    print(f"|---|{'---|' * len(pythons)}")
    for spark in asked.spark:
        print(f"| {spark} | {' | '.join(cells.get((spark, version), '') for version in pythons)} |")
    return int(not cells or any(not re.fullmatch(r"\d+ passed", cell) for cell in cells.values()))


if __name__ == "__main__":
    sys.exit(main())
