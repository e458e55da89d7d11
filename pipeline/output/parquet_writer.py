"""One task's Parquet files, written beside the output and named for the attempt."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections import Counter
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lakevec.pipeline.output.file_entry import Counts, FileEntry
from lakevec.pipeline.output.partitions import refuse_long_folders
from lakevec.pipeline.storage import Location

# A row group is what a reader decodes at once: large enough to read fast, small enough for any worker.
_ROW_GROUP_ROWS = 32_768
_ROW_GROUP_BYTES = 64 << 20
# Of all open files together: rows that wait for their row group, and files that wait for rows.
_WAITING_BYTES = 128 << 20
_OPEN_FILES = 32
_SPARK_SCHEMA = "org.apache.spark.sql.parquet.row.metadata"


@dataclass(frozen=True)
class FileLayout:
    """How the columns of a file are stored.

    Parameters
    ----------
    embedding_columns : tuple of str
        Columns that hold vectors: stored without statistics, since vectors have no order.
    compression : str
        Codec of all other columns.
    metadata : dict of str to str
        Key-value pairs for the footer: the run's and the model's identity.
    compact : bool, default=False
        Whether vectors are worth compressing; unit vectors of full precision hardly shrink.
    target_bytes : int, default=2**29
        A file that reaches this size is closed, and the task begins another.
    sha256 : bool, default=False
        Whether to take the check sum of each file while it is written.
    """

    embedding_columns: tuple[str, ...]
    compression: str
    metadata: dict[str, str]
    compact: bool = False
    target_bytes: int = 1 << 29
    sha256: bool = False


class TaskParquetWriter:
    """The files of one task attempt; a context manager that removes them again when the task fails.

    Parameters
    ----------
    staging : Location
        The run's staging folder.
    name : str
        Stem of the file names, unique to the attempt.
    layout : FileLayout

    Notes
    -----
    Nothing is created before the first row comes, so an empty partition leaves no file.
    """

    def __init__(self, staging: Location, name: str, layout: FileLayout) -> None:
        self._staging = staging
        self._name = name
        self._layout = layout
        self._open: dict[str, _File] = {}
        self._begun = 0
        self._entries: list[FileEntry] = []

    def __enter__(self) -> TaskParquetWriter:
        """Return the files themselves."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove everything that was written, finished or not."""
        if kind is None:
            return
        names = [entry.name for entry in self._entries]
        for file in self._open.values():
            file.abort()
            names += [file.name] if file.is_created else []
        for name in names:
            # The store may be what failed; the run's staging folder is removed as a whole later.
            with contextlib.suppress(OSError, pa.ArrowException):
                self._staging.filesystem.delete_file((self._staging / name).path)

    def write(self, batch: pa.RecordBatch, counts: Counts, *, folder: str = "") -> None:
        """Add rows.

        Parameters
        ----------
        batch : pyarrow.RecordBatch
            All batches of a task have one schema.
        counts : dict of str to dict of str to int
            What was seen in each text column of these rows.
        folder : str, default=""
            Folder of the rows' partition, such as ``lang=en/``.
        """
        if batch.num_rows == 0:
            return
        # The folder used last stands last.
        file = self._open.pop(folder, None) or self._begin(folder)
        self._open[folder] = file
        file.add(batch, counts)
        if sum(waiting.waiting_bytes for waiting in self._open.values()) > _WAITING_BYTES:
            for waiting in self._open.values():
                waiting.write_row_group()
        if file.written_bytes >= self._layout.target_bytes:
            self._finish(folder)

    def close(self) -> list[FileEntry]:
        """Finish all files.

        Returns
        -------
        list of FileEntry
            Empty where there were no rows, and so there is no file.
        """
        for folder in list(self._open):
            self._finish(folder)
        return self._entries

    def _begin(self, folder: str) -> _File:
        if len(self._open) >= _OPEN_FILES:
            self._finish(next(iter(self._open)))
        name = f"{folder}{self._name}-{self._begun:03d}.parquet"
        self._begun += 1
        return _File(self._staging, name, self._layout)

    def _finish(self, folder: str) -> None:
        file = self._open[folder]
        self._entries.append(file.finish())
        del self._open[folder]


