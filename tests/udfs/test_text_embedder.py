"""`lakevec.spark.TextEmbedder` with the stages of MLlib behind it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chispa import assert_df_equality
from pyspark.errors import PySparkException
from pyspark.ml import Pipeline
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.clustering import KMeans
from pyspark.ml.functions import vector_to_array
from pyspark.ml.linalg import Vectors, VectorUDT
from pyspark.ml.tuning import ParamGridBuilder
from pyspark.sql.types import StructField, StructType

import lakevec.spark as spark_module
from lakevec.pipeline.errors import InputError, ModelError, SettingsError
from lakevec.spark import TextEmbedder
from lakevec.udfs.column_functions import make_embed_udf
from tests.support.paths import ROOT

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
CLEAN, WITH_NULL = ["north", "North east", "nowhere", ""], ["north", None, ""]


@pytest.fixture
def make_rows(spark: Any) -> Any:
    return lambda texts: spark.createDataFrame(
        [(n, text) for n, text in enumerate(texts)], "id int, t string"
    )


@pytest.fixture
def make_embedder(tiny_model: str) -> Any:
    return lambda **others: TextEmbedder(**{"inputCol": "t", "outputCol": "v", "model": tiny_model} | others)


def vectors_of(rows: Any) -> list[list[float] | None]:
    return [row.v and list(row.v) for row in rows.orderBy("id").collect()]


def test_lines_of_the_reference_cluster_real_texts_and_a_loaded_pipeline_classifies_them(
    spark: Any, minilm_model: str, general_texts: list[str], tmp_path: Path
) -> None:
    english, foreign = general_texts[:8000:160], general_texts[8000::40]
    labelled = [(text, float(text in foreign)) for text in (*english, *foreign)]
    docs = spark.createDataFrame(labelled, "body string, label double").coalesce(1).cache()
    page = (ROOT / "docs" / "reference.md").read_text()
    lines = re.findall(r"```python\n(.*?)```", page.split("\n### Spark ML\n")[1], re.DOTALL)[0]
    found: dict[str, Any] = {"docs": docs}
    exec(lines.replace("models/minilm", minilm_model).replace("models/clusters", str(tmp_path / "c")), found)
    clusters = found["clusters"]
    assert_df_equality(clusters.select("prediction"), found["fitted"].transform(docs).select("prediction"))
    assert clusters.schema["features"].metadata == {"ml_attr": {"num_attrs": 256}}
    embed = make_embed_udf(spark, minilm_model)
    same = clusters.select((vector_to_array("features", "float32") == embed("body")).alias("same"))
    assert same.filter("same").count() == len(labelled)

    pipeline = Pipeline(stages=[found["embedder"], LogisticRegression(maxIter=5)])
    pipeline.save(str(tmp_path / "pipeline"))
    classified = Pipeline.load(str(tmp_path / "pipeline")).fit(docs).transform(docs)
    assert classified.filter("prediction = label").count() > 0.9 * len(labelled)
    docs.unpersist()


@pytest.mark.parametrize(
    ("kind", "invalid", "expected"),
    [
        ("array", "keep", [[0, 1], None, [0, 0]]),
        ("array", "skip", [[0, 1], [0, 0]]),
        ("vector", "keep", [[0, 1], [0, 0], [0, 0]]),
        ("vector", "skip", [[0, 1], [0, 0]]),
    ],
)
def test_null_text_is_kept_or_skipped(
    make_rows: Any, make_embedder: Any, kind: str, invalid: str, expected: Any
) -> None:
    embedder = make_embedder(outputType=kind, handleInvalid=invalid)
    assert vectors_of(embedder.transform(make_rows(WITH_NULL))) == expected


@pytest.mark.parametrize("kind", ["array", "vector"])
def test_null_text_is_an_error_by_default_wherever_the_vector_is_used(
    make_rows: Any, make_embedder: Any, kind: str
) -> None:
    embedded = make_embedder(outputType=kind).transform(make_rows(WITH_NULL))
    for query in (embedded, embedded.filter("v IS NOT NULL").select("id")):
        with pytest.raises(PySparkException, match=r"column 't' holds a null text; set handleInvalid"):
            query.collect()
    assert embedded.select("id").count() == len(WITH_NULL)  # the vector is not used
    assert vectors_of(make_embedder(outputType=kind).transform(make_rows(CLEAN))) == [
        [0, 1],
        [0.5, 0.5],
        [0, 0],
        [0, 0],
    ]


def test_mllib_takes_zeros_but_no_null_vectors(spark: Any, make_rows: Any, make_embedder: Any) -> None:
    kmeans = KMeans(k=2, seed=1, maxIter=1, initMode="random", featuresCol="v")
    nulls = [(Vectors.dense(0, 1),), (Vectors.dense(1, 0),), (None,)]
    with pytest.raises(PySparkException, match="Vectors MUST NOT be Null"):
        kmeans.fit(spark.createDataFrame(nulls, StructType([StructField("v", VectorUDT())])))
    embedded = make_embedder(handleInvalid="keep").transform(make_rows([*WITH_NULL, "east"]))
    assert kmeans.fit(embedded).summary.k == 2


def test_saved_stage_refuses_another_model_in_its_place_and_takes_its_own_elsewhere(
    make_rows: Any, make_embedder: Any, tiny_model: str, other_model: str, tmp_path: Path
) -> None:
    place = tmp_path / "model"
    shutil.copytree(tiny_model, place)
    stage = make_embedder(model=str(place), maxTokens=1, outputType="array", handleInvalid="keep")
    stage.save(str(tmp_path / "stage"))
    shutil.rmtree(place)
    shutil.copytree(other_model, place)
    loaded = TextEmbedder.load(str(tmp_path / "stage"))
    told = {param.name: value for param, value in loaded.extractParamMap().items()}
    assert told == {param.name: value for param, value in stage.extractParamMap().items()}
    with pytest.raises(ModelError, match=r"another one than .* got sha256:\w+; expected sha256:\w+; call"):
        loaded.transform(make_rows(["north"]))
    found = loaded.setModel(tiny_model).transform(make_rows(["east north", None]))
    assert vectors_of(found) == [[1, 0], None]


def test_stage_of_the_first_columns_is_saved_and_loaded(
    make_rows: Any, make_embedder: Any, tmp_path: Path
) -> None:
    stage = make_embedder(dimensions=1)
    stage.save(str(tmp_path / "stage"))
    loaded = TextEmbedder.load(str(tmp_path / "stage"))
    found = loaded.transform(make_rows(["east north", "north"]))
    assert vectors_of(found) == [[0.5], [0]]
    assert found.schema["v"].metadata == {"ml_attr": {"num_attrs": 1}}
    assert loaded.setDimensions(2).getDimensions() == 2
    with pytest.raises(SettingsError, match="dimensions: got 3; expected 1 to 2"):
        loaded.setDimensions(3).transform(make_rows(["north"]))


def test_grid_of_parameters_may_vary_model_and_tokens(
    make_rows: Any, make_embedder: Any, tiny_model: str, other_model: str
) -> None:
    embedder, rows = make_embedder(), make_rows(["east north"])
    assert vectors_of(embedder.transform(rows)) == [[0.5, 0.5]]
    places = [tiny_model, other_model]
    grid = ParamGridBuilder().addGrid(embedder.model, places).addGrid(embedder.maxTokens, [1, 2]).build()
    found = [vectors_of(embedder.transform(rows, point)) for point in grid]
    assert found == [[[1, 0]], [[0.5, 0.5]], [[2, 0]], [[1, 1]]]
    assert np.all(vectors_of(embedder.transform(rows)) == np.array([[0.5, 0.5]]))


def test_copies_of_a_stage_read_the_model_once(make_embedder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    load = spark_module.load
    monkeypatch.setattr(spark_module, "load", lambda place: read.append(place) or load(place))
    embedder = make_embedder()
    # As a CrossValidator does before it has used the stage.
    for copied in [embedder.copy({embedder.maxTokens: count}) for count in (1, 2, 3)]:
        copied._open()
    assert len(read) == 1


@pytest.mark.parametrize(
    ("others", "kind", "told"),
    [
        ({"outputType": "list"}, SettingsError, "outputType .* got 'list'; expected vector or array"),
        ({"handleInvalid": "drop"}, SettingsError, "got 'drop'; expected error or skip or keep"),
        ({"maxTokens": 0}, SettingsError, "max_tokens: got 0; expected 1 or more"),
        ({"maxTokens": "few"}, TypeError, 'given for param "maxTokens"'),
        ({"model": None}, SettingsError, "has no model: give model="),
        ({"inputCol": None}, SettingsError, "has no inputCol: give inputCol="),
        ({"inputCol": "id"}, InputError, "text column 'id': got int; expected string"),
        ({"outputCol": "ID"}, InputError, "column 'ID' is in the data already"),
        ({"model": "/nowhere"}, ModelError, "does not exist"),
    ],
)
def test_wrong_parameters_are_refused_before_a_query(
    make_rows: Any, make_embedder: Any, others: dict[str, Any], kind: type[Exception], told: str
) -> None:
    with pytest.raises(kind, match=told):
        make_embedder(**others).transform(make_rows(CLEAN))


def test_parameters_are_those_of_a_stage_of_pyspark(make_embedder: Any) -> None:
    with pytest.raises(TypeError, match="forces keyword arguments"):
        TextEmbedder("t")
    embedder = TextEmbedder().setParams(inputCol="t").setOutputCol("v").setModel("m").setMaxTokens(7)
    embedder.setOutputType("array").setHandleInvalid("skip").setParams(maxTokens=8)
    assert (embedder.getInputCol(), embedder.getOutputCol(), embedder.getModel()) == ("t", "v", "m")
    assert (embedder.getOutputType(), embedder.getMaxTokens(), embedder.getHandleInvalid()) == (
        "array",
        8,
        "skip",
    )
    assert "fingerprint: the only model that the stage accepts (default: None)" in embedder.explainParams()
