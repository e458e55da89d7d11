"""``lakevec embed`` with ``--dimensions`` and ``--vector-type binary``: what is stored, read and checked."""

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
from pyiceberg.catalog import load_catalog
from pyiceberg.types import FixedType

from lakevec.pipeline.encoding.encoder import Encoder
from lakevec.pipeline.encoding.packed_signs import pack_signs
from lakevec.pipeline.heads.head import Head, HeadKind
from lakevec.pipeline.heads.head_folder import publish_head
from lakevec.pipeline.model.publishing import publish
from lakevec.pipeline.model.table import StaticTable
from lakevec.udfs.column_functions import make_embed_udf
from tests.support.commands import export, search, verify
from tests.support.lakes import embed
from tests.support.models import make_word_tokenizer

WORDS = ["[UNK]", *(f"w{number}" for number in range(20))]
TEXTS = ["w1 w2 w3", "w4", None, "", "nowhere", "w5 w6 w7 w8 w9", "w1 w2 w3"]
BINARY = ["--vector-type", "binary", "--dimensions", "10"]

pytestmark = [
    pytest.mark.usefixtures("spark"),
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning",
        "ignore::UserWarning",
        "ignore::FutureWarning",
        "ignore::ResourceWarning",
    ),
]


@pytest.fixture(scope="module")
def table() -> StaticTable:
    rows = np.random.default_rng(5).standard_normal((len(WORDS), 12), dtype=np.float32)
    return StaticTable(rows, make_word_tokenizer(WORDS).to_str())


@pytest.fixture(scope="module")
def model(table: StaticTable, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("wide") / "model")
    publish(table, folder, provenance={}, quality={})
    return folder


@pytest.fixture
def rows(table: StaticTable) -> Callable[..., list[Any]]:
    """The vectors of texts by a table that has no other columns: lists, or bytes of their signs."""

    def embed_by_hand(texts: list[str | None], dimensions: int, *, is_binary: bool = True) -> list[Any]:
        narrow = StaticTable(table.embeddings[:, :dimensions].copy(), table.tokenizer_json)
        vectors = Encoder(narrow).encode(pa.array(texts, pa.string())).vectors
        found = [bytes(row) for row in pack_signs(vectors)] if is_binary else vectors.tolist()
        return [None if text is None else vector for text, vector in zip(texts, found, strict=True)]

    return embed_by_hand


def write(lake: Path, texts: list[str | None], first: int = 0) -> None:
    lake.mkdir(exist_ok=True)
    ids = list(range(first, first + len(texts)))
    columns = {"id": ids, "text": pa.array(texts, pa.string()), "lang": [f"l{number % 2}" for number in ids]}
    pq.write_table(pa.table(columns), lake / f"{first}.parquet")


def test_binary_vectors_are_read_by_all_and_continued(
    model: str, lake: Path, out: Path, rows: Any, spark: Any, told: Callable[[], str]
) -> None:
    write(lake, TEXTS)
    more = [*BINARY, "--partition-by", "lang"]
    embed(model, lake, out, *more)
    write(lake, ["w7", "w8 w9"], first=len(TEXTS))
    assert embed(model, lake, out, *more)["rows"] == 2
    assert embed(model, lake, out, *more)["status"] == "nothing new"
    expected = rows([*TEXTS, "w7", "w8 w9"], 10)
    assert expected[2:5] == [None, bytes(2), bytes(2)]
    file = next(out.glob("lang=l0/*.parquet"))
    leaf = pq.ParquetFile(file).schema.column(2)
    assert (leaf.physical_type, leaf.length) == ("FIXED_LEN_BYTE_ARRAY", 2)
    stored = spark.read.parquet(str(out)).orderBy("id")
    assert stored.schema["text_embedding"].dataType.simpleString() == "binary"
    assert stored.schema["text_embedding"].metadata == {"lakevec.bits": 10}
    by_duckdb = duckdb.sql(f"SELECT text_embedding FROM '{out}/*/*.parquet' ORDER BY id").fetchall()
    found = {
        "spark": [value and bytes(value) for (value,) in stored.select("text_embedding").collect()],
        "duckdb": [value for (value,) in by_duckdb],
        "polars": pl.read_parquet(f"{out}/*/*.parquet").sort("id")["text_embedding"].to_list(),
        "pandas": pd.read_parquet(out).sort_values("id")["text_embedding"].tolist(),
        "pyarrow": pq.read_table(out).sort_by("id")["text_embedding"].to_pylist(),
    }
    for reader, read in found.items():
        assert read == expected, reader
    embed(model, lake, out, *more[:2], *more[4:], code=2)
    assert "dimensions 12, not 10" in told()
    embed(model, lake, out, *more[2:], code=2)
    assert "vector type float32, not binary" in told()
    assert verify([str(out)]) == 0
    assert search([str(out), "w5 w6 w7 w8 w9", "--top", "1", "--columns", "id"]) == 0
    embed(model, lake, out, "--dimensions", "3", "--full-refresh")
    refreshed = pq.read_table(out).sort_by("id")["text_embedding"].to_pylist()
    assert refreshed == rows([*TEXTS, "w7", "w8 w9"], 3, is_binary=False)
    assert verify([str(out)]) == 0


