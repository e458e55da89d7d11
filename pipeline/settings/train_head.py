"""Settings of ``lakevec train-head``."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from lakevec.pipeline.settings.base import LARGEST, NotNegative, Positive, SparkInput, SparkRuntime

# As `lakevec.pipeline.heads.head.NAME_PATTERN`.
_NAME = r"[A-Za-z_][A-Za-z0-9_-]*"


class TrainHeadSettings(SparkInput, SparkRuntime):
    r"""Train a head, a linear model that labels texts by their vectors, on labelled rows of the lake.

    Executors embed the rows. Then scikit-learn fits a model on part of them, and the rest measures it. The
    folder holds the head and a card with these figures; lakevec embed --head adds its labels to an output.

    Examples
    --------
      lakevec train-head --model models/minilm --input rated --text body --label topic --output heads/topic
      lakevec train-head --model models/minilm --input docs --format table --text body --label tags \
          --output heads/tags
    """

    model: str = Field(examples=["models/minilm"])
    """Published model, or one of model2vec, Sentence Transformers, GloVe, word2vec, BPEmb or WordLlama: a
    folder, file, URI or hf://organisation/name."""
    label: str = Field(examples=["topic"])
    """Column of labels: string, boolean, integer, float, or array of strings. Rows whose label is null or NaN
    are left out."""
    output: str = Field(examples=["heads/topic"])
    """Folder or URI to publish the head to. Must not exist."""
    name: str | None = None
    """Name of the head, which begins the names of the columns that embed adds. Default: the output's last
    part."""
    kind: Literal["auto", "classification", "multi-label", "regression"] = "auto"
    """Predict one label of a text (classification), several (multi-label) or a number (regression). auto
    takes regression for floats, multi-label for arrays, and else classification."""
    class_weight: Literal["none", "balanced"] = "none"
    """Weigh all rows alike, or those of a label by the inverse of its frequency (balanced)."""
    regularization: float | None = Field(default=None, gt=0)
    """C of scikit-learn's logistic regression, or 1 / alpha of its ridge regression. Smaller is stronger.
    Default: by threefold cross-validation, from 0.0001 in steps of 10 to 10, until the loss rises."""
    rows: Annotated[int, Field(ge=10, le=LARGEST)] = 200_000
    """Maximum number of labelled rows to use: those with the smallest hashes, so the same ones each time."""
    held_out: float = Field(default=0.2, ge=0, lt=1)
    """Share of each label's rows that training does not use, for the figures. 0 measures nothing."""
    max_tokens: Positive | None = None
    """Train on the first N known tokens of a text. embed then needs the same value. Default: all."""
    seed: NotNegative = 0
    """Seed of the choice of rows and of the held-out rows."""

    @property
    def head_name(self) -> str:
        """Name of the head."""
        return self.name or self.output.rstrip("/").rpartition("/")[2]

    @model_validator(mode="after")
    def _fit_together(self) -> TrainHeadSettings:
        if len(set(self.text)) != 1:
            raise ValueError("text must be a single column, since a label belongs to one text")
        if self.label in self.text:
            raise ValueError("label and text must be different columns")
        if not re.fullmatch(_NAME, self.head_name):
            raise ValueError("name must begin with a letter, and hold letters, digits, - and _: give --name")
        if self.kind == "regression" and self.class_weight != "none":
            raise ValueError("class_weight needs labels, and a regression has none")
        return self

    @field_validator("name")
    @classmethod
    def _is_not_empty(cls, value: str | None) -> str | None:
        if value == "":
            raise ValueError("must not be empty")
        return value
