"""Outputs as Delta tables: one transaction a commit, read by other engines, on local disk and on S3."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, Field, write_deltalake
from deltalake.exceptions import DeltaError

from lakevec.pipeline.errors import CommitError, OutputError
from lakevec.pipeline.output import lease
from lakevec.pipeline.output.delta_log import DeltaLog
from lakevec.pipeline.output.output_folder import OpenOutput
from lakevec.pipeline.output.table_metadata import read_generation
from lakevec.pipeline.storage import locate
from tests.support.commands import export, search, verify
from tests.support.commits import SCHEMA, Killed, a_commit, a_run, kill_run, write
from tests.support.lakes import embed, put

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "output"


def ids(folder: Path, version: int | None = None) -> list[str]:
    return sorted(DeltaTable(str(folder), version=version).to_pyarrow_table()["id"].to_pylist())


@pytest.mark.parametrize(("step", "missing"), [("logged", []), ("applied", []), ("checked", ["z"])])
def test_commit_is_one_transaction_that_is_never_repeated(
    folder: Path, step: str, missing: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "is_process_alive", lambda claim: False)
    with a_run(folder, "r1", table_format="delta") as output:
        output.commit(a_commit(output, "r1", [write(output, "a-r1", ["x", "y"])]))
        generation = output.generation

    def work(output: OpenOutput) -> None:
        output.commit(a_commit(output, "dead", [write(output, "b-dead", ["z"])]))

    kill_run(folder, step, work, table_format="delta")
    with a_run(folder, "r2", table_format="delta") as output:
        assert ids(folder) == sorted({"x", "y", "z"} - set(missing))
        assert len(list(folder.glob("b-dead*"))) == 1 - len(missing)  # no stray of the dead run
        for row in missing:
            output.commit(a_commit(output, "r2", [write(output, "b-r2", [row])]))
    assert ids(folder) == ["x", "y", "z"]
    table = DeltaTable(str(folder))
    assert table.transaction_version(f"lakevec:{generation}") == 1
    assert table.version() == 2  # made, and one for each wave
    assert ids(folder, version=1) == ["x", "y"]


def test_refresh_is_one_transaction_and_time_travel_goes_behind_it(folder: Path) -> None:
    with a_run(folder, "r1", table_format="delta") as output:
        output.commit(a_commit(output, "r1", [write(output, "a-r1", ["old"])]))
    seen = []
    more: dict[str, Any] = {"table_format": "delta", "fingerprint": "sha256:two", "refresh": True}
    with a_run(folder, "r2", on_step=lambda step: seen.append(ids(folder)), **more) as output:
        for name in ("n1", "n2"):
            output.commit(a_commit(output, "r2", [write(output, f"{name}-r2", [name])]))
        output.finish({})
    assert {tuple(view) for view in seen} == {("old",), ("n1", "n2")}
    assert ids(folder, version=1) == ["old"]
    with a_run(folder, "r3", table_format="delta", fingerprint="sha256:two") as output:
        assert output.state.rows == 2
    assert len(list((folder / "_lakevec").glob("*/output.json"))) == 1


def two_runs(folder: Path, **changes: Any) -> None:
    for run in ("r1", "r2"):
        with a_run(folder, run, table_format="delta", **changes) as output:
            output.commit(a_commit(output, run, [write(output, f"a-{run}", [run])]))


def test_runs_go_on_with_the_table_as_others_left_it(folder: Path) -> None:
    two_runs(folder)
    DeltaTable(str(folder)).optimize.compact()
    DeltaTable(str(folder)).delete("id = 'r1'")
    DeltaTable(str(folder)).alter.add_columns([Field("note", "string")])
    table = DeltaTable(str(folder))
    table.create_checkpoint()
    table.vacuum(0, dry_run=False, enforce_retention_duration=False, full=True)
    with a_run(folder, "r3", table_format="delta") as output:
        record = output.changes.to_record()
        assert record == {
            "operations": {"VACUUM": 1, "ADD COLUMN": 1, "DELETE": 1, "OPTIMIZE": 1},
            "rows_deleted": 1,
            "files_removed": 2,
            "rows_removed": 2,
            "files_added": 1,
            "rows_added": 1,
            "columns": ["note"],
        }
        assert output.state.rows == 1
        output.commit(a_commit(output, "r3", [write(output, "a-r3", ["r3"])]))
        output.finish({})
    assert ids(folder) == ["r2", "r3"]
    with a_run(folder, "r4", table_format="delta") as output:  # the last commit has recorded it all
        assert not output.changes.others
        assert (output.state.rows, output.state.rows_others) == (2, -1)
        # A file of others is replaced like any other.
        (theirs,) = (name for name, file in output.state.files.items() if not file.run)
        entry = write(output, "a-r4", ["r2 again"])
        output.commit(a_commit(output, "r4", [entry], removed=[theirs]))
    assert ids(folder) == ["r2 again", "r3"]


@pytest.mark.parametrize("how", ["vacuumed", "compacted", "untouched"])
def test_commit_that_died_before_its_transaction_is_made_again_if_others_came_between(
    folder: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "is_process_alive", lambda claim: False)
    two_runs(folder)

    def work(output: OpenOutput) -> None:
        (old,) = (name for name in output.state.files if "r1" in name)
        output.commit(a_commit(output, "dead", [write(output, "b-dead", ["r1 again"])], removed=[old]))

    kill_run(folder, "logged", work, table_format="delta")
    table = DeltaTable(str(folder))
    if how == "compacted":
        table.optimize.compact()
    elif how == "vacuumed":
        table.vacuum(0, dry_run=False, enforce_retention_duration=False, full=True)
    with a_run(folder, "r3", table_format="delta") as output:
        assert output.state.number == (2 if how == "untouched" else 1)
    assert ids(folder) == (["r1 again", "r2"] if how == "untouched" else ["r1", "r2"])
    assert len(list(folder.glob("b-dead*"))) == (how == "untouched")


def test_rewriting_files_that_others_rewrite_meanwhile_fails(folder: Path) -> None:
    two_runs(folder)
    with (
        pytest.raises(CommitError, match="rewrote files of Delta table"),
        a_run(folder, "r3", table_format="delta") as output,
    ):
        old = next(iter(output.state.files))
        entry = write(output, "c-r3", ["again"])
        DeltaTable(str(folder)).optimize.compact()
        output.commit(a_commit(output, "r3", [entry], removed=[old]))
    with a_run(folder, "r4", table_format="delta") as output:
        assert (output.state.number, output.state.rows) == (1, 2)
    assert ids(folder) == ["r1", "r2"]


def foreign_rows(columns: dict[str, Any]) -> pa.Table:
    return pa.table({"id": ["x"], "v": pa.array([[1.0]], pa.list_(pa.float32())), **columns})


def change_metadata(folder: Path, **changes: Any) -> None:
    """Write the next version of a table's metadata or protocol, as a program that can do more would."""
    table = DeltaTable(str(folder))
    name, found = f"{table.version() + 1:020d}.json", {}
    for file in sorted((folder / "_delta_log").glob("*.json")):
        for line in file.read_text().splitlines():
            found |= json.loads(line)
    kind = "protocol" if "minReaderVersion" in changes else "metaData"
    (folder / "_delta_log" / name).write_text(json.dumps({kind: found[kind] | changes}) + "\n")


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "other type": (
        lambda folder: write_deltalake(
            str(folder),
            foreign_rows({}).set_column(0, "id", [[1]]),
            mode="overwrite",
            schema_mode="overwrite",
        ),
        'column \'id\' of type "long", not "string"',
    ),
    "column dropped": (
        lambda folder: write_deltalake(
            str(folder), foreign_rows({}).select(["id"]), mode="overwrite", schema_mode="overwrite"
        ),
        "no column 'v'",
    ),
    "partitions": (
        lambda folder: write_deltalake(
            str(folder), foreign_rows({}), mode="overwrite", schema_mode="overwrite", partition_by=["id"]
        ),
        "partitions",
    ),
    "another table": (
        lambda folder: (
            shutil.rmtree(folder / "_delta_log"),
            write_deltalake(str(folder), foreign_rows({})),
        ),
        "another table: its log holds no commit, lakevec's log commit 1",
    ),
    "no table": (lambda folder: shutil.rmtree(folder / "_delta_log"), "no table"),
    "constraint": (
        lambda folder: DeltaTable(str(folder)).alter.add_constraint({"short": "id < 'zz'"}),
        "constraint delta.constraints.short",
    ),
    "feature": (
        lambda folder: change_metadata(
            folder, minReaderVersion=1, minWriterVersion=7, writerFeatures=["clustering", "domainMetadata"]
        ),
        "table feature clustering, domainMetadata",
    ),
    "column that must not be null": (
        lambda folder: change_metadata(
            folder, schemaString=SCHEMA.replace('"nullable": true', '"nullable": false', 1)
        ),
        "column 'id', which must not be null",
    ),
    "other model": (
        lambda folder: (
            pq.write_table(
                foreign_rows({}).replace_schema_metadata({"lakevec.model": "sha256:two"}),
                folder / "f.parquet",
            ),
            add_file(folder, "f.parquet"),
        ),
        "f.parquet of the Delta table holds vectors of another model",
    ),
}


