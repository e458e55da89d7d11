"""``lakevec tune --sample-by clusters``: from the lake to the model's card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakevec.jobs.lake_sample import sample_lake
from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.settings.tune import TuneSettings
from tests.support.commands import tune
from tests.support.tiny_teacher import WORDS, make_tiny_teacher, tune_words

COMMON, RARE = WORDS[60:], WORDS[:60]
ROWS, POOL, TEXTS = 150, 1200, 1500
QUICK = ["--dimensions", "12", "--texts-per-step", "64", "--piece-rows", "50", "--epochs", "1"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_teacher(tmp_path_factory.mktemp("clusters") / "teacher")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One text in twenty is of any six words. The others are of the same ones in another order."""
    random = np.random.default_rng(0)
    texts: dict[str, None] = {}
    while len(texts) < TEXTS:
        is_rare = len(texts) % 20 == 0
        texts[" ".join(random.choice(RARE, 6) if is_rare else random.permutation(COMMON))] = None
    folder = tmp_path_factory.mktemp("clusters") / "lake"
    folder.mkdir()
    for part in range(3):
        pq.write_table(pa.table({"body": list(texts)[part::3]}), folder / f"{part}.parquet")
    return folder


def cluster_words(teacher: Path, lake: Path, output: Path) -> list[str]:
    return [*tune_words(teacher, lake, output), *QUICK, "--sample-by", "clusters"]


def share_of_rare(texts: list[str]) -> float:
    return sum(text.split()[0] in RARE for text in texts) / len(texts)


def test_rare_topic_is_learned_from_more_and_a_repeated_run_computes_nothing(
    spark: Any, teacher: Path, lake: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune([*cluster_words(teacher, lake, tmp_path / "model"), "--rows", str(ROWS)]) == 0
    out = capsys.readouterr().out
    assert "sample: 150 of 1,200 texts, by 12 clusters; the teacher works in float32\n" in out
    recipe = load(str(tmp_path / "model")).provenance["recipe"]
    assert (recipe["sample_clusters"], recipe["sample_pool"]) == (12, POOL)
    assert "| sample clusters | 12 |" in (tmp_path / "model" / "README.md").read_text()
    [kept] = (tmp_path / "model-teacher").iterdir()
    texts = [
        text
        for file in sorted((kept / "texts").iterdir())
        for text in pq.read_table(file)["text"].to_pylist()
    ]
    values = {"teacher": str(teacher), "input": [str(lake)], "text": ["body"], "output": "m", "rows": POOL}
    pool = sample_lake(spark, TuneSettings.model_validate(values))
    assert texts[: ROWS // 5] == pool[: ROWS // 5]
    assert share_of_rare(texts[ROWS // 5 :]) > 2 * share_of_rare(pool)
    # The files' layout, and options that don't change the teacher's vectors, leave the sample as it is.
    rows = pq.read_table(lake)
    pq.write_table(rows.take(np.random.default_rng(0).permutation(len(rows))), tmp_path / "turned.parquet")
    again = [*cluster_words(teacher, tmp_path / "turned.parquet", tmp_path / "again"), "--rows", str(ROWS)]
    again += ["--vectors", str(tmp_path / "model-teacher"), "--dimensions", "8", "--position-scale", "9"]
    assert tune(again) == 0
    assert "teacher: 0 of 3 shards to compute" in capsys.readouterr().out
    assert load(str(tmp_path / "again")).provenance["recipe"]["sample_sha256"] == recipe["sample_sha256"]


def test_clusters_change_nothing_if_all_texts_are_taken(
    spark: Any, teacher: Path, lake: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*cluster_words(teacher, lake / "0.parquet", tmp_path / "model"), "--rows", "600"]
    assert tune(words) == 0
    assert "sample: 500 texts, all there are, so clusters change nothing; the" in capsys.readouterr().out
    recipe = load(str(tmp_path / "model")).provenance["recipe"]
    assert "sample_clusters" not in recipe
    assert "sample_pool" not in recipe
    again = [*words, "--output", str(tmp_path / "again"), "--vectors", str(tmp_path / "model-teacher")]
    assert tune([*again, "--sample-by", "random"]) == 0
    out = capsys.readouterr().out
    assert "sample: 500 texts; the teacher" in out
    assert "teacher: 0 of 10 shards to compute" in out
    assert load(str(tmp_path / "again")).provenance["recipe"] == recipe
