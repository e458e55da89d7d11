"""Outputs as Iceberg tables: one snapshot a commit, read by pyiceberg and by Polars' own reader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestContent, ManifestWriterV2
from pyiceberg.table import Table
from pyiceberg.typedef import Record
from pyiceberg.types import StringType

from lakevec.pipeline.errors import CommitError, DamagedOutputError, OutputError
from lakevec.pipeline.output import lease
from lakevec.pipeline.output.commit_log import Commit
from lakevec.pipeline.output.iceberg_table import IcebergTable
from lakevec.pipeline.output.output_folder import OpenOutput
from tests.support.commands import export, search, verify
from tests.support.commits import Killed, a_commit, a_run, kill_run, write
from tests.support.lakes import embed

ICEBERG: dict[str, Any] = {"table_format": "iceberg", "catalog": "lake", "table": "db.docs"}
REFRESH = {**ICEBERG, "fingerprint": "sha256:two"}
WORDS = ["--table-format", "iceberg", "--catalog", "lake", "--table", "db.docs"]


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    uri = f"sqlite:///{tmp_path}/catalog.db"
    monkeypatch.setenv("PYICEBERG_CATALOG__LAKE__URI", uri)
    monkeypatch.setattr(lease, "is_process_alive", lambda claim: False)
    return load_catalog("lake", uri=uri)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "output"


def ids(catalog: Catalog, snapshot: int | None = None) -> list[str]:
    return sorted(catalog.load_table("db.docs").scan(snapshot_id=snapshot).to_arrow()["id"].to_pylist())


def append(folder: Path, run: str, *rows: str, **changes: Any) -> None:
    with a_run(folder, run, **ICEBERG | changes) as output:
        output.commit(a_commit(output, run, [write(output, f"part-{run}", list(rows))]))


@pytest.mark.parametrize(("step", "missing"), [("logged", []), ("applied", []), ("checked", ["z"])])
def test_commit_is_one_snapshot_that_is_never_repeated(
    folder: Path, catalog: Catalog, step: str, missing: list[str]
) -> None:
    append(folder, "r1", "x", "y")

    def work(output: OpenOutput) -> None:
        output.commit(a_commit(output, "dead", [write(output, "b-dead", ["z"])]))

    kill_run(folder, step, work, **ICEBERG)
    # Whether the table has the commit is known without its snapshot.
    table = catalog.load_table("db.docs")
    table.append(table.scan().to_arrow().slice(0, 0))
    table.maintenance.expire_snapshots().by_ids(
        [each.snapshot_id for each in table.snapshots() if each != table.current_snapshot()]
    ).commit()
    with a_run(folder, "r2", **ICEBERG) as output:
        assert ids(catalog) == sorted({"x", "y", "z"} - set(missing))
        assert len(list(folder.glob("b-dead*"))) == 1 - len(missing)  # no stray of the dead run
        for row in missing:
            output.commit(a_commit(output, "r2", [write(output, "b-r2", [row])]))
    assert ids(catalog) == ["x", "y", "z"]
    last = catalog.load_table("db.docs").snapshots()[-1].summary
    if missing:
        assert last is not None
        assert (last["lakevec.run-id"], last["lakevec.batch"]) == ("r2", "1")


def test_refresh_is_one_snapshot_and_earlier_ones_stay(folder: Path, catalog: Catalog) -> None:
    append(folder, "r1", "old")
    before = catalog.load_table("db.docs").current_snapshot()
    assert before is not None
    catalog.load_table("db.docs").update_schema().add_column("note", StringType()).commit()
    seen = []
    with a_run(
        folder, "r2", on_step=lambda step: seen.append(ids(catalog)), refresh=True, **REFRESH
    ) as output:
        for name in ("n1", "n2"):
            output.commit(a_commit(output, "r2", [write(output, f"{name}-r2", [name])]))
        output.finish({})
    assert {tuple(view) for view in seen} == {("old",), ("n1", "n2")}
    assert ids(catalog, before.snapshot_id) == ["old"]
    assert catalog.load_table("db.docs").schema().as_arrow().names == ["id", "v"]
    with a_run(folder, "r3", **REFRESH) as output:
        assert output.state.rows == 2
    with (
        pytest.raises(OutputError, match="of another format"),
        a_run(folder, "r4", refresh=True, **REFRESH | {"table": "db.others"}),
    ):
        pass


@pytest.mark.parametrize("step", ["iceberg replaced", "embedded", "applied"])
def test_killed_refresh_ends_or_starts_again(folder: Path, catalog: Catalog, step: str) -> None:
    append(folder, "r1", "old")

    def work(output: OpenOutput) -> None:
        output.commit(a_commit(output, "dead", [write(output, "n-dead", ["new"])]))
        output.finish({})

    kill_run(folder, step, work, refresh=True, **REFRESH)
    is_done = step == "iceberg replaced"
    assert ids(catalog) == ["new" if is_done else "old"]
    if is_done:
        with a_run(folder, "r2", **REFRESH) as output:
            assert output.state.rows == 1
        return
    with pytest.raises(OutputError, match="holds rows of another kind"), a_run(folder, "r2", **REFRESH):
        pass
    with a_run(folder, "r3", refresh=True, **REFRESH) as output:
        assert output.state.number == -1
        output.commit(a_commit(output, "r3", [write(output, "n-r3", ["new"])]))
        output.finish({})
    assert ids(catalog) == ["new"]
    assert not list(folder.glob("n-dead*"))


def rewrite(table: Table) -> None:
    """Do as a compaction does."""
    table.overwrite(table.scan().to_arrow())


def test_appends_go_on_with_what_others_left(
    folder: Path, catalog: Catalog, capsys: pytest.CaptureFixture[str]
) -> None:
    append(folder, "r1", "x", "y")
    table = catalog.load_table("db.docs")
    rewrite(table)
    table.delete("id = 'x'")
    with table.update_schema() as update:
        update.add_column("note", StringType()).update_column("id", doc="a word").move_first("v")
    append(folder, "r2", "z")
    assert ids(catalog) == ["y", "z"]
    with (
        pytest.raises(DamagedOutputError, match=r"changed rows of Iceberg table 'db\.docs'"),
        a_run(folder, "r3", **ICEBERG) as output,
    ):
        output.check_can_replace()
    assert verify([str(folder), "--sample", "0", "--dry-run"]) == 0
    note = "1 of lakevec's files, of 2 rows, are not in it any more, and 1 files are theirs"
    assert note in capsys.readouterr().out
    assert search([str(folder), "--key-of", "z", "--key", "id"]) == 0
    assert note in capsys.readouterr().err
    target = str(folder.with_name("vectors"))
    assert export([str(folder), "--to", "pgvector-copy", "--target", target]) == 0
    assert note in capsys.readouterr().err
    with a_run(folder, "r4", refresh=True, **ICEBERG) as output:
        output.commit(a_commit(output, "r4", [write(output, "n-r4", ["new"])]))
        output.finish({})
    assert ids(catalog) == ["new"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda table: table.update_schema().rename_column("id", "word").commit(), "column 'id'.*no such"),
        (lambda table: table.update_spec().add_identity("id").commit(), r"got partitions by identity\(id\)"),
        (lambda table: table.catalog.drop_table("db.docs"), "no such table in the catalog"),
        (
            lambda table: table.transaction().set_properties({"lakevec.last-batch": "other 3"}),
            "got batch 3 of generation other",
        ),
    ],
    ids=["renamed", "partitions", "dropped", "generation"],
)
def test_table_that_cannot_be_continued_is_refused(
    folder: Path, catalog: Catalog, change: Callable[[Table], Any], told: str
) -> None:
    append(folder, "r1", "x")
    done = change(catalog.load_table("db.docs"))
    if hasattr(done, "commit_transaction"):
        done.commit_transaction()
    with pytest.raises(DamagedOutputError, match=told) as error, a_run(folder, "r2", **ICEBERG):
        pass
    assert error.value.exit_code == 2


def test_commit_beside_another_writer(
    folder: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Appends are made again on top; a commit whose old files are gone is withdrawn."""
    append(folder, "r1", "x")
    describe = IcebergTable._describe
    others: list[Callable[[Table], None]] = [lambda table: table.append(table.scan().to_arrow())]

    def meanwhile(self: IcebergTable, *args: Any) -> Any:
        while others:
            others.pop()(catalog.load_table("db.docs"))
        return describe(self, *args)

    monkeypatch.setattr(IcebergTable, "_describe", meanwhile)
    append(folder, "r2", "y")
    assert ids(catalog) == ["x", "x", "y"]
    others.append(rewrite)
    with pytest.raises(CommitError, match="rewrote Iceberg table"), a_run(folder, "r3", **ICEBERG) as output:
        added = [write(output, "b-r3", ["z"])]
        output.commit(a_commit(output, "r3", added, removed=["part-r2-000.parquet"]))
    assert ids(catalog) == ["x", "x", "y"]
    append(folder, "r4", "z")
    assert ids(catalog) == ["x", "x", "y", "z"]
    assert not list(folder.glob("b-r3*"))


