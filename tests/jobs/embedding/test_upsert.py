"""One row a key: what is embedded anew, what is copied, what goes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from chispa import assert_df_equality
from deltalake import DeltaTable

from tests.support.lakes import embed

pytestmark = pytest.mark.usefixtures("spark")


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "lake"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def put(lake: Path, rows: list[tuple[Any, ...]], name: str = "a") -> None:
    lake.mkdir(exist_ok=True)
    names = ("id", "text", "n")
    pq.write_table(
        pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows]), lake / f"{name}.parquet"
    )


def read_delta(out: Path) -> pa.Table:
    return DeltaTable(str(out)).to_pyarrow_table()


def read(out: Path, read_table: Callable[[Path], pa.Table] = pq.read_table) -> dict[int, tuple[Any, ...]]:
    rows = read_table(out).to_pylist()
    assert len(rows) == len({row["id"] for row in rows})
    return {row["id"]: (row["text"], row["n"], row["text_embedding"]) for row in rows}


NORTH, EAST = [0.0, 1.0], [1.0, 0.0]


def keyed(record: dict[str, Any]) -> tuple[int, ...]:
    return tuple(record["keyed"].values())


@pytest.mark.parametrize(("form", "read_table"), [("parquet", pq.read_table), ("delta", read_delta)])
@pytest.mark.parametrize(
    ("deletes", "removed", "left"),
    [("keep", 0, {5: ("east", 5, EAST)}), ("remove", 1, {})],
    ids=["keep", "remove"],
)
def test_only_what_changed_is_embedded(
    tiny_model: str,
    lake: Path,
    out: Path,
    form: str,
    read_table: Callable[[Path], pa.Table],
    deletes: str,
    removed: int,
    left: dict[int, tuple[Any, ...]],
) -> None:
    words = ["--key", "id", "--table-format", form, "--deletes", deletes]
    put(lake, [(1, "north", 1), (2, "east", 2), (3, "north", 3), (4, None, 4), (5, "east", 5)])
    record = embed(tiny_model, lake, out, *words)
    assert keyed(record) == (5, 0, 0, 0, 0, 0, 0)
    assert read(out, read_table)[4] == (None, 4, None)
    assert embed(tiny_model, lake, out, *words)["status"] == "nothing new"
    # 1 the same, 2 another text, 3 another number, 4 a text at last, 5 gone, 6 new
    put(lake, [(1, "north", 1), (2, "north", 2), (3, "north", 33), (4, "east", 4), (6, "east", 6)])
    record = embed(tiny_model, lake, out, *words)
    assert keyed(record) == (1, 2, 1, 1, removed, 1 - removed, 0)
    assert record["rows_embedded"] == 3
    assert record["columns"]["text"]["rows"] == 3  # no other text was tokenized
    expected = {
        1: ("north", 1, NORTH),
        2: ("north", 2, NORTH),
        3: ("north", 33, NORTH),
        4: ("east", 4, EAST),
        6: ("east", 6, EAST),
    }
    assert read(out, read_table) == expected | left
    assert embed(tiny_model, lake, out, *words)["status"] == "nothing new"
    assert sorted(path.name for path in out.parent.iterdir()) == ["lake", "out"]


def test_unchanged_files_are_left_as_they_are(tiny_model: str, lake: Path, out: Path) -> None:
    for part in "abc":
        put(lake, [(ord(part) * 10 + n, "north", n) for n in range(5)], part)
    words = ["--key", "id", "--input-split-mb", "1", "--conf", "spark.sql.files.openCostInBytes=1048576"]
    embed(tiny_model, lake, out, *words)
    before = {file.name: file.stat().st_ino for file in out.glob("*.parquet")}
    assert len(before) > 1
    texts = ["north", "north", "east", "north", "north"]
    put(lake, [(ord("b") * 10 + n, text, n) for n, text in enumerate(texts)], "b")
    embed(tiny_model, lake, out, *words)
    after = {file.name: file.stat().st_ino for file in out.glob("*.parquet")}
    assert len(before.items() & after.items()) == len(before) - 1
    assert read(out)[982][2] == EAST


def test_of_rows_with_one_key_the_last_counts(tiny_model: str, lake: Path, out: Path) -> None:
    put(lake, [(1, "north", 1), (2, "north", 1)], "new")
    put(lake, [(1, "east", 9)], "old")
    os.utime(lake / "old.parquet", (10**9, 10**9))
    record = embed(tiny_model, lake, out, "--key", "id")
    assert read(out) == {1: ("north", 1, NORTH), 2: ("north", 1, NORTH)}
    assert keyed(record)[-1] == 1
    embed(tiny_model, lake, out, "--key", "id", "--key-order", "n")
    assert read(out) == {1: ("east", 9, EAST), 2: ("north", 1, NORTH)}
    # twice the very same row
    put(lake, [(1, "east", 9)], "new")
    put(lake, [(1, "east", 9), (2, "north", 1)], "old")
    assert embed(tiny_model, lake, out, "--key", "id", "--key-order", "n")["status"] == "nothing new"
    put(lake, [(3, "east", 0), (3, "east", 0)], "new")
    embed(tiny_model, lake, out, "--key", "id", "--key-order", "n")
    assert read(out)[3] == ("east", 0, EAST)


def test_another_model_embeds_every_row_anew(
    tiny_model: str,
    other_model: str,
    lake: Path,
    out: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    put(lake, [(1, "north", 1), (2, "east", 2)])
    embed(tiny_model, lake, out, "--key", "id")
    put(lake, [(1, "north", 1)])
    embed(other_model, lake, out, "--key", "id", code=1)
    assert "a full refresh needs the text of every row: got 1 rows" in capsys.readouterr().err
    assert read(out)[1][2] == NORTH
    embed(other_model, lake, out, "--key", "id", "--deletes", "remove")
    assert read(out) == {1: ("north", 1, [0.0, 2.0])}


def test_full_refresh_loses_no_row_that_is_kept(tiny_model: str, lake: Path, out: Path) -> None:
    put(lake, [(1, "north", 1), (2, "east", 2)])
    embed(tiny_model, lake, out, "--key", "id")
    put(lake, [(1, "north", 1)])
    embed(tiny_model, lake, out, "--key", "id", "--full-refresh", code=1)
    assert set(read(out)) == {1, 2}


def test_key_may_be_the_text_and_wait_in_quarantine_alone(
    tiny_model: str, lake: Path, out: Path, spark: Any
) -> None:
    words = ["--key", "text", "--on-bad-row", "quarantine", "--max-chars", "5"]
    put(lake, [(1, "too long", 1)])
    assert embed(tiny_model, lake, out, *words)["rows_quarantined"] == 1
    put(lake, [(1, "too long", 1), (2, "north", 2)])
    assert embed(tiny_model, lake, out, *words)["rows"] == 1
    assert embed(tiny_model, lake, out, *words)["status"] == "nothing new"
    [bad] = spark.read.parquet(str(out / "_lakevec" / "quarantine")).collect()
    assert (bytes(bad.text), bad.lakevec_reason) == (b"too long", "text: longer than 5 characters")


def test_another_time_zone_changes_nothing(tiny_model: str, lake: Path, out: Path, spark: Any) -> None:
    spark.sql("SELECT 1 AS id, 'north' AS text, TIMESTAMP'2026-01-01 00:00:00' AS n").write.parquet(str(lake))
    embed(tiny_model, lake, out, "--key", "id")
    zone = "spark.sql.session.timeZone"
    before = spark.conf.get(zone)
    try:
        record = embed(tiny_model, lake, out, "--key", "id", "--conf", f"{zone}=America/New_York")
    finally:
        spark.conf.set(zone, before)
    assert record["status"] == "nothing new"


def test_what_can_be_no_key_is_refused(
    tiny_model: str, lake: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(lake, [(1, "north", 1), (None, "east", 2)])
    embed(tiny_model, lake, out, "--key", "id", code=1)
    assert "key column 'id' has rows without a key" in capsys.readouterr().err
    assert not out.exists()
    embed(tiny_model, lake, out, "--key", "id", "--keep", "n", code=2)
    assert "is not among the columns that are written" in capsys.readouterr().err
    embed(tiny_model, lake, out, "--deletes", "remove", code=2)
    assert "key_order and deletes need a key" in capsys.readouterr().err
    embed(tiny_model, lake, out, "--key", "id", "--on-bad-file", "skip", code=2)
    assert "on_bad_file skip can't be used with a key" in capsys.readouterr().err


def test_partitions_and_quarantine_keep_their_keys(tiny_model: str, lake: Path, out: Path) -> None:
    def write(rows: list[tuple[Any, ...]]) -> None:
        lake.mkdir(exist_ok=True)
        ids, texts, kinds = zip(*rows, strict=True)
        text = pa.array(texts, pa.binary()).view(pa.string())
        pq.write_table(pa.table({"id": ids, "text": text, "k": kinds}), lake / "a.parquet")

    words = ["--key", "id", "--partition-by", "k", "--on-bad-row", "quarantine", "--deletes", "remove"]
    write([(1, b"north", "x"), (2, b"\xff", "x"), (3, b"east", "y")])
    record = embed(tiny_model, lake, out, *words)
    assert (record["rows"], record["rows_quarantined"]) == (2, 1)
    assert embed(tiny_model, lake, out, *words)["status"] == "nothing new"
    write([(1, b"north", "y"), (2, b"east", "x"), (3, b"\xfe", "y")])
    embed(tiny_model, lake, out, *words)
    rows = pq.read_table(out).to_pylist()
    assert {(row["id"], row["k"], tuple(row["text_embedding"])) for row in rows} == {
        (1, "y", (0.0, 1.0)),
        (2, "x", (1.0, 0.0)),
    }
    bad = pq.read_table(out / "_lakevec" / "quarantine").to_pylist()
    assert [(row["id"], row["text"]) for row in bad] == [(3, b"\xfe")]
    assert embed(tiny_model, lake, out, *words)["status"] == "nothing new"


def test_every_kind_of_column_is_compared(tiny_model: str, lake: Path, out: Path, spark: Any) -> None:
    def write(seconds: str, deep: int) -> None:
        spark.sql(
            f"SELECT 'a b' AS `k.x`, 'north' AS text, TIMESTAMP'2026-01-01 00:00:0{seconds}' AS t,"
            f" map('m', {deep}) AS m, array(named_struct('s', {deep})) AS a, X'ff0{deep}' AS b,"
            " CAST('NaN' AS DOUBLE) AS d"
        ).write.mode("overwrite").parquet(str(lake))

    words = ["--key", "k.x"]
    write("0.000001", 1)
    embed(tiny_model, lake, out, *words)
    write("0.000001", 1)
    assert embed(tiny_model, lake, out, *words)["status"] == "nothing new"
    for seconds, deep in (("0.000002", 1), ("0.000002", 2)):
        write(seconds, deep)
        record = embed(tiny_model, lake, out, *words)
        assert record["keyed"]["changed otherwise"] == 1
        stored = spark.read.parquet(str(out)).drop("text_embedding", "lakevec_text_hash", "lakevec_row_hash")
        wanted = spark.read.parquet(str(lake))
        assert_df_equality(stored, wanted, allow_nan_equality=True)
