"""Inputs that reach the output: refused in whatever way they are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from lakevec.jobs.spark.overlap import refuse_files_of_output, refuse_overlap, refuse_partitions_above
from lakevec.pipeline.errors import InputError

REACHING = {
    "the same place": ("lake/vectors", "lake/vectors"),
    "with a slash": ("lake/vectors/", "lake/vectors"),
    "as a URI": ("file:{root}/lake/vectors", "lake/vectors"),
    "as a longer URI": ("file:///{root}/lake/*", "lake/vectors"),
    "with dots": ("lake/docs/../vectors", "lake/vectors"),
    "a star": ("lake/*", "lake/vectors"),
    "a star below": ("lake/*/*.parquet", "lake/vectors"),
    "a star above": ("*/vectors", "lake/vectors"),
    "only stars": ("*/*", "lake/vectors"),
    "a question mark": ("lake/vector?", "lake/vectors"),
    "a range": ("lake/[t-w]ectors", "lake/vectors"),
    "not a range": ("lake/[^d]*", "lake/vectors"),
    "braces": ("lake/{docs,vectors}", "lake/vectors"),
    "nested braces": ("lake/{docs,v{ec,an}*}", "lake/vectors"),
    "braces with folders": ("{lake/vectors,other/docs}/x", "lake/vectors"),
    "escaped": ("lake/vec\\tors", "lake/vectors"),
    "inside": ("lake/vectors/_lakevec/quarantine", "lake/vectors"),
    "a partition": ("lake", "lake/kind=vectors"),
    "two partitions": ("lake", "lake/kind=vectors/day=1"),
    "a pattern above a partition": ("la*", "lake/kind=vectors"),
    "another name of S3": ("s3a://bucket/lake/*", "s3://key:secret@bucket/lake/vectors"),
    "a bucket": ("s3://bucket", "s3a://bucket/kind=vectors"),
    "HDFS by its default": ("hdfs://node:8020/lake/*", "hdfs:///lake/vectors"),
    "HDFS with its port": ("hdfs://node:8020/lake/*", "hdfs://NODE/lake/vectors"),
    "two slashes": ("s3://bucket//lake/*", "s3a://bucket/lake//vectors"),
}
PLAIN = {
    "beside": ("lake/docs", "lake/vectors"),
    "plainly nested": ("lake", "lake/vectors"),
    "the same beginning": ("lake/docs", "lake/docs-vectors"),
    "a pattern of files": ("lake/*.parquet", "lake/vectors"),
    "another range": ("lake/[a-d]*", "lake/vectors"),
    "other braces": ("lake/{docs,news}", "lake/vectors"),
    "another bucket": ("s3://one/lake/*", "s3://two/lake/vectors"),
    "another container": ("abfs://one@account/lake/*", "abfs://two@account/lake/vectors"),
    "another HDFS": ("hdfs://one/lake/*", "hdfs://two/lake/vectors"),
    "another port": ("hdfs://one:1/lake/*", "hdfs://one:2/lake/vectors"),
    "an escaped star": ("lake/\\*", "lake/vectors"),
}


def refuse(name: str, output: str, *, partitioned: bool = False, **option: str) -> None:
    refuse_overlap([name], option, {"--output": output}, format="parquet", is_partitioned=partitioned)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "lake" / "docs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("name", "output"), REACHING.values(), ids=REACHING)
def test_input_that_reaches_the_output_is_refused(root: Path, name: str, output: str) -> None:
    with pytest.raises(InputError, match=r"^input '.*' holds --output '.*': got .*, which would read"):
        refuse(name.replace("{root}", str(root)), output)


@pytest.mark.parametrize(("name", "output"), PLAIN.values(), ids=PLAIN)
def test_input_beside_the_output_is_taken(root: Path, name: str, output: str) -> None:
    refuse(name, output)


def test_folders_that_spark_descends_into_are_refused(root: Path) -> None:
    with pytest.raises(InputError, match="got recursiveFileLookup, which"):
        refuse("lake", "lake/vectors", RECURSIVEFILELOOKUP="True")
    with pytest.raises(InputError, match="got partition folders, which"):
        refuse("lake", "lake/vectors", partitioned=True)


def test_links_are_followed(root: Path) -> None:
    (root / "lake" / "vectors").mkdir()
    (root / "link").symlink_to(root / "lake")
    with pytest.raises(InputError, match="got a pattern that matches it"):
        refuse("link/*", "lake/vectors")
    (root / "lake" / "docs" / "deep").symlink_to(root / "lake" / "vectors")
    (root / "lake" / "vectors" / "a.parquet").touch()
    (root / "lake" / "docs" / "b.parquet").symlink_to(root / "lake" / "vectors" / "a.parquet")
    for file in ("deep/a.parquet", "b.parquet"):
        with pytest.raises(InputError, match=f"the input holds files of the output: got file:.*{file}"):
            refuse_files_of_output([f"file:{root}/lake/docs/{file}"], "lake/vectors")
    refuse_files_of_output([f"file:{root}/lake/docs/c.parquet"], "lake/vectors")


def test_files_are_known_however_their_root_is_written() -> None:
    for file, output in (
        ("hdfs://node:8020/lake/vectors/a.parquet", "hdfs:///lake/vectors"),
        ("s3a://bucket/lake/vectors/a.parquet", "s3://bucket/lake//vectors/"),
    ):
        with pytest.raises(InputError, match="the input holds files of the output"):
            refuse_files_of_output([file], output)
    refuse_files_of_output(["hdfs://node:8020/lake/vectors-2/a.parquet"], "hdfs:///lake/vectors")


def test_output_below_partitions_is_refused(root: Path) -> None:
    files = [f"file://{root}/lake/day=1/a.parquet"]
    with pytest.raises(InputError, match="got partition folders in the input"):
        refuse_partitions_above(["lake"], "lake/vectors", lambda: files)
    refuse_partitions_above(["lake"], "vectors", lambda: files)
    refuse_partitions_above(["lake"], "lake/vectors", lambda: [f"file://{root}/lake/a=b.parquet"])


def test_pattern_that_hadoop_can_not_read_is_refused(root: Path) -> None:
    for pattern in ("lake/[z-a]", "lake/vectors[]"):
        with pytest.raises(InputError, match="input is not a pattern that Hadoop can read"):
            refuse(pattern, "lake/vectors")


def test_files_named_by_sql_are_looked_at(root: Path) -> None:
    with pytest.raises(InputError, match="got the same place"):
        refuse_overlap(["parquet.`lake/vectors`"], {}, {"--output": "lake/vectors"}, format="table")
    refuse_overlap(["lake.vectors"], {}, {"--output": "lake/vectors"}, format="table")


def test_too_many_alternatives_stand_for_everything(root: Path) -> None:
    braces = "{a,b,c,d,e,f,g,h,i,j}"
    with pytest.raises(InputError, match="got a pattern that matches it"):
        refuse(f"lake/{braces * 9}", "lake/vectors")
