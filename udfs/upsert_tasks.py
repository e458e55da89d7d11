"""Tasks of an upsert: read the output's keys and hashes, and rewrite files with changed rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakevec.pipeline.chunk_columns import CHUNK_INDEX
from lakevec.pipeline.encoding.text_validation import find_invalid, view_as_strings, without
from lakevec.pipeline.output.file_entry import QUARANTINE
from lakevec.pipeline.output.parquet_writer import FileLayout, TaskParquetWriter
from lakevec.pipeline.storage import Location
from lakevec.udfs.embed_task import entry_batches, file_stem, refuse_invalid

if TYPE_CHECKING:
    import pyarrow.dataset as pads

_BATCH_ROWS = 16_384


@dataclass(frozen=True, eq=False)
class ReadKeysTask:
    """Read columns of the named files; a function for ``DataFrame.mapInArrow``.

    Parameters
    ----------
    output : Location
    columns : tuple of str
        Columns to read.
    is_text : bool, default=False
        Whether the first column holds strings, which quarantine files store as bytes.
    schema : pyarrow.Schema, optional
        Columns of a table that other programs write, too. Its files may lack some.
    has_chunks : bool, default=False
        Whether each row is a chunk of a text. Quarantine files have whole texts.
    """

    output: Location
    columns: tuple[str, ...]
    is_text: bool = False
    schema: pa.Schema | None = None
    has_chunks: bool = False

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield each row's columns as ``c0``, ``c1`` and so on, then its ``name``, ``row`` and ``chunk``."""
        numbered = {f"c{number}": pc.field(column) for number, column in enumerate(self.columns)}
        for batch in batches:
            for name in batch.column(0).to_pylist():
                row = 0
                is_split = self.has_chunks and not name.startswith(QUARANTINE)
                numbered["chunk"] = pc.field(CHUNK_INDEX) if is_split else pc.scalar(pa.scalar(0, pa.int32()))
                for part in _scan(self.output, name, numbered, self.schema):
                    rows = np.arange(row, row + part.num_rows)
                    row += part.num_rows
                    first = view_as_strings(part.column(0)) if self.is_text else part.column(0)
                    *others, chunk = part.columns[1:]
                    names = pa.array([name] * part.num_rows, pa.string())
                    arrays = [first, *others, names, pa.array(rows), chunk]
                    columns = [*list(numbered)[:-1], "name", "row", "chunk"]
                    yield pa.RecordBatch.from_arrays(arrays, names=columns)


@dataclass(frozen=True, eq=False)
class RewriteTask:
    """Rewrite changed files; a function for ``DataFrame.mapInArrow`` that returns a line per file.

    Parameters
    ----------
    output : Location
    columns : tuple of str
        Columns that a change may replace. Vectors are copied.
    staging : Location
        Folder for files of task attempts.
    run_id : str
        Part of the files' names.
    layout : FileLayout
    on_bad_row : {"fail", "null", "quarantine"}, default="fail"
        How to treat a new value that is not valid UTF-8. All but "null" fail.
    schema : pyarrow.Schema, optional
        As in `ReadKeysTask`. All of its columns are copied.

    Notes
    -----
    Changes have columns ``c0`` and so on, ``name``, ``row`` and ``is_update``, sorted by ``name``. A change
    without ``is_update`` deletes its row.
    """

    output: Location
    columns: tuple[str, ...]
    staging: Location
    run_id: str
    layout: FileLayout
    on_bad_row: str = "fail"
    schema: pa.Schema | None = None

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rewrite every file that has changes; yield each new file's entry as JSON."""
        with TaskParquetWriter(self.staging, file_stem(self.run_id), self.layout) as files:
            for name, changes in _by_file(batches):
                self._rewrite(name, changes, files)
            entries = files.close()
        yield from entry_batches(entries)

    def _rewrite(self, name: str, changes: pa.Table, files: TaskParquetWriter) -> None:
        folder = f"{name.rpartition('/')[0]}/" if "/" in name else ""
        rows = changes["row"].to_numpy()
        order = np.argsort(rows, kind="stable")
        rows, changes = rows[order], changes.take(pa.array(order))
        updates = changes["is_update"].to_numpy(zero_copy_only=False)
        first = 0
        for part in _scan(self.output, name, None, self.schema):
            here = slice(*np.searchsorted(rows, [first, first + part.num_rows]))
            # Index of each row's source: its old row, or its update, which follows all old rows.
            source = np.arange(part.num_rows)
            keep = np.ones(part.num_rows, dtype=bool)
            keep[rows[here][~updates[here]] - first] = False
            updated = np.flatnonzero(updates[here])
            source[rows[here][updated] - first] = part.num_rows + np.arange(len(updated))
            new = changes.slice(here.start, here.stop - here.start).take(pa.array(updated))
            arrays = [
                self._merged(part, new, field.name, source[keep])
                if field.name in self.columns
                else part.column(index).filter(pa.array(keep))
                for index, field in enumerate(part.schema)
            ]
            files.write(pa.RecordBatch.from_arrays(arrays, names=part.schema.names), {}, folder=folder)
            first += part.num_rows

    def _merged(self, part: pa.RecordBatch, new: pa.Table, column: str, source: np.ndarray) -> pa.Array:
        """Merge old and new values of a column."""
        old = part.column(column)
        updated_values = new[f"c{self.columns.index(column)}"].combine_chunks()
        if not pa.types.is_binary(old.type) and (invalid := find_invalid(updated_values)) is not None:
            refuse_invalid([column], on_bad_row=self.on_bad_row)
            updated_values = without(updated_values, invalid)
        updated_values = updated_values.cast(old.type)
        return pa.concat_arrays([old, updated_values]).take(pa.array(source))


def _scan(
    output: Location, name: str, columns: dict[str, pc.Expression] | None, schema: pa.Schema | None
) -> Iterator[pa.RecordBatch]:
    """Read a file's rows in their order."""
    # A quarantine file has columns of its own.
    rows = open_rows(output / name, None if name.startswith(QUARANTINE) else schema)
    return iter(rows.to_batches(columns=columns, batch_size=_BATCH_ROWS, use_threads=False))


def open_rows(file: Location, schema: pa.Schema | None = None) -> pads.Dataset:
    """Open a Parquet file to read its rows.

    Parameters
    ----------
    file : Location
    schema : pyarrow.Schema, optional
        Columns to read in its types, with nulls for those that the file lacks. Default: those of the file.
    """
    import pyarrow.dataset as pads  # it imports pandas, which other runs do without

    # Spark writes timestamps of 96 bits, which nanoseconds can't hold.
    kind = pads.ParquetFileFormat(read_options=pads.ParquetReadOptions(coerce_int96_timestamp_unit="us"))
    return pads.dataset(file.path, schema=schema, filesystem=file.filesystem, format=kind)


def _by_file(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[str, pa.Table]]:
    """Collect the changes of each file, which arrive sorted by file."""
    for name, runs in groupby(_runs(batches), key=lambda run: run[0]):
        yield name, pa.Table.from_batches([part for _, part in runs])


def _runs(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Split batches by file."""
    for batch in batches:
        start = 0
        for name, run in groupby(batch.column("name").to_pylist()):
            length = len(list(run))
            yield name, batch.slice(start, length)
            start += length
