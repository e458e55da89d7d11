"""What one task of ``lakevec embed`` does: embed its rows and write them to files of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakevec.pipeline.encoding.encoder import Encoder, Store
from lakevec.pipeline.encoding.stored_vectors import VectorType, to_arrow_columns
from lakevec.pipeline.encoding.text_validation import (
    NOT_UTF8,
    as_bytes,
    find_invalid,
    find_invalid_texts,
    view_as_strings,
    without,
)
from lakevec.pipeline.errors import DataError, describe_failure
from lakevec.pipeline.output.file_entry import QUARANTINE, Counts, FileEntry
from lakevec.pipeline.output.parquet_writer import FileLayout, TaskParquetWriter
from lakevec.pipeline.output.partitions import split_by_partition
from lakevec.pipeline.storage import Location
from lakevec.udfs.node_files import NodeFiles
from lakevec.udfs.worker_cache import get_encoder, worker_memory

ENTRY_SCHEMA = "entry string"

# Of the line that a task returns beside its files.
ROWS_READ = "rows_read"

# Column of a file in quarantine that says which text is bad, and why.
REASON = "lakevec_reason"


@dataclass(frozen=True, eq=False)
class EmbedTask:
    """A function for ``DataFrame.mapInArrow``: rows in, one line about each written file out.

    Parameters
    ----------
    table : NodeFiles
        The table's name and check sums.
    fetch : callable
        Returns the table's files where the node has no copy.
    embedding_columns : dict of str to str
        Text column and the name of its embedding column.
    read : tuple of str
        Names of the input's columns, which come numbered, in order; behind them come the values of the
        partition columns as strings.
    kept : tuple of str
        Input columns to write, in order.
    staging : Location
        Folder for files of task attempts.
    run_id : str
        Part of the file's name.
    layout : FileLayout
        How the file is stored.
    max_tokens : int or None
        Embed only the first `max_tokens` known tokens.
    partition_by : tuple of str
        Columns whose values name the folders of the files.
    vector_type : VectorType
        Elements of stored vectors.
    on_bad_row : {"fail", "null", "quarantine"}, default="fail"
        What becomes of a row with a string that is not valid UTF-8, or with a text that is too long: the
        task fails, the vector or the value becomes null, or the row goes to files of its own.
    max_chars : int or None, default=None
        Most characters of a text.
    store : {"mean", "sum"}, default="mean"
        What is kept of a text.
    """

    table: NodeFiles
    fetch: Callable[[], dict[str, bytes]]
    embedding_columns: dict[str, str]
    read: tuple[str, ...]
    kept: tuple[str, ...]
    staging: Location
    run_id: str
    layout: FileLayout
    max_tokens: int | None
    partition_by: tuple[str, ...] = ()
    vector_type: VectorType = VectorType.FLOAT32
    on_bad_row: str = "fail"
    max_chars: int | None = None
    store: Store = "mean"

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Embed and write all rows of a partition.

        Parameters
        ----------
        batches : iterator of pyarrow.RecordBatch

        Yields
        ------
        pyarrow.RecordBatch
            One row per file, its entry as JSON, and one with the number of rows that came.
        """
        encoder = self.make_encoder()
        rows_read = 0
        with TaskParquetWriter(self.staging, file_stem(self.run_id), self.layout) as files:
            for numbered in batches:
                rows_read += numbered.num_rows
                numbered, seen = self._handle_bad_rows(numbered, files)
                columns = numbered.columns
                batch = pa.RecordBatch.from_arrays(columns[: len(self.read)], names=list(self.read))
                values = columns[len(self.read) :]
                for folder, rows in split_by_partition(batch, self.partition_by, values):
                    embedded, counts = self._embed(encoder, rows)
                    files.write(embedded, counts | seen, folder=folder)
                    seen = {}
            entries = files.close()
        yield from tell(entries, rows_read=rows_read)

    def _embed(self, encoder: Encoder, rows: pa.RecordBatch) -> tuple[pa.RecordBatch, Counts]:
        """Add the embedding columns to the columns that are kept."""
        arrays = {column: rows.column(column) for column in self.kept}
        counts = {}
        for column, embedding_column in self.embedding_columns.items():
            texts, bad = self._good_texts(column, rows.column(column))
            if bad.get("bad") and column in arrays:
                invalid = find_invalid(arrays[column])
                arrays[column] = arrays[column] if invalid is None else without(arrays[column], invalid)
            encoded = encoder.encode(texts)
            arrays |= to_arrow_columns(encoded, embedding_column, self.vector_type)
            counts[column] = asdict(encoded.counts) | bad
        return pa.RecordBatch.from_pydict(arrays), counts

    def _good_texts(self, column: str, texts: pa.Array) -> tuple[pa.Array, dict[str, int]]:
        """Return the texts to embed, and how many of them are bad."""
        texts = view_as_strings(texts)
        if self.on_bad_row == "quarantine" or (self.on_bad_row == "fail" and self.max_chars is None):
            return texts, {}  # nothing bad is left, or the encoder finds it
        found = find_invalid_texts(texts, max_chars=self.max_chars)
        if found and self.on_bad_row == "fail":
            raise DataError(
                f"a text of column {column!r} can't be embedded",
                got=f"one {next(iter(found))}",
                remedy="clean the column, or run with --on-bad-row null or quarantine",
            )
        if not found:
            return texts, {"bad": 0}
        bad = np.logical_or.reduce(list(found.values()))
        texts = pc.if_else(pa.array(bad), pa.scalar(None, texts.type), texts)
        return texts, {"bad": int(bad.sum())}

    def _handle_bad_rows(
        self, numbered: pa.RecordBatch, files: TaskParquetWriter
    ) -> tuple[pa.RecordBatch, Counts]:
        """Return rows without strings that are not UTF-8, but for texts that the encoder looks at."""
        names = (*self.read, *self.partition_by)
        bad: dict[str, dict[str, np.ndarray]] = {}
        for name, values in zip(names, numbered.columns, strict=True):
            if name not in self.embedding_columns:
                invalid = find_invalid(values)
                found = {} if invalid is None else {NOT_UTF8: invalid}
            elif self.on_bad_row == "quarantine":
                found = find_invalid_texts(view_as_strings(values), max_chars=self.max_chars)
            else:
                found = {}
            if found:
                bad[name] = found
        if not bad:
            return numbered, {}
        if self.on_bad_row == "quarantine":
            return self._put_into_quarantine(numbered, bad, files), {}
        refuse_invalid(bad, on_bad_row=self.on_bad_row)
        columns = [
            without(values, bad[name][NOT_UTF8]) if name in bad else values
            for name, values in zip(names, numbered.columns, strict=True)
        ]
        seen = {name: {"bad": int(found[NOT_UTF8].sum())} for name, found in bad.items()}
        return pa.RecordBatch.from_arrays(columns, names=numbered.schema.names), seen

    def _put_into_quarantine(
        self, numbered: pa.RecordBatch, bad: dict[str, dict[str, np.ndarray]], files: TaskParquetWriter
    ) -> pa.RecordBatch:
        """Write bad rows whole and with their reasons; return the others."""
        reasons = [""] * numbered.num_rows
        for name, found in bad.items():
            for reason, rows in found.items():
                for row in np.flatnonzero(rows):
                    reasons[row] += f"{'; ' if reasons[row] else ''}{name}: {reason}"
        is_bad = pa.array([bool(reason) for reason in reasons])
        arrays = dict(zip((*self.read, *self.partition_by), numbered.columns, strict=True))
        # Texts as bytes, which is what they are. Files in which other columns are bytes lie apart.
        has_others = not bad.keys() <= self.embedding_columns.keys()
        as_such = arrays if has_others else self.embedding_columns
        arrays |= {name: as_bytes(arrays[name]) for name in as_such}
        arrays[REASON] = pa.array(reasons)
        counts = {
            name: {"quarantined": int(np.logical_or.reduce(list(found.values())).sum())}
            for name, found in bad.items()
        }
        folder = f"{QUARANTINE}bytes/" if has_others else QUARANTINE
        files.write(pa.RecordBatch.from_pydict(arrays).filter(is_bad), counts, folder=folder)
        return numbered.filter(pc.invert(is_bad))

    def make_encoder(self) -> Encoder:
        """Return this worker's encoder, which stays with it for other tasks."""
        return get_encoder(self.table, self.fetch, max_tokens=self.max_tokens, store=self.store)


