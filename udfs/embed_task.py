"""What one task of ``lakevec embed`` does: embed its rows and write them to files of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace

import pyarrow as pa
from pyspark import TaskContext

from pipeline.encoding.encoder import Encoder
from pipeline.encoding.vector_types import VectorType, to_columns
from pipeline.location import Location
from pipeline.output.manifest import Counts, FileEntry
from pipeline.output.partitions import split_by_partition
from pipeline.output.sink import FileLayout, TaskFiles
from udfs.node_table import NodeTable
from udfs.worker_cache import describe_worker, get_encoder

ENTRY_SCHEMA = "entry string"


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
        with TaskFiles(self.staging, self._file_name(), self.layout) as files:
            for numbered in batches:
                columns = numbered.columns
                batch = pa.RecordBatch.from_arrays(columns[: len(self.read)], names=list(self.read))
                values = columns[len(self.read) :]
                for folder, rows in split_by_partition(batch, self.partition_by, values):
                    files.write(*self._embed(encoder, rows), folder=folder)
            entries = files.close()
        worker = describe_worker()
        for entry in entries:
            yield _entry_batch(replace(entry, worker=worker))

    def _embed(self, encoder: Encoder, rows: pa.RecordBatch) -> tuple[pa.RecordBatch, Counts]:
        """Add the embedding columns to the columns that are kept."""
        arrays = {column: rows.column(column) for column in self.kept}
        counts = {}
        for column, embedding_column in self.embedding_columns.items():
            encoded = encoder.encode(rows.column(column))
            arrays |= to_columns(encoded, embedding_column, self.vector_type)
            counts[column] = asdict(encoded.counts)
        return pa.RecordBatch.from_pydict(arrays), counts

    def make_encoder(self) -> Encoder:
        """Return this worker's encoder, which stays with it for other tasks."""
        return get_encoder(self.table, self.fetch, max_tokens=self.max_tokens)

    def _file_name(self) -> str:
        """Name files for the attempt, so that a retry or a speculative copy never meets another's file."""
        context = TaskContext.get()
        partition, attempt = (context.partitionId(), context.taskAttemptId()) if context else (0, 0)
        return f"part-{partition:05d}-{attempt}-{self.run_id}"


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
                error = type(reason).__name__
            yield pa.RecordBatch.from_pydict({"error": [error]})


def _entry_batch(entry: FileEntry) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"entry": [entry.to_json()]})
