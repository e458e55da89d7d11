"""The Parquet files of one task attempt, written to staging."""

from __future__ import annotations

import contextlib
import hashlib
import io
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakevec.pipeline.output.field_ids import FieldIds, with_field_ids
from lakevec.pipeline.output.file_entry import Counts, FileEntry, merge_counts
from lakevec.pipeline.output.partitions import refuse_long_folders
from lakevec.pipeline.output.vector_file import VectorFileWriter, can_place_vectors
from lakevec.pipeline.storage import Location

# Readers decode a whole row group: large enough to read fast, small enough for any worker's memory.
_ROW_GROUP_ROWS = 32_768
# A worker holds the rows of a group, so write them as soon as they make a good group.
_ENOUGH_ROWS = _ROW_GROUP_ROWS // 2
_ENOUGH_BYTES = 32 << 20
# Limits of all open files together: buffered rows, and the number of files.
_BUFFERED_BYTES = 64 << 20
_OPEN_FILES = 32
_SPARK_SCHEMA = "org.apache.spark.sql.parquet.row.metadata"


@dataclass(frozen=True)
class FileLayout:
    """How to store the columns of a file.

    Parameters
    ----------
    embedding_columns : tuple of str
        Columns of vectors, stored without statistics since vectors have no order.
    compression : str
        Codec of all other columns.
    metadata : dict of str to str
        Key-value pairs for the footer: the run's and the model's identity.
    compact : bool, default=False
        Whether to compress vectors. float32 and binary vectors hardly shrink.
    target_bytes : int, default=2**29
        After a file reaches this size, the task begins another one.
    sha256 : bool, default=False
        Whether to compute the checksum of each file while writing it.
    plain_binary : bool, default=False
        Whether to store binary vectors as Parquet's ``BYTE_ARRAY``, the only one that Delta knows.
    index_column : str, optional
        Column with the number of each row's chunk. Its zeros are counted as texts.
    field_ids : dict, optional
        Ids of columns for Iceberg's readers. With ids, files hold no Arrow schema, since pyiceberg refuses
        the time zones in it. Default: none.
    """

    embedding_columns: tuple[str, ...]
    compression: str
    metadata: dict[str, str]
    compact: bool = False
    target_bytes: int = 1 << 29
    sha256: bool = False
    plain_binary: bool = False
    index_column: str | None = None
    field_ids: FieldIds = field(default_factory=dict)