PARTITIONED: dict[str, Any] = {"table_format": "delta", "partition_by": ("id",)}


def test_partition_values_of_other_programs_files_stay(folder: Path) -> None:
    with a_run(folder, "r1", **PARTITIONED) as output:
        output.commit(a_commit(output, "r1", [write(output, "a-r1", ["é"], "id=é/")]))
    value = "héllo/%41"
    theirs = foreign_rows({}).set_column(0, "id", [[value]])
    write_deltalake(str(folder), theirs, mode="append", partition_by=["id"])
    with a_run(folder, "r2", **PARTITIONED) as output:
        (name,) = (name for name, file in output.state.files.items() if not file.run)
        assert "%C3%A9" in name
        entry = write(output, "b-r2", [value], f"{name.rpartition('/')[0]}/")
        output.commit(a_commit(output, "r2", [entry], removed=[name]))
    assert ids(folder) == [value, "é"]


def test_partition_values_of_any_type_are_those_of_their_folders(folder: Path) -> None:
    values = {
        "whole": [1, None],
        "flag": [True, False],
        "day": [date(2020, 1, 1)] * 2,
        "price": [Decimal("1.50")] * 2,
        "number": [1e20, float("nan")],
        "word": ["", "a%/b"],
    }
    write_deltalake(str(folder), pa.table({"x": [1, 2], **values}), partition_by=list(values))
    log = DeltaLog(str(folder), locate(str(folder), error=OutputError), "g")
    assert log.read().misplaced == ""


