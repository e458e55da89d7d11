"""OpenLineage events of a run, written to a file and sent to a server by the real library."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakevec.jobs.embedding.lineage import name_dataset
from tests.support.commands import embed

pytest.importorskip("openlineage.client", reason="openlineage-python is not installed")
Words = Callable[..., list[str]]


@pytest.fixture
def words(spark: Any, tiny_model: str, lake: Path, out: Path) -> Words:
    pq.write_table(pa.table({"id": [1, 2, 3], "text": ["north", None, "east"]}), lake / "0.parquet")
    common = ["--model", tiny_model, "--input", str(lake), "--text", "text", "--output", str(out)]
    return lambda place, *more: [*common, "--lineage", str(place), *more]


@pytest.fixture
def server() -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]]]]:
    received: list[tuple[str, dict[str, Any]]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.path, json.loads(body)))
            self.send_response(201)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    running = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}", received
    running.shutdown()
    thread.join()
    running.server_close()


def read_events(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def schema(dataset: dict[str, Any]) -> dict[str, str]:
    return {field["name"]: field["type"] for field in dataset["facets"]["schema"]["fields"]}


def test_file_holds_start_and_end_with_datasets_and_rows(
    words: Words, lake: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = "01938c5e-8b5a-7b6e-9f3a-2b1c4d5e6f70"
    monkeypatch.setenv("OPENLINEAGE_NAMESPACE", "nightly")
    monkeypatch.setenv("OPENLINEAGE_PARENT_ID", f"airflow/lakevec_embed.embed/{parent}")
    file = tmp_path / "events.jsonl"
    assert embed(words(file)) == 0
    start, end = read_events(file)
    record = json.loads((out / "_lakevec" / "run.json").read_text())
    run_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"lakevec:{record['run']}"))
    for event, kind in ((start, "START"), (end, "COMPLETE")):
        assert (event["eventType"], event["run"]["runId"]) == (kind, run_id)
        assert (event["job"]["namespace"], event["job"]["name"]) == ("nightly", f"lakevec.embed:{out}")
        assert event["run"]["facets"]["parent"]["run"]["runId"] == parent
        [source], [target] = event["inputs"], event["outputs"]
        assert (source["namespace"], source["name"]) == ("file", str(lake))
        assert (target["namespace"], target["name"]) == ("file", str(out))
    assert schema(source) == {"id": "bigint", "text": "string"}
    assert schema(target) == {"id": "bigint", "text": "string", "text_embedding": "array<float>"}
    assert source["inputFacets"]["inputStatistics"]["rowCount"] == 3
    counts = target["outputFacets"]["outputStatistics"]
    assert (counts["rowCount"], counts["size"]) == (3, record["bytes"])
    assert end["run"]["facets"]["processing_engine"]["version"] == record["spark"]
    assert embed(words(file)) == 0  # nothing new
    assert read_events(file)[-1]["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == 0


def test_server_receives_a_failure_without_secrets(
    words: Words, server: tuple[str, list[tuple[str, dict[str, Any]]]], lake: Path
) -> None:
    url, received = server
    (lake / "password=marker").mkdir()
    (lake / "password=marker" / "1.parquet").write_text("cut off")
    assert embed(words(f"{url}/events", "--option", "recursiveFileLookup=true")) == 1
    assert [(path, event["eventType"]) for path, event in received] == [
        ("/events", "START"),
        ("/events", "FAIL"),
    ]
    error = received[-1][1]["run"]["facets"]["errorMessage"]
    assert "an input file can't be read" in error["message"]
    assert "marker" not in json.dumps(received)


def test_table_has_its_full_name(
    words: Words, spark: Any, tmp_path: Path, tiny_model: str, out: Path
) -> None:
    spark.createDataFrame([("north",)], "text string").createOrReplaceTempView("some_texts")
    file = tmp_path / "events.jsonl"
    common = ["--model", tiny_model, "--text", "text", "--output", str(out), "--lineage", str(file)]
    assert embed([*common, "--format", "table", "--input", "some_texts"]) == 0
    start, end = read_events(file)
    assert start["inputs"] == []
    [source] = end["inputs"]
    assert (source["namespace"], source["name"]) == ("spark", "some_texts")


def test_table_that_a_foreign_catalog_can_not_describe_keeps_its_name(
    words: Words, spark: Any, tmp_path: Path, tiny_model: str, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        spark._jvm.java.util.Optional.empty().get()  # a raw Java error, as such catalogs raise

    rows = spark.createDataFrame([("a", "north")], "id string, text string")
    rows.createOrReplaceTempView("some_texts")
    monkeypatch.setattr(type(spark.catalog), "getTable", fail)
    file = tmp_path / "events.jsonl"
    common = ["--model", tiny_model, "--text", "text", "--output", str(out), "--lineage", str(file)]
    assert embed([*common, "--format", "table", "--input", "some_texts", "--key", "id"]) == 0
    [source] = read_events(file)[-1]["inputs"]
    assert source["name"] == "some_texts"


def test_unreachable_server_costs_a_warning(words: Words, out: Path, told: Callable[[], str]) -> None:
    assert embed(words("http://user:marker@127.0.0.1:1")) == 0
    assert pq.read_table(out).num_rows == 3
    warning = told()
    assert warning.startswith("warning: lineage event COMPLETE can't be sent: ConnectionError")
    assert "marker" not in warning


@pytest.mark.parametrize(
    ("place", "got"),
    [
        ("kafka://broker:9092", "got scheme 'kafka'"),
        ("http:///path", "got a URL without a host"),
        ("http://[::1", "got an invalid URL (Invalid IPv6 URL)"),
        ("http://marquez:99999", "got an invalid URL (Port out of range 0-65535)"),
        ("http://marquez:5000/events?key=marker", "got a URL with a query or a fragment"),
        ("{tmp}", "got a folder"),
        ("{tmp}/missing/events.jsonl", "got no writable folder"),
    ],
)
def test_bad_setting_is_refused_before_the_run(
    words: Words, out: Path, tmp_path: Path, told: Callable[[], str], place: str, got: str
) -> None:
    assert embed(words(place.format(tmp=tmp_path))) == 2
    assert got in (message := told())
    assert "marker" not in message
    assert not out.exists()


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("/lake/docs/", ("file", "/lake/docs")),
        ("file:///lake/day=*/x.parquet", ("file", "/lake")),
        ("s3a://key:secret@bucket/lake/docs", ("s3://bucket", "lake/docs")),
        ("s3://bucket/lake?region=eu-central-1", ("s3://bucket", "lake")),
        ("s3://bucket/lake?endpoint_override=host:1&scheme=http", ("s3://bucket", "lake")),
        ("s3://bucket/lake/day=?/part-?.parquet", ("s3://bucket", "lake")),
        ("s3://bucket/lake/a?/b", ("s3://bucket", "lake")),
        ("gs://bucket/lake", ("gs://bucket", "lake")),
        ("hdfs://namenode:8020/lake", ("hdfs://namenode:8020", "/lake")),
        ("abfss://box@lake.dfs.core.windows.net/docs", ("abfss://box@lake.dfs.core.windows.net", "docs")),
    ],
)
def test_datasets_have_the_names_of_openlineages_rules(place: str, expected: tuple[str, str]) -> None:
    assert name_dataset(place) == expected
