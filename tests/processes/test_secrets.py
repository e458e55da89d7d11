"""Texts and credentials stay where they belong: every byte that a run leaves behind is searched for them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs as pafs

from lakevec.jobs.spark.java import ensure_java
from lakevec.pipeline.model.publishing import publish
from lakevec.pipeline.model.table import StaticTable
from tests.support import short_java
from tests.support.paths import ROOT

# None is a part of another, or of anything else that is written.
TEXT = "quokkaTEXTquokka"
CONF = "wombatCONFwombat"
OPTION = "numbatOPTIONnumbat"
URI = "bilbyURIbilby"
EXECUTOR = "potorooENVpotoroo"

AZURE_KEY = "spark.hadoop.fs.azure.account.key.lake"
# By itself Spark doesn't take Azure's account keys for secrets.
AZURE = [
    f"{AZURE_KEY}={URI}",
    "spark.redaction.regex=(?i)secret|password|token|access[._-]?key|account[._-]?key|credential",
]


@dataclass(frozen=True)
class Left:
    """What a run has left: its exit code, and every file and stream by name."""

    code: int
    content: dict[str, bytes]

    def where(self, marker: str) -> list[str]:
        """Name what holds a marker, in any of the ways in which Java and Python write text."""
        forms = {marker.encode(form) for form in ("utf-8", "utf-16-le", "utf-16-be")}
        return sorted(
            name for name, content in self.content.items() if any(form in content for form in forms)
        )


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    """A function that names places in a bucket, with a secret in each name."""
    server_module = pytest.importorskip("moto.server", reason="moto is not installed")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    query = f"endpoint_override={host}:{port}&scheme=http&region=us-east-1"

    def place(name: str) -> str:
        return f"s3://key:{URI}@lake/{name}?{query}"

    maker, _ = pafs.FileSystem.from_uri(f"{place('x')}&allow_bucket_creation=true")
    maker.create_dir("lake")
    yield place
    server.stop()


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """Texts that all hold the marker; one of them is not valid UTF-8."""
    (tmp_path / "lake").mkdir()
    texts = [f"{TEXT} {number}".encode() for number in range(20)] + [f"{TEXT} ".encode() + b"\xff", None]
    table = pa.table({"text": pa.array(texts, pa.binary()).view(pa.string())})
    pq.write_table(table, tmp_path / "lake" / "a.parquet")
    return tmp_path / "lake"


EMBED = "import sys; from lakevec.jobs.cli import run_command; sys.exit(run_command('embed'))"


def start(folder: Path, *words: str, code: str = EMBED) -> Left:
    """Run the job as a process with secrets wherever they can stand; all that it writes lies in `folder`."""
    ensure_java()
    for name in ("temp", "events"):
        (folder / name).mkdir()
    foreign = ("SPARK_", "PYSPARK_", "COV")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
    conf = {
        "spark.eventLog.enabled": "true",
        "spark.eventLog.compress": "false",
        "spark.eventLog.dir": f"file://{folder}/events",
        "spark.hadoop.fs.s3a.secret.key": CONF,
        "spark.executorEnv.DATABASE_PASSWORD": EXECUTOR,
        "spark.local.dir": f"{folder}/temp",
    }
    options = ["--option", f"password={OPTION}", "--conf", *(f"{key}={value}" for key, value in conf.items())]
    done = subprocess.run(
        [sys.executable, "-c", code, "--master", "local[1]", "--text", "text", *options, *words],
        env={
            **kept,
            **short_java.ENVIRONMENT,
            "TMPDIR": str(folder / "temp"),
            "PYSPARK_PYTHON": sys.executable,
        },
        cwd=ROOT,
        capture_output=True,
        timeout=400,
    )
    content = {"stdout": done.stdout, "stderr": done.stderr}
    for file in folder.rglob("*"):
        if file.is_file():
            content[str(file.relative_to(folder))] = file.read_bytes()
    return Left(done.returncode, content)


def bucket_content(uri: str) -> dict[str, bytes]:
    filesystem, path = pafs.FileSystem.from_uri(uri)
    found = filesystem.get_file_info(pafs.FileSelector(path, recursive=True))
    files = [info.path for info in found if info.type == pafs.FileType.File]
    return {f"bucket/{name}": filesystem.open_input_stream(name).read() for name in files}


def event_log(left: Left) -> str:
    """What Spark's history server shows: jobs, properties, failures."""
    logs = [content for name, content in left.content.items() if "/events_" in name]
    assert logs
    return b"".join(logs).decode()


