"""Parquet data pages of vectors: the numbers as they lie in memory, behind levels that repeat.

Source: https://parquet.apache.org/docs/file-format/data-pages/, and parquet.thrift for the header.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakevec.pipeline.arrow_arrays import null_mask
from lakevec.pipeline.errors import DataError
from lakevec.pipeline.output.thrift_compact import I32, STRUCT, Struct, decode, encode, varint

# Encodings, as Parquet numbers them.
PLAIN, RLE = 0, 3
_PAGE_BYTES = 1 << 20
_FLOAT_BYTES = 4
# Definition level of a number. Vector, item and number may each be null; a null vector has level 0.
_DEFINED = 3
_LONGEST_HEADER = 64


@dataclass
class VectorChunk:
    """A vector column in one row group.

    Parameters
    ----------
    offset : int
        Where it begins in the file.
    size : int, default=0
        Bytes of its pages.
    rows, nulls : int, default=0
        Vectors, and how many of them are null.
    levels : int, default=0
        Numbers and null vectors, which have one level each.
    pages : int, default=0
    """

    offset: int
    size: int = 0
    rows: int = 0
    nulls: int = 0
    levels: int = 0
    pages: int = 0


# Vectors in a row with the memory of their numbers, or nulls in a row.
_Run = tuple[int, memoryview | None]


def make_pages(vectors: pa.ChunkedArray, chunk: VectorChunk) -> Iterator[list[Any]]:
    """Yield the parts of each page: header and levels, then the numbers' own memory.

    Parameters
    ----------
    vectors : pyarrow.ChunkedArray
        Lists of float32, all of one width, or null as a whole.
    chunk : VectorChunk
        Counts all pages.

    Raises
    ------
    DataError
        If widths differ or a number is null.
    """
    width = _common_width(vectors)
    page_rows = max(1, _PAGE_BYTES // (_FLOAT_BYTES * width))
    for start in range(0, len(vectors), page_rows):
        rows = vectors.slice(start, page_rows)
        runs = [run for part in rows.chunks for run in _runs(part, width)]
        nulls = sum(count for count, memory in runs if memory is None)
        head = _head_with_nulls(runs, width) if nulls else _head(len(rows), width)
        parts = [head, *(memory for _, memory in runs if memory is not None)]
        chunk.size += sum(map(len, parts))
        chunk.rows += len(rows)
        chunk.nulls += nulls
        chunk.levels += nulls + (len(rows) - nulls) * width
        chunk.pages += 1
        yield parts


def read_pages(content: memoryview, width: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Read the pages of a column chunk that `make_pages` made.

    Parameters
    ----------
    content : memoryview
        The chunk's bytes, of format ``B``.
    width : int
        Width D of its vectors.

    Yields
    ------
    float32 ndarray of shape (M, D)
        A page's vectors that are not null.
    bool ndarray of shape (N,)
        Which of its N rows are null.

    Raises
    ------
    ValueError
        If the next page is not as `make_pages` would write it.
    """
    at = 0
    while at < len(content):
        head, is_null = _read_head(content[at:], width)
        at += len(head)
        numbers = np.empty((len(is_null) - int(is_null.sum()), width), dtype=np.float32)
        # Copied, since numbers in a file may begin at any address.
        numbers.view(np.uint8).reshape(-1)[:] = content[at : at + numbers.nbytes]
        at += numbers.nbytes
        yield numbers, is_null


def _read_head(page: memoryview, width: int) -> tuple[bytes, np.ndarray]:
    """Return a page's header and levels, and which of its vectors are null."""
    try:
        header = decode(bytes(page[:_LONGEST_HEADER]))
        rows = header[5][1][1][1] // width
        if 0 < rows <= _PAGE_BYTES and page[: len(head := _head(rows, width))] == head:
            return head, np.zeros(rows, dtype=bool)
        runs = list(_decode_runs(page[len(encode(header)) :], width))
        if sum(count for count, _ in runs) > _PAGE_BYTES:
            raise ValueError("a page of more rows")
        is_null = np.repeat([memory is None for _, memory in runs], [count for count, _ in runs])
        head = _head_with_nulls(runs, width)
    except (LookupError, TypeError, struct.error) as error:
        raise ValueError(f"no page of vectors ({type(error).__name__})") from None
    if page[: len(head)] != head:
        raise ValueError("a page with other levels")
    return head, is_null