def kill_commit(folder: Path, removed: list[str] | None = None) -> None:
    """Let a run die between the log and the table."""

    def work(output: OpenOutput) -> None:
        output.commit(a_commit(output, "dead", [write(output, "b-dead", ["z"])], removed=removed or []))

    kill_run(folder, "logged", work, **ICEBERG)


@pytest.mark.parametrize("how", ["orphans removed", "column replaced", "file rewritten"])
def test_dead_commit_is_made_again_if_the_table_can_not_take_it(
    folder: Path, catalog: Catalog, how: str
) -> None:
    append(folder, "r1", "x")
    kill_commit(folder, ["part-r1-000.parquet"] if how == "file rewritten" else None)
    table = catalog.load_table("db.docs")
    if how == "orphans removed":
        (folder / "b-dead-000.parquet").unlink()
    elif how == "file rewritten":
        rewrite(table)
    else:
        with table.update_schema(allow_incompatible_changes=True) as update:
            update.delete_column("id")
        with table.update_schema() as update:
            update.add_column("id", StringType())
    append(folder, "r2", "z")
    found = [None if how == "column replaced" else "x", "z"]
    assert catalog.load_table("db.docs").scan().to_arrow()["id"].to_pylist() in (found, found[::-1])
    assert not list(folder.glob("b-dead*"))


