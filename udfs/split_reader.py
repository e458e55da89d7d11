"""Tasks that read Parquet themselves: each reads the row groups of its file splits, and says which.

Spark's JVM would read, decode and send the same rows for as much processor time as it takes to embed them.
The driver decides which columns qualify, and takes the splits from Spark's own plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lakevec.pipeline.errors import describe_failure
from lakevec.pipeline.parquet_columns import convert, find_chunks, find_difference, find_odd_pages, open_file
from lakevec.pipeline.verified_file import VerifiedFile
from lakevec.udfs.embed_task import EmbedTask, line_batch

# Key of the line that a task yields for each split.
SPLIT = "split"

# Bytes to read at a time: of a column, of a column if there are many, and of all columns together.
_READ_BYTES = 1 << 20
_LEAST_READ_BYTES = 1 << 16
_ALL_READ_BYTES = 32 << 20
# Decoded bytes of a batch.
_BATCH_BYTES = 16 << 20
_CONTRADICTION = "its footer contradicts itself"
# Spark and Arrow write dates of these days alike; days count from 1970.
_EPOCH = date(1970, 1, 1).toordinal()
_DAYS = range(1 - _EPOCH, date.max.toordinal() + 1 - _EPOCH)


@dataclass(frozen=True)
class FileSplit:
    """A range of bytes of an input file, from Spark's plan.

    Parameters
    ----------
    path : str
        Name of the file as Spark lists it, such as ``file:/lake/a.parquet``.
    start, length : int
        Bytes. A row group belongs to the split that holds its middle.
    file_bytes, modified_us : int
        Size and modification time (microseconds) of the file when Spark listed it.
    folder_values : tuple
        Values of the partition columns.
    """

    path: str
    start: int
    length: int
    file_bytes: int
    modified_us: int
    folder_values: tuple[Any, ...] = ()


@dataclass(frozen=True)
class InputColumn:
    """A column of the batches that a task receives.

    Parameters
    ----------
    name : str
    type : pyarrow.DataType
        The type in which Spark hands the column to Python.
    folder : int, optional
        Its place among the partition columns of the input. Default: the file holds the column.
    is_text : bool, default=False
        Whether the task receives the values as text, since they name folders.
    """

    name: str
    type: pa.DataType
    folder: int | None = None
    is_text: bool = False


@dataclass
class SplitReport:
    """What a task read of a split.

    Parameters
    ----------
    path : str
    start : int
    groups : list of int
        Row groups that were read.
    rows : int
        Rows in them.
    groups_of_file, rows_of_file : int
        Numbers in the file's footer.
    refused : str
        Why the task didn't read the split to its end. Empty if it did.
    """

    path: str
    start: int
    groups: list[int] = field(default_factory=list)
    rows: int = 0
    groups_of_file: int = 0
    rows_of_file: int = 0
    refused: str = ""


class SplitReader:
    """Reader of file splits. After `read`, `reports` says what was read.

    Parameters
    ----------
    columns : sequence of InputColumn
        Columns of the batches, in order.
    batch_rows : int
        Most rows of a batch.
    """

    def __init__(self, columns: Sequence[InputColumn], batch_rows: int) -> None:
        self.reports: list[SplitReport] = []
        self._columns = columns
        self._batch_rows = batch_rows
        needed = {column.name: column.type for column in columns if column.folder is None}
        self._wanted = pa.schema(list(needed.items()))
        share = _ALL_READ_BYTES // max(len(needed), 1)
        self._read_bytes = min(max(share, _LEAST_READ_BYTES), _READ_BYTES)

    def read(self, splits: Sequence[FileSplit]) -> Iterator[pa.RecordBatch]:
        """Yield the rows of splits as Spark would, in columns ``c0``, ``c1`` and so on.

        A file that can't be read, or that Spark might read in another way, ends its split with a reason.
        """
        for split in splits:
            report = SplitReport(split.path, split.start)
            self.reports.append(report)
            try:
                yield from self._read(split, report)
            except (OSError, pa.ArrowException, ValueError, LookupError) as error:
                report.refused = f"reading failed ({describe_failure(error)})"

    def _read(self, split: FileSplit, report: SplitReport) -> Iterator[pa.RecordBatch]:
        path = local_path(split.path)
        report.refused = _find_change(path, split)
        if report.refused:
            return
        with open_file(_verify(path), read_bytes=self._read_bytes) as file:
            metadata = file.metadata
            report.groups_of_file, report.rows_of_file = metadata.num_row_groups, metadata.num_rows
            report.refused = find_difference(file, self._wanted) or _find_contradiction(metadata, split) or ""
            if report.refused:
                return
            groups = _find_groups(metadata, split)
            chunks = find_chunks(file, groups, self._wanted)
            report.refused = find_odd_pages(chunks) or ""
            if report.refused:
                return
            rows = file.iter_batches(
                batch_size=self._choose_batch_rows(metadata, groups, chunks),
                row_groups=groups,
                columns=self._wanted.names,
                use_threads=False,
            )
            for batch in rows if groups else ():
                report.rows += batch.num_rows
                yield self._arrange(batch, split)
        report.groups = groups
        report.refused = _find_change(path, split)
        if report.rows != sum(metadata.row_group(group).num_rows for group in groups):
            report.refused = _CONTRADICTION

    def _choose_batch_rows(self, metadata: Any, groups: list[int], chunks: list[Any]) -> int:
        """Choose fewer rows if they are so large that a batch would not fit the memory of a task."""
        rows = sum(metadata.row_group(group).num_rows for group in groups)
        size = sum(chunk.total_uncompressed_size for chunk in chunks)
        return int(max(1, min(self._batch_rows, rows * _BATCH_BYTES // max(size, 1))))

    def _arrange(self, batch: pa.RecordBatch, split: FileSplit) -> pa.RecordBatch:
        """Return the batch's columns under numbered names, with the values of the folders."""
        arrays = []
        for column in self._columns:
            if column.folder is None:
                array = convert(batch.column(column.name), column.type)
            else:
                value = pa.scalar(split.folder_values[column.folder], column.type)
                array = pa.repeat(value, batch.num_rows)
            arrays.append(_to_text(array) if column.is_text else array)
        return pa.RecordBatch.from_arrays(arrays, names=[f"c{number}" for number in range(len(arrays))])


