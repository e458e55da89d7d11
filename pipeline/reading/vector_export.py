"""Writes an output's vectors and columns for vector stores: Lance, PostgreSQL with pgvector, and FAISS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from lakevec.pipeline.arrow_arrays import from_numpy
from lakevec.pipeline.encoding.packed_signs import packed_width
from lakevec.pipeline.errors import DataError, InputError, requires_extra
from lakevec.pipeline.reading.vector_reader import VectorReader

_POSTGRES_TYPES = {
    **{pa.string(): "text", pa.bool_(): "boolean", pa.date32(): "date"},
    **{pa.int8(): "smallint", pa.int16(): "smallint", pa.int32(): "integer", pa.int64(): "bigint"},
    **{pa.float32(): "real", pa.float64(): "double precision"},
}


class Batch(NamedTuple):
    """Rows of an output.

    Parameters
    ----------
    columns : pyarrow.Table of N rows
    vectors : float32 ndarray of shape (M, D), or uint8 ndarray of shape (M, ceil(D / 8))
        Those that are not null; binary ones as from `pack_signs`.
    rows : int64 ndarray of shape (M,)
        Their rows.
    """

    columns: pa.Table
    vectors: np.ndarray
    rows: np.ndarray


def read_batches(reader: VectorReader, columns: list[str]) -> Iterator[Batch]:
    """Read an output from its first file to its last, one row group at a time."""
    read = reader.read_packed if reader.is_binary else reader.read_floats
    for group in reader.groups:
        yield Batch(reader.read_columns(group, columns), *read(group))


def export_lance(reader: VectorReader, columns: list[str], folder: Path) -> int:
    """Write a Lance dataset with vectors as lists of fixed size; return the number of rows.

    Binary vectors are lists of bytes (``uint8``), which Lance compares by Hamming distance.
    """
    with requires_extra("lance", "--to lance"):
        import lance
    batches = (_with_vectors(reader, batch) for batch in read_batches(reader, columns))
    first = next(batches)

    def all_rows() -> Iterator[pa.RecordBatch]:
        yield from first.to_batches()
        for table in batches:
            yield from table.cast(first.schema).to_batches()

    stream = pa.RecordBatchReader.from_batches(first.schema, all_rows())
    return int(lance.write_dataset(stream, str(folder)).count_rows())


def export_faiss(reader: VectorReader, columns: list[str], folder: Path) -> int:
    """Write an exact index by cosine, and the columns of its rows; return the number of vectors.

    The index's ids are row numbers of ``rows.parquet``. Null and zero vectors have no cosine, so the index
    has none of them. FAISS holds the whole index in memory. The index of binary vectors is an
    ``IndexBinaryFlat`` by Hamming distance.
    """
    with requires_extra("faiss", "--to faiss"):
        import faiss
    folder.mkdir(parents=True)
    index: Any = faiss.IndexIDMap2(faiss.IndexFlatIP(reader.dimensions))
    write: Any = faiss.write_index
    if reader.is_binary:
        index = faiss.IndexBinaryIDMap2(faiss.IndexBinaryFlat(8 * packed_width(reader.dimensions)))
        write = faiss.write_index_binary
    done, writer = 0, None
    for columns_of, vectors, rows in read_batches(reader, columns):
        writer = writer or pq.ParquetWriter(folder / "rows.parquet", columns_of.schema)
        writer.write_table(columns_of.cast(writer.schema))
        lengths = np.linalg.norm(vectors.astype(np.float32, copy=False), axis=1)
        has_cosine = lengths > 0
        known = vectors[has_cosine]
        index.add_with_ids(
            known if reader.is_binary else known / lengths[has_cosine, None], rows[has_cosine] + done
        )
        done += len(columns_of)
    if writer is not None:
        writer.close()
    write(index, str(folder / "index.faiss"))
    return int(index.ntotal)


def export_pgvector(reader: VectorReader, columns: list[str], folder: Path) -> int:
    """Write ``rows.csv`` for PostgreSQL's COPY, and ``load.sql``, which makes the table and loads the rows.

    Raises
    ------
    InputError
        If a column has a type that no CSV can hold, such as a list.
    DataError
        If a text has the character U+0000, which no text of PostgreSQL has.
    """
    folder.mkdir(parents=True)
    done, writer = 0, None
    for batch in read_batches(reader, columns):
        if writer is None:
            kinds = {field.name: _postgres_type(field) for field in batch.columns.schema}
            (folder / "load.sql").write_text(_load_statements(reader, kinds, folder.name), encoding="utf-8")
            schema = pa.schema([(name, pa.string()) for name in [*kinds, reader.column]])
            # A null is empty, and an empty text is "".
            options = pyarrow.csv.WriteOptions(quoting_style="all_valid")
            writer = pyarrow.csv.CSVWriter(str(folder / "rows.csv"), schema, write_options=options)
        texts = [_copy_texts(name, batch.columns.column(name)) for name in kinds]
        vectors = _bit_texts(batch, reader.dimensions) if reader.is_binary else _vector_texts(batch)
        writer.write_table(pa.Table.from_arrays([*texts, vectors], schema=schema))
        done += len(batch.columns)
    if writer is not None:
        writer.close()
    return done


def _with_vectors(reader: VectorReader, batch: Batch) -> pa.Table:
    """Add the vectors to a batch's columns, as lists of fixed size."""
    width = batch.vectors.shape[1]
    vectors = np.zeros((len(batch.columns), width), dtype=batch.vectors.dtype)
    vectors[batch.rows] = batch.vectors
    array = pa.FixedSizeListArray.from_arrays(
        from_numpy(vectors.reshape(-1)), width, mask=pa.array(_is_null(batch))
    )
    return batch.columns.append_column(reader.column, array)


