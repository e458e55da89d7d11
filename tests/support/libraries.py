"""What the tests of models share: where they lie, and what each library says of texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import safetensors.numpy

from lakevec.pipeline.encoding.encoder import Encoder
from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.model.table import StaticTable
from tests.support.models import make_word_tokenizer

TEXTS = [
    "hello world",
    "The Größe of 日本 is, after all, a matter of measurement (2.5 km)...",
    "Set the object *o* size to *size*.",
    "Yeah, it isn't that it's predictable",
]


def embed(model: str | Path | StaticTable, texts: list[str] | None = None) -> np.ndarray:
    table = model if isinstance(model, StaticTable) else load(str(model)).table
    return Encoder(table).encode(pa.array(texts or TEXTS)).vectors


def model2vec_says(folder: Path | str, texts: list[str] | None = None) -> np.ndarray:
    library = pytest.importorskip("model2vec", reason="model2vec is not installed")
    vectors: np.ndarray = library.StaticModel.from_pretrained(folder, max_length=None).encode(texts or TEXTS)
    return vectors


def sentence_transformers_say(folder: Path | str, texts: list[str] | None = None) -> np.ndarray:
    library = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    vectors: np.ndarray = library.SentenceTransformer(str(folder), device="cpu").encode(texts or TEXTS)
    return vectors


MODEL2VEC = [
    "potion-base-4M-int8",
    "model2vec-rs-fixtures/test-model-float32",
    "model2vec-rs-fixtures/test-model-float16",
    "model2vec-rs-fixtures/test-model-int8",
    "model2vec-rs-fixtures/test-model-vocab-quantized",
]
SENTENCE_TRANSFORMERS = [
    "model2vec-rs-fixtures/test-model-modules-normalize",
    "model2vec-rs-fixtures/test-model-modules-no-normalize",
]


def write_model2vec(folder: Path, config: dict[str, Any], **tensors: np.ndarray) -> str:
    folder.mkdir(exist_ok=True)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    make_word_tokenizer(["[UNK]", "north", "east", "south"]).save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def write_word2vec(file: Path, words: list[str], vectors: np.ndarray) -> None:
    lines = [f"{len(words)} {vectors.shape[1]}\n".encode()]
    lines += [word.encode() + b" " + row.tobytes() + b"\n" for word, row in zip(words, vectors, strict=True)]
    file.write_bytes(b"".join(lines))
