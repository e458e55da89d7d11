"""Tasks that read Parquet themselves: the same rows as Spark's reader gives, or Spark's reader."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakevec.jobs.embedding.direct_read import check_reports
from lakevec.pipeline.errors import CommitError
from lakevec.pipeline.output.commit_log import InputFile
from lakevec.pipeline.output.thrift_compact import I64, LIST, Struct
from lakevec.udfs.split_reader import SplitReport
from tests.support.footers import ROW_GROUPS, SIZES, change_footer
from tests.support.lakes import embed, ids, put

pytestmark = pytest.mark.usefixtures("spark")

# It changes nothing, but only Spark knows that.
THROUGH_SPARK = ("--option", "datetimeRebaseMode=CORRECTED")

VALUES = {
    "string": "'é', '', null",
    "binary": "X'00ff', X'', null",
    "boolean": "true, false, null",
    "tinyint": "-128, 127, null",
    "smallint": "-32768, 32767, null",
    "int": "-2147483648, 2147483647, null",
    "bigint": "-9223372036854775808, 9223372036854775807, null",
    "float": "'-0.0', 'NaN', '1e-45'",
    "double": "'-Infinity', 'NaN', '5e-324'",
    "date": "'0001-01-01', '1582-10-10', '9999-12-31'",
    "decimal(9,2)": "'-9999999.99', '0', null",
    "decimal(18,0)": "'999999999999999999', '-1', null",
    "decimal(38,10)": "'9999999999999999999999999999.9999999999', '-0.0000000001', null",
    "timestamp": "'0002-01-01 00:00:00', '1900-01-01 00:00:00.000001', '2026-10-25 02:30:00'",
    "timestamp_ntz": "'0001-01-01 00:00:00', '9999-12-31 23:59:59.999999', null",
}
NESTED = {
    "array<string>": "array('a', null, ''), array(), null",
    "array<array<decimal(5,2)>>": "array(array(1.5), null), array(array()), null",
    "array<struct<a:int,b:timestamp>>": "array(named_struct('a', 1, 'b', now())), array(null), null",
    "map<string,date>": "map('k', date'2026-01-01', 'l', null), map(), null",
    "map<int,array<binary>>": "map(1, array(X'ff')), map(2, null), null",
    "struct<a:string,b:struct<c:double>>": "named_struct('a', 'x', 'b', named_struct('c', 1D)), "
    "named_struct('a', null, 'b', null), null",
}


@pytest.fixture(scope="module")
def lake_of_types(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file by Spark, checksum file included, with a column of each type that both readers read alike."""
    columns = [
        f"CAST(element_at(array({', '.join(f'CAST({value} AS {kind})' for value in values.split(', '))}), n) "
        f"AS {kind}) AS `{kind}`"
        for kind, values in VALUES.items()
    ]
    columns += [
        f"CAST(element_at(array({values}), n) AS {kind}) AS `{kind}`" for kind, values in NESTED.items()
    ]
    folder = tmp_path_factory.mktemp("types") / "lake"
    names = "element_at(array('a', 'b', 'c'), n) id, element_at(array('north', null, 'east'), n) text"
    rows = spark.sql(f"SELECT {names}, {', '.join(columns)} FROM (SELECT explode(array(1, 2, 3)) n)")
    rows.coalesce(1).write.option("parquet.block.size", 1).parquet(str(folder))
    assert list(folder.glob(".part-*.crc"))
    return folder


