"""Folders of model2vec and Sentence Transformers give the vectors of their library."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from tokenizers import Tokenizer

from lakevec.pipeline.errors import ModelError
from lakevec.pipeline.model.artifact import load
from tests.support.libraries import (
    MODEL2VEC,
    SENTENCE_TRANSFORMERS,
    embed,
    model2vec_says,
    sentence_transformers_say,
    write_model2vec,
)

WITHOUT_MODULES = [
    "model2vec-rs-fixtures/test-model-sentence-transformers",
    "model2vec-rs-fixtures/test-model-static-embedding",
]


@pytest.mark.parametrize("name", [*MODEL2VEC, *WITHOUT_MODULES])
def test_model2vecs_folder_gives_its_vectors(
    name: str, foreign_models: Path, general_texts: list[str]
) -> None:
    theirs = model2vec_says(foreign_models / name, general_texts[:500]).astype(np.float32)
    # model2vec rounds the vectors of a float16 table to float16.
    tolerance = 1e-3 if "float16" in name else 1e-5
    np.testing.assert_allclose(embed(foreign_models / name, general_texts[:500]), theirs, atol=tolerance)


def test_float16_rows_are_summed_in_float32(foreign_models: Path, general_texts: list[str]) -> None:
    folder = foreign_models / "model2vec-rs-fixtures/test-model-float16"
    rows = safetensors.numpy.load_file(folder / "model.safetensors")["embeddings"].astype(np.float32)
    from model2vec import StaticModel

    reference = StaticModel(rows, Tokenizer.from_file(str(folder / "tokenizer.json")), normalize=True)
    theirs = reference.encode(general_texts[:500], max_length=None)
    np.testing.assert_allclose(embed(folder, general_texts[:500]), theirs, atol=1e-5)


@pytest.mark.parametrize("name", SENTENCE_TRANSFORMERS)
def test_sentence_transformers_folder_gives_its_vectors(
    name: str, foreign_models: Path, general_texts: list[str]
) -> None:
    texts = [text for text in general_texts[:500] if text.strip()]
    theirs = sentence_transformers_say(foreign_models / name, texts)
    np.testing.assert_allclose(embed(foreign_models / name, texts), theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("test-model-float32", "hello world", "short"),
        ("test-model-float32", " ".join(["hello"] * 1000), "long"),
        ("test-model-both-configs", "hello world", "short"),
        ("test-model-sentence-transformers", "hello world", "short"),
        ("test-model-static-embedding", "hello world", "short"),
        ("test-model-modules-normalize", "hello world", "short"),
        ("test-nested-static-embedding/some/path", "hello world", "short"),
        ("test-model-vocab-quantized", "hello", "vocab_quantized"),
    ],
)
def test_fixture_gives_the_vectors_that_stand_beside_it(
    name: str, text: str, expected: str, foreign_models: Path
) -> None:
    folder = foreign_models / "model2vec-rs-fixtures"
    wanted = json.loads((folder / f"embeddings_{expected}.json").read_text())
    np.testing.assert_allclose(embed(folder / name, [text]), wanted, atol=1e-5)


def test_first_model2vec_called_its_file_otherwise(foreign_models: Path, tmp_path: Path) -> None:
    source = foreign_models / "model2vec-rs-fixtures/test-model-float32"
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(source / name, tmp_path)
    shutil.copy(source / "model.safetensors", tmp_path / "embeddings.safetensors")
    np.testing.assert_array_equal(embed(tmp_path), embed(source))


def test_declared_behaviour_is_recorded(foreign_models: Path) -> None:
    source = load(str(foreign_models / "potion-base-4M-int8")).provenance["source"]
    assert source == {
        "format": "model2vec",
        "unknown words": "left out of the mean",
        "long texts": "not truncated; model2vec itself truncates at 512 tokens by default",
        "vectors": "scaled to length 1",
    }
    source = load(str(foreign_models / SENTENCE_TRANSFORMERS[1])).provenance["source"]
    assert source["unknown words"] == "counted in the mean, with the unknown token's row"
    assert source["vectors"] == "not normalised"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "is not a model that lakevec knows"),
        (lambda folder: (folder / "modules.json").write_text("[{}]"), "expected a list of modules"),
        (
            lambda folder: (folder / "modules.json").write_text('[{"path": "", "type": "x.Transformer"}]'),
            "got a Sentence Transformer of Transformer; expected a StaticEmbedding; distil it",
        ),
        (
            lambda folder: (folder / "modules.json").write_text(
                '[{"path": "../x", "type": "x.StaticEmbedding"}]'
            ),
            "names a folder outside",
        ),
    ],
    ids=["empty", "damaged modules", "transformer", "outside"],
)
def test_folder_that_is_no_static_model_is_refused(
    make: Callable[[Path], Any], message: str, tmp_path: Path
) -> None:
    make(tmp_path)
    with pytest.raises(ModelError, match=message):
        load(str(tmp_path))


@pytest.mark.parametrize(
    ("config", "tensors", "message"),
    [
        ({"normalize": "false"}, {}, "normalize: got 'false'; expected true or false"),
        ({}, {"embeddings": np.ones((4, 2), np.int32)}, "embeddings: got int32"),
        ({}, {"mapping": np.full(4, 0.7, np.float32)}, "mapping: got float32"),
        ({}, {"mapping": np.array([0, 1, 2, 2**32], np.int64)}, "mapping names rows that the table lacks"),
        ({}, {"weights": np.ones(0, np.float32)}, "weights: got float32 of shape"),
        (
            {},
            {"weights": np.full(4, 1e20, np.float32), "embeddings": np.full((4, 2), 1e20, np.float32)},
            "beyond 1e30",
        ),
        ({}, {"weights": np.array([1, np.nan, 1, 1], np.float32)}, "weights hold NaN"),
    ],
)
def test_tensors_that_are_no_table_are_refused(
    config: dict[str, Any], tensors: dict[str, np.ndarray], message: str, tmp_path: Path
) -> None:
    folder = write_model2vec(tmp_path / "m", config, **{"embeddings": np.ones((4, 2), np.float32), **tensors})
    with pytest.raises(ModelError, match=message):
        load(folder)
