"""Parquet files in which vectors are pages of our own; pyarrow writes all else.

pyarrow encodes the numbers of a list one by one, which takes several times as long as writing them. So it
gets each vector column as a column of nulls: schema, names and metadata are its own. Our pages stand beside
each of its row groups, and its footer is corrected before it is written.

Source: parquet.thrift, https://github.com/apache/parquet-format, whose field numbers stand here.
"""

from __future__ import annotations

import functools
import io
import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lakevec.pipeline.arrow_arrays import from_numpy, from_strings, validity
from lakevec.pipeline.errors import CommitError
from lakevec.pipeline.output.thrift_compact import I32, I64, LIST, STRUCT, Struct, decode, encode
from lakevec.pipeline.output.vector_pages import PLAIN, RLE, VectorChunk, make_pages

_END = b"PAR1"
# Fewer parts of a page are written one by one, without a copy.
_MANY_PARTS = 32
_UNCOMPRESSED = 0

# Fields of the footer, a row group, a column chunk, its metadata, and the size statistics in that.
_ROW_GROUPS = 4
_COLUMNS, _TOTAL_SIZE, _FIRST_PAGE, _TOTAL_STORED = 1, 2, 5, 6
_METADATA_OFFSET, _METADATA = 2, 3
_ENCODINGS, _PATH, _CODEC, _LEVELS, _SIZE, _STORED, _DATA_PAGE, _DICTIONARY_PAGE = 2, 3, 4, 5, 6, 7, 9, 11
_STATISTICS, _PAGE_COUNTS, _SIZE_STATISTICS = 12, 13, 16
_REPETITIONS, _DEFINITIONS = 2, 3
# Fields that are handled or hold no offset. Others may hold offsets.
_KNOWN_OF_ROW_GROUP = {1, 2, 3, 4, 5, 6, 7}
_KNOWN_OF_COLUMN = {2, 3}
_KNOWN_OF_METADATA = {1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 16, 17}


@dataclass(frozen=True)
class _RowGroup:
    """Where pyarrow's part begins and ends, the bytes of vectors before it, and the vectors by column."""

    begin: int
    end: int
    shift: int
    chunks: dict[str, VectorChunk]


class VectorFileWriter:
    """Writer of one Parquet file.

    Parameters
    ----------
    stream : file-like
        It stays open.
    schema : pyarrow.Schema
    vectors : sequence of str
        Columns to write as pages of our own, of type ``list<float32>`` and nullable at both levels. They have
        neither compression nor statistics. pyarrow writes all other columns.
    **options
        Options of ``pyarrow.parquet.ParquetWriter``.

    Notes
    -----
    Spark reads a file in ranges of bytes. A row group belongs to the range that holds its middle, which
    parquet-mr computes as the offset of the first column plus half the size of the row group
    (``ParquetMetadataConverter.filterFileMetaDataByMidpoint``). If the first column were stored last, the
    middle could lie behind the end of the file, and no task would read the row group. So vectors are stored
    before all other columns if the first column is a vector, and after them otherwise.
    """

    def __init__(self, stream: Any, schema: pa.Schema, vectors: Sequence[str], **options: Any) -> None:
        self._schema = schema
        # Pages are stored in this order, and a row group is placed by its first column.
        self._vectors = [name for name in schema.names if name in vectors]
        self._vectors_first = schema[0].name in vectors
        self._vector_bytes = 0
        self._groups: list[_RowGroup] = []
        self._stream = _HeldStream(stream)
        # Without vectors nothing is corrected, and pyarrow writes to the stream itself.
        self._writer = pq.ParquetWriter(self._stream if vectors else stream, schema, **options)
        if not options.get("store_schema", True):
            # Along with its own schema, pyarrow would leave out the metadata of ours.
            self._writer.add_key_value_metadata(schema.metadata or {})

    def write_row_group(self, rows: pa.Table) -> None:
        """Write rows as one row group.

        Raises
        ------
        DataError
            If a column's vectors have several widths, or a null number.
        """
        nulls = {name: pa.nulls(len(rows), self._schema.field(name).type) for name in self._vectors}
        columns = [nulls.get(name, rows[name]) for name in self._schema.names]
        chunks = self._write_vectors(rows) if self._vectors_first else {}
        begin, shift = self._stream.position, self._vector_bytes
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))
        end = self._stream.position
        self._groups.append(_RowGroup(begin, end, shift, chunks or self._write_vectors(rows)))

    def close(self) -> None:
        """Write the footer.

        Raises
        ------
        CommitError
            If pyarrow ends the file in an unknown way.
        """
        held = self._stream.hold()
        self._writer.close()
        if not self._vectors:
            return
        try:
            footer = _correct(_parse_end(held.getvalue()), self._groups)
        except (KeyError, ValueError) as error:
            raise CommitError(
                f"pyarrow {pa.__version__} ended a Parquet file in a way that lakevec doesn't know",
                got=str(error),
                expected="a footer like that of its test file",
                remedy="report it, and use another version of pyarrow",
            ) from None
        self._stream.release(footer + struct.pack("<I", len(footer)) + _END)

    def abort(self) -> None:
        """Give the file up, with or without a footer."""
        self._stream.hold()
        self._writer.close()

    def _write_vectors(self, rows: pa.Table) -> dict[str, VectorChunk]:
        chunks = {name: VectorChunk(0) for name in self._vectors}
        for name, chunk in chunks.items():
            chunk.offset = self._stream.position
            for parts in make_pages(rows[name], chunk):
                for part in parts if len(parts) < _MANY_PARTS else [b"".join(parts)]:
                    self._stream.write(part)
            self._vector_bytes += chunk.size
        return chunks


