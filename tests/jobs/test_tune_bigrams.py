"""``lakevec tune --bigrams``: pairs of the counts or of the sample, and from there to the embedded lake."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer

from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.model.publishing import publish
from tests.support.commands import count, embed, tune
from tests.support.tiny_teacher import QUICK, distill_as, make_texts, make_tiny_teacher, tune_words


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_teacher(tmp_path_factory.mktemp("bigrams") / "teacher")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bigrams") / "lake"
    folder.mkdir()
    pq.write_table(pa.table({"body": [*make_texts(600), None, ""]}), folder / "0.parquet")
    return folder


@pytest.fixture(scope="module")
def vectors(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first run leaves the teacher's vectors for the others."""
    return tmp_path_factory.mktemp("bigrams") / "vectors"


def test_counted_bigrams_positions_and_inputs_reach_the_embedded_lake(
    vectors: Path, teacher: Path, lake: Path, tmp_path: Path
) -> None:
    """Counted, tuned, published, loaded on nodes and embedded: the stored vectors are the model's own."""
    counts, model, output = tmp_path / "counts", tmp_path / "model", tmp_path / "vectors"
    source = ["--input", str(lake), "--text", "body"]
    bigrams = ["--bigrams", "40"]
    assert count(["--model", str(teacher), *source, "--output", str(counts), *bigrams]) == 0
    better = ["--counts", str(counts), *bigrams, "--position-scale", "5", "--input-columns", "4"]
    kept = ["--vectors", str(vectors), "--trained-dimensions", "12"]
    words = [*tune_words(teacher, lake, model), *QUICK, "--epochs", "2"]
    assert tune([*words, *better, *kept, "--dimensions", "14"]) == 0
    artifact = load(str(model))
    table, recipe = artifact.table, artifact.provenance["recipe"]
    assert table.bigrams is not None
    assert (table.dimensions, table.position_scale, len(table.bigrams)) == (14, 5.0, 40)
    assert (recipe["bigrams"], recipe["input_columns"], recipe["trained_dimensions"]) == (40, 4, 12)
    assert embed(["--model", str(model), *source, "--output", str(output)]) == 0
    rows = pq.read_table(output).select(["body", "body_embedding"]).to_pydict()
    expected = artifact.encode(rows["body"])
    for stored, own, text in zip(rows["body_embedding"], expected, rows["body"], strict=True):
        assert stored is None if text is None else np.float32(stored).tobytes() == own.tobytes()


@pytest.fixture(scope="module")
def plain_counts(spark: Any, teacher: Path, lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Counts by the teacher's tokenizer, without bigrams."""
    folder = tmp_path_factory.mktemp("counted") / "counts"
    source = ["--model", str(teacher), "--input", str(lake), "--text", "body"]
    assert count([*source, "--output", str(folder)]) == 0
    return folder


@pytest.mark.parametrize("part", [".", "tokens"], ids=["folder of counts", "Parquet of tokens"])
def test_counts_without_bigrams_leave_the_pairs_to_the_sample(
    vectors: Path,
    teacher: Path,
    lake: Path,
    plain_counts: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    part: str,
) -> None:
    kept = ["--vectors", str(vectors), "--bigrams", "40", "--epochs", "1"]
    words = [*tune_words(teacher, lake, tmp_path / "model"), *QUICK, *kept]
    assert tune([*words, "--counts", str(plain_counts / part)]) == 0
    told = capsys.readouterr().out
    assert "bigrams: those of the sample, since --counts has none; count with 'lakevec count --bi" in told
    found = load(str(tmp_path / "model"))
    assert found.table.bigrams is not None
    assert len(found.table.bigrams) == 40
    assert found.provenance["recipe"]["counts"] == str(plain_counts / part)
    assert "bigram_counts" not in found.provenance["recipe"]


def test_damaged_bigrams_are_refused_and_not_replaced_by_the_samples(
    teacher: Path, lake: Path, plain_counts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(plain_counts, tmp_path / "counts")
    record = json.loads((tmp_path / "counts" / "count.json").read_text())
    (tmp_path / "counts" / "count.json").write_text(json.dumps({**record, "bigrams": 7}))
    words = [*tune_words(teacher, lake, tmp_path / "model"), "--counts", str(tmp_path / "counts")]
    assert tune([*words, "--bigrams", "40"]) == 2
    assert "are incomplete: got 0 bigrams; expected 7" in capsys.readouterr().err


def test_bigrams_of_counts_need_the_words_of_the_vocabulary(
    vectors: Path,
    teacher: Path,
    lake: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The teacher's tokenizer makes a pair of what the table reads as one word; a model with it does not."""
    words = tmp_path / "words.txt"
    words.write_text("ba be\nbi ba\n")
    with_words = distill_as(teacher, dimensions=12, vocabulary=str(words)).table
    publish(with_words, str(tmp_path / "words"), provenance={}, quality={})
    kept = ["--vectors", str(vectors), *QUICK, "--epochs", "1"]
    found = {}
    for name in (str(teacher), str(tmp_path / "words")):
        counts, model = tmp_path / f"counts-{len(found)}", tmp_path / f"model-{len(found)}"
        source = ["--model", name, "--input", str(lake), "--text", "body"]
        assert count([*source, "--output", str(counts), "--bigrams", "1000"]) == 0
        capsys.readouterr()
        better = ["--vocabulary", str(words), "--counts", str(counts), "--bigrams", "1000"]
        assert tune([*tune_words(teacher, lake, model), *kept, *better]) == 0
        found[name] = load(str(model)), capsys.readouterr().out
    (of_sample, told), (of_counts, told_nothing) = found.values()
    said = "bigrams: those of the sample, since --counts lacks tokens of the vocabulary; count by a model"
    assert said in told.partition("sample:")[0], "told after the teacher's work"
    assert "bigrams: those" not in told_nothing
    assert "bigram_counts" not in of_sample.provenance["recipe"]
    assert of_counts.provenance["recipe"]["bigram_counts"] == str(tmp_path / "counts-1")
    vocabulary = Tokenizer.from_str(with_words.tokenizer_json).get_vocab(with_added_tokens=True)
    for artifact in (of_sample, of_counts):
        assert artifact.table.bigrams is not None
        firsts = set(artifact.table.bigrams.pairs[:, 0].tolist())
        assert {vocabulary["ba be"], vocabulary["bi ba"]} <= firsts
