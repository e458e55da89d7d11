"""Settings of ``lakevec tune``."""

from __future__ import annotations

import re

from pydantic import Field, field_validator, model_validator

from lakevec.pipeline.settings.base import (
    LARGEST,
    MODEL,
    InputFormat,
    InputPaths,
    Precision,
    ReaderOptions,
    Settings,
    SparkConf,
    SparkMaster,
    SparkRemote,
    StringList,
    TableType,
    TokenRemovePattern,
    TorchDevice,
)


class TuneSettings(Settings):
    """How ``lakevec tune`` fits a table to a teacher on rows of a lake."""

    teacher: str = Field(
        description="folder of a Sentence Transformer, the same on all nodes, or hf://organisation/name"
    )
    input: InputPaths
    text: StringList = Field(
        min_length=1, description="string column to learn from; may be given several times"
    )
    output: str = Field(description="folder or URI to publish the model to; must not exist yet")
    vectors: str | None = Field(
        default=None,
        description="folder or URI that keeps the sample and the teacher's vectors of it, for the next run; "
        "by default the output's name with -teacher behind it",
    )
    format: InputFormat = "parquet"
    option: ReaderOptions = Field(default_factory=dict)
    rows: int = Field(default=100_000, ge=15, le=LARGEST, description="distinct texts to learn from")
    stratify: str | None = Field(
        default=None,
        description="column of which every value gives equally many texts, or all that it has; by default "
        "texts of all lengths come as often as they are",
    )
    max_chars: int = Field(
        default=1000,
        ge=1,
        le=LARGEST,
        description="teacher and table see so many characters of a text; the teacher's time grows with them",
    )
    seed: int = Field(
        default=0, ge=0, le=LARGEST, description="decides about sample, order and held-out texts"
    )
    revision: str | None = Field(
        default=None, description="branch, tag or commit of a hub teacher; the commit is recorded"
    )
    trust_remote_code: bool = Field(
        default=False,
        description="run Python code that the teacher brings along; its author can do what you can",
    )
    name: str | None = Field(
        default=None, description="teacher's name for the model card; by default its hub id or folder's name"
    )
    model: str | None = Field(
        default=None, description=f"table to begin with, instead of the teacher's own tokens: {MODEL}"
    )
    vocabulary: str | None = Field(
        default=None,
        description="words to find whole: a text file of one a line, or Parquet or CSV with a column of "
        "words and perhaps a column count",
    )
    vocabulary_column: str = Field(default="word", description="column of a vocabulary's words")
    counts: str | None = Field(
        default=None,
        description="Parquet of columns token and count, for the weights to begin with; by default the "
        "sample's own counts",
    )
    sif_coefficient: float = Field(
        default=0.0003, gt=0, lt=1, description="a of the SIF weight a / (a + p) to begin with"
    )
    dimensions: int = Field(default=256, ge=1, description="output width D")
    held_out: int = Field(
        default=3000,
        ge=3,
        le=LARGEST,
        description="texts of the sample, at most a fifth of it, that are not learned from but decide when "
        "to stop",
    )
    epochs: int = Field(default=6, ge=1, le=1000, description="most passes over the texts")
    patience: int = Field(
        default=2, ge=1, description="passes without a better figure on held-out texts after which it ends"
    )
    learning_rate: float = Field(
        default=0.001, gt=0, le=1, description="of Adam's first step; it falls linearly to 0"
    )
    texts_per_step: int = Field(default=1024, ge=3, le=LARGEST, description="texts per step of training")
    relation: float = Field(
        default=1.0,
        ge=0,
        description="weight of the loss over similarities of pairs of texts beside that over directions",
    )
    token_dropout: float = Field(
        default=0.0, ge=0, lt=1, description="share of a text's tokens that a step leaves out"
    )
    dtype: TableType = "float32"
    token_remove_pattern: TokenRemovePattern = Field(default=r"\[unused\d+\]")
    device: TorchDevice = "auto"
    precision: Precision = "auto"
    batch_size: int = Field(default=64, ge=1, description="texts per forward pass of the teacher")
    piece_rows: int = Field(
        default=1000,
        ge=1,
        le=LARGEST,
        description="texts whose vectors are one task's work and one file, which a killed run doesn't lose",
    )
    sample: str | None = Field(
        default=None,
        description="Parquet of texts to compare teacher and table on before it is published; by default the "
        "held-out texts",
    )
    sample_text: str = Field(default="text", description="text column of that sample")
    min_fidelity: float | None = Field(
        default=None,
        ge=-1,
        le=1,
        description="publish only if the similarities of pairs of texts correlate so well with the teacher's",
    )
    master: SparkMaster = None
    remote: SparkRemote = None
    conf: SparkConf = Field(default_factory=dict)

    @property
    def vectors_folder(self) -> str:
        """Where sample and vectors are kept."""
        return self.vectors or f"{self.output.rstrip('/')}-teacher"

    @model_validator(mode="after")
    def _fit_together(self) -> TuneSettings:
        if self.model is not None and self.vocabulary is not None:
            raise ValueError("a model to begin with has its vocabulary already")
        if self.model is not None and self.counts is not None:
            raise ValueError(
                "counts weigh the teacher's tokens; a model to begin with has its weights already"
            )
        return self

    @field_validator("token_remove_pattern")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"must be a regular expression ({error})") from None
        return value