def embed_both(model: str, lake: Path, out: Path, *more: str) -> dict[str, Any]:
    """Embed a lake through both readers, compare the outputs, and return the record of tasks' own reading."""
    sparks = out.with_name("sparks")
    through_spark = embed(model, lake, sparks, *more, *THROUGH_SPARK)
    assert through_spark["reader"]["tasks"] == 0
    record = embed(model, lake, out, *more)
    same = ("rows_read", "rows", "columns")
    assert [record[name] for name in same] == [through_spark[name] for name in same]
    ours, theirs = (contents(folder) for folder in (out, sparks))
    assert ours.keys() == theirs.keys()
    for folder in ours:
        assert str(ours[folder].schema.remove_metadata()) == str(theirs[folder].schema.remove_metadata())
        for name in ours[folder].column_names:
            assert str(ours[folder][name].to_pylist()) == str(theirs[folder][name].to_pylist())  # NaN != NaN
    footers = [pq.read_metadata(files(folder)[0]) for folder in (out, sparks)]
    assert [str(column) for column in leaves(footers[0])] == [str(column) for column in leaves(footers[1])]
    assert marks(footers[0]) == marks(footers[1])
    return record


def contents(folder: Path) -> dict[str, pa.Table]:
    """Return the rows of each folder."""
    tables: dict[str, list[pa.Table]] = {}
    for file in files(folder):
        tables.setdefault(str(file.parent.relative_to(folder)), []).append(pq.ParquetFile(file).read())
    return {name: pa.concat_tables(parts).sort_by("id") for name, parts in tables.items()}


def files(folder: Path) -> list[Path]:
    """Return an output's files by folder and task."""
    return sorted(folder.rglob("part-*.parquet"), key=lambda file: (file.parent, file.name))


def leaves(footer: Any) -> list[Any]:
    return [footer.schema.column(number) for number in range(len(footer.schema))]


def marks(footer: Any) -> dict[bytes, bytes]:
    """Return the keys of a footer without the run's own, which Arrow's schema repeats."""
    own = (b"lakevec.run", b"ARROW:schema")
    return {name: value for name, value in footer.metadata.items() if name not in own}


def test_tasks_read_each_plain_type_as_spark_does(tiny_model: str, lake_of_types: Path, out: Path) -> None:
    record = embed_both(tiny_model, lake_of_types, out)
    assert record["reader"] == {"tasks": 1, "spark": 0, "reasons": {}}
    assert pq.read_table(out).num_rows == 3


SAME_VALUES = {
    "large string": pa.array(["x", None, ""], pa.large_string()),
    "view": pa.array(["x", None, ""], pa.string_view()),
    "dictionary": pa.array(["x", None, "x"]).dictionary_encode(),
    "list of large strings": pa.array([["x", None], None, []], pa.large_list(pa.large_string())),
    "instants": pa.array([0, None, 10**12], pa.timestamp("us", "Asia/Tokyo")),
    "milliseconds": pa.array([0, None, 10**12], pa.timestamp("ms", "UTC")),
    "local milliseconds": pa.array([0, None, -(10**12)], pa.timestamp("ms")),
    "no value": pa.array([None] * 3, pa.int32()),
    "dots.in.names": pa.array([1, 2, 3]),
    "not utf-8": pa.Array.from_buffers(pa.string(), 3, pa.array([b"\xff", b"", None]).buffers()),
}


def write(file: Path, *, options: dict[str, Any] | None = None, **columns: Any) -> None:
    """Write a file of three rows with pyarrow."""
    file.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"id": ["a", "b", "c"], "text": ["north", None, "east"], **columns})
    pq.write_table(table, file, **(options or {}))


def test_tasks_read_what_other_writers_store(tiny_model: str, lake: Path, out: Path) -> None:
    for number, codec in enumerate(["none", "snappy", "gzip", "zstd"]):
        options = {"compression": codec, "use_dictionary": number % 2 == 0}
        write(lake / f"{codec}.parquet", options=options, **SAME_VALUES)
    write(lake / "v2.parquet", options={"data_page_version": "2.0"}, **SAME_VALUES)
    pq.write_table(pq.read_table(lake / "v2.parquet").slice(0, 0), lake / "no rows.parquet")
    record = embed_both(tiny_model, lake, out, "--on-bad-row", "null")
    assert record["reader"] == {"tasks": 6, "spark": 0, "reasons": {}}
    assert (record["rows"], record["invalid_values"]["not utf-8"]["bad"]) == (15, 5)