@pytest.mark.parametrize("name", ["ab/f.parquet", "id=y/f.parquet", "id=%FF/f.parquet"])
def test_file_outside_the_folder_of_its_partition_is_refused(folder: Path, name: str) -> None:
    with a_run(folder, "r1", **PARTITIONED) as output:
        output.commit(a_commit(output, "r1", [write(output, "a-r1", ["x"], "id=x/")]))
    (folder / name).parent.mkdir()
    pq.write_table(foreign_rows({}), folder / name)
    add_file(folder, name, path=name.replace("%", "%25"), partitionValues={"id": "x"})
    with (
        pytest.raises(CommitError, match="not in the folder of its partition"),
        a_run(folder, "r2", **PARTITIONED),
    ):
        pass


def add_file(folder: Path, name: str, **more: Any) -> None:
    """Add a file to a table's log as another program would."""
    add = {
        "path": name,
        "partitionValues": {},
        "size": (folder / name).stat().st_size,
        "modificationTime": 0,
        "dataChange": True,
        **more,
    }
    log = folder / "_delta_log" / f"{DeltaTable(str(folder)).version() + 1:020d}.json"
    log.write_text(json.dumps({"add": add}) + "\n")


@pytest.mark.parametrize("change", REFUSED)
def test_table_that_can_not_be_continued_is_refused(folder: Path, change: str) -> None:
    two_runs(folder)
    do, reason = REFUSED[change]
    do(folder)
    with (
        pytest.raises(CommitError, match=re.escape(reason)) as caught,
        a_run(folder, "r3", table_format="delta"),
    ):
        pass
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    can_refresh = change not in ("partitions", "constraint", "feature")
    assert ("--full-refresh" in str(caught.value)) == can_refresh


