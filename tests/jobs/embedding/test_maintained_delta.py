"""Delta tables that other programs maintain between the runs of the job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, Field, write_deltalake

from tests.support.commands import verify
from tests.support.lakes import embed, record

pytestmark = [
    pytest.mark.usefixtures("spark"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning"),
]
NORTH, EAST = [0.0, 1.0], [1.0, 0.0]


def put(lake: Path, name: str, rows: list[tuple[Any, ...]]) -> None:
    schema = pa.schema({"id": pa.int64(), "text": pa.string(), "n": pa.int64(), "day": pa.string()})
    found = [dict(zip(schema.names, row, strict=True)) for row in rows]
    pq.write_table(pa.Table.from_pylist(found, schema), lake / f"{name}.parquet")


def read(out: Path, *names: str) -> list[tuple[Any, ...]]:
    rows = DeltaTable(str(out)).to_pyarrow_table().to_pylist()
    return sorted(tuple(row[name] for name in names) for row in rows)


def vacuum(out: Path) -> None:
    DeltaTable(str(out)).vacuum(0, dry_run=False, enforce_retention_duration=False, full=True)


def test_appends_go_on_after_others_maintained_the_table(
    tiny_model: str, lake: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--table-format", "delta", "--partition-by", "day", "--sha256"]
    days = ("d 1", "d/2", None)
    for number, day in enumerate(days):
        put(lake, str(number), [(2 * number, "north", 1, day), (2 * number + 1, None, 1, day)])
    embed(tiny_model, lake, out, *words, "--wave-files", "1")
    DeltaTable(str(out)).optimize.z_order(["id"])
    DeltaTable(str(out)).delete("id = 2")
    DeltaTable(str(out)).alter.add_columns([Field("note", "string")])
    DeltaTable(str(out)).create_checkpoint()
    vacuum(out)
    capsys.readouterr()
    assert verify([str(out), "--sha256"]) == 0
    told = capsys.readouterr().out
    assert "others changed the table since lakevec's last commit: " in told
    assert "6 rows replaced by" in told
    assert "their columns: note" in told
    assert "sound: 5 rows" in told
    assert "0 of 3 files compared by sha256" in told
    assert embed(tiny_model, lake, out, *words)["status"] == "nothing new"
    capsys.readouterr()
    put(lake, "3", [(6, "east", 1, "d/2")])
    done = embed(tiny_model, lake, out, *words)
    assert (done["rows_read"], done["rows"]) == (1, 1)
    assert (done["total"]["rows"], done["total"]["files"]) == (6, 4)
    others = done["others"]
    assert (others["rows_removed"], others["rows_added"], others["rows_deleted"]) == (6, 5, 1)
    assert others["columns"] == ["note"]
    assert "others had changed the table: " in capsys.readouterr().out
    ids = [0, 1, 3, 4, 5, 6]
    place = {0: "d 1", 1: "d 1", 3: "d/2", 4: None, 5: None, 6: "d/2"}
    vectors = {0: NORTH, 4: NORTH, 6: EAST}
    rows = {row[0]: row[1:] for row in read(out, "id", "day", "text_embedding", "note")}
    assert rows == {number: (place[number], vectors.get(number), None) for number in ids}
    assert embed(tiny_model, lake, out, *words)["status"] == "nothing new"
    assert verify([str(out), "--sha256"]) == 0
    told = capsys.readouterr().out
    assert "1 of 4 files compared by sha256" in told
    assert "3 of 4 files were written by others" in told


def test_keys_are_those_of_the_table_as_others_left_it(
    tiny_model: str, lake: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--table-format", "delta", "--key", "id", "--deletes", "remove", "--partition-by", "day"]
    put(lake, "a", [(number, "north", 1, "d 1") for number in range(5)])
    put(lake, "b", [(number, "north", 1, "d/2") for number in range(5, 8)])
    embed(tiny_model, lake, out, *words)
    assert len(DeltaTable(str(out)).file_uris()) == 2
    DeltaTable(str(out)).alter.add_columns([Field("note", "string")])
    DeltaTable(str(out)).update({"note": "concat('note ', id)"}, predicate="id < 5")
    DeltaTable(str(out)).delete("id = 3")
    # Rows of others: without a key, with one that is not in the input, and with one that is there already.
    keys = pa.array([None, 90, 1], pa.int64())
    theirs = pa.table({"id": keys, "text": ["x"] * 3, "day": ["d 1"] * 3, "note": ["y"] * 3})
    write_deltalake(str(out), theirs, mode="append", schema_mode="merge")
    vacuum(out)
    assert verify([str(out)]) == 0
    assert "1 keys occur more than once; the next run keeps one row of each" in capsys.readouterr().out
    # 0, 1: as before; 2 and 6: another text; 3: deleted by others; 4: another number; 7: gone; 10: new
    put(
        lake,
        "a",
        [(0, "north", 1, "d 1"), (1, "north", 1, "d 1"), (2, "east", 1, "d 1"), (3, "north", 1, "d 1")],
    )
    put(
        lake,
        "b",
        [(4, "north", 2, "d 1"), (5, "north", 1, "d/2"), (6, "east", 1, "d/2"), (10, "east", 1, "d/2")],
    )
    done = embed(tiny_model, lake, out, *words)
    assert done["keyed"] == {
        "new": 2,
        "with another text": 2,
        "changed otherwise": 1,
        "unchanged": 3,
        "removed": 3,
        "kept though gone": 0,
        "of a key that is there already": 0,
        "removed, since others doubled their key": 1,
    }
    assert done["total"]["rows"] == 8
    assert read(out, "id", "text", "n", "text_embedding", "note") == [
        (0, "north", 1, NORTH, "note 0"),
        (1, "north", 1, NORTH, "note 1"),
        (2, "east", 1, EAST, "note 2"),
        (3, "north", 1, NORTH, None),
        (4, "north", 2, NORTH, "note 4"),
        (5, "north", 1, NORTH, None),
        (6, "east", 1, EAST, None),
        (10, "east", 1, EAST, None),
    ]
    assert embed(tiny_model, lake, out, *words)["status"] == "nothing new"
    assert verify([str(out)]) == 0
    # A refresh writes the table anew: rows and columns of others go.
    DeltaTable(str(out)).optimize.compact()
    vacuum(out)
    assert embed(tiny_model, lake, out, *words, "--full-refresh")["total"]["rows"] == 8
    assert DeltaTable(str(out)).schema().to_arrow().names == [
        *("id", "text", "n", "text_embedding", "lakevec_text_hash", "lakevec_row_hash", "day")
    ]
    assert verify([str(out)]) == 0
    # The last resort of others: a table that no run can continue.
    DeltaTable(str(out)).alter.add_constraint({"small": "id < 1000"})
    before = record(out)
    embed(tiny_model, lake, out, *words, code=2)
    assert "constraint delta.constraints.small" in capsys.readouterr().err
    assert record(out) == before
    embed(tiny_model, lake, out, *words, "--deletes", "keep", "--full-refresh", code=2)
    assert "--full-refresh --deletes remove" in capsys.readouterr().err
    assert verify([str(out)]) == 1


LONG = "North east. East north southwest nowhere! East north"


def put_texts(lake: Path, name: str, texts: dict[str, str]) -> None:
    pq.write_table(pa.table({"id": list(texts), "text": list(texts.values())}), lake / f"{name}.parquet")


def chunks(out: Path) -> dict[str, int]:
    """Return the number of chunks of each text, and check that there is one of each."""
    found: dict[str, int] = {}
    for key, number in read(out, "id", "chunk_index"):
        assert number == found.setdefault(key, 0)
        found[key] += 1
    return found


def test_chunks_go_on_after_others_compacted_the_table(tiny_model: str, lake: Path, out: Path) -> None:
    words = ["--table-format", "delta", "--chunk-tokens", "3", "--chunk-text", "--wave-files", "1"]
    put_texts(lake, "0", {"a": LONG})
    put_texts(lake, "1", {"b": "north"})
    embed(tiny_model, lake, out, *words)
    DeltaTable(str(out)).optimize.z_order(["chunk_index"])
    put_texts(lake, "2", {"c": LONG})
    total = embed(tiny_model, lake, out, *words)["total"]
    assert chunks(out) == {"a": 3, "b": 1, "c": 3}
    assert (total["texts"], total["rows"]) == (3, 7)
    assert verify([str(out)]) == 0


def test_one_copy_of_each_chunk_stays_of_a_key_that_others_doubled(
    tiny_model: str, lake: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--table-format", "delta", "--chunk-tokens", "3", "--chunk-text", "--key", "id"]
    put_texts(lake, "0", {"one": "north", "long": LONG, "grown": "east", "alone": LONG, "gone": LONG})
    embed(tiny_model, lake, out, *words)
    ours = DeltaTable(str(out)).to_pyarrow_table()
    by_id = {key: ours.filter(pc.field("id") == key) for key in ("one", "long")}
    # A longer text of a key that is there, without hashes.
    longer = by_id["long"].drop_columns(["lakevec_text_hash", "lakevec_row_hash"])
    longer = longer.set_column(0, "id", pa.array(["grown"] * 3))
    for rows in (*by_id.values(), by_id["one"], longer):
        write_deltalake(str(out), rows, mode="append", schema_mode="merge")
    DeltaTable(str(out)).optimize.z_order(["chunk_start"])
    assert verify([str(out)]) == 0
    assert "3 keys occur more than once" in capsys.readouterr().out
    put_texts(lake, "0", {"one": "north", "long": LONG, "grown": "east", "alone": "east"})
    words += ["--deletes", "remove"]
    keyed = embed(tiny_model, lake, out, *words)["keyed"]
    assert (keyed["with another text"], keyed["unchanged"], keyed["removed"]) == (1, 3, 1)
    assert keyed["removed, since others doubled their key"] == 4
    assert chunks(out) == {"one": 1, "long": 3, "grown": 1, "alone": 1}
    assert embed(tiny_model, lake, out, *words)["status"] == "nothing new"
    assert verify([str(out)]) == 0
