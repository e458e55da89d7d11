"""Strings that are not UTF-8 in columns that travel along: no reader but Spark would take them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark import cloudpickle

from lakevec.jobs.cli import RunContext
from lakevec.jobs.embed import run
from lakevec.pipeline.encoding.text_validation import as_bytes, find_invalid, without
from lakevec.pipeline.errors import CommitError
from lakevec.pipeline.settings.embed import EmbedSettings
from lakevec.udfs.embed_task import EmbedTask, entry_batches
from tests.support.lakes import embed

RAW = [b"ok", b"caf\xe9", None]


def raw(values: list[bytes | None]) -> pa.Array:
    return pa.array(values, pa.binary()).view(pa.string())


def nested() -> dict[str, pa.Array]:
    offsets = pa.array([0, 1, 2, 3], pa.int32())
    return {
        "string": raw(RAW),
        "list": pa.ListArray.from_arrays(offsets, raw(RAW)),
        "struct": pa.StructArray.from_arrays([raw(RAW), pa.array([1, 2, 3])], ["name", "n"]),
        "key of a map": pa.MapArray.from_arrays(offsets, raw([b"a", b"\xff", b"c"]), pa.array([1, 2, 3])),
        "value of a map": pa.MapArray.from_arrays(offsets, pa.array([1, 2, 3]), raw(RAW)),
    }


def put(lake: Path, note: pa.Array, texts: pa.Array | None = None, name: str = "a") -> None:
    ids = pa.array(range(len(note)), pa.int64())
    texts = pa.array(["north"] * len(note)) if texts is None else texts
    pq.write_table(pa.table({"id": ids, "text": texts, "note": note}), lake / f"{name}.parquet")


def read(folder: Path) -> list[dict[str, Any]]:
    rows = duckdb.sql(f"SELECT * FROM '{folder}/*.parquet' ORDER BY id").arrow().read_all().to_pylist()
    assert rows == sorted(pq.read_table(folder).to_pylist(), key=lambda row: row["id"])
    return rows


# Arrow's own arrays


@pytest.mark.parametrize("values", nested().values(), ids=nested())
def test_invalid_rows_are_found_at_any_depth(values: pa.Array) -> None:
    found = find_invalid(values)
    assert found is not None
    assert found.tolist() == [False, True, False]
    cleaned = without(values, found)
    cleaned.validate(full=True)
    assert cleaned.is_null().to_pylist()[:2] == [False, True]
    assert cleaned.take(pa.array([0, 2])) == values.take(pa.array([0, 2]))
    assert (
        b"\xe9" in (told := repr(as_bytes(values).to_pylist()).encode("latin-1", "backslashreplace")) or told
    )


@given(st.lists(st.binary(max_size=6) | st.none(), max_size=30))
def test_invalid_rows_are_those_that_python_can_not_decode(values: list[bytes | None]) -> None:
    def is_invalid(value: bytes | None) -> bool:
        try:
            (value or b"").decode()
        except UnicodeDecodeError:
            return True
        return False

    expected = [is_invalid(value) for value in values]
    found = find_invalid(raw(values))
    assert (np.zeros(len(values), bool) if found is None else found).tolist() == expected
    assert as_bytes(raw(values)).to_pylist() == values


# Runs


@pytest.mark.usefixtures("spark")
@pytest.mark.parametrize("values", nested().values(), ids=nested())
def test_string_that_is_not_utf8_ends_the_run_or_becomes_null(
    tiny_model: str, lake: Path, out: Path, told: Callable[[], str], values: pa.Array
) -> None:
    put(lake, values)
    embed(tiny_model, lake, out, code=1)
    assert told() == (
        "lakevec embed: column 'note' holds text that is not valid UTF-8: expected valid UTF-8 in every "
        "string, nested ones too; clean the column, leave it out with --keep, or run with --on-bad-row null "
        "or quarantine"
    )
    record = embed(tiny_model, lake, out, "--on-bad-row", "null")
    assert record["invalid_values"] == {"note": {"bad": 1}}
    rows = read(out)
    assert [row["note"] is None for row in rows][:2] == [False, True]
    assert [row["text_embedding"] for row in rows] == [[0.0, 1.0]] * 3


@pytest.mark.usefixtures("spark")
@pytest.mark.parametrize("values", nested().values(), ids=nested())
def test_row_with_such_a_string_goes_to_quarantine_as_bytes(
    tiny_model: str, lake: Path, out: Path, values: pa.Array
) -> None:
    put(lake, values)
    record = embed(tiny_model, lake, out, "--on-bad-row", "quarantine")
    assert (record["rows"], record["rows_quarantined"]) == (2, 1)
    assert [row["id"] for row in read(out)] == [0, 2]
    [row] = pq.read_table(out / "_lakevec" / "quarantine").to_pylist()
    assert (row["id"], row["text"], row["lakevec_reason"]) == (1, b"north", "note: not valid UTF-8")
    assert as_bytes(values).to_pylist()[1] == row["note"]


@pytest.mark.usefixtures("spark")
def test_kept_text_that_is_not_utf8_becomes_null_with_its_vector(
    tiny_model: str, lake: Path, out: Path
) -> None:
    put(lake, pa.array(["a", "b", "c"]), texts=raw([b"north", b"\xff", None]))
    record = embed(tiny_model, lake, out, "--on-bad-row", "null")
    assert record["columns"]["text"]["bad"] == 1
    assert [(row["text"], row["text_embedding"]) for row in read(out)] == [
        ("north", [0.0, 1.0]),
        (None, None),
        (None, None),
    ]


@pytest.mark.usefixtures("spark")
def test_partition_value_that_is_not_utf8_is_named_or_becomes_null(
    tiny_model: str, lake: Path, out: Path, told: Callable[[], str]
) -> None:
    put(lake, raw(RAW))
    words = ("--partition-by", "note")
    embed(tiny_model, lake, out, *words, code=1)
    assert "column 'note' holds text that is not valid UTF-8" in told()
    embed(tiny_model, lake, out, *words, "--on-bad-row", "null")
    folders = {path.name for path in out.iterdir() if path.name.startswith("note=")}
    assert folders == {"note=ok", "note=__HIVE_DEFAULT_PARTITION__"}
    quarantined = out.with_name("quarantined")
    embed(tiny_model, lake, quarantined, *words, "--on-bad-row", "quarantine")
    [row] = pq.read_table(quarantined / "_lakevec" / "quarantine").to_pylist()
    assert row["note"] == b"caf\xe9"


@pytest.mark.usefixtures("spark")
def test_keyed_rows_are_checked_too(tiny_model: str, lake: Path, out: Path, told: Callable[[], str]) -> None:
    put(lake, pa.array(["a", "b", "c"]))
    embed(tiny_model, lake, out, "--key", "id")
    put(lake, raw(RAW))  # other columns of the same texts
    embed(tiny_model, lake, out, "--key", "id", code=1)
    assert "column 'note' holds text that is not valid UTF-8" in told()
    assert [row["note"] for row in read(out)] == ["a", "b", "c"]
    embed(tiny_model, lake, out, "--key", "id", "--on-bad-row", "null")
    assert [row["note"] for row in read(out)] == ["ok", None, None]
    assert embed(tiny_model, lake, out, "--key", "id", "--on-bad-row", "null")["status"] == "nothing new"


@pytest.mark.usefixtures("spark")
def test_row_that_becomes_invalid_goes_to_quarantine(tiny_model: str, lake: Path, out: Path) -> None:
    words = ("--key", "id", "--on-bad-row", "quarantine")
    put(lake, pa.array(["a", "b", "c"]))
    embed(tiny_model, lake, out, *words)
    put(lake, raw(RAW))  # the texts are the same
    record = embed(tiny_model, lake, out, *words)
    assert (record["total"]["rows"], record["total"]["rows_quarantined"]) == (2, 1)
    assert [row["note"] for row in read(out)] == ["ok", None]
    assert embed(tiny_model, lake, out, *words)["status"] == "nothing new"
    put(lake, pa.array(["a", "b", "c"]))
    assert embed(tiny_model, lake, out, *words)["total"]["rows"] == 3


@pytest.mark.usefixtures("spark")
@pytest.mark.parametrize("kind", ["list", "key of a map"])
def test_row_that_becomes_invalid_inside_goes_to_quarantine(
    tiny_model: str, lake: Path, out: Path, kind: str
) -> None:
    words = ("--key", "id", "--on-bad-row", "quarantine")
    values = nested()[kind]
    put(lake, values.take(pa.array([0, 2, 0])))
    embed(tiny_model, lake, out, *words)
    put(lake, values)
    record = embed(tiny_model, lake, out, *words)
    assert (record["total"]["rows"], record["total"]["rows_quarantined"]) == (2, 1)


@pytest.mark.usefixtures("spark")
def test_key_that_is_not_utf8_never_becomes_null(
    tiny_model: str, lake: Path, out: Path, told: Callable[[], str]
) -> None:
    put(lake, raw([b"a", b"\xff", b"c"]))
    embed(tiny_model, lake, out, "--key", "note", "--on-bad-row", "null", code=1)
    assert "key column 'note' has values that can't become null: got 1 values" in told()
    for _ in range(2):
        record = embed(tiny_model, lake, out, "--key", "note", "--on-bad-row", "quarantine")
        assert (record["total"]["rows"], record["total"]["rows_quarantined"]) == (2, 1)
    assert record["status"] == "nothing new"


@pytest.mark.usefixtures("spark")
@pytest.mark.parametrize("values", nested().values(), ids=nested())
def test_sparks_own_writer_refuses_such_strings(
    tiny_model: str, lake: Path, out: Path, told: Callable[[], str], values: pa.Array
) -> None:
    put(lake, values)
    embed(tiny_model, lake, out, "--sink", "spark", code=1)
    assert "column 'note' holds text that is not valid UTF-8" in told()
    put(lake, values.take(pa.array([0, 2, 0])))
    embed(tiny_model, lake, out, "--sink", "spark")
    assert pq.read_table(out).num_rows == 3


# What tasks return


class ForgetfulTask(EmbedTask):
    """Loses its rows, and says that none came."""

    def __call__(self, batches: Any) -> Any:
        list(batches)
        yield from entry_batches([])


class SilentTask(EmbedTask):
    """Returns nothing at all."""

    def __call__(self, batches: Any) -> Any:
        list(batches)
        yield from ()


class LosingTask(EmbedTask):
    """Loses every other batch, and tells how many rows came."""

    def __call__(self, batches: Any) -> Any:
        yield from entry_batches([], rows_read=sum(batch.num_rows for batch in batches))


# Workers can't import this file.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.mark.usefixtures("spark")
@pytest.mark.parametrize("task", [ForgetfulTask, SilentTask, LosingTask])
def test_tasks_that_lose_everything_commit_nothing(
    tiny_model: str, lake: Path, out: Path, task: type[EmbedTask]
) -> None:
    put(lake, pa.array(["a"]))
    settings = EmbedSettings(model=tiny_model, input=[str(lake)], text=["text"], output=str(out))
    with pytest.raises(CommitError, match=r"tasks returned nothing|rows read and rows written differ"):
        run(settings, RunContext(), task_type=task)
    assert not out.exists()
