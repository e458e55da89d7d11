"""The example and the page's code, run as users run them; the Spark job gives the same rows."""

from __future__ import annotations

import os
import re
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


def test_example_and_spark_job_write_the_same_rows(model: str, lake: Path, tmp_path: Path) -> None:
    by_beam = run_example(model, lake, tmp_path / "beam")
    words = ["--model", model, "--input", str(lake), "--text", "body", "--output", str(tmp_path / "spark")]
    run_script(ROOT / ".venv" / "bin" / "python", str(ROOT / "jobs" / "embed.py"), *words)
    by_spark = pq.read_table(tmp_path / "spark")
    assert by_beam.column_names == by_spark.column_names
    assert by_beam.sort_by("id").to_pylist() == by_spark.sort_by("id").to_pylist()
    assert by_beam["body_embedding"].null_count == 1


def test_example_embeds_chunks(model: str, lake: Path, tmp_path: Path) -> None:
    table = run_example(model, lake, tmp_path / "beam", "--chunk-tokens=64", "--chunk-overlap=8")
    texts = pq.read_table(lake).sort_by("id")["body"]
    loaded = lakevec.load(model)
    chunks = lakevec.Chunker(lakevec.Encoder(loaded.table), lakevec.ChunkOptions(64, overlap=8)).split(texts)
    names = ("id", "chunk_index", "chunk_start", "chunk_end", "body")
    wanted = pa.table(list(vars(chunks).values()), names=names).to_pylist()
    vectors = loaded.encode(chunks.texts).tolist()
    for row, vector in zip(wanted, vectors, strict=True):
        row["body_embedding"] = None if row["body"] is None else vector
    assert table.sort_by([("id", "ascending"), ("chunk_index", "ascending")]).to_pylist() == wanted
    assert len(wanted) > len(texts) + 20


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
