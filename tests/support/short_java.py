"""Java for runs of seconds: one compiler, one collector's thread, and the archive of Spark's classes.

Tests start Spark a hundred times. ``python -m tests.support.short_java`` writes the archive that
`lakevec.jobs.spark.java_options` reads, before the first test.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pyspark

from lakevec.jobs.spark.java import ensure_java
from lakevec.jobs.spark.java_options import archive_options
from tests.support.paths import ROOT

HOME = Path(pyspark.__file__).parent
_PLAIN = "-XX:+IgnoreUnrecognizedVMOptions -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xlog:disable"
_ARCHIVE = " ".join(archive_options(ensure_java(), HOME))
JAVA_OPTIONS = f"{_PLAIN} {_ARCHIVE}" if "SharedArchiveFile" in _ARCHIVE else _PLAIN
# Spark's scripts read both.
ENVIRONMENT = {"SPARK_LAUNCHER_OPTS": _PLAIN, "SPARK_SUBMIT_OPTS": JAVA_OPTIONS}


def _write_archive() -> None:
    """Embed five texts: what such a run loads is what the archive should hold."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from tokenizers import Tokenizer, models

    from lakevec.pipeline.model.publishing import publish
    from lakevec.pipeline.model.table import StaticTable

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]")).to_str()
        table = StaticTable(np.eye(1, 2, dtype=np.float32), tokenizer)
        publish(table, str(folder / "model"), provenance={}, quality={})
        pq.write_table(pa.table({"body": ["a"] * 5}), folder / "lake.parquet")
        words = ["--model", str(folder / "model"), "--input", str(folder / "lake.parquet"), "--text", "body"]
        words += ["--output", str(folder / "vectors")]
        subprocess.run(
            # Here Java outlives Python, so the archive is whole when it ends.
            [str(HOME / "bin" / "spark-submit"), "--master", "local[1]", "jobs/embed.py", *words],
            env=os.environ
            | {
                "SPARK_HOME": str(HOME),
                "PYSPARK_PYTHON": sys.executable,
                "SPARK_SUBMIT_OPTS": f"{_PLAIN} {_ARCHIVE}",
            },
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
    # Some Javas, such as that of the wheel, can't write one.
    if "SharedArchiveFile" not in " ".join(archive_options(ensure_java(), HOME)):
        print("no archive of Spark's classes could be written; tests will start slower")


if __name__ == "__main__" and JAVA_OPTIONS == _PLAIN:
    _write_archive()
