"""Java for runs of seconds: one compiler, one collector's thread, and Spark's classes read from an archive.

Tests start Spark a hundred times. A start and a small run take 18 s of processor time by themselves, 11 s
with one compiler, 7 s with the archive too, which ``python -m tests.support.short_java`` writes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.paths import ROOT

ARCHIVE = Path(sys.prefix) / "spark-classes.jsa"
# An archive of another Java is left alone without a word.
_PLAIN = "-XX:+IgnoreUnrecognizedVMOptions -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xlog:disable"
JAVA_OPTIONS = f'{_PLAIN} -XX:SharedArchiveFile="{ARCHIVE}"' if ARCHIVE.exists() else _PLAIN
# Spark's scripts read both.
ENVIRONMENT = {"SPARK_LAUNCHER_OPTS": _PLAIN, "SPARK_SUBMIT_OPTS": JAVA_OPTIONS}


def _write_archive() -> None:
    """Embed five texts: what such a run loads is what the archive should hold."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    import pyspark
    from tokenizers import Tokenizer, models

    from lakevec.jobs.spark.java import ensure_java
    from lakevec.pipeline.model.publishing import publish
    from lakevec.pipeline.model.table import StaticTable

    ensure_java()
    home = Path(pyspark.__file__).parent
    partly = ARCHIVE.with_suffix(".partly")
    options = f'{_PLAIN} -XX:ArchiveClassesAtExit="{partly}"'
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]")).to_str()
        table = StaticTable(np.eye(1, 2, dtype=np.float32), tokenizer)
        publish(table, str(folder / "model"), provenance={}, quality={})
        pq.write_table(pa.table({"body": ["a"] * 5}), folder / "lake.parquet")
        words = ["--model", str(folder / "model"), "--input", str(folder / "lake.parquet"), "--text", "body"]
        words += ["--output", str(folder / "vectors")]
        done = subprocess.run(
            # Here Java outlives Python, so the archive is whole when it ends.
            [str(home / "bin" / "spark-submit"), "--master", "local[1]", "jobs/embed.py", *words],
            env=os.environ
            | {"SPARK_HOME": str(home), "PYSPARK_PYTHON": sys.executable, "SPARK_SUBMIT_OPTS": options},
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
    # Some Javas, such as that of the wheel, can't write one.
    if done.returncode or not partly.exists():
        print("no archive of Spark's classes could be written; tests will start slower")
    else:
        partly.replace(ARCHIVE)


if __name__ == "__main__":
    _write_archive()
