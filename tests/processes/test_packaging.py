"""The wheel, installed as users install it, runs the README's commands away from the checkout."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakevec import __version__
from lakevec.jobs.spark.java import ensure_java
from tests.support.environments import make_environment
from tests.support.paths import ROOT

PYSPARK = Path(pytest.importorskip("pyspark").__file__).parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel in it."""
    folder = tmp_path_factory.mktemp("installed")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    venv = make_environment(folder / "venv", "--without-pip")
    wheel = next(folder.glob("lakevec-*.whl"))
    install = ["install", "--quiet", "--no-deps", "--no-index", "--ignore-installed", str(wheel)]
    # As make does: with the pip of the Python below, since no environment has its own.
    subprocess.run([sys._base_executable, "-m", "pip", "--python", str(venv), *install], check=True)
    return venv


def environment(venv: Path) -> dict[str, str]:
    ensure_java()
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYSPARK"))}
    return {**kept, "PATH": f"{venv / 'bin'}:{kept['PATH']}"}


def readme_commands(section: str) -> list[list[str]]:
    """The ``lakevec`` lines of a section's shell blocks, as words."""
    text = (ROOT / "README.md").read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith("lakevec ")]


def test_wheel_holds_its_code_and_its_configuration(installed: Path, tmp_path: Path) -> None:
    code = "from lakevec import pipeline, jobs, udfs; print(pipeline.__file__, jobs.__file__, udfs.__file__)"
    argv = [str(installed / "bin" / "python"), "-c", code]
    done = subprocess.run(argv, cwd=tmp_path, env=environment(installed), capture_output=True, text=True)
    assert done.stdout.count(str(installed)) == 3
    for name in ("embed.yaml", "distill.yaml", "evaluate.yaml", "spark-defaults.conf"):
        shipped = installed / "share" / "lakevec" / "conf" / name
        assert shipped.read_text() == (ROOT / "conf" / name).read_text()