def test_texts_and_credentials_of_a_run_are_only_where_they_belong(
    bucket: Any, tiny_table: StaticTable, lake: Path, tmp_path: Path
) -> None:
    """A model and an output in a bucket, a row in quarantine, metrics, and an event log."""
    publish(tiny_table, bucket("model"), provenance={}, quality={})
    words = ["--model", bucket("model"), "--input", str(lake), "--output", bucket("vectors")]
    words += ["--checkpoint", str(tmp_path / "checkpoint"), "--metrics", str(tmp_path / "run.prom")]
    ours = start(tmp_path, *words, "--on-bad-row", "quarantine", "--conf", *AZURE)
    assert ours.code == 0, ours.content["stderr"]
    left = Left(ours.code, ours.content | bucket_content(bucket("vectors")))
    assert {"run.prom", "bucket/lake/vectors/_lakevec/run.json"} < set(left.content)
    data = [name for name in left.content if name.startswith("bucket/") and name.endswith(".parquet")]
    assert len(data) == 2
    assert left.where(TEXT) == sorted([*data, "lake/a.parquet"])
    for secret in (CONF, OPTION, URI, EXECUTOR):
        assert left.where(secret) == []
    # All of them were there to be hidden.
    log = event_log(left)
    assert '"spark.hadoop.fs.s3a.secret.key":"*********(redacted)"' in log
    assert '"spark.executorEnv.DATABASE_PASSWORD":"*********(redacted)"' in log
    assert b"password: '***'" in left.content["stdout"]
    assert b"s3://***@lake/vectors" in left.content["run.prom"]


# What goes wrong in a worker: it raises, or it is gone.
FAILING = """
import functools, os, sys
from lakevec.jobs.cli import run_job
from lakevec.jobs import embed
from lakevec.pipeline.settings.embed import EmbedSettings
from lakevec.udfs.embed_task import EmbedTask

class Failing(EmbedTask):
    def _embed(self, encoder, rows):
        text = rows.column(0)[0].as_py()
        {failure}

body = functools.partial(embed.run, task_type=Failing)
sys.exit(run_job(EmbedSettings, body, None, name="embed"))
"""
RAISES, IS_GONE = (FAILING.format(failure=line) for line in ("raise ValueError(len(text))", "os._exit(7)"))


@pytest.mark.parametrize(
    ("words", "code", "told", "hidden"),
    [
        ([], None, "a text is not valid UTF-8", "spark.hadoop.fs.s3a.secret.key"),
        (["--verbose"], None, "a text is not valid UTF-8", "spark.hadoop.fs.s3a.secret.key"),
        (
            ["--on-bad-row", "null", "--verbose"],
            RAISES,
            "the run failed in a Python worker",
            "spark.hadoop.fs.s3a.secret.key",
        ),
        (["--on-bad-row", "null", "--conf", *AZURE], IS_GONE, "a Python worker died", AZURE_KEY),
    ],
    ids=["bad text", "bad text, verbose", "worker raises", "worker is gone, keys of Azure"],
)
def test_failure_shows_no_text_and_no_secret_in_any_log(
    words: list[str], code: str | None, told: str, hidden: str, tiny_model: str, lake: Path, tmp_path: Path
) -> None:
    """Stack traces of workers name lines of code, which go into Spark's log, its events and the screen."""
    argv = ["--model", tiny_model, "--input", str(lake), "--output", str(tmp_path / "out"), *words]
    left = start(tmp_path, *argv, code=code or EMBED)
    assert left.code == 1
    assert told in left.content["stderr"].decode()
    assert ("--verbose" in words) == (b"Traceback" in left.content["stderr"])
    assert left.where(TEXT) == ["lake/a.parquet"]
    for secret in (CONF, OPTION, URI, EXECUTOR):
        assert left.where(secret) == []
    log = event_log(left)
    assert '"Result":"JobFailed"' in log
    assert f'"{hidden}":"*********(redacted)"' in log
