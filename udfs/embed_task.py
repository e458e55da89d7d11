"""What one task of ``lakevec embed`` does: embed its rows and write them to files of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark import TaskContext

from pipeline.encoding.bad_texts import as_strings, find_bad_texts
from pipeline.encoding.encoder import Encoder, Store
from pipeline.encoding.vector_types import VectorType, to_columns
from pipeline.errors import DataError, describe_failure
from pipeline.location import Location
from pipeline.output.manifest import QUARANTINE, Counts, FileEntry
from pipeline.output.partitions import split_by_partition
from pipeline.output.sink import FileLayout, TaskFiles
from udfs.node_table import NodeTable
from udfs.worker_cache import describe_worker, get_encoder

ENTRY_SCHEMA = "entry string"

# Column of a file in quarantine that says which text is bad, and why.
REASON = "lakevec_reason"


@dataclass(frozen=True, eq=False)
class EmbedTask:
    """A function for ``DataFrame.mapInArrow``: rows in, one line about each written file out.

    Parameters
    ----------
    table : NodeTable
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
        What becomes of a row with a text that is not valid UTF-8 or too long: the task fails, the vector is
        null, or the row goes to files of its own, with the reason.
    max_chars : int or None, default=None
        Most characters of a text.
    store : {"mean", "sum"}, default="mean"
        What is kept of a text.
    """

    table: NodeTable
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
            One row per file, its entry as JSON; nothing for a partition without rows.
        """
        encoder = self.make_encoder()
        with TaskFiles(self.staging, file_stem(self.run_id), self.layout) as files:
            for numbered in batches:
                if self.on_bad_row == "quarantine":
                    numbered = self._put_into_quarantine(numbered, files)
                columns = numbered.columns
                batch = pa.RecordBatch.from_arrays(columns[: len(self.read)], names=list(self.read))
                values = columns[len(self.read) :]
                for folder, rows in split_by_partition(batch, self.partition_by, values):
                    files.write(*self._embed(encoder, rows), folder=folder)
            entries = files.close()
        yield from tell(entries)

    def _embed(self, encoder: Encoder, rows: pa.RecordBatch) -> tuple[pa.RecordBatch, Counts]:
        """Add the embedding columns to the columns that are kept."""
        arrays = {column: rows.column(column) for column in self.kept}
        counts = {}
        for column, embedding_column in self.embedding_columns.items():
            texts, bad = self._good_texts(column, rows.column(column))
            encoded = encoder.encode(texts)
            arrays |= to_columns(encoded, embedding_column, self.vector_type)
            counts[column] = asdict(encoded.counts) | bad
        return pa.RecordBatch.from_pydict(arrays), counts

    def _good_texts(self, column: str, texts: pa.Array) -> tuple[pa.Array, dict[str, int]]:
        """Return the texts to embed, and how many of them are bad."""
        texts = as_strings(texts)
        if self.on_bad_row == "quarantine" or (self.on_bad_row == "fail" and self.max_chars is None):
            return texts, {}  # nothing bad is left, or the encoder finds it
        found = find_bad_texts(texts, max_chars=self.max_chars)
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

    def _put_into_quarantine(self, numbered: pa.RecordBatch, files: TaskFiles) -> pa.RecordBatch:
        """Write rows with a bad text whole and with their reason; return the others."""
        reasons = [""] * numbered.num_rows
        counts = {}
        names = (*self.read, *self.partition_by)
        arrays = dict(zip(names, numbered.columns, strict=True))
        for column in self.embedding_columns:
            texts = as_strings(arrays[column])
            found = find_bad_texts(texts, max_chars=self.max_chars)
            for reason, bad in found.items():
                for row in np.flatnonzero(bad):
                    reasons[row] += f"{'; ' if reasons[row] else ''}{column}: {reason}"
            if found:
                counts[column] = {"quarantined": int(np.logical_or.reduce(list(found.values())).sum())}
            # As bytes, which is what they are: not every reader takes a string that is none.
            arrays[column] = texts.cast(pa.binary()) if pa.types.is_string_view(texts.type) else _bytes(texts)
        is_bad = pa.array([bool(reason) for reason in reasons])
        if not counts:
            return numbered
        arrays[REASON] = pa.array(reasons)
        files.write(pa.RecordBatch.from_pydict(arrays).filter(is_bad), counts, folder=QUARANTINE)
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


def _bytes(texts: pa.Array) -> pa.Array:
    return texts.view(pa.large_binary() if pa.types.is_large_string(texts.type) else pa.binary())


def file_stem(run_id: str) -> str:
    """Name files for the attempt, so that a retry or a speculative copy never meets another's file."""
    context = TaskContext.get()
    partition, attempt = (context.partitionId(), context.taskAttemptId()) if context else (0, 0)
    return f"part-{partition:05d}-{attempt}-{run_id}"


def tell(entries: Sequence[FileEntry]) -> Iterator[pa.RecordBatch]:
    """Say what was written, as a task hands it to the driver.

    Parameters
    ----------
    entries : sequence of FileEntry

    Yields
    ------
    pyarrow.RecordBatch
        One row per file, its entry as JSON, with the worker that wrote it.
    """
    worker = describe_worker()
    for entry in entries:
        yield pa.RecordBatch.from_pydict({"entry": [replace(entry, worker=worker).to_json()]})