@dataclass(frozen=True, eq=False)
class ReadSplitsTask:
    """Embed the rows of file splits; a function for ``DataFrame.mapInArrow`` on the numbers of partitions.

    Parameters
    ----------
    task : EmbedTask
        Receives the rows.
    columns : tuple of InputColumn
    batch_rows : int
    partitions : pyspark.Broadcast of sequence of sequence of FileSplit
        The splits of each partition.
    """

    task: EmbedTask
    columns: tuple[InputColumn, ...]
    batch_rows: int
    partitions: Any

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield the lines of `task`, then a line for each split."""
        reader = SplitReader(self.columns, self.batch_rows)
        numbers = [number for batch in batches for number in batch.column(0).to_pylist()]
        splits = [split for number in numbers for split in self.partitions.value[number]]
        yield from self.task(reader.read(splits))
        for report in reader.reports:
            yield line_batch({SPLIT: asdict(report)})


def local_path(name: str) -> str:
    """Return the path of a local file that Spark lists, such as ``file:/lake/a b.parquet``."""
    return "/" + name.removeprefix("file:").lstrip("/")


def _find_change(path: str, split: FileSplit) -> str:
    """Return what keeps a file from being the one that Spark listed; empty if nothing does."""
    facts = Path(path).stat()
    # Spark's file times have milliseconds.
    if (facts.st_size, facts.st_mtime_ns // 10**6) != (split.file_bytes, split.modified_us // 1000):
        return "it has changed since Spark listed it"
    return ""


def _verify(path: str) -> str | VerifiedFile:
    """Return what pyarrow can read; verify checksums that Hadoop has written beside a file."""
    file = Path(path)
    checksums = file.with_name(f".{file.name}.crc")
    return VerifiedFile(file, checksums) if checksums.exists() else path


def _find_groups(metadata: Any, split: FileSplit) -> list[int]:
    """Return the row groups whose middle lies in the split, as Parquet's Java library assigns them."""
    end = split.start + split.length
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    return [number for number, group in enumerate(groups) if split.start <= _middle(group) < end]


def _find_contradiction(metadata: Any, split: FileSplit) -> str | None:
    """Return what is wrong with a footer whose row groups don't make up the file; None if nothing is."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    is_inside = all(0 <= _middle(group) < split.file_bytes for group in groups)
    is_sum = metadata.num_rows == sum(group.num_rows for group in groups)
    return None if is_inside and is_sum else _CONTRADICTION


def _middle(group: Any) -> int:
    first = group.column(0)
    offset = int(first.data_page_offset)
    if first.has_dictionary_page:
        offset = min(offset, first.dictionary_page_offset)
    size = sum(group.column(number).total_compressed_size for number in range(group.num_columns))
    return offset + int(size) // 2


def _to_text(array: pa.Array) -> pa.Array:
    """Return values as Spark's text, which names their folder."""
    if pa.types.is_date(array.type):
        ends = pc.min_max(array.cast(pa.int32())).as_py()
        if any(end is not None and end not in _DAYS for end in ends.values()):
            raise pa.ArrowInvalid("a date that Spark and Arrow write as other texts")
    return array if array.type == pa.string() else array.cast(pa.string())