def test_wheel_from_the_sdist_holds_the_same_files(installed: Path, tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    direct, by_way_of_sdist = (
        sorted(zipfile.ZipFile(next(folder.glob("lakevec-*.whl"))).namelist())
        for folder in (installed.parent, tmp_path)
    )
    assert direct == by_way_of_sdist
    assert {name.partition("/")[0].partition("-")[0] for name in direct} == {"lakevec"}
    some = ["jobs/cli.py", "pipeline/errors.py", "udfs/distribution.py", "pipeline/model/model_card.template"]
    some += ["pipeline/model/model_card_agreement.json", "pipeline/evaluation/report.html.j2"]
    some += ["pipeline/evaluation/figures.j2", "pipeline/evaluation/quality.svg.j2"]
    assert {f"lakevec/{name}" for name in some} < set(direct)


def test_checkout_whose_links_became_text_runs(tmp_path: Path) -> None:
    """As Python's zipfile unpacks the archives of a hub."""
    for package in ("pipeline", "udfs", "jobs"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "lakevec").mkdir()
    shutil.copy(ROOT / "lakevec" / "__init__.py", tmp_path / "lakevec")
    for package in ("pipeline", "udfs", "jobs"):
        (tmp_path / "lakevec" / package).write_text(f"../{package}")
    argv = [sys.executable, "jobs/embed.py", "--version"]
    done = subprocess.run(argv, cwd=tmp_path, env=os.environ, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"lakevec {__version__}\n"), done.stderr


def test_readme_commands_run_from_the_wheel(installed: Path, minilm_folder: Path, tmp_path: Path) -> None:
    commands = readme_commands("Your own model and lake")
    assert [command[1] for command in commands] == ["distill", "embed", "embed", "embed"]
    (tmp_path / "lake" / "docs").mkdir(parents=True)
    pq.write_table(pa.table({"body": ["parse a date", None, ""]}), tmp_path / "lake" / "docs" / "0.parquet")
    # A user's own modules of such names, in the folder where the commands run.
    for name in ("pipeline", "udfs", "jobs"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not of lakevec')\n")
    keys = {"model": "models/minilm", "input": "lake/docs", "text": "body", "output": "lake/cut"}
    (tmp_path / "embed.yaml").write_text("".join(f"{key}: {value}\n" for key, value in keys.items()))
    # Few tokens, to be quick.
    few_tokens = {"distill": ["--token-remove-pattern", r"(?!\[PAD|\[UNK|\[CLS|\[SEP|parse|date|.$)."]}
    said = []
    for command in commands:
        words = [
            str(minilm_folder) if word.startswith("hf://sentence-transformers/") else word for word in command
        ]
        words += few_tokens.get(command[1], [])
        argv = [str(installed / "bin" / words[0]), *words[1:]]
        env = environment(installed) | {"PYTHONPATH": str(tmp_path)}
        done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        said.append(done.stdout)
    assert "published sha256:" in said[0]
    assert said[1].endswith("dry run: nothing was written\n")
    assert "embedded 3 rows" in said[2]
    for output in ("vectors", "cut"):
        vectors = pq.read_table(tmp_path / "lake" / output)["body_embedding"].to_pylist()
        assert [vector and len(vector) for vector in vectors] == [256, None, 256]


def test_readme_notebook_lines_run(
    spark: object, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = (ROOT / "README.md").read_text()
    block = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    assert block is not None
    shutil.copytree(tiny_model, tmp_path / "models" / "minilm")
    monkeypatch.chdir(tmp_path)
    names = {"spark": spark, "df": spark.createDataFrame([(1, "north")], "id int, body string")}
    names["df"].createOrReplaceTempView("docs")
    last_line = block[1].rstrip().splitlines()[-1]
    exec(block[1].replace(last_line, f"answer = {last_line}"), names)
    assert names["vectors"].collect() == names["answer"].collect()
    assert names["vectors"].collect()[0].vector == [0.0, 1.0]


def test_installed_doctor_finds_nothing_missing(installed: Path, tmp_path: Path) -> None:
    said = []
    for word in ("--version", "doctor"):
        argv = [str(installed / "bin" / "lakevec"), word]
        done = subprocess.run(argv, cwd=tmp_path, env=environment(installed), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        said.append(done.stdout)
    assert said[0] == f"lakevec {__version__}\n"
    assert str(installed / "bin" / "python") in said[1]
    assert "MISSING" not in said[1]
    assert said[1].endswith("embedding can run here\n")


def test_driver_that_has_no_lakevec_takes_it_from_py_files(
    installed: Path, tiny_model: str, tmp_path: Path
) -> None:
    """The README's spark-submit; jobs/embed.py lies alone, as in cluster deploy mode."""
    bare = make_environment(tmp_path / "bare", "--without-pip")
    env = environment(bare) | {"SPARK_HOME": str(PYSPARK), "PYSPARK_PYTHON": str(bare / "bin" / "python")}
    look = [env["PYSPARK_PYTHON"], "-c", "import lakevec"]
    looked = subprocess.run(look, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert "No module named 'lakevec'" in looked.stderr
    archive = shutil.copy(next(installed.parent.glob("lakevec-*.whl")), tmp_path / "lakevec.zip")
    script = zipfile.ZipFile(archive).extract("lakevec/jobs/embed.py", tmp_path / "elsewhere")
    lake = tmp_path / "lake.parquet"
    pq.write_table(pa.table({"body": ["north east", None]}), lake)
    argv = [str(PYSPARK / "bin" / "spark-submit"), "--master", "local[1]"]
    argv += ["--properties-file", str(installed / "share" / "lakevec" / "conf" / "spark-defaults.conf")]
    argv += ["--py-files", str(archive), script, "--model", tiny_model, "--text", "body"]
    argv += ["--input", str(lake), "--output", str(tmp_path / "vectors")]
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    assert pq.read_table(tmp_path / "vectors")["body_embedding"].to_pylist() == [[0.5, 0.5], None]
