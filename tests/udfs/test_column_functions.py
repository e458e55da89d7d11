from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from chispa import assert_df_equality
from pyspark.sql.functions import udf

from lakevec.pipeline.encoding.encoder import Encoder
from lakevec.pipeline.errors import ModelError
from lakevec.pipeline.model.artifact import load
from lakevec.udfs.column_functions import make_chunk_udf, make_embed_udf, register

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


@pytest.mark.parametrize("kind", ["auto", "arrow", "pandas"])
def test_column_function_embeds_null_and_unknown_text(spark: Any, tiny_model: str, kind: Any) -> None:
    embed = make_embed_udf(spark, tiny_model, kind=kind)
    rows = [("North east", [0.5, 0.5]), ("nowhere", [0.0, 0.0]), ("", [0.0, 0.0]), (None, None)]
    expected = spark.createDataFrame(rows, "text string, v array<float>")
    assert_df_equality(expected.select("text", embed("text").alias("v")), expected)


def test_column_function_takes_max_tokens(spark: Any, tiny_model: str) -> None:
    embed = make_embed_udf(spark, tiny_model, max_tokens=1)
    assert spark.sql("SELECT 'east north' AS text").select(embed("text")).first()[0] == [1.0, 0.0]


def test_sql_can_call_it_by_name(spark: Any, tiny_model: str) -> None:
    register(spark, tiny_model)
    register(spark, tiny_model, name="first_word", max_tokens=1)
    row = spark.sql("SELECT lakevec_embed('east north') AS a, first_word('east north') AS b").first()
    assert (row.a, row.b) == ([0.5, 0.5], [1.0, 0.0])


@pytest.mark.parametrize("kind", ["arrow", "pandas"])
def test_spark_gives_the_encoders_bits_on_real_text(
    spark: Any, minilm_model: str, general_texts: list[str], kind: Any
) -> None:
    texts = [*general_texts[::5], None]
    ours = Encoder(load(minilm_model).table).encode(pa.array(texts)).vectors
    embed = make_embed_udf(spark, minilm_model, kind=kind)
    rows = [(text, vector.tobytes().hex()) for text, vector in zip(texts[:-1], ours, strict=False)]
    expected = spark.createDataFrame([*rows, (None, None)], "text string, bits string")
    bits = udf(lambda vector: vector and np.array(vector, np.float32).tobytes().hex())
    actual = expected.repartition(5).select("text", bits(embed("text")).alias("bits"))
    assert_df_equality(actual, expected, ignore_row_order=True)


def test_two_models_in_one_query_do_not_mix(spark: Any, tiny_model: str, minilm_model: str) -> None:
    tiny, minilm = make_embed_udf(spark, tiny_model), make_embed_udf(spark, minilm_model)
    row = spark.sql("SELECT 'east' AS t").select(tiny("t").alias("a"), minilm("t").alias("b")).first()
    assert (len(row.a), len(row.b)) == (2, 256)


def test_missing_model_is_refused_on_the_driver(spark: Any) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        make_embed_udf(spark, "/nowhere")


def test_executor_imports_no_torch(spark: Any, tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at inside a Python worker, after it has embedded."""
    # Workers of another environment are not shared: one that has asked a teacher for `tune` has torch.
    monkeypatch.setitem(spark.sparkContext.environment, "LAKEVEC_TEST", "imports")
    embed_arrow = make_embed_udf(spark, tiny_model).func

    def heavy(batches: Any) -> Any:
        for batch in batches:
            assert embed_arrow(batch.column(0)).to_pylist() == [[0.0, 1.0]] * batch.num_rows
            found = sorted(
                {"torch", "transformers", "sklearn", "pydantic", "lakevec.jobs"} & set(sys.modules)
            )
            used = "lakevec.udfs.worker_cache" in sys.modules
            yield pa.record_batch(
                {"found": [",".join(found)] * batch.num_rows, "used": [used] * batch.num_rows}
            )

    texts = spark.createDataFrame([("north",)] * 8, "text string").repartition(2)
    seen = texts.mapInArrow(heavy, "found string, used boolean").collect()
    assert {(row.found, row.used) for row in seen} == {("", True)}


def test_tasks_carry_a_name_and_not_the_table(spark: Any, minilm_model: str) -> None:
    from pyspark import cloudpickle

    from lakevec.pipeline.encoding.node_files import pack_table
    from lakevec.udfs.distribution import distribute_files

    packed = pack_table(load(minilm_model).table)
    assert sum(map(len, packed.fetch().values())) > 30_000_000
    assert len(cloudpickle.dumps(distribute_files(spark, packed))) < 10_000


@pytest.mark.parametrize("kind", ["auto", "pandas"])
def test_chunk_function_returns_the_chunks_of_each_text(spark: Any, tiny_model: str, kind: Any) -> None:
    chunk = make_chunk_udf(spark, tiny_model, chunk_tokens=3, chunk_overlap=1, kind=kind)
    text = "North ü east. East north southwest"
    frame = spark.createDataFrame([(text,), (None,), ("",)], "text string").coalesce(1)
    made = frame.select("text", chunk("text").alias("chunks"))
    assert made.schema["chunks"].dataType.simpleString() == (
        "array<struct<index:int,start:int,end:int,vector:array<float>>>"
    )
    rows = [row.chunks for row in made.collect()]
    assert [tuple(part) for part in rows[0]] == [(0, 0, 13, [0.0, 1.0]), (1, 6, 34, [0.0, 0.0])]
    assert rows[1] is None
    assert [tuple(part) for part in rows[2]] == [(0, 0, 0, [0.0, 0.0])]
    cut = made.selectExpr("text", "inline(chunks)").selectExpr("substring(text, start + 1, end - start)")
    assert [row[0] for row in cut.collect()] == ["North ü east.", "ü east. East north southwest", ""]