def test_files_that_qualify_and_others_are_told_apart(
    tiny_model: str, lake: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    instants = pa.array([0, 10**12, None], pa.timestamp("us", "UTC"))
    write(lake / "a.parquet", day=instants)
    write(lake / "b.parquet", options={"use_deprecated_int96_timestamps": True}, day=instants)
    write(lake / "c.parquet", options={"compression": "lz4"}, day=instants)
    write(lake / "d.parquet")
    write(lake / "e.parquet", day=instants, DAY=instants)
    same_case = ("--conf", "spark.sql.caseSensitive=true")
    record = embed_both(tiny_model, lake, out, *same_case)
    assert record["rows"] == 15
    assert record["reader"] == {
        "tasks": 1,
        "spark": 4,
        "reasons": {
            "column 'day' is stored as INT96 NONE": 1,
            "column 'id' is stored with LZ4": 1,
            "column 'day' is not there exactly once": 2,
        },
    }
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("reader:")]
    assert "reader: Spark's own for 2 of 5 files, since column 'day' is not there exactly once" in said


OTHER_RUNS = {
    "option": ([], ["--option", "compression=zstd"], "option 'compression' may change what is read"),
    "calendar": (
        [],
        ["--conf", "spark.sql.parquet.datetimeRebaseModeInRead=EXCEPTION"],
        "property 'spark.sql.parquet.datetimeRebaseModeInRead' changes what is read",
    ),
    "type": ([("x", pa.array([1, 2, 3], pa.uint8()))], [], "column 'x' is stored as INT32 INT"),
    "folders": ([], ["--partition-by", "n"], "column 'n' has type double"),
}


@pytest.mark.parametrize(("columns", "words", "reason"), OTHER_RUNS.values(), ids=OTHER_RUNS)
def test_all_else_is_read_by_spark(
    tiny_model: str, lake: Path, out: Path, columns: Any, words: list[str], reason: str
) -> None:
    write(lake / "a.parquet", n=[0.5, 1e10, None], **dict(columns))
    record = embed(tiny_model, lake, out, *words)
    assert record["reader"] == {"tasks": 0, "spark": 1, "reasons": {reason: 1}}
    assert ids(out) == ["a", "b", "c"]


def test_splits_have_the_row_groups_that_spark_would_read(tiny_model: str, lake: Path, out: Path) -> None:
    rows = np.random.default_rng(1).integers(1, 300, 20)
    names = [f"{group} {row}" for group, count in enumerate(rows) for row in range(count)]
    table = pa.table({"id": names, "text": ["north"] * len(names), "n": range(len(names))})
    with pq.ParquetWriter(lake / "a.parquet", table.schema) as writer:
        for end, count in zip(np.cumsum(rows), rows, strict=True):
            writer.write_table(table.slice(int(end - count), int(count)))
    words = (
        "--conf",
        "spark.sql.files.maxPartitionBytes=5000",
        "spark.sql.files.openCostInBytes=1",
    )
    record = embed_both(tiny_model, lake, out, *words)
    assert record["reader"]["tasks"] == 1
    of_tasks = [
        [pq.read_table(file)["id"].to_pylist() for file in files(folder)]
        for folder in (out, out.with_name("sparks"))
    ]
    assert of_tasks[0] == of_tasks[1]
    assert len(of_tasks[0]) > 4


def test_folders_hold_the_values_that_spark_finds(tiny_model: str, lake: Path, out: Path) -> None:
    for day, kind, number in [("2026-01-01", "a%20b%3D", 1), ("0001-01-01", "__HIVE_DEFAULT_PARTITION__", 2)]:
        write(
            lake / f"day={day}" / f"kind={kind}" / f"n={number}" / "a b%.parquet", other=[True, None, False]
        )
    record = embed_both(tiny_model, lake, out)
    assert record["reader"]["tasks"] == 2
    embed_both(tiny_model, lake, out.with_name("by") / "out", "--partition-by", "day", "kind", "n", "other")