class _HeldStream(io.RawIOBase):
    """A stream that can hold back the end of a file."""

    def __init__(self, stream: Any) -> None:
        self.position = 0
        self._stream = stream
        self._target = stream

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self._target.write(content)
        self.position += len(content)
        return len(content)

    def hold(self) -> io.BytesIO:
        """Return the memory that takes all later writes."""
        self._target = held = io.BytesIO()
        return held

    def release(self, content: bytes) -> None:
        """Write `content` in place of what was held back."""
        self._stream.write(content)

    def close(self) -> None:
        """Leave the stream open, since its owner closes it."""


@functools.cache
def can_place_vectors() -> bool:
    """Whether the installed pyarrow ends files in a known way: write small files and read them, once.

    Warns
    -----
    RuntimeWarning
        If it doesn't. Then pyarrow must write vectors.
    """
    second = np.array([False, True, False])
    offsets = pa.py_buffer(np.array([0, 2, 2, 4], dtype=np.int32))
    kind = pa.list_(pa.field("element", pa.float32()))
    numbers = from_numpy(np.arange(4, dtype=np.float32))
    vectors = pa.Array.from_buffers(kind, 3, [validity(second), offsets], children=[numbers])
    columns = [from_strings(["x", "y", "x"]), vectors, from_numpy(np.arange(3), second), vectors]
    vectors_last = pa.Table.from_arrays(columns, names=["a", "b", "c", "d"])
    if _survives(vectors_last) and _survives(vectors_last.select(["b", "c", "d"])):
        return True
    warnings.warn(
        f"pyarrow {pa.__version__} ends Parquet files in a way that lakevec doesn't know. So pyarrow writes "
        "vectors itself, which takes several times as long",
        RuntimeWarning,
        stacklevel=2,
    )
    return False


def _survives(table: pa.Table) -> bool:
    """Write a table as two row groups, and compare what pyarrow reads."""
    stream = io.BytesIO()
    try:
        writer = VectorFileWriter(stream, table.schema, ["b", "d"])
        writer.write_row_group(table.slice(0, 2))
        writer.write_row_group(table.slice(2))
        writer.close()
        read = pq.ParquetFile(pa.BufferReader(stream.getvalue())).read(use_threads=False)
    except (CommitError, OSError, pa.ArrowException):
        return False
    return bool(read.equals(table))


def _parse_end(end: bytes) -> Struct:
    """Return the footer, which must be all that pyarrow writes last."""
    size = struct.unpack("<I", end[-8:-4])[0] if len(end) >= 8 else 0
    if end[-4:] != _END or len(end) != size + 8:
        raise ValueError(f"{len(end)} bytes, with a footer of {size}")
    return decode(end[:size])


def _correct(footer: Struct, written: Sequence[_RowGroup]) -> bytes:
    """Describe the vectors, and move all other columns by the vectors before them."""
    for group, place in zip(footer[_ROW_GROUPS][1][1], written, strict=True):
        _refuse_unknown(group, _KNOWN_OF_ROW_GROUP)
        columns = group[_COLUMNS][1][1]
        for column in columns:
            metadata = column[_METADATA][1]
            _refuse_unknown(column, _KNOWN_OF_COLUMN)
            _refuse_unknown(metadata, _KNOWN_OF_METADATA)
            chunk = place.chunks.get(metadata[_PATH][1][1][0].decode())
            if chunk is None:
                _add(column, _METADATA_OFFSET, place.shift)
                _add(metadata, _DATA_PAGE, place.shift)
                _add(metadata, _DICTIONARY_PAGE, place.shift)
                start = _first_page(metadata)[1]
                if not place.begin <= start <= start + metadata[_STORED][1] <= place.end:
                    raise ValueError("a column outside of its row group")
            else:
                _add(group, _TOTAL_SIZE, chunk.size - metadata[_SIZE][1])
                _add(group, _TOTAL_STORED, chunk.size - metadata[_STORED][1])
                _describe(metadata, chunk)
        group[_FIRST_PAGE] = _first_page(columns[0][_METADATA][1])
    return encode(footer)


def _first_page(metadata: Struct) -> tuple[int, int]:
    return metadata.get(_DICTIONARY_PAGE, metadata[_DATA_PAGE])


def _refuse_unknown(fields: Struct, known: set[int]) -> None:
    if not fields.keys() <= known:
        raise ValueError(f"fields {sorted(fields.keys() - known)}")


def _add(fields: Struct, number: int, count: int) -> None:
    """Add to a number that is there and not 0."""
    kind, value = fields.get(number, (I64, 0))
    if value:
        fields[number] = kind, value + count


def _describe(metadata: Struct, chunk: VectorChunk) -> None:
    """Replace what pyarrow says of its nulls."""
    for number in (_DICTIONARY_PAGE, _STATISTICS):
        metadata.pop(number, None)
    page_counts: Struct = {1: (I32, 0), 2: (I32, PLAIN), 3: (I32, chunk.pages)}
    metadata |= {
        _ENCODINGS: (LIST, (I32, [RLE, PLAIN])),
        _CODEC: (I32, _UNCOMPRESSED),
        _LEVELS: (I64, chunk.levels),
        _SIZE: (I64, chunk.size),
        _STORED: (I64, chunk.size),
        _DATA_PAGE: (I64, chunk.offset),
        _PAGE_COUNTS: (LIST, (STRUCT, [page_counts])),
    }
    if _SIZE_STATISTICS in metadata:
        statistics = metadata[_SIZE_STATISTICS][1]
        statistics[_REPETITIONS] = LIST, (I64, [chunk.rows, chunk.levels - chunk.rows])
        statistics[_DEFINITIONS] = LIST, (I64, [chunk.nulls, 0, 0, chunk.levels - chunk.nulls])
