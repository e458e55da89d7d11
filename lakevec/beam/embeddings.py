"""``LakevecEmbeddings``: lakevec's vectors in Beam's ``MLTransform``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import apache_beam as beam
from apache_beam.ml.inference.base import ModelHandler, RunInference
from apache_beam.ml.rag.types import EmbeddableItem, Embedding
from apache_beam.ml.transforms.base import EmbeddingsManager, EmbeddingTypeAdapter

from lakevec.beam.counting_encoder import CountingEncoder, EmbedOptions, to_arrow, to_lists
from lakevec.beam.shared_model import SharedModel, WorkerModel
from lakevec.pipeline.errors import DataError


class LakevecEmbeddings(EmbeddingsManager):
    """Embed columns, or the texts of ``EmbeddableItem`` (``Chunk``), in an ``MLTransform``.

    Parameters
    ----------
    model : str or WorkerModel
        As in `EmbedText`. ``MLTransform`` stores its name and fingerprint in its artifacts. A pipeline that
        reads them refuses another model.
    columns : list of str, optional
        Columns whose texts are replaced by their vectors. Default: elements are ``EmbeddableItem``, which get
        an ``Embedding``.
    max_tokens : int, optional
        Embed only the first `max_tokens` known tokens of a text. Default: all.
    dimensions : int, optional
        Width D of the vectors, made of the table's first columns. Default: all columns.
    **options
        Of Beam's ``EmbeddingsManager``: ``min_batch_size`` and ``max_batch_size``.

    Raises
    ------
    ModelError
        If the model is missing, damaged or of an unknown format.
    SettingsError
        If `max_tokens` or `dimensions` is below 1, or the table has fewer columns than `dimensions`.

    Notes
    -----
    Vectors have the same bits as from `EmbedText`, and the same metrics count them. None stays None, and an
    empty text gets zeros. A value that is neither a string nor bytes, or not valid UTF-8, raises `DataError`;
    with ``MLTransform.with_exception_handling`` its batch goes to the second output.

    Examples
    --------
    >>> transform = MLTransform(write_artifact_location="artifacts").with_transform(
    ...     LakevecEmbeddings("models/minilm", columns=["body"])
    ... )  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | WorkerModel,
        columns: list[str] | None = None,
        *,
        max_tokens: int | None = None,
        dimensions: int | None = None,
        **options: Any,
    ) -> None:
        adapter = None if columns else EmbeddingTypeAdapter(_item_texts, _embedded_items)
        super().__init__(columns=columns, type_adapter=adapter, **options)
        self.embed_options = EmbedOptions(SharedModel.of(model, dimensions), max_tokens, None, "fail")

    def get_model_handler(self) -> ModelHandler:
        """Return the handler that embeds batches."""
        return _Handler(self)

    def get_ptransform_for_processing(self, **_: Any) -> beam.PTransform:
        """Return the transform that ``MLTransform`` applies."""
        return RunInference(self.get_model_handler())


class _Handler(ModelHandler):
    """Embed batches of whole elements."""

    def __init__(self, embeddings: LakevecEmbeddings) -> None:
        super().__init__()
        self._embeddings = embeddings

    def load_model(self) -> CountingEncoder:
        return CountingEncoder(self._embeddings.embed_options)

    def run_inference(
        self, batch: Sequence[Any], model: CountingEncoder, inference_args: dict[str, Any] | None = None
    ) -> Sequence[Any]:
        adapter = self._embeddings.type_adapter
        encoded, _ = model.encode(*to_arrow(adapter.input_fn(batch)))
        embedded: Sequence[Any] = adapter.output_fn(batch, list(to_lists(encoded)))
        return embedded

    def get_metrics_namespace(self) -> str:
        return "BeamML_LakevecEmbeddings"

    def batch_elements_kwargs(self) -> Mapping[str, Any]:
        sizes = {
            "min_batch_size": self._embeddings.min_batch_size,
            "max_batch_size": self._embeddings.max_batch_size,
        }
        return {name: size for name, size in sizes.items() if size}

    def __repr__(self) -> str:
        return "LakevecEmbeddings"  # names the step


def _item_texts(items: Sequence[EmbeddableItem]) -> list[str | None]:
    for item in items:
        if item.content.text is None and item.content.image is not None:
            raise DataError("an item can't be embedded", got="an image", expected="a text")
    return [item.content.text for item in items]


def _embedded_items(
    items: Sequence[EmbeddableItem], vectors: Sequence[list[float] | None]
) -> list[EmbeddableItem]:
    """Return new items; a sparse embedding stays."""
    return [
        replace(item, embedding=replace(item.embedding or Embedding(), dense_embedding=vector))
        for item, vector in zip(items, vectors, strict=True)
    ]
