"""A standalone cluster on this machine: a master and two workers, one of which is killed in mid-run."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakevec.jobs.spark.java import ensure_java
from lakevec.pipeline.encoding.encoder import Encoder
from lakevec.pipeline.model.artifact import load
from tests.faults.cluster import Cluster
from tests.support import short_java
from tests.support.paths import ROOT

PYSPARK = Path(pytest.importorskip("pyspark").__file__).parent
FILES = 6


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    ensure_java()
    running = Cluster(PYSPARK, tmp_path / "cluster")
    running.start()
    yield running
    running.stop()


def write_lake(folder: Path, texts: list[str]) -> pa.Table:
    """Files of half a second's work each, so that a worker can be killed meanwhile."""
    folder.mkdir()
    rows = pa.table({"id": range(len(texts)), "text": texts})
    size = len(texts) // FILES
    for number in range(FILES):
        pq.write_table(rows.slice(number * size, size), folder / f"{number}.parquet")
    return rows.slice(0, FILES * size)


def submit(cluster: Cluster, folder: Path, model: str) -> subprocess.Popen[str]:
    """Start the job as docs/cluster.md says: a driver without lakevec gets it by --py-files."""
    shutil.copytree(
        ROOT / "lakevec", folder / "code" / "lakevec", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.make_archive(str(folder / "lakevec"), "zip", folder / "code")
    shutil.copy(ROOT / "jobs" / "embed.py", folder / "embed.py")
    conf = {
        "spark.executor.cores": "1",
        "spark.cores.max": "2",
        "spark.executor.memory": "512m",
        "spark.executor.extraJavaOptions": short_java.JAVA_OPTIONS,
        "spark.ui.enabled": "false",
    }
    argv = [str(PYSPARK / "bin" / "spark-submit"), "--master", cluster.url]
    argv += [word for item in conf.items() for word in ("--conf", "=".join(item))]
    argv += ["--py-files", str(folder / "lakevec.zip"), str(folder / "embed.py")]
    argv += ["--model", model, "--input", str(folder / "lake"), "--text", "text", "--wave-files", "2"]
    argv += ["--output", str(folder / "vectors"), "--node-dir", str(folder)]
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SPARK_", "PYSPARK_"))}
    env = {**kept, **short_java.ENVIRONMENT, "SPARK_HOME": str(PYSPARK), "PYSPARK_PYTHON": sys.executable}
    return subprocess.Popen(
        argv, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for_tasks(output: Path, job: subprocess.Popen[str]) -> None:
    """Wait until a micro-batch is committed, and tasks of the next one write."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and job.poll() is None:
        if any(output.glob("*.parquet")) and any(output.glob("_lakevec/staging/*/part-*")):
            return
        time.sleep(0.01)
    raise AssertionError("the job never ran on both workers")


@pytest.mark.cluster
def test_killed_worker_costs_no_row(
    cluster: Cluster, minilm_model: str, general_texts: list[str], tmp_path: Path
) -> None:
    rows = write_lake(tmp_path / "lake", [f"{text} {copy}" for copy in range(3) for text in general_texts])
    output = tmp_path / "vectors"
    job = submit(cluster, tmp_path, minilm_model)
    wait_for_tasks(output, job)
    os.kill(cluster.pids[-1], signal.SIGKILL)
    told, _ = job.communicate(timeout=240)
    assert job.returncode == 0, told[-3000:]
    assert f"embedded {rows.num_rows:,} rows" in told
    log = (tmp_path / "cluster" / "master.log").read_text()
    assert re.search(r"Removing worker .*|Got disassociated|disassociated, removing it", log), log[-2000:]
    written = pq.read_table(output).sort_by("id")
    assert written.select(["id", "text"]).equals(rows)
    some = written.take(pa.array(range(0, rows.num_rows, 10))).combine_chunks()
    expected = Encoder(load(minilm_model).table).encode(some["text"].chunk(0)).vectors
    found = some["text_embedding"].chunk(0).values.to_numpy()
    assert (found.view("u4") == expected.ravel().view("u4")).all()
