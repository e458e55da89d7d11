"""What one task of ``lakevec embed`` does: embed its rows and write them to a file of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import pyarrow as pa
from pyspark import TaskContext

from pipeline.encoding.encoder import EncodingCounts
from pipeline.location import Location
from pipeline.output.manifest import FileEntry
from pipeline.output.sink import FileLayout, TaskFile
from udfs.node_table import NodeTable
from udfs.worker_cache import get_encoder

ENTRY_SCHEMA = "entry string"


@dataclass(frozen=True, eq=False)
class EmbedTask:
    """A function for ``DataFrame.mapInArrow``: rows in, one line about the written file out.

    Parameters
    ----------
    table : NodeTable
        The table's name and check sums.
    fetch : callable
        Returns the table's files where the node has no copy.
    embedding_columns : dict of str to str
        Text column and the name of its embedding column.
    read : tuple of str
        Names of the input's columns, which come numbered, in order.
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

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Embed and write all rows of a partition.

        Parameters
        ----------
        batches : iterator of pyarrow.RecordBatch

        Yields
        ------
        pyarrow.RecordBatch
            One row with the file's entry as JSON; nothing for a partition without rows.
        """
        encoder = get_encoder(self.table, self.fetch, max_tokens=self.max_tokens)
        counts = {column: EncodingCounts() for column in self.embedding_columns}
        with TaskFile(self.staging, self._file_name(), self.layout) as file:
            for numbered in batches:
                batch = numbered.rename_columns(list(self.read))
                arrays = {column: batch.column(column) for column in self.kept}
                for column, embedding_column in self.embedding_columns.items():
                    encoded = encoder.encode(batch.column(column))
                    arrays[embedding_column] = encoded.to_arrow()
                    counts[column] += encoded.counts
                file.write(pa.RecordBatch.from_pydict(arrays))
            entry = file.close({column: asdict(seen) for column, seen in counts.items()})
        if entry is not None:
            yield _entry_batch(entry)

    def _file_name(self) -> str:
        """Name the file for the attempt, so that a retry or a speculative copy never meets another's file."""
        context = TaskContext.get()
        partition, attempt = (context.partitionId(), context.taskAttemptId()) if context else (0, 0)
        return f"part-{partition:05d}-{attempt}-{self.run_id}.parquet"


def _entry_batch(entry: FileEntry) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"entry": [entry.to_json()]})