def _decode_runs(levels: memoryview, width: int) -> Iterator[_Run]:
    """Yield vectors, with any memory, and nulls in a row from the levels of a page."""
    at = 4 + struct.unpack_from("<I", levels)[0]
    end = at + 4 + struct.unpack_from("<I", levels, at)[0]
    at += 4
    while at < end:
        length = shift = 0
        while (byte := levels[at]) >= 0x80:
            length |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
        length = (length | byte << shift) >> 1
        yield (length // width, levels) if levels[at + 1] else (length, None)
        at += 2


def _common_width(vectors: pa.ChunkedArray) -> int:
    """Return the width of all vectors; 1 if all are null, since no page has numbers then."""
    lengths = pc.min_max(pc.list_value_length(vectors))
    least, most = lengths["min"].as_py(), lengths["max"].as_py()
    if least != most or least == 0 or any(part.values.null_count for part in vectors.chunks):
        raise DataError(
            "a column of vectors",
            got=f"widths from {least} to {most}, or null numbers",
            expected="one width of at least 1, and vectors that are null as a whole or not at all",
            remedy="embed these rows again",
        )
    return least or 1


def _runs(vectors: pa.ListArray, width: int) -> Iterator[_Run]:
    edges, is_null = [0, len(vectors)], np.zeros(1, dtype=bool)
    if vectors.null_count:
        is_null = null_mask(vectors)
        edges[1:1] = (np.flatnonzero(is_null[1:] != is_null[:-1]) + 1).tolist()
    numbers = vectors.values
    memory = memoryview(numbers.buffers()[1] or b"")
    offsets = np.frombuffer(vectors.buffers()[1], dtype=np.int32)[vectors.offset :]
    firsts = offsets[edges].tolist()
    for start, stop, first in zip(edges, edges[1:], firsts, strict=False):
        begin = (numbers.offset + first) * _FLOAT_BYTES
        size = (stop - start) * width * _FLOAT_BYTES
        yield stop - start, None if is_null[start] else memory[begin : begin + size]


@functools.lru_cache(maxsize=8)
def _head(rows: int, width: int) -> bytes:
    """Make header and levels of a page without nulls; most pages of a file have the same."""
    levels = _sized(_repetitions(width) * rows) + _sized(_run(rows * width, _DEFINED))
    return _header(len(levels) + rows * width * _FLOAT_BYTES, rows * width) + levels


def _head_with_nulls(runs: Sequence[_Run], width: int) -> bytes:
    """Make header and levels of a page."""
    repetitions, definitions = [], []
    size = count = 0
    for rows, memory in runs:
        if memory is None:
            repetitions.append(_run(rows, 0))
            definitions.append(_run(rows, 0))
            count += rows
        else:
            repetitions.append(_repetitions(width) * rows)
            definitions.append(_run(rows * width, _DEFINED))
            count += rows * width
            size += rows * width * _FLOAT_BYTES
    levels = _sized(b"".join(repetitions)) + _sized(b"".join(definitions))
    return _header(len(levels) + size, count) + levels


def _header(size: int, count: int) -> bytes:
    """Encode the header of a data page, version 1: bytes after the header, and levels."""
    data_page: Struct = {1: (I32, count), 2: (I32, PLAIN), 3: (I32, RLE), 4: (I32, RLE)}
    return encode({1: (I32, 0), 2: (I32, size), 3: (I32, size), 5: (STRUCT, data_page)})


@functools.lru_cache(maxsize=8)
def _repetitions(width: int) -> bytes:
    """Encode the repetition levels of a vector: 0 for its first number, 1 for all others."""
    return _run(1, 0) + (_run(width - 1, 1) if width > 1 else b"")


@functools.lru_cache(maxsize=1024)
def _run(length: int, level: int) -> bytes:
    """Encode equal levels as one run of Parquet's RLE encoding."""
    return varint(length << 1) + bytes([level])


def _sized(levels: bytes) -> bytes:
    return struct.pack("<I", len(levels)) + levels
