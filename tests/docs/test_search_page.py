"""The examples of docs/search.md find the same rows, each in its own way."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakevec.jobs.cli import main as lakevec
from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "search.md"
BODIES = ["Parse a date from text.", "Sort a list.", None, "", "Parse a date.", "Close the file."]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_examples_find_the_same_rows(
    spark: Any,
    minilm_model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if not hasattr(pytest.importorskip("pyspark.sql.functions"), "vector_cosine_similarity"):
        pytest.skip("this Spark has no functions for vectors")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(minilm_model, "models/minilm")
    ids = list(range(4707, 4713))
    pq.write_table(pa.table({"id": ids, "body": BODIES}), tmp_path / "docs.parquet")
    words = ["embed", "--model", "models/minilm", "--input", str(tmp_path / "docs.parquet"), "--text", "body"]
    assert lakevec([*words, "--output", str(tmp_path / "lake/keyed"), "--key", "id"]) == 0
    shutil.copytree("lake/keyed", "lake/vectors")
    page = PAGE.read_text()
    commands = re.findall(r"^lakevec ((?:search|export) .*)$", page, re.MULTILINE)
    assert len(commands) == 6
    monkeypatch.setenv("COLUMNS", "80")
    for command in commands:
        if "--to faiss" in command:
            pytest.importorskip("faiss")
        if "--to lance" in command:
            pytest.importorskip("lance")
        capsys.readouterr()
        assert lakevec(shlex.split(command)) == 0
        told = capsys.readouterr().out
        if command.startswith("search"):
            assert ("Parse a date from text." in told) == ("--key-of" in command or "--columns" in command)
            assert "4711" not in told or "--key-of" not in command
    by_spark, by_group, by_duckdb, by_faiss = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    found: dict[str, Any] = {"spark": spark}
    exec(by_spark.replace('"lake/', f'"{tmp_path}/lake/').replace('"models/', f'"{tmp_path}/models/'), found)
    for table in (found["best"].collect(), _run(by_duckdb)["found"]):
        ranked = [row[0] for row in table if row[1] is not None and row[1] == row[1]]
        assert ranked[0] == 4711
        assert ranked[1] == 4707
        assert sorted(ranked) == [4707, 4708, 4711, 4712]
    assert _run(by_faiss)["rows"]["id"].to_pylist()[:2] == [4711, 4707]
    chunks = spark.read.parquet(str(tmp_path / "lake/vectors")).where("body_embedding IS NOT NULL")
    chunks.selectExpr("id % 2 AS document", "body_embedding AS text_embedding").createOrReplaceTempView(
        "chunks"
    )
    exec(by_group, found)
    rows = found["documents"].collect()
    assert [round(sum(x * x for x in row.vector), 5) for row in rows] == [1, 1]


def _run(code: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    exec(code, found)
    return found
