"""Columns that lakes have: which are left out, kept, refused by name, or name folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from chispa import assert_df_equality
from pyspark.sql import types as t

from lakevec.jobs.spark.column_types import unfit_type
from lakevec.jobs.spark.overlap import sql_on_files
from lakevec.pipeline.output.time_zones import has_fixed_offset
from tests.support.commands import count
from tests.support.lakes import embed, ids

NANOSECONDS = pa.array(np.array(["2024-01-01"], "M8[ns]"))


def write(file: Path, **columns: Any) -> None:
    pq.write_table(pa.table({"id": ["a"], "text": ["north"], **columns}), file)


def arrays(levels: int) -> t.DataType:
    kind: t.DataType = t.IntegerType()
    for _ in range(levels):
        kind = t.ArrayType(kind)
    return kind


def struct(*names: str) -> t.StructType:
    return t.StructType([t.StructField(name, t.IntegerType()) for name in names])


# Types


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (struct("a", "a"), "struct with two fields of one name, 'a' and 'a'"),
        (t.ArrayType(struct("a", "A")), "struct with two fields of one name, 'a' and 'A'"),
        (t.MapType(struct("a", "A"), t.StringType()), "struct with two fields of one name, 'a' and 'A'"),
        (t.ArrayType(t.StructType([])), "struct without fields"),
        (t.ArrayType(t.NullType()), "void"),
        (t.MapType(t.StringType(), t.CalendarIntervalType()), "interval"),
        (arrays(49), None),
        (arrays(50), "array of more than 99 levels in Parquet"),
        (struct("a", "b", ""), None),
        (t.MapType(t.ArrayType(t.BinaryType()), struct("a")), None),
    ],
    ids=[
        "names twice",
        "names in case",
        "names in a key",
        "no fields",
        "void",
        "interval",
        "deep",
        "too deep",
        "struct",
        "map",
    ],
)
def test_type_is_fit_or_told(kind: t.DataType, expected: str | None) -> None:
    assert unfit_type(kind) == expected


def test_deepest_type_is_written_and_read_back(tiny_model: str, out: Path, spark: Any) -> None:
    value = "array(" * 49 + "1" + ")" * 49
    spark.sql(f"SELECT 'a' id, 'north' text, {value} deep").createOrReplaceTempView("deep_types")
    embed(tiny_model, "deep_types", out, "--format", "table")
    stored = spark.read.parquet(str(out)).select("deep")
    assert_df_equality(stored, spark.table("deep_types").select("deep"), ignore_nullable=True)


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["--text", "x"], "write it with another type or name first"),
        (["--keep", "id", "--partition-by", "x"], "write it with another type or name first"),
        (["--keep", "id", "--key", "id", "--key-order", "x"], "write it with another type or name first"),
        (["--keep", "id,x"], "leave it out with --keep, or write it with another type or name first"),
    ],
    ids=["text", "partition", "order", "kept"],
)
def test_unreadable_column_with_a_role_is_told_with_what_helps(
    tiny_model: str,
    lake: Path,
    out: Path,
    told: Callable[[], str],
    spark: Any,
    words: list[str],
    remedy: str,
) -> None:
    write(lake / "a.parquet", x=NANOSECONDS)
    embed(tiny_model, lake, out, *words, "--dry-run", code=2)
    assert told() == (
        "lakevec embed: column 'x' can't be read by this Spark: "
        f"got Illegal Parquet type: INT64 (TIMESTAMP(NANOS,false)); {remedy}"
    )


def test_unreadable_column_behind_a_damaged_file_is_left_out(
    tiny_model: str, lake: Path, out: Path, spark: Any
) -> None:
    (lake / "a.parquet").write_bytes(b"PAR1xxxxxxxxPAR1")
    write(lake / "b.parquet", x=NANOSECONDS)
    record = embed(tiny_model, lake, out, "--keep", "id", "--on-bad-file", "skip")
    assert (record["rows"], len(record["skipped_files"])) == (1, 1)


def test_unreadable_column_of_a_later_file_is_left_out_of_merged_schemas(
    tiny_model: str, lake: Path, out: Path, told: Callable[[], str], spark: Any
) -> None:
    write(lake / "a.parquet", n=[1])
    write(lake / "b.parquet", x=NANOSECONDS)
    merged = ("--option", "mergeSchema=true")
    embed(tiny_model, lake, out, *merged, "--dry-run", code=2)
    assert "column 'x' can't be read by this Spark" in told()
    assert embed(tiny_model, lake, out, *merged, "--keep", "id,n")["rows"] == 2


# Names


def test_fields_that_differ_in_case_are_refused_only_if_kept(
    tiny_model: str, lake: Path, out: Path, told: Callable[[], str], spark: Any
) -> None:
    write(lake / "a.parquet", s=[{"a": 1, "A": 2}])
    embed(tiny_model, lake, out, "--dry-run", code=2)
    assert "column 's' can't be read by this Spark: got struct with two fields of one name" in told()
    assert embed(tiny_model, lake, out, "--keep", "id")["rows"] == 1


def test_column_that_stands_twice_is_refused_only_if_kept(
    tiny_model: str, lake: Path, out: Path, told: Callable[[], str], spark: Any
) -> None:
    columns = [pa.array(["a"]), pa.array(["north"]), pa.array([1]), pa.array([2])]
    pq.write_table(pa.table(columns, names=["id", "text", "n", "n"]), lake / "a.parquet")
    embed(tiny_model, lake, out, "--dry-run", code=2)
    assert "column 'n' can't be read by this Spark: got 2 columns of this name" in told()
    assert embed(tiny_model, lake, out, "--keep", "id")["rows"] == 1


def test_names_of_json_that_differ_in_case_are_told_with_what_helps(
    tiny_model: str, lake: Path, out: Path, told: Callable[[], str], spark: Any
) -> None:
    (lake / "a.json").write_text('{"id": "a", "ID": "b", "text": "north"}\n')
    embed(tiny_model, lake, out, "--format", "json", "--keep", "text", code=2)
    assert told() == (
        "lakevec embed: two columns or fields of the input have the same name: "
        "got The column `id` already exists; "
        "if their case differs, add --conf spark.sql.caseSensitive=true and leave one out with --keep; "
        "else rename one first"
    )


@pytest.mark.parametrize(
    ("name", "got"),
    [("", "an empty name"), (".hidden", "a name that begins with a dot")],
    ids=["empty", "dot"],
)
def test_partition_column_whose_folders_no_reader_finds_is_refused(
    tiny_model: str,
    out: Path,
    tmp_path: Path,
    told: Callable[[], str],
    spark: Any,
    name: str,
    got: str,
) -> None:
    spark.sql(f"SELECT 'a' id, 'north' text, 'x' `{name or 'k'}`").toDF(
        "id", "text", name
    ).createOrReplaceTempView("odd_names")
    settings = tmp_path / "embed.yaml"
    settings.write_text(f"partition_by: ['{name}']\n")
    embed(tiny_model, "odd_names", out, "--format", "table", "--config", str(settings), "--dry-run", code=2)
    assert told() == (
        f"lakevec embed: partition column {name!r} can't name folders: got {got}; expected a name whose "
        "folders readers don't skip; rename it in a view or table first"
    )


# Values that name folders


def test_partitions_are_read_back_as_sparks_own(tiny_model: str, lake: Path, out: Path, spark: Any) -> None:
    rows = [("a/b", 1, "north"), (None, 1, "east"), ("a/b", 2, ""), ("é=", 2, None), ("", 1, "north")]
    frame = spark.createDataFrame(rows, "kind string, day int, text string")
    frame.write.mode("overwrite").parquet(str(lake))
    embed(tiny_model, lake, out, "--partition-by", "kind", "day")
    sparks = out.with_name("sparks")
    frame.write.partitionBy("kind", "day").parquet(str(sparks))
    read = [spark.read.parquet(str(place)).select("kind", "day", "text") for place in (out, sparks)]
    assert_df_equality(*read, ignore_row_order=True)
    names = [
        {str(file.parent.relative_to(place)) for file in place.rglob("part-*")} for place in (out, sparks)
    ]
    assert names[0] == names[1]


@pytest.mark.parametrize(
    ("columns", "got"),
    [
        (["k", "k"], "partition column 'k': got string; expected a column that is not nested"),
        (["b"], "partition column 'b': got binary"),
        (["v"], "partition column 'v': got variant"),
        (["c"], "partition column 'c': got string collate UTF8_LCASE"),
        (["text"], "partition column 'text': got string; expected a column that is not nested"),
        (["a"], "partition column 'a': got array<int>"),
    ],
    ids=["twice", "binary", "variant", "collated", "embedded", "nested"],
)
def test_columns_that_can_not_name_folders_are_refused(
    columns: list[str], got: str, tiny_model: str, out: Path, spark: Any, told: Callable[[], str]
) -> None:
    spark.sql(
        "SELECT 'north' AS text, 'k' AS k, X'ff' AS b, parse_json('1') AS v, 'c' COLLATE UTF8_LCASE AS c,"
        " array(1) AS a"
    ).createOrReplaceTempView("odd")
    words = ("--format", "table", "--keep", "k", "--partition-by", *columns)
    embed(tiny_model, "odd", out, *words, code=2)
    assert told().startswith(f"lakevec embed: {got}")
    assert not out.exists()


def test_values_of_every_script_name_folders_that_spark_reads(tiny_model: str, out: Path, spark: Any) -> None:
    values = ["a\u00a0b", "\u3000", "x\u200by", "x\u2028y", "x\u0085y", "😀", " a ", "..", "%41", "a\tb"]
    rows = [(str(number), "north", value) for number, value in enumerate(values)]
    spark.createDataFrame(rows, "id string, text string, k string").createOrReplaceTempView("odd_values")
    embed(tiny_model, "odd_values", out, "--format", "table", "--partition-by", "k")
    found = spark.read.schema("id string, k string").parquet(str(out)).collect()
    assert {row.id: row.k for row in found} == {number: value for number, _, value in rows}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "secret" * 50,
            "a value of partition column 'k' is too long to name a folder: got 302 bytes; "
            "expected at most 255 on this file system; partition by a shorter column",
        ),
        (
            "secret\0",
            "a value of partition column 'k' can't name a folder: got a null character; "
            "expected values whose folders readers don't skip; clean the column, or partition by another one",
        ),
        (
            "secret._COPYING_",
            "a value of partition column 'k' can't name a folder: got ._COPYING_ at its end; "
            "expected values whose folders readers don't skip; clean the column, or partition by another one",
        ),
    ],
    ids=["long", "null character", "hidden"],
)
def test_value_that_can_not_name_a_folder_is_told_by_its_column_alone(
    tiny_model: str, out: Path, told: Callable[[], str], spark: Any, value: str, message: str
) -> None:
    rows = spark.createDataFrame([("a", "north", value)], "id string, text string, k string")
    rows.createOrReplaceTempView("odd_values")
    embed(tiny_model, "odd_values", out, "--format", "table", "--partition-by", "k", code=1)
    assert told() == f"lakevec embed: {message}"


def test_every_zone_of_java_has_a_fixed_offset_or_not_as_java_says(spark: Any) -> None:
    java = spark._jvm.java.time.ZoneId
    names = {*java.getAvailableZoneIds(), *java.SHORT_IDS, "UT", "+2", "+02:00", "+0200", "UTC+2", "GMT+2"}
    of_spark = spark._jvm.org.apache.spark.sql.catalyst.util.DateTimeUtils
    fixed = {name for name in names if of_spark.getZoneId(name).getRules().isFixedOffset()}
    ours = {name for name in names if has_fixed_offset(name)}
    # Obsolete names that no tz database has: refused, to be safe.
    assert {name for name in fixed ^ ours if not name.startswith("SystemV/")} == set()


# Tables


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("parquet.`lake/docs`", ("parquet", "lake/docs")),
        (" `JSON` . `s3a://b/a``b` ", ("json", "s3a://b/a`b")),
        ("delta.`/lake`", ("delta", "/lake")),
        ("docs", None),
        ("catalog.schema.docs", None),
    ],
    ids=["plain", "quoted", "delta", "table", "three parts"],
)
def test_files_that_sql_names_are_told_from_tables(table: str, expected: tuple[str, str] | None) -> None:
    assert sql_on_files(table) == expected


def test_files_that_sql_names_need_no_readable_column_beside(
    tiny_model: str, lake: Path, out: Path, told: Callable[[], str], spark: Any
) -> None:
    write(lake / "a.parquet", x=NANOSECONDS)
    table = ("--format", "table")
    embed(tiny_model, f"parquet.`{lake}`", out, *table, code=2)
    assert "column 'x' can't be read by this Spark" in told()
    assert embed(tiny_model, f"parquet.`{lake}`", out, *table, "--keep", "id")["rows"] == 1
    words = ["--model", tiny_model, "--input", f"parquet.`{lake}`", "--text", "text", *table]
    assert count([*words, "--output", str(out.with_name("counts"))]) == 0
    embed(tiny_model, "parquet.`s3a://nobody/docs`", out, *table, code=2)
    assert "Spark has no file system for s3a://" in told()


def test_files_whose_names_differ_in_case_are_two_inputs(
    tiny_model: str, lake: Path, out: Path, spark: Any
) -> None:
    for name in ("docs", "Docs"):
        (lake / name).mkdir()
        write(lake / name / f"{name}.parquet")
        embed(tiny_model, f"parquet.`{lake / name}`", out, "--format", "table")
    assert ids(out) == ["a", "a"]


def test_view_of_a_stream_is_streamed_or_refused(
    tiny_model: str, lake: Path, out: Path, told: Callable[[], str], spark: Any
) -> None:
    write(lake / "a.parquet")
    stream = spark.readStream.schema("id string, text string").parquet(str(lake))
    stream.createOrReplaceTempView("of_a_stream")
    table = ("--format", "table")
    assert embed(tiny_model, "of_a_stream", out, *table)["rows"] == 1
    write(lake / "b.parquet")
    assert embed(tiny_model, "of_a_stream", out, *table)["rows"] == 1
    embed(tiny_model, "of_a_stream", out.with_name("keyed"), *table, "--key", "id", code=2)
    assert told() == (
        "lakevec embed: table 'of_a_stream' is a stream: expected a table or view that can be read whole; "
        "name the table that the stream reads"
    )
