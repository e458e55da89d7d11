from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakevec.pipeline.errors import OutputError
from lakevec.pipeline.output.file_entry import FileEntry, merge_counts
from lakevec.pipeline.output.parquet_writer import FileLayout, TaskParquetWriter
from lakevec.pipeline.output.partitions import split_by_partition
from lakevec.pipeline.output.vector_file import can_place_vectors
from lakevec.pipeline.storage import Location, locate

LAYOUT = FileLayout(embedding_columns=("v e.c",), compression="zstd", metadata={"lakevec.run": "r1"})


def batch(rows: int, start: int = 0) -> pa.RecordBatch:
    vectors = [[float(row), 0.5] for row in range(start, start + rows)]
    texts = [f"text {row}" for row in range(start, start + rows)]
    kind = pa.list_(pa.field("element", pa.float32()))
    return pa.record_batch(
        {"id.x": texts, "nested": [{"v e": row} for row in texts], "v e.c": pa.array(vectors, kind)}
    )


def write(staging: Location, name: str, rows: int) -> FileEntry:
    with TaskParquetWriter(staging, name, LAYOUT) as files:
        files.write(batch(rows), {"text": {"rows": rows}})
        (entry,) = files.close()
    return entry


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "output"


@pytest.fixture
def staging(folder: Path) -> Location:
    return locate(str(folder), error=OutputError) / "_lakevec" / "staging" / "r1"


def test_file_stores_vectors_plainly_and_the_rest_compressed(staging: Location) -> None:
    entry = write(staging, "a", 100)
    file = pq.ParquetFile(Path(staging.path) / entry.name)
    columns = {
        file.metadata.row_group(0).column(index).path_in_schema: file.metadata.row_group(0).column(index)
        for index in range(3)
    }
    vector = columns["v e.c.list.element"]
    assert vector.compression == "UNCOMPRESSED"
    assert not vector.is_stats_set
    assert not any("DICTIONARY" in encoding for encoding in vector.encodings)
    for name in ("id.x", "nested.v e"):
        assert columns[name].compression == "ZSTD"
        assert columns[name].is_stats_set
    assert file.schema_arrow.metadata[b"lakevec.run"] == b"r1"
    assert (entry.rows, file.metadata.num_rows) == (100, 100)


def test_row_groups_stay_readable(staging: Location) -> None:
    with TaskParquetWriter(staging, "a", LAYOUT) as files:
        for start in range(0, 70_000, 7_000):
            files.write(batch(7_000, start), {})
        (entry,) = files.close()
    metadata = pq.read_metadata(Path(staging.path) / entry.name)
    assert metadata.num_rows == 70_000
    assert max(metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)) <= 32_768


def test_no_row_group_is_a_stub(staging: Location) -> None:
    with TaskParquetWriter(staging, "a", LAYOUT) as files:
        for start in range(0, 160_000, 10_000):
            files.write(batch(10_000, start), {})
        (entry,) = files.close()
    metadata = pq.read_metadata(Path(staging.path) / entry.name)
    assert {metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)} == {20_000}


def vectors_of(numbers: range, width: int) -> pa.Array:
    """Every third vector is null."""
    kind = pa.list_(pa.field("element", pa.float32(), nullable=False))
    return pa.array([None if number % 3 == 0 else [number] * width for number in numbers], kind)