def test_search_and_export_refuse_a_table_that_lakevec_can_not_read_as_it_is(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two_runs(folder)
    words = [str(folder), "--key-of", "r1", "--key", "id"]
    assert search(words) == 0
    DeltaTable(str(folder)).alter.add_constraint({"short": "id < 'zz'"})
    assert search(words) == 2
    assert "can't tell its rows: got constraint delta.constraints.short" in capsys.readouterr().err
    target = folder.with_name("vectors")
    assert export([str(folder), "--to", "pgvector-copy", "--target", str(target)]) == 2
    assert not target.exists()


def allow_marks(folder: Path) -> None:
    """Let the table have deletion vectors."""
    features = ["deletionVectors"]
    change_metadata(
        folder, minReaderVersion=3, minWriterVersion=7, readerFeatures=features, writerFeatures=features
    )


def mark_rows(folder: Path, name: str) -> None:
    """Mark the rows 0 and 1 of a file of three as deleted."""
    vector = {
        "storageType": "i",
        "pathOrInlineDv": "^Bg9^0rr910000000000iXQKl0rr91000315c8Xg00031",
        "sizeInBytes": 36,
        "cardinality": 2,
    }
    add_file(folder, name, deletionVector=vector, stats='{"numRecords": 3}')


def last_commit(folder: Path) -> int | None:
    """Return lakevec's last commit in Delta's log."""
    generation = read_generation(locate(str(folder), error=OutputError))
    return DeltaTable(str(folder)).transaction_version(f"lakevec:{generation}")


def start_with_three_rows(folder: Path) -> str:
    """Return the name of a table's only file."""
    with a_run(folder, "r1", table_format="delta") as output:
        output.commit(a_commit(output, "r1", [write(output, "a-r1", ["x", "y", "z"])]))
    allow_marks(folder)
    return next(folder.glob("a-r1*")).name


def test_table_with_deletion_vectors_is_refused(folder: Path) -> None:
    name = start_with_three_rows(folder)
    with a_run(folder, "r3", table_format="delta"):
        pass  # no file has one yet
    mark_rows(folder, name)
    refused = pytest.raises(CommitError, match="rows marked by deletion vectors")
    with refused, a_run(folder, "r3", table_format="delta"):
        pass


def test_rows_marked_as_deleted_during_a_run_stay_deleted(folder: Path) -> None:
    name = start_with_three_rows(folder)
    with (
        pytest.raises(CommitError, match="rewrote files of Delta table"),
        a_run(folder, "r2", table_format="delta") as output,
    ):
        entry = write(output, "b-r2", ["x", "y", "z again"])
        mark_rows(folder, name)
        output.commit(a_commit(output, "r2", [entry], removed=[name]))
    assert last_commit(folder) == 0


def test_commit_that_died_is_undone_if_others_marked_rows(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "is_process_alive", lambda claim: False)
    name = start_with_three_rows(folder)

    def work(output: OpenOutput) -> None:
        entry = write(output, "b-dead", ["x", "y", "z again"])
        output.commit(a_commit(output, "dead", [entry], removed=[name]))

    kill_run(folder, "logged", work, table_format="delta")
    mark_rows(folder, name)
    with (
        pytest.raises(CommitError, match="rows marked by deletion vectors"),
        a_run(folder, "r2", table_format="delta"),
    ):
        pass
    assert last_commit(folder) == 0


def test_commit_that_removes_nothing_lists_no_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with a_run(folder, "r1", table_format="delta") as output:
        monkeypatch.setattr("lakevec.pipeline.output.delta_log._sizes", lambda table: pytest.fail("listed"))
        output.commit(a_commit(output, "r1", [write(output, "a-r1", ["x"])]))
    assert ids(folder) == ["x"]


@pytest.mark.parametrize("kind", [ValueError, NotImplementedError, Exception, DeltaError, OSError])
def test_errors_of_the_library_are_told_by_their_type(
    folder: Path, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    two_runs(folder)

    def fail(table: DeltaTable) -> None:
        raise kind("https://marker@store")

    monkeypatch.setattr(DeltaTable, "metadata", fail)
    with (
        pytest.raises(CommitError, match=f"can't be read or written: got {kind.__name__}") as caught,
        a_run(folder, "r3", table_format="delta"),
    ):
        pass
    assert "marker" not in str(caught.value)


def test_history_is_read_to_the_last_run_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two_runs(folder)
    DeltaTable(str(folder)).delete("id = 'r1'")
    limits: list[int | None] = []
    history = DeltaTable.history

    def record_limit(table: DeltaTable, limit: int | None = None) -> Any:
        limits.append(limit)
        return history(table, limit)

    monkeypatch.setattr(DeltaTable, "history", record_limit)
    monkeypatch.setattr("lakevec.pipeline.output.delta_log._HISTORY", 1)
    with a_run(folder, "r3", table_format="delta") as output:
        assert output.changes.to_record()["operations"] == {"DELETE": 1}
    assert limits == [1, 2]


def test_table_restored_to_another_generation_is_refused(folder: Path) -> None:
    two_runs(folder)
    with a_run(folder, "r3", refresh=True, table_format="delta") as output:
        output.commit(a_commit(output, "r3", [write(output, "n-r3", ["new"])]))
        output.finish({})
    DeltaTable(str(folder)).optimize.compact()  # else files tell by their names
    DeltaTable(str(folder)).restore(2)
    with pytest.raises(CommitError, match=r"generation \w+ of the output, not "):
        two_runs(folder)
    with a_run(folder, "r4", refresh=True, table_format="delta") as output:
        output.commit(a_commit(output, "r4", [write(output, "n-r4", ["newer"])]))
        output.finish({})
    assert ids(folder) == ["newer"]


def test_killed_before_the_table_is_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "is_process_alive", lambda claim: False)
    with monkeypatch.context() as patch:
        patch.setattr(OpenOutput, "abandon", lambda self: None)
        patch.setattr(
            "lakevec.pipeline.output.delta_log.DeltaLog.create",
            lambda *args: (_ for _ in ()).throw(Killed),
        )
        with pytest.raises(Killed), a_run(folder, "dead", table_format="delta"):
            pass
    with a_run(folder, "r1", table_format="delta") as output:
        output.commit(a_commit(output, "r1", [write(output, "a-r1", ["x"])]))
    assert ids(folder) == ["x"]


REFRESH: dict[str, Any] = {"table_format": "delta", "fingerprint": "sha256:two"}


def kill_refresh(folder: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "is_process_alive", lambda claim: False)
    with a_run(folder, "r1", table_format="delta") as output:
        output.commit(a_commit(output, "r1", [write(output, "a-r1", ["old"])]))

    def work(output: OpenOutput) -> None:
        output.commit(a_commit(output, "dead", [write(output, "n-dead", ["n1"])]))
        output.finish({})

    kill_run(folder, step, work, refresh=True, **REFRESH)


def test_killed_refresh_is_complete_after_its_transaction(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_refresh(folder, "delta replaced", monkeypatch)
    assert ids(folder) == ["n1"]
    with a_run(folder, "r2", **REFRESH) as output:
        assert output.state.rows == 1


@pytest.mark.parametrize("step", ["embedded", "applied"])
def test_refresh_killed_before_its_transaction_starts_again(
    folder: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_refresh(folder, step, monkeypatch)
    assert ids(folder) == ["old"]
    with pytest.raises(OutputError, match="holds rows of another kind"), a_run(folder, "r2", **REFRESH):
        pass
    with a_run(folder, "r3", refresh=True, **REFRESH) as output:
        assert output.state.number == -1
        output.commit(a_commit(output, "r3", [write(output, "n-r3", ["n1"])]))
        output.finish({})
    assert ids(folder) == ["n1"]


@pytest.mark.usefixtures("spark")
def test_engines_read_the_table(tiny_model: str, tmp_path: Path) -> None:
    lake, out = tmp_path / "lake", tmp_path / "out"
    for day in ("d 1", "d/2"):
        lake.mkdir(exist_ok=True)
        rows = {"id": [day], "text": ["north"], "day": [day], "at": pa.array([0], pa.timestamp("us", "UTC"))}
        pq.write_table(pa.table(rows), lake / f"{day.replace('/', '-')}.parquet")
    words = ["--table-format", "delta", "--partition-by", "day", "--wave-files", "1", "--sha256"]
    assert embed(tiny_model, lake, out, *words)["waves"] == 2
    assert embed(tiny_model, lake, out, *words)["status"] == "nothing new"
    found = DeltaTable(str(out)).to_pyarrow_table().sort_by("id")
    assert found["text_embedding"].to_pylist() == [[0.0, 1.0]] * 2
    assert found["day"].to_pylist() == ["d 1", "d/2"]
    assert pl.read_delta(str(out)).sort("id")["day"].to_list() == ["d 1", "d/2"]
    engine = duckdb.connect()
    engine.register("vectors", DeltaTable(str(out)).to_pyarrow_dataset())
    assert engine.sql("SELECT count(*), min(text_embedding[2]) FROM vectors").fetchall() == [(2, 1.0)]
    actions = pa.table(DeltaTable(str(out)).get_add_actions(flatten=True))
    assert actions["num_records"].to_pylist() == [1, 1]
    assert verify([str(out), "--sha256"]) == 0
    other = pa.table(
        {"id": ["x"], "text": ["north"], "day": [1], "at": pa.array([0], pa.timestamp("us", "UTC"))}
    )
    for file in lake.iterdir():
        file.unlink()
    pq.write_table(other, lake / "other.parquet")
    embed(tiny_model, lake, out, *words, code=2)  # else no reader could make sense of the partitions


@pytest.mark.usefixtures("spark")
def test_everything_on_object_storage(
    bucket: Any,
    tiny_model: str,
    other_model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Waves, keys and a full refresh as Delta; of plain Parquet what needs no switch of folders."""
    from pyarrow import fs as pafs

    lake = tmp_path / "lake"
    put(lake / "a.parquet", ["a"])
    put(lake / "b.parquet", ["b"], "east")

    def run(name: str, model: str, *more: str, code: int = 0) -> dict[str, Any]:
        from tests.support.commands import embed as main

        words = ["--model", model, "--text", "text", "--output", bucket(name), "--input", str(lake), *more]
        assert main([*words, "--checkpoint", str(tmp_path / "checkpoints" / name)]) == code
        filesystem, path = pafs.FileSystem.from_uri(bucket(name))
        record: dict[str, Any] = json.loads(filesystem.open_input_stream(f"{path}/_lakevec/run.json").read())
        return record

    for form in ("parquet", "delta"):
        files = len(list(lake.iterdir()))
        assert run(form, tiny_model, "--table-format", form, "--wave-files", "1")["waves"] == files
        put(lake / f"{form}.parquet", [form])
        assert run(form, tiny_model, "--table-format", form)["rows"] == 1
        assert run(form, tiny_model, "--table-format", form)["status"] == "nothing new"
        assert verify([bucket(form)]) == 0
    run("parquet", other_model, "--full-refresh", code=2)
    assert "--full-refresh can't be done on output" in (err := capsys.readouterr().err)
    assert "marker" not in err
    assert run("delta", other_model, "--table-format", "delta", "--full-refresh")["rows"] == 4
    keyed = ["--table-format", "delta", "--key", "id", "--deletes", "remove"]
    run("keyed", tiny_model, *keyed)
    put(lake / "a.parquet", ["a"], "east")
    (lake / "b.parquet").unlink()
    record = run("keyed", tiny_model, *keyed)
    assert (record["keyed"]["with another text"], record["keyed"]["removed"]) == (1, 1)
    assert verify([bucket("keyed")]) == 0
    shown = capsys.readouterr()
    assert "marker" not in shown.out + shown.err
    run("plain", tiny_model, "--key", "id")
    put(lake / "a.parquet", ["a"], "north")
    run("plain", tiny_model, "--key", "id", code=2)
    assert "can't be replaced: got Parquet on a store that can't swap" in capsys.readouterr().err
