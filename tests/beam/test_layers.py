"""``lakevec.beam`` stands on the pipeline alone."""

from __future__ import annotations

import subprocess
import sys

from tests.support.paths import ROOT


def test_beam_imports_neither_spark_nor_settings() -> None:
    code = "import sys, lakevec.beam; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {".".join(name.split(".")[:2]) for name in done.stdout.split()}
    assert "lakevec.beam" in loaded
    assert not {"lakevec.udfs", "lakevec.jobs", "pyspark", "pydantic", "torch", "tensorflow"} & loaded