def _is_null(batch: Batch) -> np.ndarray:
    is_null = np.ones(len(batch.columns), dtype=bool)
    is_null[batch.rows] = False
    return is_null


def _vector_texts(batch: Batch) -> pa.Array:
    """Return vectors as pgvector reads them, such as ``[0.5,-1]``. The digits give back the same float32."""
    count, width = batch.vectors.shape
    numbers = from_numpy(batch.vectors.reshape(-1)).cast(pa.string())
    offsets = from_numpy(np.arange(count + 1, dtype=np.int32) * np.int32(width))
    texts = pc.binary_join(pa.ListArray.from_arrays(offsets, numbers), ",")
    return _at_rows(pc.binary_join_element_wise("[", texts, "]", ""), batch)


def _bit_texts(batch: Batch, dimensions: int) -> pa.Array:
    """Return binary vectors as PostgreSQL reads them, such as ``101``."""
    digits = np.unpackbits(batch.vectors, axis=1, count=dimensions) + np.uint8(ord("0"))
    offsets = np.arange(len(digits) + 1, dtype=np.int32) * np.int32(dimensions)
    texts = pa.StringArray.from_buffers(len(digits), pa.py_buffer(offsets), pa.py_buffer(digits))
    return _at_rows(texts, batch)


def _at_rows(texts: pa.Array, batch: Batch) -> pa.Array:
    """Put the texts of vectors that are not null into their rows."""
    places = np.cumsum(~_is_null(batch)) - 1
    return texts.take(from_numpy(places, _is_null(batch)))


def _copy_texts(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column as text; raise DataError if PostgreSQL can't hold it."""
    texts = column.cast(pa.string())
    if pc.any(pc.match_substring(texts, "\0")).as_py():
        raise DataError(
            f"column {name!r} has texts that PostgreSQL can't hold",
            got="a text with the character U+0000",
            expected="texts without it",
            remedy="name the columns to write with --columns, or remove the character from the input",
        )
    return texts


def _postgres_type(field: pa.Field) -> str:
    kind = field.type
    if pa.types.is_timestamp(kind):
        return "timestamp with time zone" if kind.tz else "timestamp"
    if pa.types.is_decimal(kind):
        return f"numeric({kind.precision}, {kind.scale})"
    if kind not in _POSTGRES_TYPES:
        raise InputError(
            f"column {field.name!r} can't be written for COPY",
            got=str(kind),
            expected="text, numbers, booleans, dates or timestamps",
            remedy="name the columns to write with --columns",
        )
    return _POSTGRES_TYPES[kind]


def _load_statements(reader: VectorReader, kinds: dict[str, str], table: str) -> str:
    kind = "bit" if reader.is_binary else "vector"
    columns = {**kinds, reader.column: f"{kind}({reader.dimensions})"}
    defined = ",\n".join(f"    {_quoted(name)} {kind}" for name, kind in columns.items())
    return (
        "-- Run in this folder: psql --dbname DATABASE --file load.sql\n"
        "CREATE EXTENSION IF NOT EXISTS vector;\n"
        f"CREATE TABLE {_quoted(table)} (\n{defined}\n);\n"
        f"\\copy {_quoted(table)} FROM 'rows.csv' WITH (FORMAT csv, HEADER)\n"
    )


def _quoted(name: str) -> str:
    """Quote a name for SQL."""
    return '"' + name.replace('"', '""') + '"'
