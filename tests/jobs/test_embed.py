"""``lakevec embed`` on one session: what it writes, what it says, what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from chispa import assert_df_equality
from pyspark.sql import functions as f

from lakevec.pipeline.encoding.encoder import Encoder
from lakevec.pipeline.model.artifact import load
from tests.support.commands import embed as main

pytestmark = [
    pytest.mark.usefixtures("spark"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"),
]
TEXTS = ["North east", "nowhere", "", None, "southwest southwest"]
VECTORS = [[0.5, 0.5], [0.0, 0.0], [0.0, 0.0], None, [-1.0, -1.0]]


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    folder = tmp_path / "lake"
    folder.mkdir()
    pq.write_table(pa.table({"id": range(5), "body text": TEXTS, "n": [1.5] * 5}), folder / "a.parquet")
    return folder


def run(model: str, lake: Path | str, output: Path, *words: str, text: str = "body text") -> int:
    return main(["--model", model, "--input", str(lake), "--text", text, "--output", str(output), *words])


def read(output: Path) -> pd.DataFrame:
    return pq.read_table(output).to_pandas().sort_values("id", ignore_index=True)


def test_rows_come_out_as_they_went_in_with_a_vector_each(
    tiny_model: str, lake: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert run(tiny_model, lake, output) == 0
    rows = pq.read_table(output).sort_by("id")
    assert rows.column_names == ["id", "body text", "n", "body text_embedding"]
    assert rows["body text"].to_pylist() == TEXTS
    assert rows["body text_embedding"].to_pylist() == VECTORS
    record = json.loads((output / "_lakevec" / "run.json").read_text())
    assert record["rows"] == 5
    assert record["bytes"] == sum(file.stat().st_size for file in output.glob("*.parquet"))
    assert record["columns"]["body text"] == {
        "embedding": "body text_embedding",
        "rows": 5,
        "nulls": 1,
        "empties": 1,
        "zero_vectors": 2,
        "tokens": 4,
        "unknown_tokens": 1,
        "truncated": 0,
    }
    assert record["model"]["fingerprint"] == load(tiny_model).table.fingerprint
    out = capsys.readouterr().out
    assert "embedded 5 rows in " in out
    assert "1 nulls, 1 empty, 2 zero vectors, 4 tokens (20.000% unknown), 0 truncated" in out


def test_readers_see_float_lists_and_only_rows(
    tiny_model: str, lake: Path, tmp_path: Path, spark: Any
) -> None:
    output = tmp_path / "out"
    run(tiny_model, lake, output)
    frame = spark.read.parquet(str(output))
    assert frame.schema["body text_embedding"].dataType.simpleString() == "array<float>"
    assert frame.count() == len(pd.read_parquet(output)) == 5
    [file] = output.glob("*.parquet")
    metadata = pq.read_schema(file).metadata
    assert metadata[b"lakevec.model"].decode() == load(tiny_model).table.fingerprint


def test_several_text_columns_keep_max_tokens_and_column_name(tiny_model: str, tmp_path: Path) -> None:
    table = pa.table({"id": [1], "a": ["north east"], "b": ["east north"], "c": [b"x"]})
    pq.write_table(table, tmp_path / "lake.parquet")
    output = tmp_path / "out"
    words = ["--text", "b", "--keep", "id,b", "--max-tokens", "1", "--embedding-column", "vec {column}"]
    assert run(tiny_model, tmp_path / "lake.parquet", output, *words, text="a") == 0
    [row] = pq.read_table(output).to_pylist()
    assert row == {"id": 1, "b": "east north", "vec a": [0.0, 1.0], "vec b": [1.0, 0.0]}


@pytest.mark.parametrize(
    ("form", "more"), [("csv", ["--option", "header=true"]), ("json", []), ("text", []), ("orc", [])]
)
def test_other_formats_of_spark_are_read(
    tiny_model: str, tmp_path: Path, spark: Any, form: str, more: list[str]
) -> None:
    frame = spark.createDataFrame([("north east",), ("east",)], "value string").coalesce(1)
    frame.write.format(form).option("header", "true").save(str(tmp_path / "lake"))
    assert run(tiny_model, tmp_path / "lake", tmp_path / "out", "--format", form, *more, text="value") == 0
    rows = pq.read_table(tmp_path / "out").sort_by("value").to_pylist()
    assert [row["value_embedding"] for row in rows] == [[1.0, 0.0], [0.5, 0.5]]


def test_table_by_name_is_read(tiny_model: str, tmp_path: Path, spark: Any) -> None:
    spark.createDataFrame([("east",)], "value string").createOrReplaceTempView("docs")
    assert run(tiny_model, "docs", tmp_path / "out", "--format", "table", text="value") == 0
    assert pq.read_table(tmp_path / "out").to_pylist() == [{"value": "east", "value_embedding": [1.0, 0.0]}]


def test_every_type_of_a_lake_survives(tiny_model: str, tmp_path: Path, spark: Any) -> None:
    """Old dates, decimals, both timestamps, nested types, nulls, names with spaces and dots."""
    query = """
        SELECT 'east' AS t, true AS b, 1Y AS i8, 2S AS i16, 3 AS i32, 4L AS i64, 1.5F AS f32, 2.5D AS f64,
            CAST(12.34 AS DECIMAL(9, 2)) AS `dec 9`, CAST(-1.5 AS DECIMAL(38, 10)) AS `dec.38`,
            DATE '1500-03-01' AS old, TIMESTAMP '1500-03-01 12:00:00.000001' AS ts,
            TIMESTAMP_NTZ '2024-02-29 23:59:59.999999' AS ntz, X'00ff' AS bin, array(1, NULL) AS arr,
            map('k', array(DATE '2024-01-01')) AS m, named_struct('a b', 1, 'c', named_struct('d', 'x')) AS s
        UNION ALL
        SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
            NULL, NULL
    """
    frame = spark.sql(query)
    frame.createOrReplaceTempView("wide")
    assert run(tiny_model, "wide", tmp_path / "out", "--format", "table", text="t") == 0
    stored = spark.read.parquet(str(tmp_path / "out")).drop("t_embedding")
    assert stored.schema.simpleString() == frame.schema.simpleString()
    # Parquet's values may be null. chispa ignores that inside an array, but not inside a map.
    frames = [rows.orderBy("t").withColumn("m", f.map_entries("m")) for rows in (stored, frame)]
    assert_df_equality(*frames, ignore_nullable=True)


def test_vectors_are_the_encoders_bits_whatever_the_partitions(
    minilm_model: str, general_texts: list[str], tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    lake.mkdir()
    rows = pa.table({"id": range(10_000), "t": general_texts})
    for part in range(5):
        pq.write_table(rows.slice(part * 2000, 2000), lake / f"{part}.parquet")
    assert run(minilm_model, lake, tmp_path / "one", "--batch-rows", "10000", text="t") == 0
    assert run(minilm_model, lake, tmp_path / "other", "--batch-rows", "37", text="t") == 0
    one, other = read(tmp_path / "one"), read(tmp_path / "other")
    ours = Encoder(load(minilm_model).table).encode(rows["t"]).vectors
    for frame in (one, other):
        assert np.stack(frame["t_embedding"]).tobytes() == ours.tobytes()


def test_dry_run_tells_settings_schema_and_plan_and_writes_nothing(
    tiny_model: str, lake: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny_model, lake, tmp_path / "out", "--dry-run") == 0
    out = capsys.readouterr().out
    assert "  text:\n  - body text" in out
    assert "batch_rows" not in out
    assert "  body text_embedding: array<float>" in out
    assert "Scan parquet" in out or "FileScan parquet" in out
    assert not (tmp_path / "out").exists()


@pytest.fixture
def refuse(tiny_model: str, lake: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Expect a run to end with one line on stderr, and to write nothing."""

    def refuse(message: str, code: int, **changed: str) -> None:
        options = {
            "model": tiny_model,
            "input": str(lake),
            "text": "body text",
            "output": str(out),
            **changed,
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        assert main(words) == code
        err = capsys.readouterr().err
        assert message in err
        assert err.startswith("lakevec embed: ")
        assert err.count("\n") == 1
        assert not out.exists()

    return refuse


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": "/nowhere"}, "model '/nowhere' does not exist"),
        ({"model": "."}, "is not a model that lakevec knows"),
        ({"input": "/nowhere/lake"}, "Spark can't plan this input: got Path does not exist"),
        ({"text": "body"}, "column 'body' is not in the input: expected one of 'id', 'body text', 'n'"),
        ({"text": "n"}, "text column 'n': got double; expected string, or binary that holds UTF-8"),
        ({"keep": "nn"}, "column 'nn' is not in the input"),
        ({"embedding-column": "N"}, "column 'N' of embeddings or heads clashes with another column"),
        ({"format": "teapot"}, "Spark does not know this format"),
        ({"output": "."}, "output '"),
    ],
    ids=[
        "no model",
        "no artifact",
        "no input",
        "no column",
        "no string",
        "keep",
        "clash",
        "format",
        "exists",
    ],
)
def test_what_can_be_refused_before_running_is_one_line(
    changed: dict[str, str], message: str, refuse: Callable[..., None]
) -> None:
    refuse(message, 2, **changed)