class WriteProbe:
    """A function for ``DataFrame.mapInArrow``: write a file where tasks will write, and say what went wrong.

    Parameters
    ----------
    staging : Location
        The run's staging folder.
    """

    name = "probe"

    def __init__(self, staging: Location) -> None:
        self._staging = staging

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Write the file, once for every batch.

        Parameters
        ----------
        batches : iterator of pyarrow.RecordBatch

        Yields
        ------
        pyarrow.RecordBatch
            One row: the error, or an empty text.
        """
        for _ in batches:
            error = ""
            try:
                self._staging.filesystem.create_dir(self._staging.path, recursive=True)
                (self._staging / self.name).write_bytes(b"")
            except (OSError, pa.ArrowException) as reason:
                error = describe_failure(reason)
            yield pa.RecordBatch.from_pydict({"error": [error]})


def refuse_invalid(bad: Iterable[str], *, on_bad_row: str) -> None:
    """End the task for columns that hold strings which are not UTF-8, unless they may become null.

    Parameters
    ----------
    bad : iterable of str
        Names of the columns.
    on_bad_row : {"fail", "null", "quarantine"}

    Raises
    ------
    DataError
    """
    names = ", ".join(map(repr, bad))
    if names and on_bad_row != "null":
        raise DataError(
            f"column {names} holds text that is not valid UTF-8",
            expected="valid UTF-8 in every string, nested ones too",
            remedy="clean the column, leave it out with --keep, or run with --on-bad-row null or quarantine",
        )


def file_stem(run_id: str) -> str:
    """Name files for the attempt, so that a retry or a speculative copy never meets another's file."""
    from pyspark import TaskContext  # which the thin client lacks, and a worker has

    context = TaskContext.get()
    partition, attempt = (context.partitionId(), context.taskAttemptId()) if context else (0, 0)
    return f"part-{partition:05d}-{attempt}-{run_id}"


def tell(entries: Sequence[FileEntry], *, rows_read: int = 0) -> Iterator[pa.RecordBatch]:
    """Say what was written and read, as a task hands it to the driver.

    Parameters
    ----------
    entries : sequence of FileEntry
    rows_read : int, default=0
        Rows that came to the task.

    Yields
    ------
    pyarrow.RecordBatch
        One row per file, its entry as JSON, with the worker that wrote it; and one row with `rows_read`, so
        that a task that read something and wrote nothing is noticed.
    """
    worker = worker_memory()
    for entry in entries:
        yield pa.RecordBatch.from_pydict({"entry": [replace(entry, worker=worker).to_json()]})
    yield pa.RecordBatch.from_pydict({"entry": [json.dumps({ROWS_READ: rows_read})]})
