"""Tasks that read Parquet themselves: the same rows as Spark's reader gives, or Spark's reader."""

from __future__ import annotations

import datetime
import decimal
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakevec.jobs.embedding.direct_read import check_reports
from lakevec.pipeline.errors import CommitError
from lakevec.pipeline.output.commit_log import InputFile
from lakevec.udfs.split_reader import SplitReport
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
    "array<struct<a:int,b:timestamp>>": "array(named_struct('a', 1, 'b', timestamp'2026-01-01')), array(null), null",
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
    same = ("rows_read", "rows", "files", "columns")
    assert [record[name] for name in same] == [through_spark[name] for name in same]
    for ours, theirs in zip(files(out), files(sparks), strict=True):
        assert ours.parent.relative_to(out) == theirs.parent.relative_to(sparks)
        footers = [pq.read_metadata(file) for file in (ours, theirs)]
        assert [str(column) for column in leaves(footers[0])] == [
            str(column) for column in leaves(footers[1])
        ]
        assert marks(footers[0]) == marks(footers[1])
        tables = [pq.ParquetFile(file).read() for file in (ours, theirs)]
        assert str(tables[0].schema.remove_metadata()) == str(tables[1].schema.remove_metadata())
        for name in tables[0].column_names:
            assert str(tables[0][name].to_pylist()) == str(tables[1][name].to_pylist())  # as NaN is no NaN
    return record


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


def write(file: Path, text: pa.Array | None = None, *, options: dict[str, Any] = {}, **columns: Any) -> None:  # noqa: B006
    """Write a file of three rows with pyarrow."""
    file.parent.mkdir(parents=True, exist_ok=True)
    text = pa.array(["north", None, "east"]) if text is None else text
    pq.write_table(pa.table({"id": ["a", "b", "c"], "text": text, **columns}), file, **options)


SAME_VALUES = {
    "large string": pa.array(["x", None, ""], pa.large_string()),
    "dictionary": pa.array(["x", None, "x"]).dictionary_encode(),
    "list of large strings": pa.array([["x", None], None, []], pa.large_list(pa.large_string())),
    "instants": pa.array([0, None, 10**12], pa.timestamp("us", "Asia/Tokyo")),
    "milliseconds": pa.array([0, None, 10**12], pa.timestamp("ms", "UTC")),
    "local milliseconds": pa.array([0, None, -(10**12)], pa.timestamp("ms")),
    "no value": pa.array([None] * 3, pa.int32()),
}


def test_columns_that_other_writers_name_otherwise_are_read_by_tasks(
    tiny_model: str, lake: Path, out: Path
) -> None:
    """With or without dictionaries, in all codecs and both versions of pages."""
    for number, codec in enumerate(["none", "snappy", "gzip", "zstd"]):
        options = {"compression": codec, "use_dictionary": number % 2 == 0, "data_page_version": "1.0"}
        write(lake / f"{codec}.parquet", options=options, **SAME_VALUES)
    write(lake / "v2.parquet", options={"data_page_version": "2.0"}, **SAME_VALUES)
    write(lake / "no rows.parquet", options={"row_group_size": 1}, **SAME_VALUES)
    pq.write_table(pq.read_table(lake / "v2.parquet").slice(0, 0), lake / "no rows.parquet")
    (lake / "empty.parquet").touch()
    record = embed_both(tiny_model, lake, out)
    assert record["reader"] == {"tasks": 7, "spark": 0, "reasons": {}}
    assert record["rows"] == 15


OTHER_COLUMNS = {
    "int96": (
        {"use_deprecated_int96_timestamps": True},
        pa.array([0, 1, None], pa.timestamp("us")),
        "INT96 None",
    ),
    "unsigned": ({}, pa.array([255, 0, None], pa.uint8()), "INT32 Int"),
    "unsigned int": ({}, pa.array([2**32 - 1, 0, None], pa.uint32()), "INT32 Int"),
    "fixed size": ({}, pa.array([b"abc", b"abd", None], pa.binary(3)), "FIXED_LEN_BYTE_ARRAY NONE"),
}


def test_types_that_readers_interpret_are_read_by_spark(tiny_model: str, lake: Path, out: Path) -> None:
    pass
