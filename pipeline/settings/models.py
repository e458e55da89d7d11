"""Settings of ``lakevec convert``, ``lakevec inspect`` and ``lakevec verify``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lakevec.pipeline.settings.base import (
    POSITIONAL,
    Settings,
    SparkRuntime,
    StringList,
    TableType,
)


def _default_words() -> list[str]:
    return ["date", "river", "doctor"]


class ConvertSettings(Settings):
    """Publish a static model of another library, or write one for another library.

      lakevec reads             with
      its own folders
      model2vec, every version  embeddings, weights, mapping; float32, float16, int8
      Sentence Transformers     StaticEmbedding, Normalize
      GloVe, word2vec, fastText .txt, .vec, .bin, or those gzipped
      BPEmb                     NAME.model beside NAME.*.w2v.bin
      WordLlama                 NAME.safetensors beside its tokenizer, or ../tokenizers
      any of these folders      on the Hugging Face hub, as hf://organisation/name

    Examples
    --------
      lakevec convert hf://minishlab/potion-base-8M --output models/potion
      lakevec convert glove.6B.100d.txt --output models/glove
      lakevec convert models/minilm --to sentence-transformers --output models/minilm-st
    """

    model: str = Field(json_schema_extra=POSITIONAL)
    """Published model, or one of model2vec, Sentence Transformers, GloVe, word2vec, BPEmb or WordLlama: a
    folder, file, URI or hf://organisation/name."""
    output: str
    """Folder or URI for the new model. Must not exist."""
    to: Literal["lakevec", "model2vec", "sentence-transformers", "onnx"] = "lakevec"
    """Library to write for. model2vec and Sentence Transformers read lakevec's own folders too."""
    revision: str | None = None
    """Branch, tag or commit of a model on the hub."""
    dtype: TableType | None = None
    """Type of the stored table. Default: unchanged."""


class InspectSettings(Settings):
    """Show a model's table, tokenizer, split rule, teacher and neighbours; check a published model's hashes.

    example:
      lakevec inspect models/minilm --words date river
    """

    model: str = Field(json_schema_extra=POSITIONAL)
    """Published model, or one of model2vec, Sentence Transformers, GloVe, word2vec, BPEmb or WordLlama: a
    folder, file, URI or hf://organisation/name."""
    words: StringList = Field(default_factory=_default_words)
    """Words to show the nearest tokens of."""
    neighbours: Annotated[int, Field(ge=1)] = 5
    """Number of tokens to show for each word."""


class VerifySettings(SparkRuntime):
    """Check an output: its files, its model, every vector, and a sample of rows embedded again bit for bit.

    example:
      lakevec verify lake/vectors
    """

    output: str = Field(json_schema_extra=POSITIONAL)
    """Folder or URI that lakevec embed wrote."""
    sha256: bool = False
    """Read all files and compare the checksums that embed --sha256 recorded."""
    model: str | None = None
    """Model for embedding the sample again. Default: the run's own."""
    sample: Annotated[int, Field(ge=0)] = 1000
    """Rows to embed again. 0 embeds none."""