@pytest.mark.parametrize("kind", ["float32", "binary"])
def test_every_record_has_the_width_of_the_stored_vectors(
    model: str, lake: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    write(lake, TEXTS)
    more = ["--dimensions", "10", "--vector-type", kind]
    for record in (embed(model, lake, out, *more), embed(model, lake, out, *more)):
        assert record["model"]["dimensions"] == 12
        assert record["vectors"] == {"type": kind, "dimensions": 10}
    assert json.loads(next(out.glob("_lakevec/*/output.json")).read_text())["dimensions"] == 10
    footer = pq.ParquetFile(next(out.glob("*.parquet"))).schema_arrow.metadata
    assert footer[b"lakevec.dimensions"] == b"10"
    capsys.readouterr()
    assert verify([str(out)]) == 0
    assert "all vectors finite and of length 10, model" in capsys.readouterr().out
    assert search([str(out), "w5 w6 w7 w8 w9", "--top", "1", "--columns", "id"]) == 0
    assert export([str(out), "--to", "pgvector-copy", "--target", str(tmp_path / "sql")]) == 0
    column = "bit(10)" if kind == "binary" else "vector(10)"
    assert f'"text_embedding" {column}' in (tmp_path / "sql" / "load.sql").read_text()


def test_vectors_that_are_not_stored_have_no_width(
    table: StaticTable, model: str, lake: Path, out: Path
) -> None:
    write(lake, TEXTS)
    zeros = np.zeros(2, np.float32)
    head = Head(
        "h", HeadKind.CLASSIFICATION, table.fingerprint, np.eye(2, 12, dtype=np.float32), zeros, (1, 2)
    )
    publish_head(head, str(out.parent / "h"))
    record = embed(model, lake, out, "--head", str(out.parent / "h"), "--no-vectors")
    assert "vectors" not in record
    assert b"lakevec.dimensions" not in pq.ParquetFile(next(out.glob("*.parquet"))).schema_arrow.metadata


@pytest.mark.parametrize("kind", ["float32", "binary"])
def test_sparks_writer_stores_the_same(
    model: str, lake: Path, out: Path, rows: Any, spark: Any, kind: str
) -> None:
    write(lake, TEXTS)
    embed(model, lake, out, "--dimensions", "10", "--vector-type", kind, "--sink", "spark")
    stored = spark.read.parquet(str(out)).orderBy("id")
    found = [row.text_embedding for row in stored.collect()]
    expected = rows(TEXTS, 10, is_binary=kind == "binary")
    assert list(map(list, filter(None, found))) == list(map(list, filter(None, expected)))
    assert [value is None for value in found] == [text is None for text in TEXTS]
    assert stored.schema["text_embedding"].metadata == ({"lakevec.bits": 10} if kind == "binary" else {})


def test_sparks_writer_counts_vectors_without_a_bit(
    model: str, lake: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(lake, TEXTS)
    embed(model, lake, out, *BINARY, "--sink", "spark")
    assert "1 nulls, 1 empty, 2 zero vectors" in capsys.readouterr().out


@pytest.mark.parametrize("dimensions", [3, 12])
def test_keyed_chunks_are_replaced_and_verified(
    model: str, lake: Path, out: Path, rows: Any, dimensions: int
) -> None:
    write(lake, TEXTS)
    more = ["--vector-type", "binary", "--dimensions", str(dimensions), "--key", "id"]
    more += ["--chunk-tokens", "2", "--chunk-text"]
    embed(model, lake, out, *more)
    write(lake, ["w9 w8 w7", *TEXTS[1:]])
    assert embed(model, lake, out, *more)["keyed"]["with another text"] == 1
    stored = pq.read_table(out)
    assert sorted(stored["id"].to_pylist()).count(0) == 2
    assert stored["text_embedding"].to_pylist() == rows(stored["chunk_text"].to_pylist(), dimensions)
    assert verify([str(out)]) == 0


def test_delta_tables_hold_plain_binary(model: str, lake: Path, out: Path, rows: Any) -> None:
    deltalake = pytest.importorskip("deltalake")
    write(lake, TEXTS)
    more = [*BINARY, "--table-format", "delta", "--key", "id"]
    embed(model, lake, out, *more)
    write(lake, ["w9", *TEXTS[1:]])
    embed(model, lake, out, *more)
    stored = pa.table(deltalake.DeltaTable(str(out)).to_pyarrow_table()).sort_by("id")
    assert stored["text_embedding"].to_pylist() == rows(["w9", *TEXTS[1:]], 10)
    assert {pq.ParquetFile(file).schema.column(3).physical_type for file in out.glob("*.parquet")} == {
        "BYTE_ARRAY"
    }
    assert verify([str(out)]) == 0
    assert search([str(out), "w9", "--top", "1"]) == 0


def test_iceberg_tables_hold_bytes_of_fixed_size(
    model: str, lake: Path, out: Path, rows: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{tmp_path}/catalog.db"
    monkeypatch.setenv("PYICEBERG_CATALOG__LAKE__URI", uri)
    write(lake, TEXTS)
    more = ["--table-format", "iceberg", "--catalog", "lake", "--table", "db.docs"]
    embed(model, lake, out, *more)
    embed(model, lake, out, *more, *BINARY, "--full-refresh")
    write(lake, ["w7"], first=len(TEXTS))
    embed(model, lake, out, *more, *BINARY)
    table = load_catalog("lake", uri=uri).load_table("db.docs")
    assert table.schema().find_type("text_embedding") == FixedType(2)
    stored = table.scan().to_arrow().sort_by("id")
    assert stored["text_embedding"].to_pylist() == rows([*TEXTS, "w7"], 10)
    assert verify([str(out)]) == 0


def test_column_of_an_earlier_output_is_kept_as_it_is(model: str, lake: Path, out: Path, rows: Any) -> None:
    write(lake, TEXTS)
    embed(model, lake, out, *BINARY)
    again = out.parent / "again"
    embed(model, out, again, *BINARY, "--embedding-column", "more")
    stored = pq.read_table(again).sort_by("id")
    assert stored["text_embedding"].to_pylist() == stored["more"].to_pylist() == rows(TEXTS, 10)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            lambda value: bytes([value[0] ^ 1, value[1]]),
            "vectors in column 'text_embedding' that don't match",
        ),
        (lambda value: value + b"\0", "vectors of another length than 10 bits in column 'text_embedding'"),
    ],
    ids=["another bit", "more bytes"],
)
def test_verify_finds_bits_that_are_wrong(
    model: str, lake: Path, out: Path, capsys: pytest.CaptureFixture[str], change: Any, problem: str
) -> None:
    write(lake, TEXTS)
    embed(model, lake, out, *BINARY)
    [file] = out.glob("*.parquet")
    stored = pq.read_table(file)
    vectors = [value and change(value) for value in stored["text_embedding"].to_pylist()]
    changed = pa.array(vectors, pa.binary(len(vectors[0])))
    pq.write_table(stored.set_column(3, "text_embedding", changed), file)
    assert verify([str(out)]) == 1
    assert problem in capsys.readouterr().out