def test_dead_commit_is_undone_if_the_partitions_changed(folder: Path, catalog: Catalog) -> None:
    append(folder, "r1", "x")
    kill_commit(folder)
    catalog.load_table("db.docs").update_spec().add_identity("id").commit()
    with pytest.raises(DamagedOutputError, match="embed into another table"):
        append(folder, "r2", "z")
    assert ids(catalog) == ["x"]


def test_partitions_that_change_during_a_run_are_refused(folder: Path, catalog: Catalog) -> None:
    append(folder, "r1", "x")
    with pytest.raises(DamagedOutputError, match="partitions by"), a_run(folder, "r2", **ICEBERG) as output:
        added = [write(output, "b-r2", ["z"])]
        catalog.load_table("db.docs").update_spec().add_identity("id").commit()
        output.commit(a_commit(output, "r2", added))
    assert ids(catalog) == ["x"]
    assert not list(folder.glob("b-r2*"))


def mark_rows(folder: Path, table: Table, content: DataFileContent, name: str) -> None:
    """Delete a file's first row as merge-on-read does, or all rows of a word as Flink does."""
    is_equality = content == DataFileContent.EQUALITY_DELETES
    path = f"{table.location()}/{name}"
    rows = {"id": ["x"]} if is_equality else {"file_path": [path], "pos": [0]}
    pq.write_table(pa.table(rows), folder / "d.parquet")
    bounds = {} if is_equality else {2147483546: path.encode()}
    file = DataFile.from_args(
        content=content,
        file_path=f"{table.location()}/d.parquet",
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=1,
        file_size_in_bytes=(folder / "d.parquet").stat().st_size,
        lower_bounds=bounds,
        upper_bounds=bounds,
        equality_ids=[1] if is_equality else None,
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ManifestWriterV2, "content", lambda self: ManifestContent.DELETES)
        file.spec_id = 0
        with table.transaction() as transaction, transaction.update_snapshot().fast_append() as update:
            update.append_data_file(file)