@pytest.mark.parametrize("folders", [("",), ("k=1/", "k=2/")], ids=["one folder", "two folders"])
@pytest.mark.parametrize("target_bytes", [1 << 29, 40_000], ids=["one file", "rolling files"])
def test_vectors_of_two_columns_come_back(
    staging: Location, folders: tuple[str, ...], target_bytes: int
) -> None:
    layout = FileLayout(("u", "v"), "zstd", {}, target_bytes=target_bytes, sha256=True)
    rows = []
    with TaskParquetWriter(staging, "a", layout) as files:
        for start in range(0, 4_000, 400):
            numbers = range(start, start + 400)
            columns = {"id": numbers, "u": vectors_of(numbers, 1), "v": vectors_of(numbers, 9)}
            columns["v_tokens"] = pa.array(numbers, pa.int32())
            batch = pa.RecordBatch.from_pydict(columns)
            rows += batch.to_pylist()
            files.write(batch, {}, folder=folders[start // 400 % len(folders)])
        reasons = pa.RecordBatch.from_pydict({"reason": ["bad"]})
        files.write(reasons, {}, folder="_lakevec/quarantine/")
        entries = files.close()
    read = [pq.read_table(Path(staging.path) / entry.name, partitioning=None) for entry in entries]
    assert [table.num_rows for table in read] == [entry.rows for entry in entries]
    *embedded, quarantined = read
    found = [row for table in embedded for row in table.to_pylist()]
    assert sorted(found, key=lambda row: row["id"]) == rows
    assert quarantined.to_pylist() == reasons.to_pylist()
    contents = [(Path(staging.path) / entry.name).read_bytes() for entry in entries]
    assert [entry.sha256 for entry in entries] == [hashlib.sha256(each).hexdigest() for each in contents]


def test_pyarrow_writes_vectors_itself_if_its_footer_is_unknown(
    staging: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The real writer with another default: page indexes, which stand before the footer.
    monkeypatch.setattr(pq, "ParquetWriter", partial(pq.ParquetWriter, write_page_index=True))
    can_place_vectors.cache_clear()
    with pytest.warns(RuntimeWarning, match=r"pyarrow .* ends Parquet files in a way .* doesn't know"):
        entry = write(staging, "a", 100)
    can_place_vectors.cache_clear()
    assert pq.read_table(Path(staging.path) / entry.name).to_pylist() == batch(100).to_pylist()


def test_rows_without_rows_have_no_folder() -> None:
    assert [
        (folder, part.num_rows) for folder, part in split_by_partition(batch(0), ["k"], [pa.array([])])
    ] == [("", 0)]


def test_partition_without_rows_leaves_no_file(staging: Location, folder: Path) -> None:
    with TaskParquetWriter(staging, "a", LAYOUT) as files:
        files.write(batch(0), {})
        assert files.close() == []
    assert not folder.exists()


def test_files_roll_at_the_target_size_and_counts_go_with_their_rows(staging: Location) -> None:
    layout = replace(LAYOUT, target_bytes=300_000)
    with TaskParquetWriter(staging, "a", layout) as files:
        for start in range(0, 160_000, 8_000):
            files.write(batch(8_000, start), {"text": {"rows": 8_000}})
        entries = files.close()
    assert [entry.name for entry in entries] == [f"a-{number:03d}.parquet" for number in range(len(entries))]
    assert len(entries) > 2
    assert all(entry.counts["text"]["rows"] == entry.rows for entry in entries)
    assert sum(entry.rows for entry in entries) == 160_000
    assert all(entry.bytes >= 300_000 for entry in entries[:-1])


def test_partitions_are_folders_and_only_so_many_files_are_open(staging: Location) -> None:
    with TaskParquetWriter(staging, "a", LAYOUT) as files:
        for number in range(100):
            files.write(batch(3, number), {}, folder=f"k={number % 50}/")
        entries = files.close()
    assert len(entries) == 100  # with 32 open files, none of 50 folders is still open when it comes again
    staged = Path(staging.path)
    assert sorted(path.name for path in staged.glob("k=*")) == sorted(f"k={number}" for number in range(50))
    assert pq.read_table(staged).num_rows == 300


def test_rows_are_split_by_the_folders_that_spark_would_name() -> None:
    rows = pa.record_batch({"id": [0, 1, 2, 3, 4]})
    values = [pa.array(["a/b", None, "a/b", "é=%", ""]), pa.array(["1", "1", "1", "2", "1"])]
    split = {
        folder: part["id"].to_pylist() for folder, part in split_by_partition(rows, ["x y", "n"], values)
    }
    nobody = "x y=__HIVE_DEFAULT_PARTITION__/n=1/"
    assert split == {"x y=a%2Fb/n=1/": [0, 2], nobody: [1, 4], "x y=é%3D%25/n=2/": [3]}


def test_failing_task_removes_its_file(staging: Location) -> None:
    def fail() -> None:
        with TaskParquetWriter(staging, "a", LAYOUT) as files:
            files.write(batch(40_000), {})
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail()
    assert list(Path(staging.path).iterdir()) == []


def test_entry_survives_the_trip_as_json() -> None:
    entry = FileEntry("ü.parquet", 3, 9, {"text": {"rows": 3, "nulls": 1}})
    assert FileEntry(**json.loads(entry.to_json())) == entry


def test_check_sum_is_that_of_the_file(staging: Location) -> None:
    with TaskParquetWriter(staging, "a", replace(LAYOUT, sha256=True)) as files:
        files.write(batch(40_000), {})
        (entry,) = files.close()
    content = (Path(staging.path) / entry.name).read_bytes()
    assert entry.sha256 == hashlib.sha256(content).hexdigest()
    assert pq.read_metadata(Path(staging.path) / entry.name).num_rows == 40_000


def test_counts_add_up_per_column() -> None:
    entries = [
        FileEntry("a", 1, 1, {"t": {"rows": 1}}),
        FileEntry("b", 2, 1, {"t": {"rows": 2}, "u": {"rows": 5}}),
    ]
    assert merge_counts(entry.counts for entry in entries) == {"t": {"rows": 3}, "u": {"rows": 5}}
