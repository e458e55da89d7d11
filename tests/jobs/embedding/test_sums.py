"""``lakevec embed --store sum``: sums and counts of parts add up to those of the whole."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakevec.pipeline.encoding.encoder import Encoder
from lakevec.pipeline.encoding.kernels import pooling
from lakevec.pipeline.encoding.kernels.pooling import pool_sum
from lakevec.pipeline.encoding.options import EncodeOptions
from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.model.publishing import publish
from lakevec.pipeline.model.table import StaticTable
from lakevec.pipeline.output.stored_output import read_output
from lakevec.pipeline.reading.vector_reader import VectorReader
from tests.support.commands import embed as main
from tests.support.commands import verify
from tests.support.models import make_word_tokenizer
from tests.support.paths import ROOT

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"
)


def run(model: str, lake: Path, output: Path, *words: str) -> int:
    return main(["--model", model, "--input", str(lake), "--text", "text", "--output", str(output), *words])


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    texts = ["North east east", "nowhere", "", None, "southwest nowhere southwest"]
    pq.write_table(pa.table({"id": range(5), "text": texts}), tmp_path / "lake.parquet")
    return tmp_path / "lake.parquet"


def test_docstring_examples_are_true() -> None:
    import doctest

    assert doctest.testmod(pooling).failed == 0


@pytest.mark.parametrize("tokens", [0, 5, 256, 257, 5000])
@pytest.mark.parametrize("width", [3, 130])
def test_sum_agrees_with_float64(tokens: int, width: int) -> None:
    draw = np.random.default_rng(tokens)
    table = draw.normal(size=(50, width)).astype(np.float32)
    ids = draw.integers(0, 50, tokens, dtype=np.int32)
    out = np.full((1, width), np.nan, np.float32)
    assert pool_sum(table, ids, np.array([0, tokens]), out) == (tokens == 0)
    exact = table[ids].astype(np.float64).sum(axis=0)
    bound = 256 * 2.0**-24 * np.abs(table[ids]).astype(np.float64).sum(axis=0) + 1e-30
    assert (np.abs(out[0] - exact) <= bound).all()


@pytest.mark.usefixtures("spark")
def test_sums_and_counts_by_hand(tiny_model: str, lake: Path, tmp_path: Path, spark: Any) -> None:
    output = tmp_path / "out"
    assert run(tiny_model, lake, output, "--store", "sum") == 0
    rows = pq.read_table(output).sort_by("id")
    assert rows.column_names == ["id", "text", "text_embedding", "text_embedding_tokens"]
    assert rows["text_embedding"].to_pylist() == [[2, 1], [0, 0], [0, 0], None, [-2, -2]]
    assert rows["text_embedding_tokens"].to_pylist() == [3, 0, 0, None, 2]
    frame = spark.read.parquet(str(output))
    assert frame.schema["text_embedding_tokens"].dataType.simpleString() == "int"
    assert frame.schema["text_embedding"].metadata == {"lakevec.store": "sum"}
    assert verify([str(output)]) == 0


@pytest.mark.usefixtures("spark")
def test_tokens_are_cut_and_rows_are_keyed_as_with_vectors(
    tiny_model: str, lake: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    words = ["--store", "sum", "--max-tokens", "2", "--key", "id"]
    assert run(tiny_model, lake, output, *words) == 0
    assert run(tiny_model, lake, output, *words) == 0
    rows = pq.read_table(output).sort_by("id")
    assert rows["text_embedding"].to_pylist()[0] == [1, 1]
    assert rows["text_embedding_tokens"].to_pylist() == [2, 0, 0, None, 2]
    assert verify([str(output)]) == 0


@pytest.mark.usefixtures("spark")
@pytest.mark.parametrize(("first", "second"), [("sum", "mean"), ("mean", "sum")])
def test_sums_and_vectors_are_not_mixed(
    tiny_model: str, lake: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], first: str, second: str
) -> None:
    assert run(tiny_model, lake, tmp_path / "out", "--store", first) == 0
    assert run(tiny_model, lake, tmp_path / "out", "--store", second) == 2
    assert f"store {second}, not {first}" in capsys.readouterr().err


@pytest.mark.usefixtures("spark")
def test_verify_finds_a_wrong_count(
    tiny_model: str, lake: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny_model, lake, tmp_path / "out", "--store", "sum") == 0
    [file] = (tmp_path / "out").glob("*.parquet")
    table = pq.read_table(file)
    tokens = pa.array([3, 1, 0, None, 2], pa.int32())
    pq.write_table(table.set_column(3, table.schema.field(3), tokens), file)
    assert verify([str(tmp_path / "out")]) == 1
    assert "that don't match their texts" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--vector-type", "int8"], "store sum needs vector_type float32: rounded values do not add up"),
        (["--vector-type", "float16"], "store sum needs vector_type float32"),
        (["--sink", "spark"], "Spark's own writer does not support these options: got --store"),
    ],
    ids=["int8", "float16", "spark"],
)
def test_what_does_not_fit_is_refused(
    tiny_model: str,
    lake: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    assert run(tiny_model, lake, tmp_path / "out", "--store", "sum", *words) == 2
    assert message in capsys.readouterr().err


def test_models_with_weights_and_shared_rows_sum_what_they_pool() -> None:
    rows = np.array([[1, 2], [3, -1]], dtype=np.int8)
    table = StaticTable(
        rows,
        make_word_tokenizer(["[UNK]", "north", "east"]).to_str(),
        weights=np.array([0, 0.5, 2], np.float32),
        mapping=np.array([0, 1, 1], np.int32),
        pools_unknown=True,
    )
    found = Encoder(table, EncodeOptions(store="sum")).encode(pa.array(["north east east", "odd"]))
    assert found.vectors.tolist() == [[13.5, -4.5], [0, 0]]
    assert found.tokens is not None
    assert found.tokens.tolist() == [3, 1]


@pytest.fixture(scope="module")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, list[str]]:
    """Documents of real texts in chunks, with a BERT tokenizer and rows drawn at random."""
    folder = tmp_path_factory.mktemp("real")
    tokenizer = (shared_data / "tokenizers" / "bert-base-uncased" / "tokenizer.json").read_text()
    rows = np.random.default_rng(0).normal(size=(30_522, 256)).astype(np.float32)
    model = str(folder / "model")
    publish(StaticTable(rows, tokenizer), model, provenance={}, quality={})
    texts = pq.read_table(shared_data / "texts" / "general-en.parquet")["text"].to_pylist()[::1000][:120]
    chunks = [(place % 12, text) for place, text in enumerate(texts)] + [(3, None), (5, "")]
    documents, parts = zip(*chunks, strict=True)
    pq.write_table(pa.table({"document": documents, "text": parts}), folder / "chunks.parquet")
    wholes = [" ".join(part for owner, part in chunks if owner == n and part) for n in range(12)]
    return folder, model, wholes


def test_sql_of_the_output_page_gives_the_vectors_of_the_whole(
    real: tuple[Path, str, list[str]], spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, model, wholes = real
    monkeypatch.chdir(tmp_path)
    assert run(model, folder / "chunks.parquet", tmp_path / "lake" / "sums", "--store", "sum") == 0
    table = load(model).table
    whole = Encoder(table).encode(pa.array(wholes)).vectors
    summed = Encoder(table, EncodeOptions(store="sum")).encode(pa.array(wholes))
    assert summed.tokens is not None
    page = (ROOT / "docs" / "output.md").read_text().split("\n## Sums\n")[1].split("\n## ")[0]
    by_spark, by_duckdb = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    [by_pandas] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)

    spark.read.parquet(str(tmp_path / "lake" / "sums")).createOrReplaceTempView("chunks")
    view, query, _ = by_spark.split(";")
    spark.sql(view)
    rows = spark.sql(query).orderBy("document").collect()
    np.testing.assert_allclose([row.vector for row in rows], whole, atol=1e-6)
    tokens = [row.tokens for row in spark.table("documents").orderBy("document").collect()]
    assert tokens == summed.tokens.tolist()

    totals = np.array([row[1] for row in duckdb.sql(by_duckdb).fetchall()])
    np.testing.assert_allclose(totals / np.linalg.norm(totals, axis=1, keepdims=True), whole, atol=1e-6)
    found: dict[str, Any] = {}
    exec(by_pandas, found)
    np.testing.assert_allclose(found["vectors"], whole, atol=1e-6)
    assert found["tokens"].tolist() == summed.tokens.tolist()


@pytest.mark.usefixtures("spark")
def test_model_with_position_weights_stores_their_sums(
    tiny_table: StaticTable, lake: Path, tmp_path: Path, spark: Any
) -> None:
    """SQL gives the mean: the sum divided by the weights."""
    model, output = str(tmp_path / "model"), tmp_path / "out"
    publish(replace(tiny_table, position_scale=1), model)
    assert run(model, lake, output, "--store", "sum") == 0
    rows = pq.read_table(output).sort_by("id")
    assert rows.column_names == ["id", "text", "text_embedding", "text_embedding_weights"]
    third = float(np.float32(1 / 3))
    assert rows["text_embedding_weights"].to_pylist() == [1.5 + third, 0, 0, None, 1.5]
    assert rows["text_embedding"].to_pylist()[3:] == [None, [-1.5, -1.5]]
    assert (
        spark.read.parquet(str(output)).schema["text_embedding_weights"].dataType.simpleString() == "double"
    )
    means = duckdb.sql(
        f"SELECT id, list_transform(text_embedding, lambda x: x / text_embedding_weights) AS mean "
        f"FROM '{output}/*.parquet' WHERE text_embedding_weights > 0 ORDER BY id"
    ).fetchall()
    vectors = load(model).encode(["North east east", "southwest nowhere southwest"])
    np.testing.assert_allclose([mean for _, mean in means], vectors, rtol=1e-6)
    assert verify([str(output)]) == 0
    assert VectorReader(read_output(str(output)), None).other_columns == ["id", "text"]


@pytest.mark.usefixtures("spark")
def test_verify_finds_a_damaged_sum_of_weights(
    tiny_table: StaticTable, lake: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(replace(tiny_table, position_scale=1), str(tmp_path / "model"))
    assert run(str(tmp_path / "model"), lake, tmp_path / "out", "--store", "sum") == 0
    [file] = (tmp_path / "out").glob("**/*.parquet")
    rows = pq.read_table(file)
    column = rows.schema.get_field_index("text_embedding_weights")
    for wrong, problem in ((float("nan"), "sums of weights below 0"), (None, "sums without sums of weights")):
        weights = pa.array([wrong, 0, 0, None, 1.5], pa.float64())
        pq.write_table(rows.set_column(column, rows.schema.field(column), weights), file)
        assert verify([str(tmp_path / "out")]) == 1
        assert problem in capsys.readouterr().out