@pytest.mark.parametrize("content", [DataFileContent.POSITION_DELETES, DataFileContent.EQUALITY_DELETES])
def test_rows_that_others_mark_as_deleted_stay_deleted(
    folder: Path, catalog: Catalog, content: DataFileContent, capsys: pytest.CaptureFixture[str]
) -> None:
    append(folder, "r1", "x", "y")
    name = "part-r1-000.parquet"
    with pytest.raises(CommitError, match="rewrote Iceberg table"), a_run(folder, "r2", **ICEBERG) as output:
        output.check_can_replace()
        added = [write(output, "b-r2", ["x", "y again"])]
        mark_rows(folder, catalog.load_table("db.docs"), content, name)
        output.commit(a_commit(output, "r2", added, removed=[name]))
    append(folder, "r3", "z")
    with (
        pytest.raises(DamagedOutputError, match="rows marked as deleted"),
        a_run(folder, "r4", **ICEBERG) as output,
    ):
        output.check_can_replace()
    assert verify([str(folder), "--sample", "0", "--dry-run"]) == 0
    assert "other programs marked rows as deleted: 1 files hold more rows" in capsys.readouterr().out
    assert search([str(folder), "--key-of", "z", "--key", "id"]) == 2
    assert "can't tell its rows: got rows marked as deleted" in capsys.readouterr().err
    with a_run(folder, "r5", refresh=True, **ICEBERG) as output:
        output.commit(a_commit(output, "r5", [write(output, "n-r5", ["x"])]))
        output.finish({})
    with a_run(folder, "r6", **ICEBERG) as output:
        output.check_can_replace()  # the marks are those of older files


