"""Tasks of a keyed run: what an output holds, row by row, and its files again without rows that changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads

from lakevec.pipeline.encoding.text_validation import find_invalid, view_as_strings, without
from lakevec.pipeline.output.parquet_writer import FileLayout, TaskParquetWriter
from lakevec.pipeline.storage import Location
from lakevec.udfs.embed_task import file_stem, refuse_invalid, tell

_BATCH_ROWS = 16_384


@dataclass(frozen=True, eq=False)
class ReadKeysTask:
    """A function for ``DataFrame.mapInArrow``: names of files in, one line about each of their rows out.

    Parameters
    ----------
    output : Location
        The output.
    columns : tuple of str
        The columns to read; behind them come the file's name and the row's place in it.
    is_text : bool, default=False
        Whether the first column holds strings; in quarantine they are bytes.
    """

    output: Location
    columns: tuple[str, ...]
    is_text: bool = False

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Read the columns of all files.

        Parameters
        ----------
        batches : iterator of pyarrow.RecordBatch
            One column, the files' names below the output.

        Yields
        ------
        pyarrow.RecordBatch
            The columns numbered as ``c0``, then ``name`` and ``row``.
        """
        numbered = {f"c{number}": pads.field(column) for number, column in enumerate(self.columns)}
        for batch in batches:
            for name in batch.column(0).to_pylist():
                row = 0
                for part in _scan(self.output / name, numbered):
                    rows = np.arange(row, row + part.num_rows)
                    row += part.num_rows
                    first = view_as_strings(part.column(0)) if self.is_text else part.column(0)
                    arrays = [
                        first,
                        *part.columns[1:],
                        pa.array([name] * part.num_rows, pa.string()),
                        pa.array(rows),
                    ]
                    yield pa.RecordBatch.from_arrays(arrays, names=[*numbered, "name", "row"])


@dataclass(frozen=True, eq=False)
class RewriteTask:
    """A function for ``DataFrame.mapInArrow``: changes of files in, one line about each new file out.

    Parameters
    ----------
    output : Location
        The output.
    columns : tuple of str
        The columns that a change may bring; vectors stay as they are.
    staging : Location
        Folder for files of task attempts.
    run_id : str
        Part of the file's name.
    layout : FileLayout
        How the file is stored.
    on_bad_row : {"fail", "null", "quarantine"}, default="fail"
        What becomes of a new value that is not valid UTF-8: only "null" lets the task go on.

    Notes
    -----
    Changes come numbered, ``c0`` and on, then ``name``, ``row`` and ``is_update``, sorted by the file's
    name. A row that is not updated is left out.
    """

    output: Location
    columns: tuple[str, ...]
    staging: Location
    run_id: str
    layout: FileLayout
    on_bad_row: str = "fail"

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Write every file that has changes again, without its old rows or with their new values.

        Parameters
        ----------
        batches : iterator of pyarrow.RecordBatch

        Yields
        ------
        pyarrow.RecordBatch
            One row per new file, its entry as JSON.
        """
        with TaskParquetWriter(self.staging, file_stem(self.run_id), self.layout) as files:
            for name, changes in _by_file(batches):
                self._rewrite(name, changes, files)
            entries = files.close()
        yield from tell(entries)

    def _rewrite(self, name: str, changes: pa.Table, files: TaskParquetWriter) -> None:
        folder = f"{name.rpartition('/')[0]}/" if "/" in name else ""
        places = changes["row"].to_numpy()
        order = np.argsort(places, kind="stable")
        places, changes = places[order], changes.take(pa.array(order))
        updates = changes["is_update"].to_numpy(zero_copy_only=False)
        first = 0
        for part in _scan(self.output / name, None):
            here = slice(*np.searchsorted(places, [first, first + part.num_rows]))
            # Old rows that change nothing, then new values, in the old rows' order.
            source = np.arange(part.num_rows)
            keep = np.ones(part.num_rows, dtype=bool)
            keep[places[here][~updates[here]] - first] = False
            updated = np.flatnonzero(updates[here])
            source[places[here][updated] - first] = part.num_rows + np.arange(len(updated))
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
        """Take old values and new ones of a column."""
        old = part.column(column)
        brought = new[f"c{self.columns.index(column)}"].combine_chunks()
        if not pa.types.is_binary(old.type) and (invalid := find_invalid(brought)) is not None:
            refuse_invalid([column], on_bad_row=self.on_bad_row)
            brought = without(brought, invalid)
        brought = brought.cast(old.type)
        return pa.concat_arrays([old, brought]).take(pa.array(source))


def _scan(file: Location, columns: dict[str, pads.Expression] | None) -> Iterator[pa.RecordBatch]:
    """Read a file's rows in their order."""
    dataset = pads.dataset(file.path, filesystem=file.filesystem, format="parquet")
    yield from dataset.to_batches(columns=columns, batch_size=_BATCH_ROWS, use_threads=False)


def _by_file(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[str, pa.Table]]:
    """Gather the changes of each file, which come one file behind the other."""
    for name, runs in groupby(_runs(batches), key=lambda run: run[0]):
        yield name, pa.Table.from_batches([part for _, part in runs])


def _runs(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Cut batches where the file's name changes."""
    for batch in batches:
        names = batch.column("name").to_pylist()
        start = 0
        for name, run in groupby(names):
            length = sum(1 for _ in run)
            yield name, batch.slice(start, length)
            start += length
