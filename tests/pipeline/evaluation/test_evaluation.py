"""Evaluations: the same figures twice, fidelity, and ablations."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer

from lakevec.pipeline.distillation.ablations import ABLATIONS, COUNTED_ABLATIONS
from lakevec.pipeline.evaluation.embedding_model import StaticEmbeddingModel, open_model
from lakevec.pipeline.evaluation.evaluation import rounded
from lakevec.pipeline.evaluation.fidelity import compare_fidelity, measure_fidelity
from lakevec.pipeline.evaluation.tasks import GROUPS
from tests.support.commands import evaluate
from tests.support.tasks import ROWS


def run(data: Path, output: Path, *words: str) -> tuple[dict[str, Any], dict[str, Any]]:
    assert evaluate(["--data", str(data), "--output", str(output), *words]) == 0
    return (
        json.loads((output / "evaluation.json").read_text()),
        json.loads((output / "timings.json").read_text()),
    )


def test_models_have_the_same_figures_twice(
    small_data: Path,
    tiny_model: str,
    hostile_model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = ["--model", tiny_model, "--model", hostile_model]
    record, timings = run(small_data, tmp_path / "one", *names)
    run(small_data, tmp_path / "two", *names)
    one, two = ((tmp_path / folder / "evaluation.json").read_bytes() for folder in ("one", "two"))
    assert one == two
    assert [model["name"] for model in record["models"]] == ["model", "<b>&\"other'"]
    keys = ["wordsim/rg-65", "sts/STS12", "sts/STSBenchmark-dev", "classification/ImdbClassification"]
    keys += ["clustering/mine", "pair_classification/mine", "reranking/mine", "retrieval/SciFact"]
    keys += ["summarization/SummEvalSummarization.v2", "phrases/bird"]
    for model in record["models"]:
        assert list(model["tasks"]) == keys
        assert model["averages"]["sts"] == model["tasks"]["sts/STS12"]["value"]
        assert model["mean"] == pytest.approx(np.mean(list(model["averages"].values())), abs=2e-6)
    # With no general texts beside them, the texts of the tasks.
    assert [entry["speed"]["texts"] for entry in timings["models"]] == [6, 6]
    assert list(timings["models"][0]["tasks"]) == keys
    shown = capsys.readouterr().out
    heads = ["model", *(group.short for group in GROUPS.values()), "mean", "texts/s", "MB", "bytes/vector"]
    assert re.search(f"^{' +'.join(heads)}$", shown, re.M)
    assert f"wrote report.html, quality.svg, timings.json, evaluation.json to {tmp_path}/one\n" in shown


def test_tables_are_measured_for_each_number_of_dimensions_and_each_type(
    small_data: Path,
    hostile_model: str,
    tiny_teacher: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--model", hostile_model, str(tiny_teacher), "--only", "sts", "retrieval", "classification"]
    choices = ["--dimensions", "3", "2", "--vector-type", "float32", "int8", "binary"]
    record, _ = run(small_data, tmp_path / "out", *words, *choices)
    names = ["3 float32", "3 int8", "3 binary", "2 float32", "2 int8", "2 binary", ""]
    assert [model["name"].partition(" ")[2] for model in record["models"]] == names
    sizes = [(model["dimensions"], model["vector_bytes"]) for model in record["models"]]
    assert sizes == [(3, 12), (3, 7), (3, 1), (2, 8), (2, 6), (2, 1), (8, 32)]
    for model in record["models"]:
        is_binary = model["vector_type"] == "binary"
        groups = ["sts", "retrieval"] if is_binary else []
        assert list(model["averages_float_query"]) == groups
        assert ("float_query" in model["tasks"]["retrieval/SciFact"]) == is_binary
        assert "float_query" not in model["tasks"]["classification/ImdbClassification"]
    name = re.escape(record["models"][2]["name"])
    assert re.search(f"^{name}, float queries +[-0-9.]+ +[-0-9.]+$", capsys.readouterr().out, re.M)
    assert {model["source"] for model in record["models"][:6]} == {"<b>&\"other'"}
    assert "3 binary, float queries</th>" in (tmp_path / "out" / "report.html").read_text()
    one = open_model(hostile_model, "any")
    assert isinstance(one, StaticEmbeddingModel)
    narrow = one.make_variant(2, "binary")
    assert set(np.unique(narrow.encode(["north", "nowhere"]))) <= {-1.0, 0.0, 1.0}


def test_a_narrower_table_leaves_out_numbers_above_its_width(
    small_data: Path, tiny_model: str, hostile_model: str, tmp_path: Path
) -> None:
    words = ["--model", tiny_model, hostile_model, "--only", "sts", "--dimensions"]
    record, _ = run(small_data, tmp_path / "both", *words, "3", "1")
    widths = [(model["source"], model["dimensions"]) for model in record["models"]]
    assert widths == [("model", 1), ("<b>&\"other'", 3), ("<b>&\"other'", 1)]
    # With none left, a table is measured whole.
    record, _ = run(small_data, tmp_path / "whole", *words, "3")
    assert [model["name"] for model in record["models"]] == ["model", "<b>&\"other' 3"]


def test_more_dimensions_than_any_table_has_are_refused(
    small_data: Path, tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", str(small_data), "--model", tiny_model, "--output", str(tmp_path / "out")]
    assert evaluate([*words, "--dimensions", "2", "3"]) == 2
    assert "dimensions: got 3; expected 1 to 2, the width of the model's table" in capsys.readouterr().err
    assert evaluate([*words, "--vector-type", "bits"]) == 2


def test_only_runs_what_was_asked_for(small_data: Path, tiny_model: str, tmp_path: Path) -> None:
    record, _ = run(small_data, tmp_path / "out", "--model", tiny_model, "--only", "STS12", "phrases")
    assert [task["key"] for task in record["tasks"]] == ["sts/STS12", "phrases/bird"]


def test_fidelity_is_that_of_the_vectors(
    small_data: Path, tiny_model: str, hostile_model: str, tiny_teacher: Path, tmp_path: Path
) -> None:
    names = [tiny_model, hostile_model, str(tiny_teacher)]
    words = [word for name in names for word in ("--model", name)]
    sample = ["--sample", str(small_data / "rows"), "--text", "body", "--teacher", str(tiny_teacher)]
    cache = ["--cache", str(tmp_path / "cache")]
    for folder in ("one", "two"):
        assert evaluate(["--output", str(tmp_path / folder), *words, *sample, *cache]) == 0
    one, two = ((tmp_path / folder / "evaluation.json").read_bytes() for folder in ("one", "two"))
    assert one == two
    fidelity = json.loads(one)["fidelity"]
    assert (fidelity["rows"], fidelity["teacher"]["name"]) == (64, "tiny-teacher")
    vectors = [open_model(name, "any").encode(ROWS) for name in names]
    for place, entry in enumerate(fidelity["models"]):
        expected = measure_fidelity(vectors[place], vectors[2])
        assert entry["correlation"] == pytest.approx(expected.correlation, abs=1e-5)
    assert fidelity["models"][2]["correlation"] == pytest.approx(1.0, abs=1e-5)
    assert "difference" not in fidelity["models"][0]
    expected_difference = compare_fidelity(vectors[1], vectors[0], vectors[2]).difference
    assert fidelity["models"][1]["difference"]["difference"] == pytest.approx(expected_difference, abs=1e-5)
    # The teacher saw the sample once.
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_ablations_are_distilled_once_where_a_cache_is_given(
    small_data: Path, tiny_teacher: Path, tmp_path: Path
) -> None:
    words = ["--ablations", str(tiny_teacher), "--plain-teacher", str(tiny_teacher), "--only", "sts"]
    cache = ["--cache", str(tmp_path / "cache")]
    record, _ = run(small_data, tmp_path / "one", *words, *cache)
    tables = sorted((tmp_path / "cache").iterdir())
    times = [table.stat().st_mtime_ns for table in tables]
    run(small_data, tmp_path / "two", *words, *cache)
    assert (tmp_path / "one" / "evaluation.json").read_bytes() == (
        tmp_path / "two" / "evaluation.json"
    ).read_bytes()
    assert sorted((tmp_path / "cache").iterdir()) == tables
    assert [table.stat().st_mtime_ns for table in tables] == times
    found = record["ablations"]["models"]
    assert [model["name"] for model in found] == [
        *ABLATIONS,
        "not a Sentence Transformer",
    ]
    # Narrower than 256, the teacher keeps its width; what is left out makes another table.
    assert len({model["fingerprint"] for model in found[:5]}) == 5
    assert {model["dimensions"] for model in found} == {8}


def test_ablations_of_the_recipe_with_counts(small_data: Path, tiny_teacher: Path, tmp_path: Path) -> None:
    counts = tmp_path / "counts.parquet"
    vocabulary = Tokenizer.from_file(str(tiny_teacher / "tokenizer.json")).get_vocab()
    names = sorted(vocabulary, key=lambda token: vocabulary[token])
    pq.write_table(pa.table({"token": names, "count": [7 * i % 40 for i in range(len(names))]}), counts)
    words = ["--ablations", str(tiny_teacher), "--counts", str(counts), "--only", "sts"]
    record, _ = run(small_data, tmp_path / "report", *words, "--cache", str(tmp_path / "cache"))
    found = record["ablations"]["models"]
    assert [model["name"] for model in found] == list(COUNTED_ABLATIONS)
    assert len({model["fingerprint"] for model in found}) == len(found)
    kept = list((tmp_path / "cache").iterdir())
    assert len(kept) == 2  # those that counts have nothing to do with
    assert "SIF weights by counts" in (tmp_path / "report" / "report.html").read_text()


def test_record_is_rounded_and_has_no_minus_zero() -> None:
    assert str(rounded({"a": [-1e-9, 0.12345678], "b": 3})) == "{'a': [0.0, 0.123457], 'b': 3}"
