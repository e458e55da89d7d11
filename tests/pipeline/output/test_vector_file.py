from __future__ import annotations

import io
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakevec.pipeline.errors import CommitError, DataError
from lakevec.pipeline.output.thrift_compact import Struct, decode
from lakevec.pipeline.output.vector_file import VectorFileWriter, can_place_vectors
from lakevec.pipeline.output.vector_pages import read_pages
from tests.support.fuzzing import fuzz

VECTOR = pa.list_(pa.field("element", pa.float32()))
ROW_GROUPS, COLUMNS, METADATA, SIZE_STATISTICS = 4, 1, 3, 16


def vectors(rows: int, width: int, *, nulls: Sequence[int] = (), seed: int = 0) -> pa.ListArray:
    """Random vectors; the rows in `nulls` are null, and their numbers stay in memory."""
    numbers = np.random.default_rng(seed).standard_normal(rows * width, dtype=np.float32)
    is_null = np.isin(np.arange(rows), nulls)
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * np.int32(width))
    return pa.ListArray.from_arrays(offsets, pa.array(numbers), type=VECTOR, mask=pa.array(is_null))


def write(groups: Sequence[pa.Table], columns: Sequence[str], **options: Any) -> bytes:
    """Write one row group per table."""
    stream = io.BytesIO()
    writer = VectorFileWriter(stream, groups[0].schema, columns, **options)
    for rows in groups:
        writer.write_row_group(rows)
    writer.close()
    return stream.getvalue()


def footer_of(file: bytes) -> Struct:
    (size,) = struct.unpack("<I", file[-8:-4])
    return decode(file[-8 - size : -8])


def chunks_of(footer: Struct, column: int) -> list[Struct]:
    """Metadata of a column in each row group."""
    return [group[COLUMNS][1][1][column][METADATA][1] for group in footer[ROW_GROUPS][1][1]]


@st.composite
def row_groups(draw: st.DrawFn) -> list[pa.Table]:
    """Row groups of two vector columns among others, in any order, in several chunks."""
    names = draw(st.permutations(["text", "u", "v", "nested"]))
    widths = {"u": draw(st.integers(1, 4)), "v": draw(st.integers(1, 700))}
    groups = []
    for rows in draw(st.lists(st.integers(1, 1500), min_size=1, max_size=3)):
        share = draw(st.sampled_from([0.0, 0.01, 0.5, 1.0]))
        random = np.random.default_rng(draw(st.integers(0, 99)))
        columns: dict[str, pa.Array] = {
            "text": pa.array([None if number % 7 == 3 else f"text {number}" for number in range(rows)]),
            "nested": pa.array(
                [[{"x": number}] * (number % 3) for number in range(rows)],
                pa.list_(pa.struct({"x": pa.int64()})),
            ),
        }
        for name, width in widths.items():
            columns[name] = vectors(rows, width, nulls=np.flatnonzero(random.random(rows) < share))
        whole = pa.table({name: columns[name] for name in names})
        cut = draw(st.integers(0, rows))
        groups.append(pa.concat_tables([whole.slice(0, cut), whole.slice(cut)]))
    return groups


@fuzz(60)
@given(row_groups())
def test_vectors_come_back_in_every_row_group(groups: list[pa.Table]) -> None:
    file = write(groups, ["u", "v"], compression="zstd")
    opened = pq.ParquetFile(pa.BufferReader(file))
    assert opened.read(use_threads=False).equals(pa.concat_tables(groups))
    for number, group in enumerate(groups):
        assert opened.read_row_group(number, use_threads=False).equals(group)
        for name in ("u", "v"):
            width = max(len(vector or ()) for vector in group[name].to_pylist()) or 1
            place = groups[0].schema.names.index(name)
            assert pages_of(file, number, place, width) == group[name].to_pylist()


def pages_of(file: bytes, group: int, column: int, width: int) -> list[list[float] | None]:
    """Read a vector column's pages as `lakevec search` does."""
    chunk = chunks_of(footer_of(file), column)[group]
    begin, size = chunk[9][1], chunk[7][1]
    rows: list[list[float] | None] = []
    for numbers, is_null in read_pages(memoryview(file)[begin : begin + size], width):
        known = iter(numbers.tolist())
        rows += [None if null else next(known) for null in is_null]
    return rows


