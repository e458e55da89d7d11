"""What must hold on every Spark and Python that pyproject.toml allows: ``make matrix`` runs this file on all.

It imports nothing beyond the core, pyspark, deltalake and the readers that outputs are promised to.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from lakevec.udfs.column_functions import make_embed_udf, register
from tests.support.commands import count, embed, verify

pytestmark = pytest.mark.usefixtures("spark")

TEXTS = ["north", "East north", "nowhere", "", None]
VECTORS = [[0.0, 1.0], [0.5, 0.5], [0.0, 0.0], [0.0, 0.0], None]
TYPES = ["float32", "float16", "int8"]


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    folder = tmp_path / "lake"
    folder.mkdir()
    put(folder / "a.parquet", list(range(5)), TEXTS)
    return folder


@pytest.fixture(scope="module")
def outputs(tiny_model: str, spark: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One output of 500 rows for each type of vectors."""
    folder = tmp_path_factory.mktemp("outputs")
    (folder / "lake").mkdir()
    put(folder / "lake" / "a.parquet", list(range(500)), TEXTS * 100)
    for kind in TYPES:
        run(tiny_model, folder / "lake", folder / kind, "--vector-type", kind)
    return {kind: folder / kind for kind in TYPES}


def put(file: Path, ids: list[int], texts: list[str | None]) -> None:
    pq.write_table(pa.table({"id": ids, "text": pa.array(texts, pa.string())}), file)


def run(model: str, lake: Path, out: Path, *more: str) -> dict[str, Any]:
    words = ["--model", model, "--input", str(lake), "--text", "text", "--output", str(out), *more]
    assert embed(words) == 0
    record: dict[str, Any] = json.loads((out / "_lakevec" / "run.json").read_text())
    return record


def read_with_spark(spark: Any, folder: Path, *, vectorized: bool) -> list[Any]:
    spark.conf.set("spark.sql.parquet.enableVectorizedReader", str(vectorized).lower())
    spark.conf.set("spark.sql.parquet.enableNestedColumnVectorizedReader", str(vectorized).lower())
    try:
        rows = spark.read.parquet(str(folder)).orderBy("id").collect()
    finally:
        spark.conf.unset("spark.sql.parquet.enableVectorizedReader")
        spark.conf.unset("spark.sql.parquet.enableNestedColumnVectorizedReader")
    return [row.asDict() for row in rows]


def read_with_pandas(folder: Path) -> list[Any]:
    rows = pd.read_parquet(folder).sort_values("id").to_dict("records")
    return [row | {"text_embedding": to_list(row["text_embedding"])} for row in rows]


def to_list(vector: np.ndarray | None) -> list[Any] | None:
    return None if vector is None else vector.tolist()


READERS: dict[str, Callable[[Any, Path], list[Any]]] = {
    "spark vectorized": lambda spark, folder: read_with_spark(spark, folder, vectorized=True),
    "spark row by row": lambda spark, folder: read_with_spark(spark, folder, vectorized=False),
    "pandas": lambda spark, folder: read_with_pandas(folder),
    "polars": lambda spark, folder: pl.read_parquet(f"{folder}/*.parquet").sort("id").to_dicts(),
    "duckdb": lambda spark, folder: (
        duckdb.sql(f"SELECT * FROM '{folder}/*.parquet' ORDER BY id").arrow().read_all().to_pylist()
    ),
}


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_every_type_of_vectors_can_be_read(
    outputs: dict[str, Path], spark: Any, kind: str, read: Callable[[Any, Path], list[Any]]
) -> None:
    rows = read(spark, outputs[kind])
    scales = [row.get("text_embedding_scale", 1.0) for row in rows]
    vectors = [row["text_embedding"] for row in rows]
    full = [
        None if vector is None else (np.array(vector, np.float32) * np.float32(scale)).round(6).tolist()
        for vector, scale in zip(vectors, scales, strict=True)
    ]
    assert full == VECTORS * 100


