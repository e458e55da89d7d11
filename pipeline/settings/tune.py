"""Settings of ``lakevec tune``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lakevec.pipeline.settings.base import (
    LARGEST,
    GateOptions,
    NotNegative,
    Positive,
    SparkInput,
    SparkRuntime,
    TableType,
    TeacherRuntime,
    VocabularyOptions,
)


class TuneSettings(SparkInput, VocabularyOptions, TeacherRuntime, GateOptions, SparkRuntime):
    """Fit a table to its teacher on a sample of the lake.

    Executors compute the teacher's vectors of the sample. Then the table is trained so that the means of its
    rows match them. The vectors are kept, so a killed or repeated run continues.

    Examples
    --------
      lakevec tune --teacher hf://BAAI/bge-small-en-v1.5 --input lake/docs --text body --output models/tuned
      lakevec tune --teacher models/bge --input docs --format table --text body --output models/mine
    """

    teacher: str = Field(examples=["hf://sentence-transformers/all-MiniLM-L6-v2"])
    """Folder of a Sentence Transformer, the same on all nodes, or hf://organisation/name."""
    output: str = Field(examples=["models/tuned"])
    """Folder or URI to publish the model to. Must not exist."""
    vectors: str | None = None
    """Folder or URI that keeps the sample and its teacher vectors for later runs. Default: the output's name
    with -teacher appended."""
    rows: Annotated[int, Field(ge=15, le=LARGEST)] = 100_000
    """Distinct texts to learn from."""
    stratify: str | None = None
    """Column to stratify the sample by: each value gives the same number of texts, or all its texts. Default:
    texts of every length in proportion."""
    sample_by: Literal["random", "clusters"] = "random"
    """clusters: draw up to 8 times as many texts at random, cluster them, and learn from the same number of
    texts of each cluster, or all its texts."""
    near_duplicates: Literal["drop", "keep"] = "drop"
    """Of texts that differ only in case, digits, punctuation or white space, learn from one, or keep all."""
    max_chars: Positive = 1000
    """Maximum characters of a text that teacher and table see. The teacher's time grows with them."""
    seed: NotNegative = 0
    """Seed of the sample, of the order of texts and of the held-out texts."""
    model: str | None = None
    """Table to start from, in place of the teacher's own tokens: any model that lakevec embed reads."""
    counts: str | None = None
    """Parquet with the columns token and count, for the initial weights. Default: counts of the sample."""
    sif_coefficient: float | None = Field(default=None, gt=0, lt=1)
    """a of the initial SIF weight a / (a + p). Default: 0.003, or 0.0003 with the loss correlation."""
    dimensions: Annotated[int, Field(ge=1)] = 256
    """Output width D."""
    input_columns: NotNegative = 0
    """Columns of the teacher's input embeddings to add to the trained ones, before PCA reduces all to D."""
    trained_dimensions: Positive | None = None
    """Columns to train. Default: 256 with input columns, else D."""
    prefixes: list[Positive] = Field(default_factory=list)
    """Numbers of first columns to train as vectors of their own, such as 128 and 64."""
    position_scale: float | None = Field(default=None, gt=0)
    """Let a token at position p count 1 / (1 + p / S), so that a text's beginning counts more. Default: all
    tokens count alike."""
    bigrams: NotNegative = 0
    """Number of pairs of neighbouring tokens that get rows of their own, those most above chance. Pairs are
    of the counts, if lakevec count --bigrams counted them with this vocabulary, else of the sample."""
    held_out: Annotated[int, Field(ge=3, le=LARGEST)] = 3000
    """Texts of the sample, at most a fifth, that decide when to stop. Training does not use them."""
    epochs: Annotated[int, Field(ge=1, le=1000)] = 6
    """Maximum number of passes over the texts."""
    patience: Annotated[int, Field(ge=1)] = 2
    """Stop training after this many passes without progress on held-out texts."""
    learning_rate: float | None = Field(default=None, gt=0, le=1)
    """Learning rate of Adam's first step. It falls linearly to 0. Default: 0.001 for 150,000 texts and more,
    up to 0.003 for fewer, and always 0.001 with the loss correlation."""
    texts_per_step: Annotated[int, Field(ge=3, le=LARGEST)] = 1024
    """Texts per training step."""
    loss: Literal["divergence", "correlation"] = "divergence"
    """Loss over similarities of pairs of texts, beside the loss over directions. correlation: with the
    teacher's, as in lakevec 0.1; divergence: also of the shares of each text's neighbours."""
    relation: float | None = Field(default=None, ge=0)
    """Weight of the correlation in the loss. Default: 3, or 1 with the loss correlation."""
    token_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of a text's tokens that a step drops."""
    bigram_dropout: float = Field(default=0.25, ge=0, lt=1)
    """Share of a text's bigrams that a step drops, so that its tokens also learn to do without."""
    dtype: TableType = "float32"
    """Type of the stored table. int8 rows have scales."""
    batch_size: Annotated[int, Field(ge=1)] = 64
    """Maximum number of texts per forward pass of the teacher. On a cpu, 512 tokens are the maximum too."""
    piece_rows: Positive = 1000
    """Texts per shard of teacher vectors. A task writes one shard, and a repeated run keeps complete
    shards."""

    @property
    def vectors_folder(self) -> str:
        """Folder or URI of the sample and its teacher vectors."""
        return self.vectors or f"{self.output.rstrip('/')}-teacher"

    @model_validator(mode="after")
    def _fit_together(self) -> TuneSettings:
        if self.model is not None and self.vocabulary is not None:
            raise ValueError("give model or vocabulary, since a model has its own vocabulary")
        if self.model is not None and self.counts is not None:
            raise ValueError("give model or counts, since a model has its own weights")
        if self.stratify is not None and self.sample_by == "clusters":
            raise ValueError("give stratify or sample_by clusters, since each sets the shares of texts")
        if self.prefixes and (self.input_columns or self.loss == "correlation"):
            raise ValueError(
                "prefixes need the loss divergence and no input_columns, which rotate the columns"
            )
        if self.model is not None and self.input_columns:
            raise ValueError("give model or input_columns, since a model's tokens may not be the teacher's")
        return self