@pytest.mark.parametrize("names", [["id", "v", "tokens"], ["v", "id"], ["v"]], ids="-".join)
@pytest.mark.parametrize("width", [1, 3, 256])
def test_footer_is_that_of_pyarrow(names: list[str], width: int) -> None:
    rows = 5_000
    columns = {
        "id": pa.array([f"row {number}" for number in range(rows)]),
        "v": vectors(rows, width, nulls=[0, 7, 8, 4_999]),
        "tokens": pa.array(range(rows), pa.int32()),
    }
    table = pa.table({name: columns[name] for name in names}).replace_schema_metadata({"key": "value"})
    others = [name for name in names if name != "v"]
    options: dict[str, Any] = {
        "compression": dict.fromkeys(others, "ZSTD"),
        "use_dictionary": others,
        "write_statistics": others,
    }
    file = write([table.slice(0, 3_000), table.slice(3_000)], ["v"], **options)
    stream = io.BytesIO()
    pq.write_table(table, stream, row_group_size=3_000, **options)
    ours, theirs = footer_of(file), footer_of(stream.getvalue())
    assert all(ours[number] == theirs[number] for number in theirs.keys() - {ROW_GROUPS})
    ours_read, theirs_read = (pq.read_metadata(io.BytesIO(each)) for each in (file, stream.getvalue()))
    assert ours_read.metadata == theirs_read.metadata
    for group in range(2):
        for place, name in enumerate(names):
            here, there = (each.row_group(group).column(place).to_dict() for each in (ours_read, theirs_read))
            pages = {"total_compressed_size", "total_uncompressed_size"} if name == "v" else set()
            differing = {"data_page_offset", "dictionary_page_offset", "encodings"} | pages
            assert {k: v for k, v in here.items() if k not in differing} == {
                k: v for k, v in there.items() if k not in differing
            }
            assert set(here["encodings"]) == set(there["encodings"])
    for group in ours[ROW_GROUPS][1][1]:
        columns = [column[METADATA][1] for column in group[COLUMNS][1][1]]
        assert group[2][1] == sum(column[6][1] for column in columns)  # bytes before compression
        assert group[6][1] == sum(column[7][1] for column in columns)  # bytes in the file
        assert group[5] == min(column.get(11, column[9]) for column in columns)  # first page
    place = names.index("v")
    for here, there in zip(chunks_of(ours, place), chunks_of(theirs, place), strict=True):
        assert here.get(SIZE_STATISTICS) == there.get(SIZE_STATISTICS)


def test_column_of_nulls_comes_back() -> None:
    table = pa.table({"v": pa.array([None] * 5, VECTOR)})
    assert pq.read_table(io.BytesIO(write([table], ["v"]))).equals(table)


@pytest.mark.parametrize(
    "rows", [[[1.0, 2.0], [3.0]], [[1.0, None], [3.0, 4.0]], [[1.0], None, [2.0, 3.0, 4.0]]]
)
def test_pages_of_other_lists_are_not_taken_for_ours(rows: list[Any]) -> None:
    stream = io.BytesIO()
    options: dict[str, Any] = {"use_dictionary": False, "compression": "none"}
    pq.write_table(pa.table({"v": pa.array(rows, VECTOR)}), stream, **options)
    with pytest.raises(ValueError, match="page"):
        pages_of(stream.getvalue(), 0, 0, 2)


def test_damaged_pages_are_not_taken_for_ours() -> None:
    """A damaged head is refused; what follows a head is numbers, whatever they are."""
    file = bytearray(write([pa.table({"v": vectors(40, 8, nulls=[3, 4, 9])})], ["v"]))
    begin = chunks_of(footer_of(bytes(file)), 0)[0][9][1]
    for place in range(begin, begin + 60):
        damaged = file.copy()
        damaged[place] ^= 0xFF
        with pytest.raises(ValueError, match=r"page|Thrift|repeats|broadcast"):
            pages_of(bytes(damaged), 0, 0, 8)


