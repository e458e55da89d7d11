"""Tables in every type go to other libraries and come back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.model.publishing import publish
from lakevec.pipeline.model.quantization import quantize_rows
from lakevec.pipeline.model.table import StaticTable
from tests.support.commands import convert as main
from tests.support.libraries import (
    MODEL2VEC,
    SENTENCE_TRANSFORMERS,
    TEXTS,
    embed,
    model2vec_says,
    sentence_transformers_say,
    write_model2vec,
)
from tests.support.models import make_word_tokenizer


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("shared", [False, True], ids=["a row each", "shared rows"])
def test_stored_rows_come_back_in_all_three_libraries(dtype: str, shared: bool, tmp_path: Path) -> None:
    """What weights and mapping mean is the same for lakevec, model2vec and Sentence Transformers."""
    words = ["[UNK]", "north", "east", "south", "west"]
    rng = np.random.default_rng(0)
    mapping = np.array([0, 1, 1, 2, 0], np.int32) if shared else None
    rows = rng.normal(size=(3 if shared else 5, 8))
    weights = rng.uniform(0.1, 1, size=5) if shared else None
    of_tokens = rows if weights is None else weights
    of_tokens[0] = 0
    embeddings, factors = quantize_rows(rows, dtype, weights=weights, mapping=mapping)
    tokenizer_json = make_word_tokenizer(words).to_str()
    table = StaticTable(embeddings, tokenizer_json, weights=factors, mapping=mapping)
    publish(table, str(tmp_path / "model"), provenance={}, quality={})
    assert load(str(tmp_path / "model")).table.fingerprint == table.fingerprint
    texts = ["north north east", "south", "west east nowhere", "nowhere"]
    exact = rows if mapping is None else rows[mapping] * np.asarray(weights)[:, None]
    vector = exact[[1, 1, 2]].mean(axis=0)
    tolerance = {"float32": 1e-6, "float16": 1e-3, "int8": 2e-2}[dtype]
    mine = embed(tmp_path / "model", texts)
    assert not mine[3].any()
    np.testing.assert_allclose(mine[0], vector / np.linalg.norm(vector), atol=tolerance)
    rest = 2e-3 if dtype == "float16" else 1e-5
    for library in (model2vec_says, sentence_transformers_say):
        theirs = library(tmp_path / "model", texts[:3]).astype(np.float32)
        np.testing.assert_allclose(mine[:3], theirs, atol=rest)


@pytest.mark.parametrize("to", ["lakevec", "model2vec", "sentence-transformers"])
@pytest.mark.parametrize("name", [*MODEL2VEC, SENTENCE_TRANSFORMERS[0], "glove50-4k/glove50_4k.txt"])
def test_converted_model_agrees_with_the_library_it_is_for(
    name: str, to: str, foreign_models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "model"
    assert main([str(foreign_models / name), "--output", str(output), "--to", to]) == 0
    said = capsys.readouterr().out
    assert f"for {to} to {output}" in said
    # No unknown words: that they are treated otherwise elsewhere is what convert says.
    texts = ["the government said", "the world", "of the people , by the people"]
    mine = embed(foreign_models / name, texts)
    library = {"sentence-transformers": sentence_transformers_say}.get(to, model2vec_says)
    tolerance = 2e-3 if "float16" in name else 1e-5
    np.testing.assert_allclose(library(output, texts).astype(np.float32), mine, atol=tolerance)
    np.testing.assert_allclose(embed(output, texts), mine, atol=1e-6)
    is_counted = name == SENTENCE_TRANSFORMERS[0] and to != "sentence-transformers"
    assert ("leaves unknown words out" in said) == is_counted
    is_longer = "glove" in name and to != "model2vec"
    assert ("counts unknown words" in said) == is_longer


def test_conversion_to_int8_keeps_the_scale(
    foreign_models: Path, general_texts: list[str], tmp_path: Path
) -> None:
    file, output = str(foreign_models / "glove50-4k/glove50_4k.txt"), tmp_path / "model"
    assert main([file, "--output", str(output), "--dtype", "int8"]) == 0
    table = load(str(output)).table
    assert table.embeddings.dtype == np.int8
    whole, small = embed(file, general_texts[:200]), embed(table, general_texts[:200])
    np.testing.assert_allclose(small, whole, atol=0.02)


@pytest.mark.filterwarnings("ignore")  # torch warns about its own exporter
def test_onnx_gives_the_same_vectors(foreign_models: Path, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    source, output = foreign_models / "model2vec-rs-fixtures/test-model-float32", tmp_path / "onnx"
    assert main([str(source), "--output", str(output), "--to", "onnx"]) == 0
    session = runtime.InferenceSession(str(output / "model.onnx"))
    tokenizer = Tokenizer.from_file(str(output / "tokenizer.json"))
    for text in TEXTS:
        ids = np.array([tokenizer.encode(text, add_special_tokens=False).ids], dtype=np.int64)
        [vectors] = session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        np.testing.assert_allclose(vectors, embed(source, [text]), atol=1e-5)


def test_conversion_refuses_what_is_there(
    foreign_models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(foreign_models / MODEL2VEC[1]), "--output", str(tmp_path)]) == 2
    assert f"model output '{tmp_path}' exists" in capsys.readouterr().err
    assert main(["/nowhere/model", "--output", str(tmp_path / "new")]) == 2
    assert "model '/nowhere/model' does not exist" in capsys.readouterr().err


def test_shared_rows_without_weights_leave_unknown_words_out_everywhere(tmp_path: Path) -> None:
    mapping = np.array([1, 0, 1, 1], np.int64)
    for name, rows in (("f", np.eye(2, dtype=np.float32)), ("i", 100 * np.eye(2, dtype=np.int8))):
        folder = write_model2vec(tmp_path / name, {"normalize": True}, embeddings=rows, mapping=mapping)
        texts = ["north nowhere", "north east"]
        assert main([folder, "--output", str(tmp_path / f"{name}-st"), "--to", "sentence-transformers"]) == 0
        for said in (
            model2vec_says(folder, texts),
            sentence_transformers_say(tmp_path / f"{name}-st", texts),
        ):
            np.testing.assert_allclose(embed(folder, texts), said.astype(np.float32), atol=1e-6)