class TaskParquetWriter:
    """Writer of one task attempt's files; a context manager that removes them if the task fails.

    Parameters
    ----------
    staging : Location
        The run's staging folder.
    name : str
        Stem of the file names, unique to the attempt.
    layout : FileLayout

    Notes
    -----
    The first row creates the first file, so an empty partition leaves no file.
    """

    def __init__(self, staging: Location, name: str, layout: FileLayout) -> None:
        self._staging = staging
        self._name = name
        self._layout = layout
        self._open: dict[str, _File] = {}
        self._begun = 0
        self._entries: list[FileEntry] = []

    def __enter__(self) -> TaskParquetWriter:
        """Return the writer."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        """After an error, remove all files, finished or not."""
        if kind is None:
            return
        for file in self._open.values():
            file.abort()
        for name in [*(entry.name for entry in self._entries), *(file.name for file in self._open.values())]:
            # If the store has failed, a later run removes the whole staging folder.
            with contextlib.suppress(OSError, pa.ArrowException):
                (self._staging / name).delete()

    def write(self, batch: pa.RecordBatch, counts: Counts, *, folder: str = "") -> None:
        """Add rows.

        Parameters
        ----------
        batch : pyarrow.RecordBatch
            All batches of a task have one schema.
        counts : dict of str to dict of str to int
            Counts of these rows for each text column.
        folder : str, default=""
            Folder of the rows' partition, such as ``lang=en/``.
        """
        if batch.num_rows == 0:
            return
        # Keep the folder used last at the end, so that `_begin` closes the one unused longest.
        file = self._open.pop(folder, None) or self._begin(folder)
        self._open[folder] = file
        file.add(batch, counts)
        if sum(file.buffered_bytes for file in self._open.values()) > _BUFFERED_BYTES:
            max(self._open.values(), key=lambda other: other.buffered_bytes).write_row_group()
        if file.written_bytes >= self._layout.target_bytes:
            self._finish(folder)

    def close(self) -> list[FileEntry]:
        """Finish all files and return their entries."""
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
        self._entries.append(self._open[folder].finish())
        del self._open[folder]


class _File:
    """One Parquet file; it buffers rows until they fill a row group."""

    def __init__(self, staging: Location, name: str, layout: FileLayout) -> None:
        self.name = name
        self.buffered_bytes = 0
        self._location = staging / name
        self._layout = layout
        self._writer: Any = None  # set with the first row group, like the stream
        self._stream: Any = None
        self._checksum: Any = None
        self._buffer: list[pa.RecordBatch] = []
        self._rows = 0
        self._texts: int | None = None
        self._counts: Counts = {}

    @property
    def written_bytes(self) -> int:
        """Size so far, without buffered rows."""
        return int(self._stream.tell()) if self._stream is not None else 0

    def add(self, batch: pa.RecordBatch, counts: Counts) -> None:
        self._buffer.append(batch)
        self.buffered_bytes += batch.nbytes
        self._rows += batch.num_rows
        if self._layout.index_column in batch.schema.names:  # quarantine has whole texts
            first = pc.equal(batch.column(self._layout.index_column), 0)
            self._texts = (self._texts or 0) + (pc.sum(first).as_py() or 0)
        self._counts = merge_counts([self._counts, counts])
        rows = sum(buffered.num_rows for buffered in self._buffer)
        if rows >= _ENOUGH_ROWS or self.buffered_bytes >= _ENOUGH_BYTES:
            self.write_row_group()

    def write_row_group(self) -> None:
        if not self._buffer:
            return
        table = pa.Table.from_batches(self._buffer)
        self._buffer, self.buffered_bytes = [], 0
        schema = pa.schema([_nullable(self._stored(field)) for field in table.schema])
        if schema != table.schema:
            table = table.cast(schema)
        if self._writer is None:
            self._writer = self._create(table.schema)
        # Equal sizes, so that no row group is tiny.
        groups = -(-table.num_rows // _ROW_GROUP_ROWS)
        rows = -(-table.num_rows // groups)
        for start in range(0, table.num_rows, rows):
            self._writer.write_row_group(table.slice(start, rows))

    def _stored(self, field: pa.Field) -> pa.Field:
        is_vector = field.name in self._layout.embedding_columns
        is_plain = self._layout.plain_binary and is_vector and pa.types.is_fixed_size_binary(field.type)
        return field.with_type(pa.binary()) if is_plain else field

    def finish(self) -> FileEntry:
        self.write_row_group()
        self._writer.close()
        self._stream.close()
        size = self._location.filesystem.get_file_info(self._location.path).size
        sha256 = self._checksum.hexdigest() if self._checksum else ""
        return FileEntry(self.name, self._rows, size, self._counts, sha256=sha256, texts=self._texts)

    def abort(self) -> None:
        # Closing may fail for the reason that writing did, such as a full disk. Report the first error only.
        with contextlib.suppress(OSError, pa.ArrowException):
            if self._writer is not None:
                self._writer.abort()
        with contextlib.suppress(OSError, pa.ArrowException):
            if self._stream is not None:
                self._stream.close()

    def _create(self, schema: pa.Schema) -> VectorFileWriter:
        filesystem = self._location.filesystem
        try:
            filesystem.create_dir(self._location.parent.path, recursive=True)
        except (OSError, pa.ArrowException):
            refuse_long_folders(self.name)
            raise
        self._stream = sink = filesystem.open_output_stream(self._location.path, compression=None)
        if self._layout.sha256:
            self._checksum = hashlib.sha256()
            sink = _ChecksumStream(self._stream, self._checksum)
        # A file of quarantined rows has no vectors.
        vectors = [column for column in self._layout.embedding_columns if column in schema.names]
        is_list = {column: pa.types.is_list(schema.field(column).type) for column in vectors}
        embeddings = [f"{column}.list.element" if is_list[column] else column for column in vectors]
        others = [path for path in _leaf_paths(schema) if path not in embeddings]
        # Parquet has no numbers of one or two bytes, so rounded elements are stored as dictionary indices.
        # Byte planes would make float16 7 % smaller, but Spark's vectorized reader needs 4.3 for them.
        is_compact = self._layout.compact
        codecs = dict.fromkeys(others, self._layout.compression.upper())
        metadata = dict(self._layout.metadata)
        if len(vectors) < len(self._layout.embedding_columns):
            metadata.pop(_SPARK_SCHEMA, None)  # it lists vector columns
        return VectorFileWriter(
            sink,
            with_field_ids(schema, self._layout.field_ids).with_metadata(metadata),
            _own_pages(schema, vectors) if not is_compact else [],
            compression=codecs | dict.fromkeys(embeddings, "ZSTD") if is_compact else codecs,
            use_dictionary=others + embeddings if is_compact else others,
            write_statistics=others,
            store_schema=not self._layout.field_ids,
        )


class _ChecksumStream(io.RawIOBase):
    """A stream that updates a checksum with all written bytes."""

    def __init__(self, stream: Any, checksum: Any) -> None:
        self._stream = stream
        self._checksum = checksum

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self._checksum.update(content)
        self._stream.write(content)
        return len(content)

    def close(self) -> None:
        """Leave the stream open, since `_File` closes it."""


def _own_pages(schema: pa.Schema, vectors: list[str]) -> list[str]:
    """Return the columns of float32 vectors, or none if pyarrow must write them."""
    kinds = {name: schema.field(name).type for name in vectors}
    own = [name for name, kind in kinds.items() if pa.types.is_list(kind) and kind.value_type == pa.float32()]
    return own if own and can_place_vectors() else []


def _nullable(field: pa.Field) -> pa.Field:
    """Allow nulls at every level, as Spark does: the fields of a null struct are null, too."""
    kind = field.type
    if pa.types.is_struct(kind):
        kind = pa.struct([_nullable(kind.field(index)) for index in range(kind.num_fields)])
    elif pa.types.is_map(kind):
        kind = pa.map_(kind.key_field, _nullable(kind.item_field))
    elif pa.types.is_list(kind):
        kind = pa.list_(_nullable(kind.value_field))
    return pa.field(field.name, kind, nullable=True)


def _leaf_paths(schema: pa.Schema) -> list[str]:
    """Return Parquet's paths of all leaf columns; a nested type has several."""
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_batches([], schema), buffer)
    stored = pq.ParquetFile(pa.BufferReader(buffer.getvalue())).schema
    return [stored.column(index).path for index in range(len(stored))]