def test_pages_hold_a_megabyte_even_if_batches_are_tiny() -> None:
    table = pa.concat_tables([pa.table({"v": vectors(10, 256, seed=seed)}) for seed in range(300)])
    (chunk,) = chunks_of(footer_of(write([table], ["v"])), 0)
    page_counts = chunk[13][1][1]
    assert [counts[3][1] for counts in page_counts] == [3]  # of 1,024 vectors


def read_with_pandas(file: Path) -> list[dict[str, Any]]:
    frame = pd.read_parquet(file)
    frame["v"] = [None if vector is None else vector.tolist() for vector in frame["v"]]
    return frame.to_dict("records")


READERS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    "pyarrow filter": lambda file: pq.read_table(file, filters=[("id", ">=", 0)]).to_pylist(),
    "pandas": read_with_pandas,
    "polars": lambda file: pl.read_parquet(file).to_dicts(),
    "polars scan": lambda file: pl.scan_parquet(file).filter(pl.col("id") >= 0).collect().to_dicts(),
    "duckdb": lambda file: duckdb.sql(f"FROM '{file}'").to_arrow_table().to_pylist(),
}


@pytest.mark.parametrize("name", READERS)
def test_other_readers_read_the_same(name: str, tmp_path: Path) -> None:
    table = pa.table({"id": range(1_500), "v": vectors(1_500, 300, nulls=[0, 5, 6, 1_499])})
    file = tmp_path / "a.parquet"
    file.write_bytes(write([table.slice(0, 700), table.slice(700)], ["v"]))
    assert READERS[name](file) == table.to_pylist()


def long_text(rows: int) -> pa.Array:
    return pa.array([np.random.default_rng(row).bytes(200).hex() for row in range(rows)])


@pytest.mark.parametrize("is_vectorized", ["true", "false"])
@pytest.mark.parametrize("names", ["tv", "vt", "vn", "vtw", "v"])
def test_spark_reads_every_row_of_files_cut_into_many_splits(
    names: str, is_vectorized: str, spark: Any, tmp_path: Path
) -> None:
    rows = 400
    columns = {
        "t": long_text(rows),
        "n": pa.array(np.random.default_rng(0).integers(0, 2**31, rows), pa.int32()),
        "v": vectors(rows, 1, nulls=range(0, rows, 2)),
        "w": vectors(rows, 2, nulls=[1]),
    }
    table = pa.table({name: columns[name] for name in names})
    groups = [table.slice(start, 100) for start in range(0, rows, 100)]
    (tmp_path / "a.parquet").write_bytes(write(groups, sorted({"v", "w"} & set(names))))
    session = spark.newSession()
    session.conf.set("spark.sql.files.maxPartitionBytes", "3000")
    session.conf.set("spark.sql.parquet.enableVectorizedReader", is_vectorized)
    read = [tuple(row) for row in session.read.parquet(str(tmp_path)).collect()]
    assert sorted(map(repr, read)) == sorted(map(repr, zip(*table.to_pydict().values(), strict=True)))


def test_installed_pyarrow_can_place_vectors() -> None:
    assert can_place_vectors()


def test_unknown_end_of_a_file_is_refused() -> None:
    with pytest.raises(CommitError, match=r"ended a Parquet file in a way .* doesn't know: got .* bytes"):
        write([pa.table({"v": vectors(3, 2)})], ["v"], write_page_index=True)


@pytest.mark.parametrize(
    ("column", "got"),
    [
        ([[1.0, 2.0], [3.0]], "widths from 1 to 2"),
        ([[]], "widths from 0 to 0"),
        ([[1.0, None]], "or null numbers"),
    ],
    ids=["two widths", "no width", "a null number"],
)
def test_other_lists_are_refused(column: list[list[float | None]], got: str) -> None:
    with pytest.raises(DataError, match=f"a column of vectors: got .*{got}"):
        write([pa.table({"v": pa.array(column, VECTOR)})], ["v"])