@pytest.mark.parametrize("more", [[], ["--dry-run"], ["--sink", "spark"]], ids=["run", "dry run", "spark"])
def test_more_dimensions_than_the_model_has_are_refused_before_any_work(
    model: str, tmp_path: Path, told: Callable[[], str], more: list[str]
) -> None:
    embed(model, tmp_path / "missing", tmp_path / "out", "--dimensions", "13", *more, code=2)
    assert "dimensions: got 13; expected 1 to 12, the width of the model's table" in told()
    assert not (tmp_path / "out").exists()


def test_sums_keep_the_first_columns_too(model: str, lake: Path, out: Path, table: StaticTable) -> None:
    write(lake, TEXTS)
    embed(model, lake, out, "--store", "sum", "--dimensions", "3")
    stored = pq.read_table(out).sort_by("id")["text_embedding"].to_pylist()
    assert np.allclose(stored[0], table.embeddings[2:5, :3].sum(axis=0), atol=1e-6)
    assert verify([str(out)]) == 0


@pytest.mark.parametrize("kind", ["auto", "pandas"])
def test_column_function_takes_dimensions(model: str, rows: Any, spark: Any, kind: Any) -> None:
    embedded = make_embed_udf(spark, model, dimensions=5, kind=kind)
    frame = spark.createDataFrame([(text,) for text in TEXTS], "text string").select(embedded("text"))
    assert [vector for (vector,) in frame.collect()] == rows(TEXTS, 5, is_binary=False)
