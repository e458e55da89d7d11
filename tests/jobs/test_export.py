"""`lakevec export`: what each vector store reads back is what the output holds."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.support.commands import export as main
from tests.support.outputs import Vectors, make_output

WIDTH = 6
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def some_vectors() -> Vectors:
    random = np.random.default_rng(3)
    vectors: list[np.ndarray | None] = list(random.standard_normal((9, WIDTH), dtype=np.float32))
    vectors[2], vectors[5] = None, np.zeros(WIDTH, np.float32)
    return vectors


def the_output(folder: Path, vectors: Vectors, **changes: Any) -> str:
    """Two files in two partition folders."""
    ids, texts = [f"r{row}" for row in range(9)], ['say "no", or\nnot', "", None, *["x"] * 6]
    names = ("lang=en/", "lang=__HIVE_DEFAULT_PARTITION__/")
    files = {
        name: ({"id": ids[part], "text": texts[part]}, vectors[part])
        for name, part in zip(names, (slice(0, 4), slice(4, 9)), strict=True)
    }
    kinds = {"text": "string", "lang": "string"}
    make_output(folder, files, partition_by=("lang",), schema_of_files=kinds, **changes)
    return str(folder)


def in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: row["id"])


def test_lance_dataset_holds_every_row_and_is_searched(tmp_path: Path) -> None:
    lance = pytest.importorskip("lance")
    vectors = some_vectors()
    target = tmp_path / "docs.lance"
    assert main([the_output(tmp_path / "out", vectors), "--to", "lance", "--target", str(target)]) == 0
    dataset = lance.dataset(str(target))
    assert dataset.schema.field("v").type.list_size == WIDTH
    rows = in_order(dataset.to_table().to_pylist())
    assert [row["lang"] for row in rows] == ["en"] * 4 + [None] * 5
    assert [row["text"] for row in rows][:3] == ['say "no", or\nnot', "", None]
    expected = [None if vector is None else vector.tolist() for vector in vectors]
    assert [row["v"] for row in rows] == expected
    query = {"column": "v", "q": vectors[7], "k": 1, "metric": "cosine"}
    assert dataset.to_table(nearest=query)["id"].to_pylist() == ["r7"]


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_faiss_index_is_searched_and_its_ids_are_rows(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faiss = pytest.importorskip("faiss")
    vectors = some_vectors()
    output, target = the_output(tmp_path / "out", vectors, vector_type=kind), tmp_path / "store"
    assert main([output, "--to", "faiss", "--target", str(target), "--columns", "id,lang"]) == 0
    assert capsys.readouterr().out == f"wrote 7 vectors with id, lang of 9 rows to {target}\n"
    index = faiss.read_index(str(target / "index.faiss"))
    assert index.ntotal == 7
    rows = pq.read_table(target / "rows.parquet").to_pylist()
    assert sorted(rows[0]) == ["id", "lang"]
    known = [row for row in range(9) if row not in (2, 5)]
    queries = np.array([vectors[row] for row in known])
    cosines, ids = index.search(queries / np.linalg.norm(queries, axis=1, keepdims=True), 1)
    assert [rows[number]["id"] for number in ids[:, 0]] == [f"r{row}" for row in known]
    assert np.allclose(cosines, 1, atol=1e-6 if kind == "float32" else 1e-4)


def test_pgvector_csv_gives_back_every_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vectors = some_vectors()
    target = tmp_path / 'the "docs"'
    output = the_output(tmp_path / "out", vectors)
    assert main([output, "--to", "pgvector-copy", "--target", str(target)]) == 0
    assert capsys.readouterr().out == f"wrote 9 rows with id, text, lang, v to {target}\n"
    with (target / "rows.csv").open(newline="") as stream:
        rows = in_order(list(csv.DictReader(stream)))
    assert [row["text"] for row in rows][:2] == ['say "no", or\nnot', ""]
    found = [np.array(row["v"][1:-1].split(","), np.float32) if row["v"] else None for row in rows]
    assert found[2] is None
    assert all(
        np.array_equal(a, b) for a, b in zip(found, vectors, strict=True) if a is not None and b is not None
    )
    # A null is empty, and an empty text is quoted.
    raw = (target / "rows.csv").read_text()
    assert '"r1","","en",' in raw
    assert '"r2",,"en",\n' in raw
    assert (target / "load.sql").read_text() == (
        "-- Run in this folder: psql --dbname DATABASE --file load.sql\n"
        "CREATE EXTENSION IF NOT EXISTS vector;\n"
        'CREATE TABLE "the ""docs""" (\n    "id" text,\n    "text" text,\n'
        '    "lang" text,\n    "v" vector(6)\n);\n'
        '\\copy "the ""docs""" FROM \'rows.csv\' WITH (FORMAT csv, HEADER)\n'
    )


