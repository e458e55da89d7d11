"""Tasks of ``lakevec embed``: each embeds its rows and writes them to its own files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakevec.pipeline.arrow_arrays import from_strings
from lakevec.pipeline.encoding.chunking import Chunker
from lakevec.pipeline.encoding.encoder import Encoded, Encoder
from lakevec.pipeline.encoding.node_files import NodeFiles
from lakevec.pipeline.encoding.options import ChunkOptions, EncodeOptions
from lakevec.pipeline.encoding.stored_vectors import VectorType, to_arrow_columns
from lakevec.pipeline.encoding.text_validation import (
    NOT_UTF8,
    as_bytes,
    find_invalid,
    find_invalid_texts,
    split_invalid,
    view_as_strings,
    without,
)
from lakevec.pipeline.errors import DataError, describe_failure
from lakevec.pipeline.heads import columns as label_columns
from lakevec.pipeline.heads.head import Head
from lakevec.pipeline.output.file_entry import QUARANTINE, Counts, FileEntry
from lakevec.pipeline.output.parquet_writer import FileLayout, TaskParquetWriter
from lakevec.pipeline.output.partitions import split_by_partition
from lakevec.pipeline.storage import Location
from lakevec.udfs.row_progress import RowProgress
from lakevec.udfs.worker_cache import get_encoder, worker_memory

ENTRY_SCHEMA = "entry string"

# Key of the line that a task yields after its files' entries.
ROWS_READ = "rows_read"

# Column of quarantine files that names the invalid column and the reason.
REASON = "lakevec_reason"


@dataclass(frozen=True)
class TaskColumns:
    """The columns that a task reads and writes.

    Parameters
    ----------
    embeddings : dict of str to str
        Text column and the name of its embedding column.
    read : tuple of str
        Input columns. They arrive numbered, in order, and the partition columns follow as strings.
    kept : tuple of str
        Input columns to write, in order.
    partition_by : tuple of str
        Columns whose values name the files' folders.
    chunk_text : bool, default=False
        Whether to write the texts of chunks.
    has_exact_folders : bool, default=False
        See `split_by_partition`.
    has_vectors : bool, default=True
        Whether to write vectors, and not only labels of heads.
    """

    embeddings: dict[str, str]
    read: tuple[str, ...]
    kept: tuple[str, ...]
    partition_by: tuple[str, ...] = ()
    chunk_text: bool = False
    has_exact_folders: bool = False
    has_vectors: bool = True


@dataclass(frozen=True)
class InvalidRows:
    """How to treat strings that are not valid UTF-8, and texts of more than `max_chars` characters.

    Parameters
    ----------
    action : {"fail", "null", "quarantine"}, default="fail"
        Fail the task, write null for the vector or value, or write the row to quarantine.
    max_chars : int, optional
        Default: no limit.
    """

    action: str = "fail"
    max_chars: int | None = None


@dataclass(frozen=True, eq=False)
class EmbedTask:
    """Embed rows and write them; a function for ``DataFrame.mapInArrow`` that returns one line per file.

    Parameters
    ----------
    table : NodeFiles
    columns : TaskColumns
    options : EncodeOptions
    vector_type : VectorType
    invalid : InvalidRows
    layout : FileLayout
    staging : Location
        Folder for files of task attempts.
    run_id : str
        Part of the files' names.
    chunks : ChunkOptions, optional
        Split the texts of the only text column, and write a row per chunk. Default: a row per text.
    heads : tuple of Head, default=()
        Label every vector.
    """

    table: NodeFiles
    columns: TaskColumns
    options: EncodeOptions
    vector_type: VectorType
    invalid: InvalidRows
    layout: FileLayout
    staging: Location
    run_id: str
    chunks: ChunkOptions | None = None
    heads: tuple[Head, ...] = ()

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Embed and write a partition; yield blank lines, each file's entry, and the number of rows read."""
        encoder = self.make_encoder()
        progress = RowProgress(batches, "entry")
        with TaskParquetWriter(self.staging, file_stem(self.run_id), self.layout) as files:
            for numbered in progress:
                numbered, pending = self._handle_invalid_rows(numbered, files)
                columns = numbered.columns
                batch = pa.RecordBatch.from_arrays(
                    columns[: len(self.columns.read)], names=list(self.columns.read)
                )
                values = columns[len(self.columns.read) :]
                parts = split_by_partition(
                    batch, self.columns.partition_by, values, is_exact=self.columns.has_exact_folders
                )
                for folder, rows in parts:
                    for embedded, counts in self._embed_parts(encoder, rows):
                        files.write(embedded, counts | pending, folder=folder)
                        pending = {}
                yield from progress.lines()
            entries = files.close()
        yield from progress.last_lines()
        yield from entry_batches(entries, rows_read=progress.rows)

    def _embed(self, encoder: Encoder, rows: pa.RecordBatch) -> tuple[pa.RecordBatch, Counts]:
        """Add the embedding columns to the kept columns."""
        kept = _unpinned(rows.select(self.columns.kept), rows)
        arrays = dict(zip(self.columns.kept, kept.columns, strict=True))
        counts = {}
        for column, embedding_column in self.columns.embeddings.items():
            texts, bad = self._valid_texts(column, rows.column(column))
            if bad.get("bad") and column in arrays:
                invalid = find_invalid(arrays[column])
                arrays[column] = arrays[column] if invalid is None else without(arrays[column], invalid)
            encoded = encoder.encode(texts)
            arrays |= self._added_columns(encoded, column, embedding_column)
            counts[column] = asdict(encoded.counts) | bad
        return pa.RecordBatch.from_pydict(arrays), counts

    def _embed_parts(self, encoder: Encoder, rows: pa.RecordBatch) -> Iterator[tuple[pa.RecordBatch, Counts]]:
        """Embed rows, or the chunks of their texts, which may be many."""
        if self.chunks is None:
            yield self._embed(encoder, rows)
            return
        [(column, embedding_column)] = self.columns.embeddings.items()
        kept = rows.select(self.columns.kept)
        texts, bad = self._valid_texts(column, rows.column(column))
        for part in Chunker(encoder, self.chunks).split_parts(texts):
            for chunks, repeated in part.batches(kept):
                encoded = encoder.encode(chunks.texts)
                arrays = dict(zip(self.columns.kept, repeated.columns, strict=True))
                arrays |= chunks.to_arrow_columns(with_texts=self.columns.chunk_text)
                arrays |= self._added_columns(encoded, column, embedding_column)
                yield pa.RecordBatch.from_pydict(arrays), {column: asdict(encoded.counts) | bad}
                bad = dict.fromkeys(bad, 0)

    def _added_columns(self, encoded: Encoded, column: str, embedding_column: str) -> dict[str, pa.Array]:
        """Return the columns of a text column's vectors, and those of their labels."""
        columns = self.columns
        arrays = to_arrow_columns(encoded, embedding_column, self.vector_type) if columns.has_vectors else {}
        prefix = label_columns.prefix_of(column, columns.embeddings)
        return arrays | label_columns.to_arrow_columns(self.heads, encoded.vectors, encoded.is_null, prefix)

    def _valid_texts(self, column: str, texts: pa.Array) -> tuple[pa.Array, dict[str, int]]:
        """Return the texts to embed, and the number of invalid texts."""
        texts = view_as_strings(texts)
        if self.invalid.action == "quarantine" or (
            self.invalid.action == "fail" and self.invalid.max_chars is None
        ):
            return texts, {}  # quarantine has removed invalid texts, or the encoder raises
        found = find_invalid_texts(texts, max_chars=self.invalid.max_chars)
        if found and self.invalid.action == "fail":
            raise DataError(
                f"a text of column {column!r} can't be embedded",
                got=f"one {next(iter(found))}",
                remedy="clean the column, or run with --on-bad-row null or quarantine",
            )
        texts, bad = split_invalid(texts, found)
        return texts, {"bad": bad}

    def _handle_invalid_rows(
        self, numbered: pa.RecordBatch, files: TaskParquetWriter
    ) -> tuple[pa.RecordBatch, Counts]:
        """Handle invalid strings; leave texts to `_valid_texts` unless they go to quarantine."""
        names = (*self.columns.read, *self.columns.partition_by)
        bad: dict[str, dict[str, np.ndarray]] = {}
        for name, values in zip(names, numbered.columns, strict=True):
            if name not in self.columns.embeddings:
                invalid = find_invalid(values)
                found = {} if invalid is None else {NOT_UTF8: invalid}
            elif self.invalid.action == "quarantine":
                found = find_invalid_texts(view_as_strings(values), max_chars=self.invalid.max_chars)
            else:
                found = {}
            if found:
                bad[name] = found
        if not bad:
            return numbered, {}
        if self.invalid.action == "quarantine":
            return self._quarantine(numbered, bad, files), {}
        refuse_invalid(bad, on_bad_row=self.invalid.action)
        columns = [
            without(values, bad[name][NOT_UTF8]) if name in bad else values
            for name, values in zip(names, numbered.columns, strict=True)
        ]
        counts = {name: {"bad": int(found[NOT_UTF8].sum())} for name, found in bad.items()}
        return pa.RecordBatch.from_arrays(columns, names=numbered.schema.names), counts

    def _quarantine(
        self, numbered: pa.RecordBatch, bad: dict[str, dict[str, np.ndarray]], files: TaskParquetWriter
    ) -> pa.RecordBatch:
        """Write invalid rows with their reasons; return the others."""
        reasons = [""] * numbered.num_rows
        for name, found in bad.items():
            for reason, rows in found.items():
                for row in np.flatnonzero(rows):
                    reasons[row] += f"{'; ' if reasons[row] else ''}{name}: {reason}"
        is_bad = pa.array([bool(reason) for reason in reasons])
        arrays = dict(zip((*self.columns.read, *self.columns.partition_by), numbered.columns, strict=True))
        # Store texts as bytes. If other columns are invalid, store all columns as bytes, in their own folder.
        has_others = not bad.keys() <= self.columns.embeddings.keys()
        byte_columns = arrays if has_others else self.columns.embeddings
        arrays |= {name: as_bytes(arrays[name]) for name in byte_columns}
        arrays[REASON] = pa.array(reasons)
        counts = {
            name: {"quarantined": int(np.logical_or.reduce(list(found.values())).sum())}
            for name, found in bad.items()
        }
        folder = f"{QUARANTINE}bytes/" if has_others else QUARANTINE
        files.write(pa.RecordBatch.from_pydict(arrays).filter(is_bad), counts, folder=folder)
        return numbered.filter(pc.invert(is_bad))

    def make_encoder(self) -> Encoder:
        """Return this worker's encoder."""
        return get_encoder(self.table, self.options)


