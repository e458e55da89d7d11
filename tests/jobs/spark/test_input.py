"""Inputs as lakes have them: odd names, odd types, damaged files, properties that a site sets for all."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.orc as orc
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame

from lakevec.jobs.embedding.file_source import identify
from lakevec.jobs.spark.errors import spark_errors
from lakevec.jobs.spark.file_systems import explain_file_system
from lakevec.jobs.spark.input import local_listing, read_input
from lakevec.pipeline.errors import DataError
from lakevec.pipeline.settings.embed import EmbedSettings
from tests.support.commands import count
from tests.support.commands import embed as main
from tests.support.lakes import embed, ids, put

pytestmark = pytest.mark.usefixtures("spark")


@pytest.fixture
def site(spark: Any) -> Any:
    """Set properties as a site does for all of its sessions."""
    names: list[str] = []

    def set_properties(**properties: str) -> None:
        for name, value in properties.items():
            names.append(name.replace("_", "."))
            spark.conf.set(names[-1], value)

    yield set_properties
    for name in names:
        spark.conf.unset(name)


def write(file: Path, **columns: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"id": ["a"], "text": ["north"], **columns}), file)


def test_site_wide_timestamps_without_zone_and_ansi_change_nothing(
    tiny_model: str, lake: Path, out: Path, site: Any
) -> None:
    site(spark_sql_timestampType="TIMESTAMP_NTZ", spark_sql_ansi_enabled="true")
    write(lake / "a.parquet")
    assert embed(tiny_model, lake, out)["rows"] == 1
    assert embed(tiny_model, lake, out)["status"] == "nothing new"


def test_site_wide_second_kind_of_source_keeps_the_newest_row_of_a_key(
    tiny_model: str, lake: Path, out: Path, site: Any
) -> None:
    site(spark_sql_sources_useV1SourceList="")
    for moment, name in enumerate(["b", "c", "a"]):
        write(lake / f"{name}.parquet", text=[f"north {name}"])
        os.utime(lake / f"{name}.parquet", (1_700_000_000 + moment,) * 2)
    assert embed(tiny_model, lake, out, "--key", "id")["rows"] == 1
    [file] = out.glob("**/*.parquet")
    assert pq.read_table(file)["text"].to_pylist() == ["north a"]


def test_text_that_spark_puts_into_an_error_is_not_shown(
    tiny_model: str, lake: Path, out: Path, spark: Any, site: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    site(spark_sql_ansi_enabled="true")
    write(lake / "a.parquet", text=["a secret text"])
    spark.read.parquet(str(lake)).selectExpr("text", "cast(text AS int) number").createOrReplaceTempView("n")
    for words in ([], ["--key", "text"]):
        embed(tiny_model, "n", out, "--format", "table", *words, code=1)
        shown = capfd.readouterr()
        assert "CAST_INVALID_INPUT" in shown.err
        assert "a secret text" not in shown.out + shown.err


# Listing files


def test_the_driver_lists_many_local_folders_itself(lake: Path, spark: Any) -> None:
    for number in range(40):
        write(lake / f"day={number}" / "a.parquet")

    def jobs_of(group: str, read: Callable[[], DataFrame]) -> int:
        spark.sparkContext.setJobGroup(group, "")
        assert len(read().inputFiles()) == 40
        spark.sparkContext.setLocalProperty("spark.jobGroup.id", None)
        return len(spark.sparkContext.statusTracker().getJobIdsForGroup(group))

    settings = EmbedSettings(input=[str(lake)], text=["text"], model="unused", output="unused")
    assert jobs_of("ours", lambda: read_input(spark, settings)) == 1  # the schema
    assert jobs_of("theirs", lambda: spark.read.parquet(str(lake))) == 2


def test_local_listing_leaves_remote_files_and_other_choices_alone(spark: Any, site: Any) -> None:
    [name] = local_listing(spark, ["/lake", "file:///lake"])
    assert local_listing(spark, ["/lake", "s3a://bucket/lake"]) == {}
    site(**{name: "50"})
    assert local_listing(spark, ["/lake"]) == {}


# Columns that Spark can't read or write


UNREADABLE = {
    "nanoseconds": pa.array(np.array(["2024-01-01"], "M8[ns]")),
    "half precision": pa.array(np.array([1], "f2")),
    "time of day": pa.array([1], pa.time64("us")),
    "milliseconds of a day": pa.array([1], pa.time32("ms")),
    "wide decimal": pa.array([1], pa.decimal256(50)),
    "nested": pa.array([[{"at": 1}]], pa.list_(pa.struct([("at", pa.timestamp("ns"))]))),
}


@pytest.mark.parametrize("column", UNREADABLE.values(), ids=UNREADABLE)
def test_column_that_spark_can_not_read_is_left_out_or_named(
    tiny_model: str, lake: Path, out: Path, told: Callable[[], str], column: pa.Array
) -> None:
    write(lake / "a.parquet", x=column)
    embed(tiny_model, lake, out, "--dry-run", code=2)
    assert told().startswith("lakevec embed: column 'x' can't be read by this Spark: got ")
    assert embed(tiny_model, lake, out, "--keep", "id")["rows"] == 1
    assert ids(out) == ["a"]


def test_counting_needs_no_other_column(tiny_model: str, lake: Path, tmp_path: Path) -> None:
    write(lake / "day=1" / "a.parquet", x=UNREADABLE["nanoseconds"])
    words = ["--model", tiny_model, "--input", str(lake), "--text", "text"]
    assert count([*words, "--output", str(tmp_path / "counts")]) == 0


def test_partitions_stand_beside_columns_that_are_left_out(tiny_model: str, lake: Path, out: Path) -> None:
    write(lake / "day=2024-01-01" / "a.parquet", x=UNREADABLE["nanoseconds"])
    embed(tiny_model, lake, out, "--keep", "id,day")
    assert str(pq.read_table(out, columns=["day"])["day"][0]) == "2024-01-01"


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("named_struct()", "struct without fields"),
        ("array(named_struct())", "struct without fields"),
        ("map('a', named_struct('b', named_struct()))", "struct without fields"),
        ("INTERVAL '1' DAY", "interval day"),
        ("parse_json('1')", "variant"),
        ("null", "void"),
    ],
)
def test_type_that_parquet_can_not_hold_is_refused_only_if_kept(
    tiny_model: str, out: Path, spark: Any, told: Callable[[], str], value: str, kind: str
) -> None:
    spark.sql(f"SELECT 'a' id, 'north' text, {value} extra").createOrReplaceTempView("odd_types")
    embed(tiny_model, "odd_types", out, "--format", "table", "--dry-run", code=2)
    assert told().startswith(f"lakevec embed: column 'extra' can't be written to Parquet: got type {kind}")
    assert embed(tiny_model, "odd_types", out, "--format", "table", "--keep", "id")["rows"] == 1


def test_names_that_differ_in_case_are_refused_only_if_both_are_kept(
    tiny_model: str, lake: Path, out: Path, told: Callable[[], str], site: Any
) -> None:
    write(lake / "a.parquet", Id=["b"], n=[3])
    embed(tiny_model, lake, out, code=2)
    assert "got names that differ in case only: 'id', 'Id'" in told()
    assert embed(tiny_model, lake, out, "--keep", "n")["rows"] == 1
    site(spark_sql_caseSensitive="true")
    embed(tiny_model, lake, out.with_name("both"), code=2)
    assert "columns 'id' and 'Id' differ in case only" in told()
    assert embed(tiny_model, lake, out.with_name("one"), "--keep", "Id")["rows"] == 1
    embed(tiny_model, lake, out.with_name("none"), "--keep", "ID", code=2)
    assert "column 'ID' is not in the input: expected one of 'id', 'text', 'Id', 'n'; did you mean" in told()


# Files


def test_files_that_sql_names_are_read_as_one_batch(
    tiny_model: str, lake: Path, out: Path, told: Callable[[], str]
) -> None:
    write(lake / "a.parquet")
    assert embed(tiny_model, f"parquet.`{lake}`", out, "--format", "table")["rows"] == 1
    embed(tiny_model, f"parquet.`{lake}`", out, "--format", "table", code=2)
    assert "an input that Spark can't stream" in told()


@pytest.mark.parametrize("skip", [[], ["--on-bad-file", "skip"]], ids=["fail", "skip"])
def test_column_of_another_type_is_named_and_its_file_is_not_called_damaged(
    tiny_model: str, lake: Path, out: Path, told: Callable[[], str], skip: list[str]
) -> None:
    write(lake / "a.parquet", n=pa.array([1], pa.int32()), s=["x"])
    write(lake / "b.parquet", n=pa.array([1 << 40]), s=["x"])
    embed(tiny_model, lake, out, *skip, code=1)
    assert told() == (
        f"lakevec embed: column 'n' has another type in a file: got INT64 in file://{lake}/b.parquet; "
        "expected int, as in the file that gives Spark the schema; convert the file, or leave the "
        "column out with --keep"
    )
    assert embed(tiny_model, lake, out, "--keep", "id")["rows"] == 2


@pytest.mark.parametrize(("form", "save"), [("parquet", pq.write_table), ("orc", orc.write_table)])
def test_nested_column_of_another_type_is_named(
    tiny_model: str,
    lake: Path,
    out: Path,
    told: Callable[[], str],
    form: str,
    save: Callable[[pa.Table, Path], None],
) -> None:
    save(pa.table({"text": ["x"], "s": [[1]]}), lake / f"a.{form}")
    save(pa.table({"text": ["x"], "s": [{"a": 1}]}), lake / f"b.{form}")
    embed(tiny_model, lake, out, "--format", form, "--on-bad-file", "skip", code=1)
    assert "column 's' has another type in a file: got " in (line := told())
    assert ("struct<a:bigint>" in line, "array<bigint>" in line) == (True, True)


@pytest.mark.parametrize(("form", "save"), [("parquet", pq.write_table), ("orc", orc.write_table)])
def test_columns_that_can_not_be_merged_are_named(
    tiny_model: str,
    lake: Path,
    out: Path,
    told: Callable[[], str],
    form: str,
    save: Callable[[pa.Table, Path], None],
) -> None:
    for name, n in (("a", [1]), ("b", ["x"])):
        save(pa.table({"text": ["north"], "s": [{"a": 1, "b": [2]}], "n": n}), lake / f"{name}.{form}")
    embed(tiny_model, lake, out, "--format", form, "--option", "mergeSchema=true", code=2)
    line = told()
    assert "column 'n' has two types in files of the input: got " in line
    assert ("BIGINT" in line, "STRING" in line) == (True, True)


@pytest.mark.parametrize("form", ["csv", "json"])
def test_file_that_is_not_compressed_is_named(
    tiny_model: str, lake: Path, out: Path, told: Callable[[], str], form: str
) -> None:
    content = {"csv": "id,text\nb,north\n", "json": '{"id": "b", "text": "north"}\n'}[form]
    (lake / f"not compressed.{form}.gz").write_text(content)
    words = ["--format", form, "--option", "header=true"]
    embed(tiny_model, lake, out, *words, code=1)
    assert f"{lake}/not compressed.{form}.gz" in told()
    embed(tiny_model, lake, out, *words, "--on-bad-file", "skip", code=1)
    assert f"{lake}/not compressed.{form}.gz" in told()
    (lake / f"sound.{form}.gz").write_bytes(gzip.compress(content.encode()))
    record = embed(tiny_model, lake, out, *words, "--on-bad-file", "skip")
    assert (record["rows"], len(record["skipped_files"])) == (1, 1)


def test_input_without_columns_is_told(
    tiny_model: str, lake: Path, out: Path, told: Callable[[], str]
) -> None:
    (lake / "a.json.bz2").write_text('{"text": "north"}\n')
    embed(tiny_model, lake, out, "--format", "json", code=2)
    assert f"the input has no columns: got no column of format 'json' in file://{lake}/a.json" in told()
    (lake / "0.json").write_text("")
    embed(tiny_model, lake, out, "--format", "json", code=2)
    assert f"{lake}/a.json.bz2 and 1 more;" in told()


def test_input_without_files_is_told(tiny_model: str, lake: Path, out: Path, told: Callable[[], str]) -> None:
    write(lake / "_a.parquet")
    embed(tiny_model, lake, out, code=2)
    assert told().startswith("lakevec embed: the input has no files: expected files of the --format given;")
    embed(tiny_model, f"{lake}/[a].parquet", out, code=2)
    assert "[a].parquet; to name a file literally, write \\ before each of " in told()
    write(lake / "[a].parquet")
    assert embed(tiny_model, f"{lake}/\\[a\\].parquet", out)["rows"] == 1


def test_partitions_beside_other_folders_are_told(
    tiny_model: str, lake: Path, out: Path, told: Callable[[], str]
) -> None:
    write(lake / "day=1" / "a.parquet")
    embed(tiny_model, lake, lake / "vectors", code=2)
    assert "partition folders in the input" in told()
    write(lake / "other" / "a.parquet")
    embed(tiny_model, lake, out, code=2)
    assert "the input mixes partition folders with others" in told()


def test_first_run_that_can_read_no_file_fails(
    tiny_model: str, lake: Path, out: Path, told: Callable[[], str]
) -> None:
    write(lake / "a.parquet")
    schema = (lake / "a.parquet").read_bytes()
    for name in "bc":
        # The footer is sound, the pages are not.
        (lake / f"{name}.parquet").write_bytes(schema[:4] + bytes(60) + schema[64:])
    (lake / "a.parquet").unlink()
    embed(tiny_model, lake, out, "--on-bad-file", "skip", code=1)
    assert "no file of the input can be read: got 2 unreadable files" in told()
    write(lake / "a.parquet")
    assert embed(tiny_model, lake, out, "--on-bad-file", "skip")["rows"] == 1
    assert embed(tiny_model, lake, out, "--on-bad-file", "skip")["status"] == "nothing new"


def test_colon_that_hadoop_can_not_read_is_named(
    tiny_model: str, lake: Path, out: Path, told: Callable[[], str]
) -> None:
    write(lake / "co lon" / "c d.parquet")
    write(lake / "co:lon" / "e.parquet", n=[1])
    embed(tiny_model, lake / "co*", out, code=2)
    assert "Hadoop can't read a name with a colon in it: got 'co:lon'" in told()
    assert embed(tiny_model, [lake / "co lon", lake / "co:lon"], out, "--keep", "id")["rows"] == 2


def test_blank_in_the_name_of_a_damaged_file_is_shown(
    tiny_model: str, lake: Path, out: Path, told: Callable[[], str]
) -> None:
    put(lake / "a.parquet", ["a"])
    (lake / "b, c. d.parquet").write_bytes(b"PAR1xxxxxxxxPAR1")
    embed(tiny_model, lake, out, code=1)
    assert f"an input file can't be read: got file://{lake}/b, c. d.parquet; expected" in told()


def test_reader_options_are_found_in_any_case(tiny_model: str, lake: Path, out: Path) -> None:
    write(lake / "kind=x" / "day=1" / "a.parquet")
    record = embed(tiny_model, lake / "kind=*", out, "--option", f"BASEPATH={lake}")
    assert record["rows"] == 1
    assert pq.read_table(out).schema.names == ["id", "text", "kind", "day", "text_embedding"]


# Overlap and file systems


def test_output_that_the_input_reaches_is_refused_on_every_way(
    tiny_model: str, lake: Path, out: Path, told: Callable[[], str], spark: Any
) -> None:
    put(lake / "docs" / "a.parquet", ["a", "b", "c"])
    embed(tiny_model, lake / "*", lake / "vectors", "--dry-run", code=2)
    assert "holds --output" in told()
    words = ["--model", tiny_model, "--input", str(lake / "*"), "--text", "text"]
    assert count([*words, "--output", str(lake / "counts")]) == 2
    assert "holds --output" in told()
    embed(tiny_model, lake / "*", out, "--checkpoint", str(lake / "checkpoint"), code=2)
    assert "holds --checkpoint" in told()
    assert sorted(path.name for path in lake.iterdir()) == ["docs"]


def test_output_that_a_link_or_a_view_reaches_is_refused(
    tiny_model: str, lake: Path, out: Path, told: Callable[[], str], spark: Any
) -> None:
    put(lake / "docs" / "a.parquet", ["a", "b", "c"])
    (lake / "linked").symlink_to(out)
    embed(tiny_model, [lake / "docs", lake / "linked"], out, code=2)
    embed(tiny_model, lake / "*", out)
    embed(tiny_model, lake / "*", out, code=2)
    assert "the input holds files of the output: got file:" in told()
    spark.read.parquet(str(out)).createOrReplaceTempView("of_the_output")
    words = ["--format", "table", "--embedding-column", "again"]
    embed(tiny_model, "of_the_output", out, *words, code=2)
    assert "the input holds files of the output" in told()
    assert ids(out) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("uri", "facts"),
    [
        ("s3a://nobody/docs", ["no file system for s3a://", "org.apache.hadoop:hadoop-aws:"]),
        ("s3://nobody/docs", ["no file system for s3://", "write s3a://", "hadoop-aws:"]),
        ("abfss://box@nobody/docs", ["no file system for abfs://", "org.apache.hadoop:hadoop-azure:"]),
        ("gs://nobody/docs", ["no file system for gs://", "gcs-connector"]),
        ("foo://nobody/docs", ["no file system for foo://", "check the URI"]),
    ],
)
def test_missing_file_system_is_told_with_what_to_add(
    tiny_model: str, out: Path, told: Callable[[], str], uri: str, facts: list[str]
) -> None:
    embed(tiny_model, uri, out, "--dry-run", code=2)
    line = told()
    assert [fact for fact in facts if fact not in line] == []
    words = ["--model", tiny_model, "--input", uri, "--text", "text"]
    assert count([*words, "--output", str(out)]) == 2
    assert facts[0] in told()
    assert not out.exists()


def test_missing_file_system_of_other_places_is_told_before_tasks(
    tiny_model: str, lake: Path, out: Path, told: Callable[[], str], spark: Any
) -> None:
    put(lake / "a.parquet", ["a"])
    embed(tiny_model, lake, out, "--checkpoint", "s3a://nobody/checkpoint", code=2)
    assert "Spark has no file system for s3a://" in told()
    assert not out.exists()
    words = ["--model", tiny_model, "--input", str(lake), "--text", "text", "--sink", "spark", "--dry-run"]
    assert main([*words, "--output", "s3a://nobody/vectors"]) == 2
    assert "hadoop-aws" in told()


def test_old_records_of_azure_inputs_keep_their_names() -> None:
    """Earlier versions took a container for a user, so that two containers had one name."""
    boxes = [f"abfs://{box}@account/lake" for box in ("one", "two")]
    assert identify("parquet", boxes[0], {}) != identify("parquet", boxes[1], {})
    old = hashlib.sha256(b"parquet abfs://account/lake").hexdigest()[:12]
    assert identify("parquet", boxes[0], {old}) == old


def test_options_that_an_earlier_version_recorded_whole_are_the_same(
    tiny_model: str, lake: Path, out: Path
) -> None:
    put(lake / "a.parquet", ["a"])
    words = ["--option", "url=jdbc:x?password=abcdef"]
    embed(tiny_model, lake, out, *words)
    [log] = out.glob("_lakevec/*/log/*.json")
    commit = json.loads(log.read_text())
    assert commit["wave"]["option"] == {"url": "jdbc:x?password=***"}
    commit["wave"]["option"] = {"url": "jdbc:x?password=abcdef"}
    log.write_text(json.dumps(commit))
    assert embed(tiny_model, lake, out, *words)["status"] == "nothing new"


def test_session_of_another_thread_is_joined(tiny_model: str, lake: Path, out: Path, spark: Any) -> None:
    write(lake / "a.parquet")
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(embed, tiny_model, lake, out).result()["rows"] == 1
    assert spark.range(3).count() == 3


def test_only_classes_of_connectors_are_missing_connectors() -> None:
    for name in (
        "org/apache/hadoop/hive/conf/HiveConf",
        "com/google/common/base/Preconditions",
        "org/apache/iceberg/aws/s3/S3FileIO",
    ):
        assert explain_file_system(f"java.lang.NoClassDefFoundError: {name}") is None
    for name, package in (
        ("org/apache/hadoop/fs/s3a/Constants", "hadoop-aws"),
        ("software/amazon/awssdk/core/SdkClient", "hadoop-aws"),
        ("org/wildfly/openssl/OpenSSLProvider", "hadoop-azure"),
        ("com/google/cloud/hadoop/fs/gcs/GoogleHadoopFileSystem", "gcs-connector"),
    ):
        assert package in str(explain_file_system(f"java.lang.NoClassDefFoundError: {name}"))


def test_full_disk_of_a_worker_is_told(spark: Any) -> None:
    def write(batches: Any) -> Any:
        raise OSError(28, "No space left on device")

    with pytest.raises(DataError, match=r"^a disk is full: got OSError: \[Errno 28\]"), spark_errors():
        spark.range(1).mapInArrow(write, "id long").collect()
