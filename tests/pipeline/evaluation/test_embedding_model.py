"""Models behind one interface, their names, and the cache of vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import transformers

from lakevec.pipeline.evaluation.embedding_model import (
    StaticEmbeddingModel,
    encode_distinct,
    name_models,
    open_model,
)
from lakevec.pipeline.model.table import StaticTable
from tests.support.tasks import Counting, point


def test_table_is_a_model(tiny_table: StaticTable) -> None:
    model = StaticEmbeddingModel("tiny", tiny_table)
    assert (model.dimensions, model.parameters, model.size_bytes) == (2, 8, 32)
    assert model.fingerprint == tiny_table.fingerprint
    assert model.encode(["north", "north east", "?"]).tolist() == [[0, 1], [0.5, 0.5], [0, 0]]


def test_teacher_is_evaluated_as_its_own_library_embeds(tiny_teacher: Path) -> None:
    model = open_model(str(tiny_teacher), "teacher")
    teacher = transformers.BertModel.from_pretrained(tiny_teacher).eval()
    # [CLS] north southwest [SEP], in which southwest is two pieces.
    with torch.no_grad():
        states = teacher(torch.tensor([[2, 5, 7, 8, 3]])).last_hidden_state[0]
    np.testing.assert_allclose(model.encode(["North southwest"])[0], states.mean(dim=0).numpy(), atol=1e-6)
    assert (model.dimensions, model.parameters) == (8, sum(part.numel() for part in teacher.parameters()))
    assert model.size_bytes == 4 * model.parameters


def test_every_distinct_text_is_embedded_once() -> None:
    model = Counting()
    vectors = encode_distinct(model, ["north", "east\0a", "north", "east\0b"])
    assert model.asked == [["north", "east\0a", "east\0b"]]
    assert (vectors == point(["north", "east\0a", "north", "east\0b"])).all()


def test_cache_keeps_vectors_by_model_and_texts(tmp_path: Path) -> None:
    model, texts = Counting(), ["north", "east"]
    for _ in range(2):
        assert (encode_distinct(model, texts, tmp_path) == point(texts)).all()
    assert len(model.asked) == 1
    encode_distinct(model, ["nor", "theast"], tmp_path)
    model.fingerprint = "sha256:1"
    encode_distinct(model, texts, tmp_path)
    assert len(model.asked) == 3
    files = sorted(tmp_path.iterdir())
    assert len(files) == 3
    for file in files:
        file.write_bytes(file.read_bytes()[:-3])
    assert (encode_distinct(model, texts, tmp_path) == point(texts)).all()
    assert len(model.asked) == 4


def test_names_are_as_long_as_needed() -> None:
    assert name_models(["a/minilm/", "b/potion"]) == ["minilm", "potion"]
    assert name_models(["a/minilm", "b/minilm"]) == ["a/minilm", "b/minilm"]
    assert name_models(["s3://key:secret@bucket/m"]) == ["m"]
    assert name_models([]) == []
