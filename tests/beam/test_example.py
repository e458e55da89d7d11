"""The example and the page's code, run as users run them; the Spark job gives the same rows."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import lakevec
from tests.support.paths import ROOT

LONG = (ROOT / "docs" / "decisions.md").read_text()[:20_000]


@pytest.fixture
def lake(texts: list[str], tmp_path: Path) -> Path:
    """Two files of several row groups, with nulls, empty and long texts."""
    folder = tmp_path / "lake" / "docs"
    folder.mkdir(parents=True)
    body = [*texts[:300], None, "", LONG]
    rows = pa.table({"id": range(len(body)), "body": body})
    pq.write_table(rows[:200], folder / "0.parquet", row_group_size=70)
    pq.write_table(rows[200:], folder / "1.parquet")
    return folder


def run_script(python: Path | str, *words: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([python, *words], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]


def run_example(model: str, lake: Path, output: Path, *words: str) -> pa.Table:
    script = str(ROOT / "examples" / "beam" / "embed.py")
    given = ["--model", model, "--input", f"{lake}/*.parquet", "--text", "body", "--output", f"{output}/part"]
    run_script(sys.executable, script, *given, "--runner=FnApiRunner", *words)
    return pq.read_table(output)


def test_example_and_spark_job_write_the_same_chunks(model: str, lake: Path, tmp_path: Path) -> None:
    chunks = ["--chunk-tokens=64", "--chunk-overlap=8"]
    by_beam = run_example(model, lake, tmp_path / "beam", *chunks)
    words = ["--model", model, "--input", str(lake), "--text", "body", "--output", str(tmp_path / "spark")]
    python, job = ROOT / ".venv" / "bin" / "python", str(ROOT / "jobs" / "embed.py")
    run_script(python, job, *words, *chunks, "--chunk-text")
    by_spark = pq.read_table(tmp_path / "spark").rename_columns({"chunk_text": "body"})
    order = [("id", "ascending"), ("chunk_index", "ascending")]
    rows = by_spark.select(by_beam.column_names).sort_by(order).to_pylist()
    assert by_beam.sort_by(order).to_pylist() == rows
    assert len(rows) > pq.read_table(lake).num_rows + 20
    assert by_beam["body_embedding"].null_count == 1


def test_example_embeds_whole_texts(model: str, lake: Path, tmp_path: Path) -> None:
    table = run_example(model, lake, tmp_path / "beam").sort_by("id")
    rows = pq.read_table(lake).sort_by("id")
    assert table.drop_columns("body_embedding") == rows
    vectors = lakevec.load(model).encode(rows["body"]).tolist()
    texts = rows["body"].to_pylist()
    assert table["body_embedding"].to_pylist() == [
        None if text is None else vector for text, vector in zip(texts, vectors, strict=True)
    ]


def test_example_writes_invalid_rows_to_quarantine(model: str, tmp_path: Path) -> None:
    body = pa.array([b"row", b"\xff"]).view(pa.string())
    (tmp_path / "lake").mkdir()
    pq.write_table(pa.table({"id": [1, 2], "body": body}), tmp_path / "lake" / "0.parquet")
    bad = tmp_path / "bad"
    table = run_example(model, tmp_path / "lake", tmp_path / "beam", f"--quarantine={bad}/part")
    assert table["id"].to_pylist() == [1]
    assert pq.read_table(bad).to_pylist() == [
        {"id": 2, "body": b"\xff", "lakevec_reason": "not valid UTF-8"},
    ]


def test_example_says_what_input_lacks(
    lake: Path,
) -> None:
    read_schema = runpy.run_path(str(ROOT / "examples" / "beam" / "embed.py"))["read_schema"]
    with pytest.raises(SystemExit, match=r"no file matches --input .*\.csv"):
        read_schema(f"{lake}/*.csv", "body")
    with pytest.raises(SystemExit, match="column --text text is not in the files; they have id, body"):
        read_schema(f"{lake}/*.parquet", "text")


def test_code_of_the_page_runs(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model, "models/minilm")
    page = (ROOT / "docs" / "beam.md").read_text()
    found: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, found)
    assert capsys.readouterr().out.splitlines() == [
        *["(1, False)", "(2, True)", "(2, 'not valid UTF-8')"],
        *["(0, 'A long document.')", "(1, 'It goes on and on.')", "('1', 64)"],
    ]
