"""One task's Parquet file, written beside the output and named for the attempt."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.location import Location
from pipeline.output.manifest import Counts, FileEntry

# A row group is what a reader decodes at once: large enough to read fast, small enough for any worker.
_ROW_GROUP_ROWS = 32_768
_ROW_GROUP_BYTES = 64 << 20


@dataclass(frozen=True)
class FileLayout:
    """How the columns of a file are stored.

    Parameters
    ----------
    embedding_columns : tuple of str
        Columns that hold vectors: stored without dictionary, statistics and compression, since unit vectors
        hardly compress and have no order.
    compression : str
        Codec of all other columns.
    metadata : dict of str to str
        Key-value pairs for the footer: the run's and the model's identity.
    """

    embedding_columns: tuple[str, ...]
    compression: str
    metadata: dict[str, str]


class TaskFile:
    """The file of one task attempt; a context manager that removes the file again when the task fails.

    Parameters
    ----------
    folder : Location
        The run's staging folder.
    name : str
        File name, unique to the attempt.
    layout : FileLayout

    Notes
    -----
    Nothing is created before the first row comes, so an empty partition leaves no file.
    """

    def __init__(self, folder: Location, name: str, layout: FileLayout) -> None:
        self._file = folder / name
        self._folder = folder
        self._name = name
        self._layout = layout
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.RecordBatch] = []
        self._rows = 0

    def __enter__(self) -> TaskFile:
        """Return the file itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove a half-written file."""
        if kind is not None and self._writer is not None:
            self._writer.close()
            self._file.filesystem.delete_file(self._file.path)

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows.

        Parameters
        ----------
        batch : pyarrow.RecordBatch
            All batches of a file have one schema.
        """
        if batch.num_rows == 0:
            return
        self._waiting.append(batch)
        rows = sum(waiting.num_rows for waiting in self._waiting)
        if rows >= _ROW_GROUP_ROWS or sum(waiting.nbytes for waiting in self._waiting) >= _ROW_GROUP_BYTES:
            self._write_row_group()

    def close(self, counts: Counts) -> FileEntry | None:
        """Finish the file.

        Parameters
        ----------
        counts : dict of str to dict of str to int
            What was seen in each text column.

        Returns
        -------
        FileEntry or None
            None where there were no rows and so there is no file.
        """
        if self._waiting:
            self._write_row_group()
        if self._writer is None:
            return None
        self._writer.close()
        size = self._file.filesystem.get_file_info(self._file.path).size
        return FileEntry(self._name, self._rows, size, counts)

    def _write_row_group(self) -> None:
        table = pa.Table.from_batches(self._waiting)
        self._waiting = []
        schema = pa.schema([_nullable(field) for field in table.schema])
        if schema != table.schema:
            table = table.cast(schema)
        if self._writer is None:
            self._writer = self._open(table.schema)
        self._writer.write_table(table, row_group_size=_ROW_GROUP_ROWS)
        self._rows += table.num_rows

    def _open(self, schema: pa.Schema) -> pq.ParquetWriter:
        self._folder.filesystem.create_dir(self._folder.path, recursive=True)
        embeddings = {f"{column}.list.element" for column in self._layout.embedding_columns}
        others = [path for path in _leaf_paths(schema) if path not in embeddings]
        codec = self._layout.compression.upper()
        return pq.ParquetWriter(
            self._file.path,
            schema.with_metadata(self._layout.metadata),
            filesystem=self._file.filesystem,
            compression=dict.fromkeys(others, codec),
            use_dictionary=others,
            write_statistics=others,
        )


def _nullable(field: pa.Field) -> pa.Field:
    """Allow nulls at every level, as Spark does: a null struct has null fields, whatever they declare."""
    kind = field.type
    if pa.types.is_struct(kind):
        kind = pa.struct([_nullable(kind.field(index)) for index in range(kind.num_fields)])
    elif pa.types.is_map(kind):
        kind = pa.map_(kind.key_field, _nullable(kind.item_field))
    elif pa.types.is_list(kind):
        kind = pa.list_(_nullable(kind.value_field))
    return pa.field(field.name, kind, nullable=True)


def _leaf_paths(schema: pa.Schema) -> list[str]:
    """Return Parquet's own names of the stored columns, which nested types make many of."""
    buffer = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), buffer)
    stored = pq.ParquetFile(pa.BufferReader(buffer.getvalue())).schema
    return [stored.column(index).path for index in range(len(stored))]