def test_flipped_byte_in_the_model_is_refused(
    tiny_model: str, tmp_path: Path, refuse: Callable[..., None]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    content = bytearray((model / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (model / "model.safetensors").write_bytes(content)
    refuse("model.safetensors is damaged", 2, model=str(model))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "the input has no rows: check --input; nothing was written"),
        (b"PAR1 this is no parquet PAR1", "an input file can't be read"),
    ],
    ids=["empty", "unreadable"],
)
def test_input_that_can_not_be_embedded_leaves_no_output(
    content: bytes | None, message: str, tmp_path: Path, refuse: Callable[..., None]
) -> None:
    file = tmp_path / "lake.parquet"
    pq.write_table(pa.table({"t": pa.array([], pa.string())}), file)
    file.write_bytes(content or file.read_bytes())
    refuse(message, 1, input=str(file), text="t")


def test_one_unreadable_file_among_good_ones_leaves_no_output(
    lake: Path, refuse: Callable[..., None]
) -> None:
    good = (lake / "a.parquet").read_bytes()
    (lake / "b.parquet").write_bytes(good[:8] + b"\xff" * 60 + good[68:])
    refuse("", 1)


def test_invalid_utf8_is_named_and_not_quoted(tmp_path: Path, refuse: Callable[..., None]) -> None:
    bad = pa.array([b"marker \xff"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"t": bad}), tmp_path / "lake.parquet")
    message = (
        "lakevec embed: a text is not valid UTF-8: expected valid UTF-8 in every row; "
        "clean the column first, for example with Spark's make_valid_utf8(column)\n"
    )
    refuse(message, 1, input=str(tmp_path / "lake.parquet"), text="t")


