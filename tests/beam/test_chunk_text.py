"""``ChunkText``: the chunks of `lakevec.Chunker`, in every kind of element."""

from __future__ import annotations

from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.typehints.schemas import named_fields_from_element_type

import lakevec
from lakevec.beam import ChunkText, EmbedText
from tests.support.paths import ROOT

LONG = (ROOT / "docs" / "decisions.md").read_text()[:20_000]
BAD = b"\xff"


class Page(NamedTuple):
    id: int
    body: str | None


beam.coders.registry.register_coder(Page, beam.coders.RowCoder)


def expected(
    model: str, texts: list[str | None], *, tokens: int = 64, overlap: int = 8
) -> list[dict[str, Any]]:
    """What the chunker gives."""
    options = lakevec.ChunkOptions(tokens, overlap)
    chunker = lakevec.Chunker(lakevec.Encoder(lakevec.load(model).table), options)
    chunks = chunker.split(pa.array(texts))
    names = ("id", "chunk_index", "chunk_start", "chunk_end", "body")
    return pa.table(list(vars(chunks).values()), names=names).to_pylist()


@pytest.mark.parametrize("make", [lambda id, body: {"id": id, "body": body}, Page], ids=["dict", "row"])
def test_elements_become_chunks(make: Any, model: str, run: Any) -> None:
    elements = [make(number, text) for number, text in enumerate([LONG, None, ""])]
    chunk = ChunkText(model, "body", tokens=64, overlap=8)
    found, counts = run(lambda pipeline: pipeline | beam.Create(elements) | chunk)
    rows = [row if isinstance(row, dict) else row._asdict() for row in found]
    wanted = expected(model, [LONG, None, ""])
    assert sorted(rows, key=lambda row: (row["id"], row["chunk_index"])) == wanted
    assert all(row["body"] == LONG[row["chunk_start"] : row["chunk_end"]] for row in rows if not row["id"])
    assert counts == {"texts": 3, "chunks": len(wanted)}
    assert len(wanted) > 20


def test_texts_become_chunks(model: str, run: Any) -> None:
    chunk = ChunkText(model, tokens=64, overlap=8)
    found, _ = run(lambda pipeline: pipeline | beam.Create([LONG, None, ""]) | chunk)
    assert sorted(map(str, found)) == sorted(str(row["body"]) for row in expected(model, [LONG, None, ""]))


def test_rows_have_a_schema_with_the_place(model: str) -> None:
    chunks = beam.Pipeline() | beam.Create([Page(1, "row")]) | ChunkText(model, "body", tokens=64)
    names = [name for name, _ in named_fields_from_element_type(chunks.element_type)]
    assert names == ["id", "body", "chunk_index", "chunk_start", "chunk_end"]


def test_chunks_have_the_type_of_their_text(model: str, run: Any) -> None:
    rows = [beam.Row(id=0, body=LONG.encode()), beam.Row(id=1, body=BAD)]
    types = []

    def build(pipeline: Any) -> Any:
        chunks = pipeline | beam.Create(rows) | ChunkText(model, "body", tokens=64, overlap=8)
        types.append(chunks.element_type)
        return chunks

    found, _ = run(build)
    # Runners encode elements between machines.
    coder = beam.coders.registry.get_coder(types[0])
    decoded = [coder.decode(coder.encode(each)) for each in found]
    wanted = [row["body"].encode() for row in expected(model, [LONG])]
    assert sorted(row.body for row in decoded) == sorted([*wanted, BAD])


TEXTS = [LONG.encode(), None, b""]
COLUMNS = [
    pa.array(TEXTS).cast(pa.string()),
    pa.array(TEXTS).cast(pa.string()).dictionary_encode(),
    pa.array([LONG.encode(), BAD, b""]),
    pa.array([LONG.encode(), BAD, b""]).view(pa.string()),
]


@pytest.mark.parametrize("body", COLUMNS, ids=["string", "dictionary", "binary", "not valid UTF-8"])
def test_table_rows_become_chunks_and_invalid_texts_are_left(body: pa.Array, model: str, run: Any) -> None:
    rows = pa.table({"id": [0, 1, 2], "body": body})
    embed = EmbedText(model, "body", on_bad_row="null")
    found, _ = run(
        lambda pipeline: (
            pipeline | beam.Create([rows]) | ChunkText(model, "body", tokens=64, overlap=8) | embed
        )
    )
    [table] = found
    wanted = expected(model, [LONG, None, ""])
    texts = table["body"].cast(pa.string()).to_pylist()
    assert texts == [row["body"] for row in wanted]
    assert table.drop_columns(["body", "body_embedding"]).to_pylist() == [
        {name: value for name, value in row.items() if name != "body"} for row in wanted
    ]
    vectors = lakevec.load(model).encode(texts).tolist()
    assert table["body_embedding"].to_pylist() == [
        None if text is None else vector for text, vector in zip(texts, vectors, strict=True)
    ]


def test_long_document_in_a_table_takes_memory_for_its_chunks_alone(model: str, run: Any) -> None:
    rows = pa.table({"id": [0, 1], "body": [LONG * 150, "row"], "size": ["3 MB", "small"]})
    pool = pa.default_memory_pool()
    before = pool.max_memory()
    chunk = ChunkText(model, "body", tokens=1024)
    found, _ = run(lambda pipeline: pipeline | beam.Create([rows]) | chunk)
    assert pool.max_memory() - before < 200 << 20
    table = pa.concat_tables(found)
    wanted = expected(model, [LONG * 150, "row"], tokens=1024, overlap=0)
    assert table.drop_columns(["size"]).select(list(wanted[0])).to_pylist() == wanted
    assert table["size"].to_pylist() == ["3 MB"] * (len(wanted) - 1) + ["small"]


def test_large_tables_become_several(model: str, run: Any) -> None:
    rows = pa.table({"id": range(40_000), "body": ["one row and a key"] * 40_000})
    chunk = ChunkText(model, "body", tokens=2)
    found, counts = run(lambda pipeline: pipeline | beam.Create([rows]) | chunk | EmbedText(model, "body"))
    assert max(map(len, found)) <= 1 << 14
    tables = [table.drop_columns(["body_embedding"]) for table in found]
    assert pa.concat_tables(tables)["id"].to_pylist() == [
        number for number in range(40_000) for _ in range(counts["chunks"] // 40_000)
    ]
    assert counts["texts"] == 40_000