class _File:
    """One Parquet file; rows wait until they fill a row group."""

    def __init__(self, staging: Location, name: str, layout: FileLayout) -> None:
        self.name = name
        self.waiting_bytes = 0
        self._place = staging / name
        self._layout = layout
        self._writer: Any = None  # both come with the first row group
        self._stream: Any = None
        self._sum: Any = None
        self._waiting: list[pa.RecordBatch] = []
        self._rows = 0
        self._counts: dict[str, Counter[str]] = {}

    @property
    def is_created(self) -> bool:
        """Whether there is something on disk."""
        return self._stream is not None

    @property
    def written_bytes(self) -> int:
        """Size so far, without the rows that wait."""
        return int(self._stream.tell()) if self._stream is not None else 0

    def add(self, batch: pa.RecordBatch, counts: Counts) -> None:
        self._waiting.append(batch)
        self.waiting_bytes += batch.nbytes
        self._rows += batch.num_rows
        for column, seen in counts.items():
            self._counts.setdefault(column, Counter()).update(seen)
        rows = sum(waiting.num_rows for waiting in self._waiting)
        if rows >= _ROW_GROUP_ROWS or self.waiting_bytes >= _ROW_GROUP_BYTES:
            self.write_row_group()

    def write_row_group(self) -> None:
        if not self._waiting:
            return
        table = pa.Table.from_batches(self._waiting)
        self._waiting, self.waiting_bytes = [], 0
        schema = pa.schema([_nullable(field) for field in table.schema])
        if schema != table.schema:
            table = table.cast(schema)
        if self._writer is None:
            self._writer = self._create(table.schema)
        # Of equal size, so that no group is a stub.
        groups = -(-table.num_rows // _ROW_GROUP_ROWS)
        self._writer.write_table(table, row_group_size=-(-table.num_rows // groups))

    def finish(self) -> FileEntry:
        self.write_row_group()
        self._writer.close()
        self._stream.close()
        size = self._place.filesystem.get_file_info(self._place.path).size
        counts = {column: dict(seen) for column, seen in self._counts.items()}
        checked = self._sum.hexdigest() if self._sum else ""
        return FileEntry(self.name, self._rows, size, counts, sha256=checked)

    def abort(self) -> None:
        # On a full disk, say, closing fails as writing did; the first error is the one to tell.
        with contextlib.suppress(OSError, pa.ArrowException):
            if self._writer is not None:
                self._writer.close()
        with contextlib.suppress(OSError, pa.ArrowException):
            if self._stream is not None:
                self._stream.close()

    def _create(self, schema: pa.Schema) -> pq.ParquetWriter:
        filesystem = self._place.filesystem
        try:
            filesystem.create_dir(self._place.path.rpartition("/")[0], recursive=True)
        except (OSError, pa.ArrowException):
            refuse_long_folders(self.name)
            raise
        self._stream = filesystem.open_output_stream(self._place.path, compression=None)
        into = self._stream
        if self._layout.sha256:
            self._sum = hashlib.sha256()
            into = _Summed(self._stream, self._sum)
        # A file of rows in quarantine has no vectors.
        vectors = [column for column in self._layout.embedding_columns if column in schema.names]
        embeddings = [f"{column}.list.element" for column in vectors]
        others = [path for path in _leaf_paths(schema) if path not in embeddings]
        # Parquet has no elements of one or two bytes: rounded ones are stored as indices of a dictionary.
        # Byte planes would make halves 7 % smaller, but Spark's vectorized reader knows them since 4.3 only.
        is_compact = self._layout.compact
        codecs = dict.fromkeys(others, self._layout.compression.upper())
        metadata = dict(self._layout.metadata)
        if len(vectors) < len(self._layout.embedding_columns):
            metadata.pop(_SPARK_SCHEMA, None)  # it tells of vectors
        return pq.ParquetWriter(
            into,
            schema.with_metadata(metadata),
            compression=codecs | dict.fromkeys(embeddings, "ZSTD") if is_compact else codecs,
            use_dictionary=others + embeddings if is_compact else others,
            write_statistics=others,
        )


class _Summed(io.RawIOBase):
    """A stream that takes a check sum of what goes through it."""

    def __init__(self, stream: Any, checksum: Any) -> None:
        self._stream = stream
        self._sum = checksum

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self._sum.update(content)
        self._stream.write(content)
        return len(content)

    def close(self) -> None:
        """Leave the stream open: who opened it closes it."""


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
