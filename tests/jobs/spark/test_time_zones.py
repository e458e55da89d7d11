"""Partition folders that are named by timestamps: each instant has a folder, or the column is refused."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakevec.pipeline.output.time_zones import comes_twice, has_fixed_offset
from tests.support.commands import verify
from tests.support.lakes import embed

BERLIN = ("--conf", "spark.sql.session.timeZone=Europe/Berlin")
UTC = ("--conf", "spark.sql.session.timeZone=UTC")
EARLY, LATE = dt.datetime(2024, 10, 27, 0, 30), dt.datetime(2024, 10, 27, 1, 30)


@pytest.fixture(autouse=True)
def zone(spark: Any) -> Any:
    before = spark.conf.get("spark.sql.session.timeZone")
    yield
    spark.conf.set("spark.sql.session.timeZone", before)


def put(lake: Path, *instants: dt.datetime, name: str = "a") -> None:
    stamps = pa.array(instants, pa.timestamp("us", "UTC"))
    names = [str(stamp) for stamp in instants]
    table = pa.table({"id": names, "text": ["north"] * len(instants), "ts": stamps})
    pq.write_table(table, lake / f"{name}.parquet")


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        ("UTC", True),
        ("Z", True),
        ("GMT", True),
        ("+05:30", True),
        ("UTC-3", True),
        ("Etc/GMT+5", True),
        ("Europe/Berlin", False),
        ("America/New_York", False),
        ("Asia/Tokyo", False),  # summer time until 1951
        ("Nowhere/City", False),
    ],
)
def test_zones_of_fixed_offset(zone: str, expected: bool) -> None:
    assert has_fixed_offset(zone) is expected


@pytest.mark.parametrize(
    ("local", "zone", "expected"),
    [
        ("2024-10-27 02:30:00", "Europe/Berlin", True),
        ("2024-10-27 02:59:59.999999", "Europe/Berlin", True),
        ("2024-10-27 03:00:00", "Europe/Berlin", False),
        ("2024-03-31 02:30:00", "Europe/Berlin", False),  # skipped in spring
        ("2024-11-03 01:30:00", "America/New_York", True),
        ("2024-10-27 02:30:00", "UTC", False),
        ("", "Europe/Berlin", False),
    ],
)
def test_local_times_that_come_twice(local: str, zone: str, expected: bool) -> None:
    assert comes_twice(local, zone) is expected


@pytest.mark.parametrize("sink", ["direct", "spark"])
def test_zone_with_a_repeated_hour_is_refused_up_front(
    tiny_model: str, lake: Path, out: Path, told: Callable[[], str], sink: str
) -> None:
    put(lake, EARLY, LATE)
    words = ("--partition-by", "ts", "--sink", sink)
    embed(tiny_model, lake, out, *words, *BERLIN, "--dry-run", code=2)
    assert "partition column 'ts' can't name folders in time zone Europe/Berlin" in told()
    embed(tiny_model, lake, out, *words, *UTC)
    assert len(list(out.glob("ts=*"))) == 2


def test_output_goes_on_in_its_own_zone_only(
    tiny_model: str, lake: Path, out: Path, told: Callable[[], str], capsys: pytest.CaptureFixture[str]
) -> None:
    put(lake, EARLY, LATE)
    embed(tiny_model, lake, out, "--partition-by", "ts", *UTC)
    put(lake, dt.datetime(2024, 1, 1), name="b")
    embed(
        tiny_model, lake, out, "--partition-by", "ts", "--conf", "spark.sql.session.timeZone=+02:00", code=2
    )
    assert "time zone of partition folders +02:00, not UTC" in told()
    assert embed(tiny_model, lake, out, "--partition-by", "ts", *UTC)["rows"] == 1
    assert verify([str(out), *BERLIN]) == 0
    assert "sound: 3 rows" in capsys.readouterr().out


def test_output_of_an_earlier_version_goes_on_until_an_hour_comes_twice(
    tiny_model: str, lake: Path, out: Path, told: Callable[[], str], capsys: pytest.CaptureFixture[str]
) -> None:
    put(lake, EARLY)
    embed(tiny_model, lake, out, "--partition-by", "ts", *UTC)
    [contract] = out.glob("_lakevec/*/output.json")
    before = json.loads(contract.read_text())
    assert before.pop("time_zone") == "UTC"
    contract.write_text(json.dumps(before))
    put(lake, dt.datetime(2024, 1, 1), name="b")
    assert embed(tiny_model, lake, out, "--partition-by", "ts", *BERLIN)["rows"] == 1
    put(lake, LATE, name="c")
    embed(tiny_model, lake, out, "--partition-by", "ts", *BERLIN, code=1)
    assert "partition column 'ts' holds an hour that occurs twice" in told()
    (lake / "c.parquet").unlink()
    # What earlier versions wrote for both instants.
    [folder] = out.glob("ts=2024-10-27*")
    state = next(out.glob("_lakevec/*/log/000000000000.json"))
    name = folder.name.replace("00%3A30", "02%3A30")
    state.write_text(state.read_text().replace(folder.name, name))
    folder.rename(out / name)
    assert verify([str(out), *BERLIN]) == 1
    assert "is in a folder for two instants: 2024-10-27 02:30:00 occurs twice in Europe/Berlin" in (
        capsys.readouterr().out
    )


def test_outputs_without_such_folders_stay_readable_by_earlier_versions(
    tiny_model: str, lake: Path, out: Path
) -> None:
    put(lake, EARLY)
    embed(tiny_model, lake, out, *BERLIN)
    [contract] = out.glob("_lakevec/*/output.json")
    assert "time_zone" not in json.loads(contract.read_text())
