"""The examples of docs/output.md for binary vectors find the same rows, each in its own way."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import lakevec
from tests.support.commands import embed
from tests.support.paths import ROOT


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_readings_of_binary_vectors_agree(
    spark: Any, minilm_model: str, general_texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faiss")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(minilm_model, "models/minilm")
    texts = [*general_texts[:400], "parse a date from a string", "how to parse dates"]
    table = pa.table({"id": range(len(texts) + 1), "text": [*texts, None]})
    pq.write_table(table, tmp_path / "docs.parquet")
    words = ["--model", "models/minilm", "--input", "docs.parquet", "--text", "text"]
    assert embed([*words, "--output", "lake/bits", "--vector-type", "binary"]) == 0

    model = lakevec.load("models/minilm")
    query, vectors = model.encode(["parse a date"])[0], model.encode(texts)
    distances = ((vectors > 0) != (query > 0)).sum(axis=1)
    scores = np.where(vectors > 0, 1.0, -1.0) @ query
    nearest = sorted(range(len(texts)), key=lambda row: (distances[row], row))[:10]
    best = sorted(range(len(texts)), key=lambda row: -scores[row])[:10]

    section = (ROOT / "docs" / "output.md").read_text().split("\n## Binary vectors\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    of_query, of_spark, of_udf, of_duckdb, of_faiss, of_numpy = blocks
    found: dict[str, Any] = {"spark": spark}
    exec(of_query, found)
    exec(of_spark.replace("lake/", f"{tmp_path}/lake/"), found)
    assert [(row.id, row.distance) for row in found["nearest"].collect()] == [
        (row, distances[row]) for row in nearest
    ]
    exec(of_udf.replace("lake/", f"{tmp_path}/lake/"), found)
    ranked = found["best"].limit(10).collect()
    assert [row.id for row in ranked] == best
    assert [row.score for row in ranked] == pytest.approx(scores[best])
    exec(of_duckdb, found)
    assert found["nearest"] == [(row, distances[row]) for row in nearest]
    assert [row for row, _ in found["best"]] == best
    assert [score for _, score in found["best"]] == pytest.approx(scores[best])
    exec(of_faiss, found)
    assert found["distances"][0].tolist() == distances[nearest].tolist()
    exec(of_numpy, found)
    assert found["distance"].tolist() == distances.tolist()
    assert found["score"] == pytest.approx(scores)