def test_type_that_parquet_can_not_hold_is_refused_by_name(spark: Any, refuse: Callable[..., None]) -> None:
    spark.sql("SELECT 'x' AS t, INTERVAL '1' DAY AS gap").createOrReplaceTempView("gaps")
    message = "column 'gap' can't be written to Parquet: got type interval day"
    refuse(message, 2, input="gaps", format="table", text="t")


@pytest.mark.parametrize("kind", ["float16", "int8"])
def test_smaller_vectors_are_read_by_spark_and_pandas(
    minilm_model: str, general_texts: list[str], tmp_path: Path, spark: Any, kind: str
) -> None:
    texts = [*general_texts[:3000], None, ""]
    pq.write_table(pa.table({"id": range(len(texts)), "text": texts}), tmp_path / "lake.parquet")
    outputs = {name: tmp_path / name for name in ("float32", kind)}
    for name, output in outputs.items():
        assert run(minilm_model, tmp_path / "lake.parquet", output, "--vector-type", name, text="text") == 0
    full, small = (pq.read_table(output).sort_by("id") for output in outputs.values())
    exact = np.stack(full["text_embedding"].drop_null().to_numpy())
    vectors = np.stack(small["text_embedding"].drop_null().to_numpy()).astype(np.float32)
    for scale in {"float16": [], "int8": ["text_embedding_scale"]}[kind]:
        vectors *= small[scale].drop_null().to_numpy()[:, None]
    largest = np.abs(exact).max(axis=1, keepdims=True)
    assert (np.abs(vectors - exact) <= largest / 250).all()
    assert small["text_embedding"].null_count == 1
    sizes = [sum(file.stat().st_size for file in output.glob("*.parquet")) for output in outputs.values()]
    assert sizes[1] < 0.6 * sizes[0]
    pairs = {"id": "id", "text_embedding": "text_embedding"}
    by_spark = spark.read.parquet(str(outputs[kind])).orderBy("id").select(*pairs).collect()
    assert [row.text_embedding for row in by_spark] == small["text_embedding"].to_pylist()


@pytest.mark.parametrize("sink", ["direct", "spark"])
def test_embedding_column_may_take_the_name_of_a_text_that_is_dropped(
    sink: str, tiny_model: str, lake: Path, tmp_path: Path, spark: Any
) -> None:
    (tmp_path / "out").mkdir()  # an empty folder is free
    words = ["--keep", "id", "--embedding-column", "{column}", "--sink", sink]
    assert run(tiny_model, lake, tmp_path / "out", *words) == 0
    rows = spark.read.parquet(str(tmp_path / "out")).orderBy("id").collect()
    assert [row["body text"] for row in rows] == VECTORS