def test_pgvector_types_and_what_copy_can_not_hold(tmp_path: Path, told: Any) -> None:
    columns: dict[str, Any] = {
        **{"id": ["a"], "n": [2**40], "b": [True], "x": [0.1], "at": [datetime(2026, 1, 2, 3, tzinfo=UTC)]},
        **{"price": [Decimal("1.50")], "tags": [["t"]]},
    }
    kinds = {"n": "bigint", "b": "boolean", "x": "double", "at": "timestamp", "price": "decimal(3,2)"}
    kinds["tags"] = "array<string>"
    out, target = tmp_path / "out", tmp_path / "store"
    make_output(out, {"": (columns, [np.ones(2)])}, schema_of_files=kinds)
    words = [str(out), "--to", "pgvector-copy", "--target", str(target)]
    assert main(words) == 2
    assert "column 'tags' can't be written for COPY: got list<" in told()
    assert not target.exists()
    assert main([*words, "--columns", "id,n,b,x,at,price"]) == 0
    assert (target / "rows.csv").read_text().splitlines()[1] == (
        '"a","1099511627776","true","0.1","2026-01-02 03:00:00.000000Z","1.50","[1,1]"'
    )
    assert main([*words, "--columns", "id"]) == 2
    assert told().endswith(
        "exists: expected a place where nothing exists; choose another --target, or remove it first"
    )


def test_output_of_nothing_but_vectors_is_refused(tmp_path: Path, told: Any) -> None:
    make_output(tmp_path / "out", {"": ({}, [np.ones(2)])})
    assert main([str(tmp_path / "out"), "--to", "faiss", "--target", str(tmp_path / "store")]) == 2
    assert "has nothing but vectors: expected a column that tells its rows apart" in told()


def test_texts_with_a_null_character_are_refused_by_column(tmp_path: Path, told: Any) -> None:
    columns = {"id": ["a", "b"], "text": ["x", "secret\0"]}
    make_output(tmp_path / "out", {"": (columns, [np.ones(2)] * 2)}, schema_of_files={"text": "string"})
    words = [str(tmp_path / "out"), "--to", "pgvector-copy", "--target", str(tmp_path / "store")]
    assert main(words) == 1
    assert "column 'text' has texts that PostgreSQL can't hold" in (message := told())
    assert "secret" not in message
    assert not (tmp_path / "store").exists()
    assert main([*words, "--columns", "id"]) == 0


def test_dry_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = the_output(tmp_path / "out", some_vectors())
    assert main([output, "--to", "faiss", "--target", str(tmp_path / "store"), "--dry-run"]) == 0
    assert capsys.readouterr().out == "would write 9 rows; dry run: nothing was written\n"
    assert not (tmp_path / "store").exists()


def packed(vector: np.ndarray) -> bytes:
    return np.packbits(vector > 0).tobytes()


def test_binary_vectors_go_to_lance_as_bytes_of_fixed_size(tmp_path: Path) -> None:
    lance = pytest.importorskip("lance")
    vectors = some_vectors()
    output, target = the_output(tmp_path / "out", vectors, vector_type="binary"), tmp_path / "docs.lance"
    assert main([output, "--to", "lance", "--target", str(target)]) == 0
    dataset = lance.dataset(str(target))
    assert str(dataset.schema.field("v").type) == "fixed_size_list<item: uint8>[1]"
    rows = in_order(dataset.to_table().to_pylist())
    assert [row["v"] and bytes(row["v"]) for row in rows] == [
        None if vector is None else packed(vector) for vector in vectors
    ]
    near = {"column": "v", "q": np.frombuffer(packed(np.array(vectors[7])), np.uint8), "k": 1}
    [found] = dataset.to_table(nearest={**near, "metric": "hamming"}).to_pylist()
    assert (bytes(found["v"]), found["_distance"]) == (packed(np.array(vectors[7])), 0)


def test_binary_vectors_go_to_a_binary_index_of_faiss(tmp_path: Path) -> None:
    faiss = pytest.importorskip("faiss")
    vectors = some_vectors()
    output, target = the_output(tmp_path / "out", vectors, vector_type="binary"), tmp_path / "store"
    assert main([output, "--to", "faiss", "--target", str(target)]) == 0
    index = faiss.read_index_binary(str(target / "index.faiss"))
    rows = pq.read_table(target / "rows.parquet").to_pylist()
    known = {f"r{row}": vectors[row] for row in range(9) if row not in (2, 5)}
    assert (index.ntotal, index.d) == (7, 8)
    for vector in known.values():
        query = np.frombuffer(packed(vector), np.uint8)[None]
        [distances], [ids] = index.search(query, 7)
        expected = sorted(((known[rows[number]["id"]] > 0) != (vector > 0)).sum() for number in ids)
        assert distances.tolist() == expected
        assert sorted(rows[number]["id"] for number in ids) == sorted(known)


def test_binary_vectors_go_to_postgresql_as_bits(tmp_path: Path) -> None:
    vectors = some_vectors()
    output, target = the_output(tmp_path / "out", vectors, vector_type="binary"), tmp_path / "docs"
    assert main([output, "--to", "pgvector-copy", "--target", str(target), "--columns", "id"]) == 0
    assert f'"v" bit({WIDTH})' in (target / "load.sql").read_text()
    with (target / "rows.csv").open(newline="") as file:
        rows = in_order(list(csv.DictReader(file)))
    assert [row["v"] for row in rows] == [
        "" if vector is None else "".join("01"[int(value > 0)] for value in vector) for vector in vectors
    ]