def test_file_that_changed_or_is_damaged_is_left_to_spark(
    tiny_model: str, lake_of_types: Path, lake: Path, out: Path, told: Callable[[], str]
) -> None:
    """A byte that differs from its checksum, a damaged page, and a sound file."""
    [stored] = lake_of_types.glob("part-*")
    content = bytearray(stored.read_bytes())
    content[4] ^= 1
    (lake / stored.name).write_bytes(content)
    (lake / f".{stored.name}.crc").write_bytes((lake_of_types / f".{stored.name}.crc").read_bytes())
    (lake / "b.parquet").write_bytes(stored.read_bytes())
    words = ("--keep", "id")
    embed(tiny_model, lake, out, *words, code=1)
    assert "an input file can't be read" in told()
    record = embed(tiny_model, lake, out, *words, "--on-bad-file", "skip")
    assert [Path(file["path"]).name for file in record["skipped_files"]] == [stored.name]
    assert record["reader"]["tasks"] == 1
    assert record["rows"] == 3


def test_file_with_a_damaged_later_page_is_read_again_by_spark(
    tiny_model: str, lake: Path, out: Path
) -> None:
    table = pa.table({"id": list(map(str, range(50_000))), "text": ["north"] * 50_000})
    pq.write_table(table, lake / "a.parquet", use_dictionary=False, data_page_size=4000)
    put(lake / "b.parquet", ["b"])
    content = bytearray((lake / "a.parquet").read_bytes())
    chunk = pq.read_metadata(lake / "a.parquet").row_group(0).column(0)
    place = chunk.data_page_offset + chunk.total_compressed_size - 20_000
    content[place : place + 5_000] = b"\xff" * 5_000
    (lake / "a.parquet").write_bytes(content)
    record = embed(tiny_model, lake, out, "--on-bad-file", "skip", "--batch-rows", "1000")
    assert ids(out) == ["b"]
    assert record["reader"]["spark"] == 2
    assert len(record["skipped_files"]) == 1
    assert sorted(path.name for path in out.iterdir() if path.name[0] != "_") == [
        file.name for file in files(out)
    ]


def break_sizes(footer: Struct) -> None:
    """Change the number of levels, which pyarrow refuses by ending the process."""
    chunk = footer[ROW_GROUPS][1][1][0][1][1][1][0][3][1]
    chunk[SIZES][1][3] = (LIST, (I64, [1, 1, 1]))


def test_footer_that_ends_a_worker_is_left_to_spark(tiny_model: str, lake: Path, out: Path) -> None:
    put(lake / "a.parquet", ["a"])
    put(lake / "b.parquet", ["b"])
    change_footer(lake / "a.parquet", break_sizes)
    record = embed(tiny_model, lake, out)
    assert ids(out) == ["a", "b"]
    assert record["reader"] == {"tasks": 0, "spark": 2, "reasons": {"a worker died while it read them": 2}}


REPORTS = {
    "lost": ([SplitReport("a", 0, [0], 5, 2, 9)], "5 rows in row groups [0]; expected 9 rows in 2 groups"),
    "lost split": ([], "0 rows in row groups []"),
    "twice": ([SplitReport("a", 0, [0, 1], 9, 2, 9), SplitReport("a", 9, [1], 4, 2, 9)], "groups [0, 1, 1]"),
    "one for another": ([SplitReport("a", 0, [1, 1], 9, 2, 9)], "groups [1, 1]"),
    "rows": ([SplitReport("a", 0, [0, 1], 8, 2, 9)], "8 rows in row groups [0, 1]; expected 9 rows"),
    "two footers": ([SplitReport("a", 0, [0], 5, 2, 9), SplitReport("a", 9, [1], 4, 2, 8)], "9 rows in"),
}


@pytest.mark.parametrize(("reports", "told"), REPORTS.values(), ids=REPORTS)
def test_rows_lost_or_read_twice_end_the_run(reports: list[SplitReport], told: str) -> None:
    file = InputFile(input="", path="a", bytes=9, modified="0", reason="")
    with pytest.raises(CommitError, match=re.escape(told)):
        check_reports(reports, [file])
