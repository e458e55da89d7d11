"""Settings of ``lakevec convert``, ``inspect``, ``verify``, ``search`` and ``export``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lakevec.pipeline.settings.base import (
    COMMAS,
    POSITIONAL,
    Positive,
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


class SearchSettings(Settings):
    """Find the rows of an output whose vectors are nearest to a text or to another row, by cosine.

    Every vector is compared, without Spark and without an index.

    Examples
    --------
      lakevec search lake/vectors "parse a date" --top 10 --columns id,body
      lakevec search lake/keyed --key-of 4711
    """

    output: str = Field(json_schema_extra=POSITIONAL)
    """Folder or URI that lakevec embed wrote."""
    query: str | None = Field(default=None, json_schema_extra=POSITIONAL)
    """Text to search for."""
    key_of: str | None = None
    """Key of a row, to find its neighbours instead."""
    key: str | None = None
    """Column of `key_of`. Default: the output's own key."""
    top: Positive = 10
    """Number of rows to print."""
    columns: StringList = Field(default_factory=list, json_schema_extra=COMMAS)
    """Columns to print. Default: all but vectors."""
    embedding_column: str | None = None
    """Column of the vectors. Default: the output's only one."""
    model: str | None = None
    """Model to embed the query with. Default: the output's own. Another one is refused."""
    format: Literal["table", "json"] = "table"
    """`table` cuts long values; `json` prints one object a line, with whole values."""

    @model_validator(mode="after")
    def _has_one_query(self) -> SearchSettings:
        if (self.query is None) == (self.key_of is None):
            raise ValueError("give either a query or --key-of")
        return self


class ExportSettings(Settings):
    """Write an output's vectors and columns for a vector store.

      to             writes
      lance          a Lance dataset, with vectors of fixed size
      pgvector-copy  rows.csv for COPY, and load.sql that makes the table
      faiss          index.faiss, an exact index by cosine, and rows.parquet, whose row numbers are its ids

    Examples
    --------
      lakevec export lake/vectors --to lance --target stores/docs.lance
      lakevec export lake/vectors --to pgvector-copy --target stores/docs --columns id,body
    """

    output: str = Field(json_schema_extra=POSITIONAL)
    """Folder or URI that lakevec embed wrote."""
    to: Literal["lance", "pgvector-copy", "faiss"]
    """Vector store to write for."""
    target: str
    """Local folder to write. Must not exist."""
    columns: StringList = Field(default_factory=list, json_schema_extra=COMMAS)
    """Columns to write beside the vectors. Default: all."""
    embedding_column: str | None = None
    """Column of the vectors. Default: the output's only one."""
