"""What is decided before Spark starts, and therefore without PySpark."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.lakes import put
from tests.support.paths import ROOT


def test_run_without_pyspark_names_what_to_install(tiny_model: str, lake: Path, out: Path) -> None:
    put(lake / "a.parquet", ["a"])
    words = ["--model", tiny_model, "--input", str(lake), "--text", "text", "--output", str(out)]
    code = (
        "import sys; sys.modules['pyspark'] = None; from lakevec.jobs.cli import run_command; "
        f"sys.exit(run_command('embed', {words!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("lakevec embed: PySpark is not installed: pip install 'lakevec[local]'")
    assert not out.exists()
