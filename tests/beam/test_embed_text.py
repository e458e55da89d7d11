"""``EmbedText`` on Beam's own runner: bits, nulls, errors, metrics, windows, one table per machine."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.transforms import window
from apache_beam.typehints.schemas import named_fields_from_element_type
from apache_beam.utils import windowed_value

import lakevec
from lakevec.beam import EmbedText, WorkerModel
from lakevec.beam.batching import BatchFn
from lakevec.beam.elements import Fields
from lakevec.pipeline.errors import SettingsError
from tests.beam.conftest import Run


class Document(NamedTuple):
    """A row with a schema."""

    id: int
    body: str | None


beam.coders.registry.register_coder(Document, beam.coders.RowCoder)
INVALID = ["row", b"\xff secret", 7, "secret " * 40, None]
TEXTS = ["row", "secret"]


def expected(model: str, texts: list[str | None], **options: Any) -> list[list[float] | None]:
    """What one call gives."""
    vectors = lakevec.load(model).encode(texts, **options).tolist()
    return [None if text is None else vector for text, vector in zip(texts, vectors, strict=True)]


def test_texts_get_the_bits_of_one_call(model: str, texts: list[str], run: Run) -> None:
    some = [*texts, None, "", "\U0001f600"]
    found, counts = run(lambda pipeline: pipeline | beam.Create(some) | EmbedText(model))
    wanted = dict(zip(some, expected(model, some), strict=True))
    assert len(found) == len(some)
    assert dict(found) == wanted
    told = lakevec.Encoder(lakevec.load(model).table).encode(pa.array(some)).counts
    assert counts == {name: count for name, count in vars(told).items() if count}
    assert {"rows", "nulls", "empties", "zero_vectors", "tokens"} <= counts.keys()


@pytest.mark.parametrize("is_on_workers", [False, True])
def test_first_columns_are_a_copy_of_their_own(
    model: str, texts: list[str], run: Run, is_on_workers: bool
) -> None:
    fingerprint = lakevec.load(model).table.fingerprint
    given = WorkerModel(model, fingerprint) if is_on_workers else model
    some = [*texts[:50], None, ""]
    for dimensions in (1, None):
        embed = EmbedText(given, dimensions=dimensions)
        found, _ = run(lambda pipeline, embed=embed: pipeline | beam.Create(some) | embed)
        assert dict(found) == dict(zip(some, expected(model, some, dimensions=dimensions), strict=True))


def test_more_dimensions_than_columns_are_refused_where_the_pipeline_is_built(model: str) -> None:
    with pytest.raises(SettingsError, match="dimensions: got 4,097; expected 1 to"):
        EmbedText(model, dimensions=4097)
    with pytest.raises(SettingsError, match="dimensions: got 0; expected 1 or more"):
        EmbedText(WorkerModel(model, "sha256:0"), dimensions=0)


@pytest.mark.parametrize(
    "make",
    [
        lambda number, text: {"id": number, "body": text},
        lambda number, text: Document(number, text),
        lambda number, text: beam.Row(id=number, body=text),
    ],
    ids=["dict", "NamedTuple", "Row"],
)
def test_elements_keep_their_fields(make: Any, model: str, texts: list[str], run: Run) -> None:
    some = [*texts[:50], None]
    elements = [make(number, text) for number, text in enumerate(some)]
    embed = EmbedText(model, "body", output="vector", max_tokens=3)
    found, _ = run(lambda pipeline: pipeline | beam.Create(elements) | embed)
    rows = [row if isinstance(row, dict) else row._asdict() for row in found]
    vectors = expected(model, some, max_tokens=3)
    wanted = [
        {"id": number, "body": text, "vector": vector}
        for number, (text, vector) in enumerate(zip(some, vectors, strict=True))
    ]
    assert (
        sorted(({**row, "vector": row["vector"] and [*row["vector"]]} for row in rows), key=by_id) == wanted
    )


def by_id(row: dict[str, Any]) -> int:
    return int(row["id"])


def test_rows_have_a_schema_with_the_vector(model: str) -> None:
    embedded = beam.Pipeline() | beam.Create([Document(1, "row")]) | EmbedText(model, "body")
    assert [name for name, _ in named_fields_from_element_type(embedded.element_type)] == [
        "id",
        "body",
        "body_embedding",
    ]


def test_results_have_the_type_that_is_declared(model: str, run: Run) -> None:
    embed = EmbedText(model, "body", on_bad_row="null")
    types = []

    def build(pipeline: Any) -> Any:
        embedded = pipeline | beam.Create([beam.Row(id=1, body=b"row"), beam.Row(id=2, body=b"\xff")]) | embed
        types.append(embedded.element_type)
        return embedded

    found, _ = run(build)
    # Runners encode elements between machines.
    coder = beam.coders.registry.get_coder(types[0])
    decoded = [coder.decode(coder.encode(each)) for each in found]
    assert {each.id: each.body for each in decoded} == {1: b"row", 2: None}


def test_tables_get_a_column(model: str, texts: list[str], run: Run) -> None:
    some = [*texts[:100], None]
    column = pa.chunked_array([some[:30], some[30:]], type=pa.string())
    rows = pa.table({"id": range(len(some)), "body": column})
    found, counts = run(lambda pipeline: pipeline | beam.Create([rows, rows[:0]]) | EmbedText(model, "body"))
    [table] = [table for table in found if table.num_rows]
    assert [table.schema for table in found] == [table.schema] * 2
    assert table.select(["id", "body"]) == rows
    assert table["body_embedding"].to_pylist() == expected(model, some)
    assert counts["rows"] == len(some)


def test_invalid_texts_become_null(model: str, run: Run) -> None:
    embed = EmbedText(model, max_chars=100, on_bad_row="null")
    found, counts = run(lambda pipeline: pipeline | beam.Create(INVALID) | embed)
    [vector] = expected(model, ["row"])
    assert sorted(found, key=repr) == sorted(
        [("row", vector), (None, None), (7, None), (INVALID[3], None), (None, None)], key=repr
    )
    assert (counts["bad"], counts["rows"], counts["nulls"]) == (3, 5, 4)


def test_invalid_texts_go_to_quarantine(model: str, run: Run) -> None:
    def build(pipeline: Any) -> Any:
        rows = pipeline | beam.Create(INVALID)
        rows = rows | beam.Map(lambda text: {"id": 1, "body": text})
        embedded, invalid = rows | EmbedText(model, "body", max_chars=100, on_bad_row="quarantine")
        return (embedded | beam.Map(lambda row: row["body"]), invalid) | beam.Flatten()

    found, counts = run(build)
    reasons = {str(each[0]["body"]): each[1] for each in found if isinstance(each, tuple)}
    assert [each for each in found if not isinstance(each, tuple)] in (["row", None], [None, "row"])
    assert reasons == {
        str(b"\xff secret"): "not valid UTF-8",
        "7": "missing or no text",
        str(INVALID[3].encode()): "longer than 100 characters",
    }
    assert (counts["quarantined"], counts["rows"]) == (3, 2)


@pytest.mark.parametrize("action", ["null", "quarantine"])
def test_invalid_texts_of_tables_are_handled_as_in_the_spark_job(action: str, model: str, run: Run) -> None:
    body = pa.array([b"row", b"\xff secret", b"secret " * 40, None]).view(pa.string())
    rows = pa.table({"id": [1, 2, 3, 4], "body": body})
    embed = EmbedText(model, "body", max_chars=100, on_bad_row=action)  # type: ignore[arg-type]

    def build(pipeline: Any) -> Any:
        result = pipeline | beam.Create([rows]) | embed
        return result if action == "null" else result | beam.Flatten()

    found, counts = run(build)
    kept = {"null": ["row", None, "secret " * 40, None], "quarantine": ["row", None]}[action]
    [table] = [each for each in found if isinstance(each, pa.Table)]
    assert table["body"].to_pylist() == kept
    vectors = table["body_embedding"].to_pylist()
    assert [vector is not None for vector in vectors] == [text == "row" for text in kept]
    parts = {reason: part["body"].to_pylist() for part, reason in (e for e in found if isinstance(e, tuple))}
    wanted = {"not valid UTF-8": [b"\xff secret"], "longer than 100 characters": [b"secret " * 40]}
    assert parts == ({} if action == "null" else wanted)
    assert counts["bad" if action == "null" else "quarantined"] == 2


@pytest.mark.parametrize("text", INVALID[1:4])
def test_failure_names_the_reason_and_no_text(text: Any, model: str, run: Run) -> None:
    embed = EmbedText(model, max_chars=100)
    with pytest.raises(Exception, match="a text can't be embedded: got one ") as caught:
        run(lambda pipeline: pipeline | beam.Create([text]) | embed)
    assert "secret" not in str(caught.value)


def test_windows_and_timestamps_stay(model: str, run: Run) -> None:
    windows = window.SlidingWindows(20, 10)
    stamped = [window.TimestampedValue(text, time) for time, text in enumerate(["row", None, "", "key"] * 8)]

    def build(pipeline: Any, *embed: Any) -> Any:
        rows = pipeline | beam.Create(stamped) | beam.Map(lambda each: each) | beam.WindowInto(windows)
        for step in embed:
            rows = rows | step | beam.Map(lambda pair: pair[0])
        return rows | beam.Map(
            lambda text, time=beam.DoFn.TimestampParam, at=beam.DoFn.WindowParam: (
                text,
                time.micros,
                at.start.micros,
            )
        )

    found, _ = run(lambda pipeline: build(pipeline, EmbedText(model)))
    wanted, _ = run(build)
    assert len(found) == 2 * len(stamped)
    assert sorted(found, key=repr) == sorted(wanted, key=repr)


def test_panes_stay() -> None:
    """They tell which firing of a window an element is from; few runners give others than the first."""

    class Keep(BatchFn):
        fields = Fields(None, ())

        def handle(self, batch: Any) -> Any:
            yield from batch

    keep, pane = Keep(), windowed_value.PaneInfo(False, True, windowed_value.PaneInfoTiming.LATE, 2, 1)
    keep.start_bundle()
    assert list(keep.process("row", 0, window.GlobalWindow(), pane)) == []
    [kept] = keep.finish_bundle()
    assert (kept.value, kept.pane_info) == ("row", pane)


def test_processes_of_a_machine_map_one_copy(model: str, run: Run, node_folder: Path) -> None:
    # Nested, since another process can't import this file.
    def mapped_tables(_: Any) -> tuple[int, list[str]]:
        maps = Path("/proc/self/maps").read_text()
        return os.getpid(), sorted(set(re.findall(r"(\d+)\s+/\S+/embeddings\.npy", maps)))

    found, _ = run(
        lambda pipeline: (
            pipeline | beam.Create(TEXTS * 50) | beam.Reshuffle() | EmbedText(model) | beam.Map(mapped_tables)
        ),
        "--direct_num_workers=2",
        "--direct_running_mode=multi_processing",
    )
    [copy] = node_folder.glob("lakevec-*/*/embeddings.npy")
    assert len(found) == len(TEXTS * 50)
    assert os.getpid() not in dict(found)
    assert [tables for _, tables in found] == [[str(copy.stat().st_ino)]] * len(found)


def test_wrong_limit_is_refused_before_the_pipeline_runs(model: str) -> None:
    with pytest.raises(SettingsError, match="max_tokens: got -5; expected 1 or more"):
        EmbedText(model, max_tokens=-5)


def test_graph_holds_no_table(model: str) -> None:
    pipeline = beam.Pipeline()
    _ = pipeline | beam.Create(["row"]) | EmbedText(model)
    size = len(pipeline.to_runner_api().SerializeToString())
    assert size < 40_000 < lakevec.load(model).table.embeddings.nbytes


def test_workers_refuse_another_model(model: str, run: Run) -> None:
    right = WorkerModel(model, lakevec.load(model).table.fingerprint)
    found, _ = run(lambda pipeline: pipeline | beam.Create(["row"]) | EmbedText(right))
    assert dict(found) == {"row": expected(model, ["row"])[0]}
    wrong = WorkerModel(model, "sha256:" + "0" * 64)
    with pytest.raises(Exception, match="is another one than the pipeline was built with"):
        run(lambda pipeline: pipeline | beam.Create(["row"]) | EmbedText(wrong))


def test_wrong_use_is_refused_before_the_run(model: str, tmp_path: Path) -> None:
    rows = beam.Pipeline() | beam.Create([Document(1, "row")])
    texts = beam.Pipeline() | beam.Create(TEXTS)
    with pytest.raises(lakevec.InputError, match="got 'bdy'; expected one of id, body; did you mean 'body'"):
        rows | EmbedText(model, "bdy")
    with pytest.raises(lakevec.InputError, match="already have a field 'id'"):
        rows | "taken" >> EmbedText(model, "body", output="id")
    with pytest.raises(lakevec.InputError, match="name it: text="):
        rows | "no field" >> EmbedText(model)
    with pytest.raises(lakevec.InputError, match="elements are texts"):
        texts | "texts" >> EmbedText(model, "body")
    with pytest.raises(lakevec.ModelError, match="nowhere"):
        EmbedText(str(tmp_path / "nowhere"))
    with pytest.raises(lakevec.UsageError, match="on_bad_row: got 'skip'"):
        EmbedText(model, on_bad_row="skip")  # type: ignore[arg-type]
