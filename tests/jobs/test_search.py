"""`lakevec search` from its command line, over outputs that no Spark has written."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lakevec.jobs.search import format_rows
from lakevec.pipeline.model.artifact import load
from tests.support.commands import search as main
from tests.support.outputs import make_output
from tests.support.paths import ROOT

TEXTS = ["north", "north east", "southwest", None, "elsewhere", "east\x1b[31m\n  east", "north"]


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


@pytest.fixture
def output(tiny_model: str, tmp_path: Path) -> str:
    """An output of TEXTS with the key `id`, and a column that no line should show."""
    artifact = load(tiny_model)
    encoded = artifact.encode(TEXTS)
    vectors = [None if text is None else vector for text, vector in zip(TEXTS, encoded, strict=True)]
    ids = list("abcdefg")
    day = [date(2026, 1, number + 1) for number in range(len(ids))]
    columns: dict[str, Any] = {"id": ids, "text": TEXTS, "day": day, "lakevec_text_hash": ids}
    kinds = {"text": "string", "day": "date", "lakevec_text_hash": "string"}
    make_output(
        tmp_path / "out",
        {"": (columns, vectors)},
        **{"model": tiny_model, "fingerprint": artifact.table.fingerprint, "columns": {"text": "v"}},
        **{"key": "id", "schema_of_files": kinds, "max_tokens": 2},
    )
    return str(tmp_path / "out")


def test_table_has_a_line_per_row_and_no_control_characters(
    output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([output, "north", "--top", "4"]) == 0
    assert lines(capsys) == [
        "score  id  text           day",
        "1.000  a   north          2026-01-01",
        "1.000  g   north          2026-01-07",
        "0.707  b   north east     2026-01-02",
        "0.000  f   east[31m east  2026-01-06",
    ]


def test_query_is_cut_like_the_texts(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([output, "north north east east east", "--top", "1", "--columns", "id"]) == 0
    assert lines(capsys) == ["score  id", "1.000  a"]


def test_json_holds_whole_values(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([output, "east", "--format", "json", "--columns", "text,day", "--top", "2"]) == 0
    assert [json.loads(line) for line in lines(capsys)] == [
        {"score": 1.0, "row": {"text": TEXTS[5], "day": "2026-01-06"}},
        {"score": 0.707107, "row": {"text": "north east", "day": "2026-01-02"}},
    ]


def test_json_is_valid_whatever_the_columns_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns: dict[str, Any] = {
        **{"id": ["a", "b"], "score": [0.5, float("nan")], "image": [b"", b"\x00\xff"]},
        **{"numbers": [None, [1.5, float("inf")]], "price": [None, Decimal("1.50")]},
    }
    kinds = {"score": "double", "image": "binary", "numbers": "array<double>", "price": "decimal(3,2)"}
    make_output(tmp_path / "out", {"": (columns, [np.ones(2, np.float32)] * 2)}, schema_of_files=kinds)
    assert main([str(tmp_path / "out"), "--key-of", "a", "--key", "id", "--format", "json"]) == 0
    row = {"id": "b", "score": None, "image": "AP8=", "numbers": [1.5, None], "price": "1.50"}
    assert [json.loads(line, parse_constant=pytest.fail) for line in lines(capsys)] == [
        {"score": 1.0, "row": row}
    ]


def test_output_of_nothing_but_vectors_shows_scores(
    tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = load(tiny_model)
    facts = {"model": tiny_model, "fingerprint": artifact.table.fingerprint}
    make_output(tmp_path / "out", {"": ({}, list(artifact.encode(["north", "east"])))}, **facts)
    assert main([str(tmp_path / "out"), "north"]) == 0
    assert lines(capsys) == ["score", "1.000", "0.000"]


def test_neighbours_by_the_outputs_own_key_or_another(
    output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([output, "--key-of", "a", "--columns", "id", "--top", "2"]) == 0
    assert lines(capsys)[1:] == ["1.000  g", "0.707  b"]
    assert main([output, "--key-of", "2026-01-02", "--key", "day", "--columns", "id", "--top", "1"]) == 0
    assert lines(capsys)[1:] == ["0.707  a"]


def test_long_values_are_cut_to_the_terminal() -> None:
    rows = [{"id": "x" * 100, "text": "y" * 100, "day": None}]
    table = format_rows([0.5], rows, ["id", "day", "text"], 60).splitlines()
    assert table == [
        "score  " + "id".ljust(40) + "  day  text",
        "0.500  " + "x" * 39 + "…       " + "y" * 7 + "…",
    ]


def test_names_of_columns_reach_no_terminal_with_control_characters() -> None:
    [heading, _] = format_rows([0.5], [{"a\x1b[31m\nb": "x"}], ["a\x1b[31m\nb"], 60).splitlines()
    assert heading == "score  a[31m b"


def test_wrong_requests_are_told_in_one_line(
    output: str, other_model: str, told: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, code, message in [
        ([output], 2, "give either a query or --key-of"),
        ([output, "north", "--key-of", "a"], 2, "give either a query or --key-of"),
        ([output, "north", "--columns", "txet"], 2, "no column 'txet': expected some of id, v, text"),
        ([output, "north", "--columns", "txet"], 2, "did you mean 'text'?"),
        ([output, "--key-of", "z"], 2, "no row has the --key-of given in column 'id'"),
        ([output, "--key-of", "d"], 1, "got a null vector or zeros"),
        ([output, "nowhere"], 1, "the query can't be compared: got no token that the model knows"),
        ([output, "north", "--model", other_model], 1, "the output was written with another model than"),
        ([output, "north", "--model", "/nowhere"], 2, "/nowhere"),
        ([str(ROOT / "docs"), "north"], 2, "is no output of lakevec embed"),
    ]:
        assert main(words) == code
        assert message in told()


def test_dry_run_reads_no_vector(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([output, "north", "--dry-run"]) == 0
    assert lines(capsys) == ["would search 7 rows; dry run: no vector was read"]


def test_search_by_key_loads_neither_spark_nor_pandas_nor_numba(output: str) -> None:
    code = f"""
import sys
from lakevec.jobs.cli import main
assert main(["search", {output!r}, "--key-of", "a"]) == 0
print(sorted({{"pyspark", "pandas", "numba", "torch"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
