"""What a task reads of a file's splits, and what it says about them."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakevec.pipeline.output.thrift_compact import Struct
from lakevec.udfs.split_reader import FileSplit, InputColumn, SplitReader
from tests.support.footers import DATA_PAGE, DICTIONARY_PAGE, ROW_GROUPS, ROWS, change_footer

COLUMNS = [InputColumn("text", pa.string()), InputColumn("day", pa.date32(), folder=0, is_text=True)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Ten row groups of ten rows."""
    texts = [f"text {number}" for number in range(100)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a b.parquet", row_group_size=10)
    return tmp_path / "a b.parquet"


def split(file: Path, start: int = 0, length: int = 2**40, **facts: Any) -> FileSplit:
    stored = file.stat()
    listed = {"file_bytes": stored.st_size, "modified_us": stored.st_mtime_ns // 10**6 * 1000} | facts
    return FileSplit(f"file:{file}", start, length, folder_values=(0,), **listed)


def test_splits_share_the_row_groups(file: Path) -> None:
    reader = SplitReader(COLUMNS, 7)
    size = file.stat().st_size
    cuts = [0, 1, size // 3, size // 2, size]
    splits = [split(file, start, end - start) for start, end in pairwise(cuts)]
    batches = list(reader.read(splits))
    assert max(batch.num_rows for batch in batches) == 7
    assert [text for batch in batches for text in batch["c0"].to_pylist()] == [
        f"text {n}" for n in range(100)
    ]
    assert batches[0]["c1"].to_pylist() == ["1970-01-01"] * 7
    assert [group for report in reader.reports for group in report.groups] == list(range(10))
    assert {(report.groups_of_file, report.rows_of_file) for report in reader.reports} == {(10, 100)}


def test_changed_file_is_refused(file: Path) -> None:
    for other in ({"file_bytes": 1}, {"modified_us": 1}):
        reader = SplitReader(COLUMNS, 7)
        assert list(reader.read([split(file, **other)])) == []
        assert reader.reports[0].refused == "it has changed since Spark listed it"


def test_file_that_changes_meanwhile_is_refused_after_its_rows(file: Path) -> None:
    reader = SplitReader(COLUMNS, 7)
    batches = reader.read([split(file)])
    next(batches)
    os.utime(file, (1, 1))
    list(batches)
    [report] = reader.reports
    assert (report.rows, report.refused) == (100, "it has changed since Spark listed it")


def test_missing_and_damaged_files_are_refused_with_a_reason(file: Path) -> None:
    splits = [split(file)]
    file.write_bytes(b"no parquet")
    splits.append(split(file))
    file.with_name("gone").touch()
    splits.append(split(file.with_name("gone")))
    file.with_name("gone").unlink()
    reader = SplitReader(COLUMNS, 7)
    assert list(reader.read(splits)) == []
    assert [report.refused for report in reader.reports] == [
        "it has changed since Spark listed it",
        "reading failed (ArrowInvalid)",
        "reading failed (FileNotFoundError, No such file or directory)",
    ]


def count_one_row_more(footer: Struct) -> None:
    footer[ROWS] = (footer[ROWS][0], footer[ROWS][1] + 1)


def move_row_group(footer: Struct) -> None:
    chunk = footer[ROW_GROUPS][1][1][0][1][1][1][0][3][1]
    chunk[DATA_PAGE] = (chunk[DATA_PAGE][0], 1 << 40)
    chunk.pop(DICTIONARY_PAGE, None)


@pytest.mark.parametrize("damage", [count_one_row_more, move_row_group])
def test_footers_that_contradict_themselves_are_refused(file: Path, damage: Callable[[Struct], None]) -> None:
    change_footer(file, damage)
    reader = SplitReader(COLUMNS, 7)
    assert list(reader.read([split(file)])) == []
    assert reader.reports[0].refused == "its footer contradicts itself"


def test_file_without_columns_is_refused(file: Path) -> None:
    pq.write_table(pq.read_table(file).select([]), file)
    reader = SplitReader(COLUMNS, 7)
    assert list(reader.read([split(file)])) == []
    assert reader.reports[0].refused.endswith("is not there exactly once")


def test_rows_of_many_bytes_come_in_small_batches(tmp_path: Path) -> None:
    table = pa.table({"text": [os.urandom(50_000).hex() for _ in range(1500)]})
    pq.write_table(table, tmp_path / "a.parquet", use_dictionary=False)
    reader = SplitReader(COLUMNS[:1], 10_000)
    assert max(batch.nbytes for batch in reader.read([split(tmp_path / "a.parquet")])) < 20 << 20
    assert reader.reports[0].rows == 1500


@pytest.mark.parametrize("day", [-719_163, 2_932_897], ids=["before year 1", "after year 9999"])
def test_days_that_spark_writes_otherwise_are_refused(tmp_path: Path, day: int) -> None:
    pq.write_table(pa.table({"day": pa.array([day], pa.date32())}), tmp_path / "a.parquet")
    reader = SplitReader([InputColumn("day", pa.date32(), is_text=True)], 10)
    assert list(reader.read([split(tmp_path / "a.parquet")])) == []
    assert reader.reports[0].refused == "reading failed (ArrowInvalid)"
