"""``LakevecEmbeddings`` in ``MLTransform``: columns, items, artifacts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.ml.rag.types import Chunk, EmbeddableItem, Embedding
from apache_beam.ml.transforms.base import MLTransform

import lakevec
from lakevec.beam import LakevecEmbeddings
from tests.beam.conftest import Run

ROWS = [
    {"id": 1, "title": "row", "body": "a key and a row"},
    {"id": 2, "title": None, "body": ""},
]


def test_columns_become_vectors_and_artifacts_pin_the_model(model: str, run: Run, tmp_path: Path) -> None:
    artifacts = str(tmp_path / "artifacts")
    embeddings = LakevecEmbeddings(model, columns=["title", "body"], max_tokens=2, min_batch_size=2)
    found, counts = run(
        lambda pipeline: (
            pipeline
            | beam.Create(ROWS)
            | MLTransform(write_artifact_location=artifacts).with_transform(embeddings)
        )
    )
    load = lakevec.load(model)
    wanted = [
        {
            name: load.encode([value], max_tokens=2)[0].tolist() if isinstance(value, str) else value
            for name, value in row.items()
        }
        for row in ROWS
    ]
    assert sorted(found, key=lambda row: row["id"]) == wanted
    assert (counts["rows"], counts["nulls"], counts["zero_vectors"]) == (4, 1, 1)

    again, _ = run(
        lambda pipeline: pipeline | beam.Create(ROWS) | MLTransform(read_artifact_location=artifacts)
    )
    assert sorted(again, key=lambda row: row["id"]) == wanted

    [stored] = Path(artifacts).glob("*.json")
    assert load.table.fingerprint in stored.read_text()


def test_items_get_an_embedding(model: str, run: Run, tmp_path: Path) -> None:
    items = [
        Chunk.from_text("a key and a row", id="1", index=3, metadata={"source": "docs"}),
        Chunk.from_text("", id="2"),
        replace(Chunk.from_text("row", id="3"), embedding=Embedding(sparse_embedding=([1], [0.5]))),
    ]
    found, _ = run(
        lambda pipeline: (
            pipeline
            | beam.Create(items)
            | MLTransform(write_artifact_location=str(tmp_path / "artifacts")).with_transform(
                LakevecEmbeddings(model)
            )
        )
    )
    vectors = lakevec.load(model).encode([item.content.text for item in items]).tolist()
    for item, vector in zip(items, vectors, strict=True):
        item.embedding = replace(item.embedding or Embedding(), dense_embedding=vector)
    assert sorted(found, key=lambda item: item.id) == items


def test_images_are_refused_and_bad_batches_told(model: str, run: Run, tmp_path: Path) -> None:
    items = [EmbeddableItem.from_image("gs://bucket/secret.png")]
    with pytest.raises(Exception, match="an item can't be embedded: got an image; expected a text") as caught:
        run(
            lambda pipeline: (
                pipeline
                | beam.Create(items)
                | MLTransform(write_artifact_location=str(tmp_path / "a")).with_transform(
                    LakevecEmbeddings(model)
                )
            )
        )
    assert "secret.png" not in str(caught.value)

    def build(pipeline: beam.Pipeline) -> beam.PCollection:
        transform = MLTransform(write_artifact_location=str(tmp_path / "b"))
        transform = transform.with_transform(LakevecEmbeddings(model, columns=["body"], max_batch_size=1))
        rows = pipeline | beam.Create([{"body": "row"}, {"body": 7}])
        embedded, failed = rows | transform.with_exception_handling()
        return (embedded, failed | beam.Map(lambda row: row.msg)) | beam.Flatten()

    found, _ = run(build)
    assert {"body": lakevec.load(model).encode(["row"])[0].tolist()} in found
    [message] = [each for each in found if isinstance(each, str)]
    assert "a text can't be embedded: got one missing or no text" in message
