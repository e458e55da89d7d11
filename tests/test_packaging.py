"""The wheel, installed as users install it, runs the README's commands away from the checkout."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT

from jobs.java import ensure_java


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel in it; only what lakevec depends on is borrowed from this one."""
    folder = tmp_path_factory.mktemp("installed")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    wheel = next(folder.glob("lakevec-*.whl"))
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True)
    borrowed = sysconfig.get_path("purelib", vars={"base": str(folder / "venv")})
    Path(borrowed, "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "venv"


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
    code = "import pipeline, jobs, udfs; print(pipeline.__file__, jobs.__file__, udfs.__file__)"
    argv = [str(installed / "bin" / "python"), "-c", code]
    done = subprocess.run(argv, cwd=tmp_path, env=environment(installed), capture_output=True, text=True)
    assert done.stdout.count(str(installed)) == 3
    for name in ("embed.yaml", "distill.yaml", "spark-defaults.conf"):
        shipped = installed / "share" / "lakevec" / "conf" / name
        assert shipped.read_text() == (ROOT / "conf" / name).read_text()


def test_readme_commands_run_from_the_wheel(installed: Path, minilm_folder: Path, tmp_path: Path) -> None:
    commands = readme_commands("Your own model and lake")
    assert [command[1] for command in commands] == ["distill", "embed", "embed", "embed"]
    (tmp_path / "lake" / "docs").mkdir(parents=True)
    pq.write_table(pa.table({"body": ["parse a date", None, ""]}), tmp_path / "lake" / "docs" / "0.parquet")
    keys = {"model": "models/minilm", "input": "lake/docs", "text": "body", "output": "lake/cut"}
    (tmp_path / "embed.yaml").write_text("".join(f"{key}: {value}\n" for key, value in keys.items()))
    said = []
    for command in commands:
        words = [
            str(minilm_folder) if word.startswith("sentence-transformers/") else word for word in command
        ]
        argv = [str(installed / "bin" / words[0]), *words[1:]]
        done = subprocess.run(argv, cwd=tmp_path, env=environment(installed), capture_output=True, text=True)
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