@pytest.mark.parametrize("kind", TYPES)
def test_outputs_are_verified(
    outputs: dict[str, Path], kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify([str(outputs[kind])]) == 0
    assert "sound: 500 rows" in capsys.readouterr().out


def test_only_new_files_are_embedded_and_partitions_read_back(
    tiny_model: str, lake: Path, spark: Any
) -> None:
    words = ("--partition-by", "id", "--keep", "id")
    record = run(tiny_model, lake, lake.parent / "out", *words)
    assert record["rows"] == 5
    # This Spark tells its splits, so that tasks read them.
    assert record["reader"] == {"tasks": 1, "spark": 0, "reasons": {}}
    put(lake / "b.parquet", [7], ["east"])
    assert run(tiny_model, lake, lake.parent / "out", *words)["rows"] == 1
    assert run(tiny_model, lake, lake.parent / "out", *words)["status"] == "nothing new"
    rows = spark.read.parquet(str(lake.parent / "out")).orderBy("id").collect()
    assert [(row.id, row.text_embedding) for row in rows] == [*enumerate(VECTORS), (7, [1.0, 0.0])]


@pytest.mark.parametrize("form", ["parquet", "delta"])
def test_rows_of_a_key_are_replaced(tiny_model: str, lake: Path, form: str) -> None:
    out, words = lake.parent / "out", ("--key", "id", "--table-format", form)
    run(tiny_model, lake, out, *words)
    put(lake / "a.parquet", list(range(6)), ["east", *TEXTS[1:], "southwest"])
    assert list(run(tiny_model, lake, out, *words)["keyed"].values())[:4] == [1, 1, 0, 4]
    readers: dict[str, Callable[[], pa.Table]] = {
        "parquet": lambda: pq.read_table(out),
        "delta": lambda: DeltaTable(str(out)).to_pyarrow_table(),
    }
    rows = sorted(readers[form]().to_pylist(), key=lambda row: row["id"])
    assert [row["text_embedding"] for row in rows] == [[1.0, 0.0], *VECTORS[1:], [-1.0, -1.0]]


def test_tables_and_other_formats_are_embedded(tiny_model: str, tmp_path: Path, spark: Any) -> None:
    spark.createDataFrame([(text,) for text in TEXTS], "text string").createOrReplaceTempView(
        "texts_of_a_view"
    )
    words = ["--model", tiny_model, "--text", "text", "--format", "table", "--input", "texts_of_a_view"]
    assert embed([*words, "--output", str(tmp_path / "direct")]) == 0
    assert pq.read_table(tmp_path / "direct").num_rows == 5
    assert embed([*words, "--output", str(tmp_path / "orc"), "--output-format", "orc"]) == 0
    assert spark.read.orc(str(tmp_path / "orc")).count() == 5


def test_texts_are_counted(tiny_model: str, lake: Path) -> None:
    words = ["--model", tiny_model, "--input", str(lake), "--text", "text"]
    assert count([*words, "--output", str(lake.parent / "counts")]) == 0
    tokens = pq.read_table(lake.parent / "counts" / "tokens").to_pylist()
    assert {row["token"]: row["count"] for row in tokens} == {
        "[UNK]": 1,
        "north": 2,
        "east": 1,
        "southwest": 0,
    }


@pytest.mark.parametrize("kind", ["auto", "pandas"])
def test_column_function_embeds(tiny_model: str, spark: Any, kind: Any) -> None:
    frame = spark.createDataFrame([(text,) for text in TEXTS], "text string").repartition(1)
    rows = frame.select(make_embed_udf(spark, tiny_model, kind=kind)("text").alias("v")).collect()
    assert [row.v for row in rows] == VECTORS


def test_sql_function_embeds(tiny_model: str, spark: Any) -> None:
    register(spark, tiny_model)
    assert spark.sql("SELECT lakevec_embed('east north')").first()[0] == [0.5, 0.5]
