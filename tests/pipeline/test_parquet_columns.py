"""Which columns of a Parquet file pyarrow reads as Spark does."""

from __future__ import annotations

import io
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakevec.pipeline.parquet_columns import convert, find_chunks, find_difference, find_odd_pages, open_file

PLAIN = [
    pa.string(),
    pa.binary(),
    pa.bool_(),
    pa.int8(),
    pa.int16(),
    pa.int32(),
    pa.int64(),
    pa.float32(),
    pa.float64(),
    pa.date32(),
    pa.decimal128(5, 2),
    pa.decimal128(5, 3),
    pa.decimal128(38, 2),
    pa.timestamp("us"),
    pa.timestamp("us", "UTC"),
    pa.list_(pa.string()),
    pa.list_(pa.binary()),
    pa.map_(pa.string(), pa.list_(pa.int32())),
    pa.struct([("a", pa.int32()), ("b", pa.string())]),
    pa.struct([("b", pa.string()), ("a", pa.int32())]),
    pa.list_(pa.struct([("a", pa.int32())])),
]
# Types of pyarrow's that store one of the plain types, and types that only Spark may interpret.
OTHER = {
    pa.large_string(): [pa.string()],
    pa.dictionary(pa.int32(), pa.string()): [pa.string()],
    pa.large_list(pa.large_binary()): [pa.list_(pa.binary())],
    pa.timestamp("ms", "Asia/Tokyo"): [pa.timestamp("us", "UTC")],
    pa.uint8(): [],
    pa.uint16(): [],
    pa.uint32(): [],
    pa.uint64(): [],
    pa.float16(): [],
    pa.binary(4): [],
    pa.decimal256(5, 2): [],
    pa.time32("ms"): [],
    pa.time64("us"): [],
    pa.duration("us"): [],
    pa.timestamp("ns"): [],
    pa.timestamp("ns", "UTC"): [],
    pa.list_(pa.string(), 1): [],
    pa.list_(pa.uint8()): [],
    pa.struct([("a", pa.int64()), ("b", pa.string())]): [],
}


def store(table: pa.Table, **options: Any) -> pq.ParquetFile:
    content = io.BytesIO()
    pq.write_table(table, content, **options)
    return open_file(content, read_bytes=1000)


@pytest.mark.parametrize("kind", [*PLAIN, *OTHER], ids=str)
def test_type_is_read_as_itself_alone(kind: pa.DataType) -> None:
    file = store(pa.table({"x": pa.array([None], kind)}))
    fitting = [plain for plain in PLAIN if find_difference(file, pa.schema([("x", plain)])) is None]
    assert fitting == OTHER.get(kind, [kind])


@pytest.mark.parametrize(
    ("version", "more", "is_fit"),
    [("3.1.0", {}, True), ("4.0.0", {}, True), ("3.0.9", {}, False), ("4.0.0", {"legacyINT96": ""}, False)],
    ids=["3.1", "4.0", "3.0", "legacy"],
)
def test_int96_is_read_as_instants_of_spark(version: str, more: dict[str, str], is_fit: bool) -> None:
    marks = {f"org.apache.spark.{name}": value for name, value in {"version": version, **more}.items()}
    table = pa.table({"x": pa.array([0], pa.timestamp("us"))}).replace_schema_metadata(marks)
    file = store(table, use_deprecated_int96_timestamps=True)
    assert (find_difference(file, pa.schema([("x", pa.timestamp("us", "UTC"))])) is None) == is_fit
    assert find_difference(file, pa.schema([("x", pa.timestamp("us"))])) is not None


@pytest.mark.parametrize("marks", [{"version": "2.4.8"}, {"version": "3.5.0", "legacyDateTime": ""}], ids=str)
def test_old_calendar_is_left_to_spark(marks: dict[str, str]) -> None:
    table = pa.table({"x": pa.array([[0]], pa.list_(pa.date32())), "n": [1]})
    marks = {f"org.apache.spark.{name}": value for name, value in marks.items()}
    file = store(table.replace_schema_metadata(marks))
    wanted = pa.schema([("x", pa.list_(pa.date32()))])
    assert find_difference(file, wanted) == "its dates and times follow the old calendar of Spark 2"
    assert find_difference(file, pa.schema([("n", pa.int64())])) is None


def test_names_are_exact_and_told_apart_from_fields() -> None:
    file = store(
        pa.table({"a": [{"b": 1}], "a.c": [1], "n": [1], "N": [2], "twin": [{"x": 1}], "twin.x": [1]})
    )
    found = {
        name: find_difference(file, pa.schema([(name, kind)]))
        for name, kind in {
            "a": pa.struct([("b", pa.int64())]),
            "a.c": pa.int64(),
            "n": pa.int64(),
            "A.C": pa.int64(),
            "twin.x": pa.int64(),
        }.items()
    }
    assert found == {
        "a": "column 'a' is stored as INT64 NONE, INT64 NONE",
        "a.c": None,
        "n": "column 'n' is not there exactly once",
        "A.C": "column 'A.C' is not there exactly once",
        "twin.x": "column 'twin.x' is stored as INT64 NONE, INT64 NONE",
    }


def test_rare_codecs_and_encodings_are_named() -> None:
    table = pa.table({"x": [1.0, 2.0], "y": ["a", "b"]})
    file = store(table, use_dictionary=False, column_encoding={"x": "BYTE_STREAM_SPLIT"}, compression="lz4")
    wanted = pa.schema([("x", pa.float64())])
    chunks = find_chunks(file, [0], wanted)
    assert find_odd_pages(chunks) == "column 'x' is stored with BYTE_STREAM_SPLIT, LZ4"
    sound = store(table, column_encoding={"y": "DELTA_BYTE_ARRAY"}, use_dictionary=False)
    assert find_odd_pages(find_chunks(sound, [0], pa.schema([("y", pa.string())]))) is None


def test_decimal_with_too_many_digits_is_no_value() -> None:
    wide = pa.array([Decimal("99999")], pa.decimal128(38, 0)).buffers()
    number = pa.Array.from_buffers(pa.decimal128(4, 0), 1, wide)
    entries = pa.MapArray.from_arrays([0, 1], pa.array(["k"]), number)
    for array in (
        number,
        pa.ListArray.from_arrays([0, 1], number),
        pa.StructArray.from_arrays([number], ["a"]),
        entries,
    ):
        with pytest.raises(pa.ArrowInvalid):
            convert(array, array.type)