def test_second_driver_does_not_add_the_same_commit(
    folder: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(folder, "r1", "x")
    describe = IcebergTable._describe
    commits: list[Commit] = []

    def meanwhile(self: IcebergTable, *args: Any) -> Any:
        found = describe(self, *args)
        if commits:
            self.append(commits.pop())
        return found

    monkeypatch.setattr(IcebergTable, "_describe", meanwhile)
    with a_run(folder, "r2", **ICEBERG) as output:
        commits.append(a_commit(output, "r2", [write(output, "b-r2", ["y"])]))
        output.commit(commits[0])
    assert ids(catalog) == ["x", "y"]
    assert "commit.retry.num-retries" not in catalog.load_table("db.docs").properties


def test_run_without_a_row_leaves_no_table(folder: Path, catalog: Catalog) -> None:
    with pytest.raises(Killed), a_run(folder, "r1", **ICEBERG):
        raise Killed
    assert not folder.exists()
    assert not catalog.table_exists("db.docs")


def test_table_on_object_storage(bucket: Any, catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """pyiceberg finds the store by the catalog's properties, and not by the output's URI."""
    endpoint = bucket("").partition("endpoint_override=")[2].partition("&")[0]
    properties = {
        "S3__ENDPOINT": f"http://{endpoint}",
        "S3__ACCESS_KEY_ID": "key",
        "S3__SECRET_ACCESS_KEY": "marker",
        "S3__REGION": "us-east-1",
    }
    for name, value in properties.items():
        monkeypatch.setenv(f"PYICEBERG_CATALOG__LAKE__{name}", value)
    uri: Any = bucket("iceberg")
    append(uri, "r1", "x")
    append(uri, "r2", "y")
    names = {name.lower().replace("__", ".").replace("_", "-"): value for name, value in properties.items()}
    found = load_catalog("lake", **catalog.properties, **names).load_table("db.docs")
    assert sorted(found.scan().to_arrow()["id"].to_pylist()) == ["x", "y"]
    assert found.location() == "s3://lake/iceberg"


def put(lake: Path, name: str, ids: list[int], lang: list[str | None], word: str = "north") -> None:
    lake.mkdir(exist_ok=True)
    rows = {
        "id": ids,
        "text": [word] * len(ids),
        "lang": pa.array(lang, pa.string()),
        "at": pa.array([0] * len(ids), pa.timestamp("us", "UTC")),
        "tiny": pa.array(ids, pa.int8()),
        "parts": pa.array([{"tags": [{"a": 1}]}] * len(ids)),
        "by": pa.array([[("k", 1)]] * len(ids), pa.map_(pa.string(), pa.int16())),
    }
    pq.write_table(pa.table(rows), lake / name)


@pytest.mark.usefixtures("spark")
def test_engines_read_the_table(
    tiny_model: str, tmp_path: Path, catalog: Catalog, capsys: pytest.CaptureFixture[str]
) -> None:
    lake, out = tmp_path / "lake", tmp_path / "out"
    values = ["d/2 ;", "", None, "__HIVE_DEFAULT_PARTITION__"]
    put(lake, "a.parquet", [0, 1], values[:2])
    put(lake, "b.parquet", [2, 3], values[2:])
    words = [*WORDS, "--partition-by", "lang", "--wave-files", "1", "--vector-type", "int8", "--keep", "id"]
    words += ["at", "tiny", "parts", "by"]
    assert embed(tiny_model, lake, out, *words)["waves"] == 2
    assert embed(tiny_model, lake, out, *words)["status"] == "nothing new"
    table = catalog.load_table("db.docs")
    assert [each.summary["lakevec.batch"] for each in table.snapshots() if each.summary] == ["0", "1"]
    found = table.scan().to_arrow().sort_by("id")
    assert found["lang"].to_pylist() == values
    assert found["text_embedding"].to_pylist() == [[0, 127]] * 4
    assert found["tiny"].type == pa.int32()
    assert found["parts"].to_pylist() == [{"tags": [{"a": 1}]}] * 4
    for value, row in zip(values, range(4), strict=True):
        only = f"lang = '{value}'" if value is not None else "lang is null"
        assert table.scan(row_filter=only).to_arrow()["id"].to_pylist() == [row]
    others = pl.scan_iceberg(table, reader_override="native").sort("id").collect()
    assert others.to_arrow().cast(found.schema).equals(found)
    assert verify([str(out)]) == 0
    table.delete("id = 0")
    put(lake, "c.parquet", [4], ["e"])
    total = embed(tiny_model, lake, out, *words)["total"]
    assert (total["rows"], total["files"]) == (4, len(list(table.refresh().scan().plan_files())))
    embed(tiny_model, lake, out, *words, "--partition-by", "tiny", code=2)
    embed(tiny_model, lake, tmp_path / "other", *words, code=2)
    assert "Iceberg table 'db.docs' has another place than --output" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


@pytest.mark.usefixtures("spark")
def test_changed_rows_are_replaced_in_one_snapshot(
    tiny_model: str, tmp_path: Path, catalog: Catalog, capsys: pytest.CaptureFixture[str]
) -> None:
    lake, out = tmp_path / "lake", tmp_path / "out"
    words = [*WORDS, "--partition-by", "lang", "--key", "id", "--deletes", "remove"]
    put(lake, "a.parquet", [0, 1, 2], ["a", "a", "b"])
    embed(tiny_model, lake, out, *words)
    put(lake, "a.parquet", [0], ["a"])
    put(lake, "b.parquet", [2, 3], ["", "b"], "east")
    record = embed(tiny_model, lake, out, *words)
    assert (record["keyed"]["with another text"], record["keyed"]["removed"]) == (1, 1)
    table = catalog.load_table("db.docs")
    assert len(table.snapshots()) == 2
    found = table.scan().to_arrow().sort_by("id")
    assert found["id"].to_pylist() == [0, 2, 3]
    assert found["lang"].to_pylist() == ["a", "", "b"]
    assert found["text_embedding"].to_pylist() == [[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]
    assert verify([str(out)]) == 0
    rewrite(table)
    words = words[:-2]
    for more in ([], ["--full-refresh"]):  # it keeps no row of a file that it can't compare by key
        embed(tiny_model, lake, out, *words, *more, code=2)
        assert "--full-refresh --deletes remove" in capsys.readouterr().err
    assert embed(tiny_model, lake, out, *words, "--full-refresh", "--deletes", "remove")["total"]["rows"] == 3


def test_catalog_is_checked_before_the_run(
    tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for changed, told in (
        (["--catalog", "missing"], "catalog 'missing' is not configured"),
        (["--table", "docs"], "expected a namespace and a name"),
        (["--catalog", "wrong"], "catalog 'wrong' can't be opened: got NoSuchModuleError"),
    ):
        monkeypatch.setenv("PYICEBERG_CATALOG__WRONG__URI", "sql+secret://user:marker@host")
        monkeypatch.setenv("PYICEBERG_CATALOG__WRONG__TYPE", "sql")
        embed(tiny_model, tmp_path, tmp_path / "out", *WORDS, *changed, code=2)
        assert told in (err := capsys.readouterr().err)
        assert "marker" not in err
