"""Rows and vectors of an output, one row group at a time, without Spark."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lakevec.pipeline.arrow_arrays import from_strings, null_mask
from lakevec.pipeline.encoding.options import SCALE_SUFFIX, SUFFIXES
from lakevec.pipeline.encoding.packed_signs import packed_width, unpack_signs
from lakevec.pipeline.errors import (
    CommitError,
    DataError,
    SettingsError,
    describe_failure,
    did_you_mean,
    rephrase,
)
from lakevec.pipeline.output.partitions import partition_values
from lakevec.pipeline.output.stored_output import StoredOutput
from lakevec.pipeline.output.vector_pages import read_pages

# Partition columns are text in folder names. Columns of other types stay text.
_PARTITION_TYPES = {
    **{"tinyint": pa.int8(), "smallint": pa.int16(), "int": pa.int32(), "bigint": pa.int64()},
    **{"float": pa.float32(), "double": pa.float64(), "boolean": pa.bool_(), "date": pa.date32()},
}
_OWN_PREFIX = "lakevec_"
_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True)
class RowGroup:
    """A row group of one of an output's files.

    Parameters
    ----------
    file : str
        Name below the output's folder.
    number : int
        Position in the file.
    footer : pyarrow.parquet.FileMetaData
        The file's.
    """

    file: str
    number: int
    footer: pq.FileMetaData


class VectorReader:
    """Reads one embedding column of an output, and its other columns.

    Parameters
    ----------
    output : StoredOutput
    column : str, optional
        Embedding column. Default: the output's only one.

    Attributes
    ----------
    column : str
    dimensions : int
        Width D of the vectors.
    is_binary : bool
        Whether the vectors are bits.
    groups : list of RowGroup
        All row groups of the files that readers see, by name of the file.

    Raises
    ------
    SettingsError
        If the output has no such embedding column, or several and none is named.
    CommitError
        If a file can't be read.
    """

    def __init__(self, output: StoredOutput, column: str | None = None) -> None:
        self._output = output
        self.column = _choose(output, column)
        self.dimensions = output.metadata.dimensions
        self.is_binary = output.metadata.vector_type == "binary"
        files = sorted(output.state.files)
        footers = in_threads(self._read_footer, files)
        self.groups = [
            RowGroup(file, number, footer)
            for file, footer in zip(files, footers, strict=True)
            for number in range(footer.num_row_groups)
        ]

    @property
    def other_columns(self) -> list[str]:
        """All columns but vectors, and what lakevec keeps beside them."""
        embeddings = self._output.metadata.columns.values()
        own = {name + end for name in embeddings for end in ("", *SUFFIXES)}
        names = self._output.metadata.schema_of_files
        return [name for name in names if name not in own and not name.startswith(_OWN_PREFIX)]

    def check_columns(self, names: Iterable[str]) -> None:
        """Raise SettingsError if the output lacks a column."""
        known = self._output.metadata.schema_of_files
        for name in names:
            if name not in known:
                raise SettingsError(
                    f"the output has no column {name!r}",
                    expected=f"some of {', '.join(known)}",
                    remedy=did_you_mean(name, known),
                )

    def read_blocks(self, group: RowGroup) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Read the vectors of a row group as they are stored, in blocks.

        Yields
        ------
        float32 or int8 ndarray of shape (N, D)
            Vectors that are not null; int8 without their scales; signs for binary ones, see `unpack_signs`.
        int64 ndarray of shape (N,)
            Their rows in the row group.

        Raises
        ------
        DataError
            If a vector has another width, or a null number.
        """
        if self.is_binary:
            packed, rows = self.read_packed(group)
            yield unpack_signs(packed, self.dimensions), rows
            return
        done = 0
        if (chunk := self._find_own_pages(group)) is not None:
            # pyarrow decodes a list number by number, which takes ten times as long.
            with suppress(ValueError):
                for matrix, is_null in read_pages(chunk, self.dimensions):
                    yield matrix, np.flatnonzero(~is_null) + done
                    done += len(is_null)
        if done < group.footer.row_group(group.number).num_rows:
            matrix, rows = self._decode(group)
            yield matrix[rows >= done], rows[rows >= done]

    def _find_own_pages(self, group: RowGroup) -> memoryview | None:
        """Return the bytes of a column chunk that may hold pages of our own; None if it doesn't."""
        chunks = group.footer.row_group(group.number)
        for chunk in map(chunks.column, range(chunks.num_columns)):
            kind = chunk.physical_type, chunk.compression, chunk.has_dictionary_page
            if chunk.path_in_schema == f"{self.column}.list.element" and kind == (
                "FLOAT",
                "UNCOMPRESSED",
                False,
            ):
                with self._reading(group.file), self._open(group.file) as stream:
                    stream.seek(chunk.data_page_offset)
                    return memoryview(stream.read_buffer(chunk.total_compressed_size)).cast("B")
        return None

    def read_packed(self, group: RowGroup) -> tuple[np.ndarray, np.ndarray]:
        """Read the binary vectors of a row group.

        Returns
        -------
        uint8 ndarray of shape (N, ceil(D / 8))
            Vectors that are not null, as from `pack_signs`.
        int64 ndarray of shape (N,)
            Their rows in the row group.

        Raises
        ------
        DataError
            If a vector has another width.
        """
        stored = _whole(self._read(group, [self.column]).column(0))
        rows, width = np.flatnonzero(~null_mask(stored)), packed_width(self.dimensions)
        try:
            known = stored.drop_null().cast(pa.binary(width))  # Delta's column has no fixed size
        except pa.ArrowInvalid:
            raise self._wrong_vectors(group, "another width", f"{width} bytes each") from None
        memory = np.frombuffer(known.buffers()[1] or b"", dtype=np.uint8)
        return memory[known.offset * width : (known.offset + len(known)) * width].reshape(-1, width), rows

    def _decode(self, group: RowGroup) -> tuple[np.ndarray, np.ndarray]:
        """Read the vectors of a row group with pyarrow."""
        stored = _whole(self._read(group, [self.column]).column(0))
        rows = np.flatnonzero(~null_mask(stored))
        numbers = stored.flatten()
        if numbers.null_count or len(numbers) != len(rows) * self.dimensions:
            raise self._wrong_vectors(
                group, "another width, or null numbers", f"{self.dimensions} numbers each"
            )
        return _to_numpy(numbers).reshape(len(rows), self.dimensions), rows

    def _wrong_vectors(self, group: RowGroup, got: str, expected: str) -> DataError:
        return DataError(
            f"vectors of column {self.column!r} in {group.file}",
            got=got,
            expected=expected,
            remedy="check the output with lakevec verify",
        )

    def read_vectors(self, group: RowGroup) -> tuple[np.ndarray, np.ndarray]:
        """Read all vectors of a row group as `read_blocks` does, at once."""
        blocks = list(self.read_blocks(group))
        if len(blocks) == 1:
            return blocks[0]
        matrices, rows = zip(*blocks, strict=True)
        return np.concatenate(matrices), np.concatenate(rows)

    def read_floats(self, group: RowGroup) -> tuple[np.ndarray, np.ndarray]:
        """Read the vectors of a row group as float32 of shape (N, D); int8 is multiplied by its scales."""
        matrix, rows = self.read_vectors(group)
        if matrix.dtype == np.float32 or self.is_binary:
            return matrix.astype(np.float32, copy=False), rows
        scales = _to_numpy(_whole(self._read(group, [self.column + SCALE_SUFFIX]).column(0)).drop_null())
        return matrix * scales[:, None], rows

    def read_columns(self, group: RowGroup, names: Sequence[str]) -> pa.Table:
        """Read columns of a row group; partition columns come from the file's name."""
        in_file = set(group.footer.schema.to_arrow_schema().names)
        stored = [name for name in names if name in in_file]
        table = self._read(group, stored)
        values = partition_values(group.file, self._output.metadata.partition_by)
        rows = group.footer.row_group(group.number).num_rows
        columns = [
            table.column(name) if name in stored else self._repeat(name, values[name], rows) for name in names
        ]
        return pa.Table.from_arrays(columns, names=list(names))

    def _repeat(self, name: str, value: str | None, rows: int) -> pa.Array:
        kind = _PARTITION_TYPES.get(self._output.metadata.schema_of_files[name], pa.string())
        if value is None:
            return pa.nulls(rows, kind)
        return pa.repeat(from_strings([value]).cast(kind)[0], rows)

    def _read_footer(self, file: str) -> pq.FileMetaData:
        with self._reading(file), self._open(file) as stream:
            return pq.read_metadata(stream)

    def _read(self, group: RowGroup, names: list[str]) -> pa.Table:
        with self._reading(group.file), self._open(group.file) as stream:
            file = pq.ParquetFile(stream, metadata=group.footer)
            return file.read_row_group(group.number, columns=names, use_threads=False)

    def _open(self, file: str) -> Any:
        place = self._output.location / file
        if place.is_local:
            return pa.memory_map(place.path)
        return place.filesystem.open_input_file(place.path)

    def _reading(self, file: str) -> Any:
        return rephrase(
            CommitError,
            f"can't read {file} of output {self._output.uri!r}",
            on=(OSError, pa.ArrowException),
            describe=describe_failure,
            remedy="check the output with lakevec verify",
        )


def in_threads(function: Callable[[_T], _R], items: Sequence[_T]) -> Iterator[_R]:
    """Call a function for each item, on all cores; yield the results in order."""
    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
    try:
        yield from pool.map(function, items)
    finally:
        pool.shutdown(cancel_futures=True)


def _choose(output: StoredOutput, column: str | None) -> str:
    if not output.metadata.has_vectors:
        raise SettingsError(
            "the output holds no vectors", got="labels only", remedy="embed again without --no-vectors"
        )
    known = list(output.metadata.columns.values())
    if column is None and len(known) == 1:
        return known[0]
    if column in known:
        return column
    raise SettingsError(
        "embedding column",
        got=repr(column) if column else f"an output with {len(known)} of them",
        expected=f"one of {', '.join(known)}",
        remedy="give --embedding-column",
    )


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """Return a column in one piece; without a copy, if it is in one."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _to_numpy(numbers: pa.Array) -> np.ndarray:
    """View numbers without nulls; unlike ``Array.to_numpy``, import no pandas."""
    kind = np.dtype(numbers.type.to_pandas_dtype())
    memory = np.frombuffer(numbers.buffers()[1] or b"", dtype=kind)
    return memory[numbers.offset : numbers.offset + len(numbers)]