def _unpinned(kept: pa.RecordBatch, rows: pa.RecordBatch) -> pa.RecordBatch:
    """Copy columns of less than half the bytes: in Spark's batches, all columns share one buffer."""
    if kept.nbytes >= rows.nbytes // 2:
        return kept
    return pa.ipc.read_record_batch(kept.serialize(), kept.schema)


@dataclass(frozen=True)
class WriteProbe:
    """Write a file to the staging folder and yield the error; a function for ``DataFrame.mapInArrow``."""

    staging: Location
    name: ClassVar = "probe"

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield the error, or an empty text, for each batch."""
        for _ in batches:
            error = ""
            try:
                (self.staging / self.name).write_atomic(b"")
            except (OSError, pa.ArrowException) as reason:
                error = describe_failure(reason)
            yield pa.RecordBatch.from_pydict({"error": [error]})


def refuse_invalid(bad: Iterable[str], *, on_bad_row: str) -> None:
    """Raise DataError for columns with invalid UTF-8, unless `on_bad_row` is "null"."""
    names = ", ".join(map(repr, bad))
    if names and on_bad_row != "null":
        raise DataError(
            f"column {names} holds text that is not valid UTF-8",
            expected="valid UTF-8 in every string, nested ones too",
            remedy="clean the column, leave it out with --keep, or run with --on-bad-row null or quarantine",
        )


def file_stem(run_id: str) -> str:
    """Name files by the task attempt, so that retries and speculative copies never share a file."""
    from pyspark import TaskContext  # pyspark-client lacks it, but workers have it

    context = TaskContext.get()
    partition, attempt = (context.partitionId(), context.taskAttemptId()) if context else (0, 0)
    return f"part-{partition:05d}-{attempt}-{run_id}"


def entry_batches(entries: Sequence[FileEntry], *, rows_read: int = 0) -> Iterator[pa.RecordBatch]:
    """Yield each file's entry as JSON with its worker, then a line with `rows_read`.

    From the last line the driver learns of a task that read rows and wrote none.
    """
    worker = worker_memory()
    for entry in entries:
        yield line_batch(asdict(replace(entry, worker=worker)))
    yield line_batch({ROWS_READ: rows_read})


def line_batch(facts: dict[str, Any]) -> pa.RecordBatch:
    """Return a task's line for the driver: facts as JSON, in the schema `ENTRY_SCHEMA`."""
    return pa.RecordBatch.from_arrays([from_strings([json.dumps(facts)])], names=["entry"])
