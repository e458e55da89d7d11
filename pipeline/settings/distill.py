"""Settings of ``lakevec distill``, and published recipes by name."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from lakevec.pipeline.settings.base import (
    GateOptions,
    NotNegative,
    TableType,
    TeacherRuntime,
    VocabularyOptions,
)

# The default weight of measured frequencies beside the Zipf prior.
COUNTS_SHARE = 0.5


def _as_number(value: object) -> object:
    """Turn a word of the command line into a number, if it is one."""
    if isinstance(value, str) and re.fullmatch(r"\d+", value):
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"\d*\.\d+", value):
        return float(value)
    return value


Dimensions = Annotated[
    Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)] | Literal["auto", "none"],
    BeforeValidator(_as_number),
]
RecipeName = Literal["model2vec-0.1", "model2vec-0.10"]

# The settings of each recipe. Other options override them.
RECIPES: dict[RecipeName, dict[str, Any]] = {
    # Versions 0.1 to 0.4: the teacher saw "[SEP] token [CLS]", in that order. The token's own state was kept.
    "model2vec-0.1": {
        "pooling": "token",
        "special_tokens": "reversed",
        "keep_special_tokens": True,
        "weighting": "zipf",
        "normalize": False,
        "token_remove_pattern": r"\[unused",
    },
    "model2vec-0.10": {
        "pooling": "mean",
        "special_tokens": "teacher",
        "weighting": "sif",
        "sif_coefficient": 1e-4,
        "normalize": True,
        "dtype": "float16",
        "int8_scale": "table",
        "token_remove_pattern": r"\[unused\d+\]",
    },
}


class DistillSettings(VocabularyOptions, TeacherRuntime, GateOptions):
    """Distil a Sentence Transformer into a static embedding table, and publish it as a folder.

    Examples
    --------
      lakevec distill --teacher hf://sentence-transformers/all-MiniLM-L6-v2 --output models/minilm
      lakevec distill --teacher hf://BAAI/bge-base-en-v1.5 --vocabulary words.txt --output models/bge
    """

    teacher: str = Field(examples=["hf://sentence-transformers/all-MiniLM-L6-v2"])
    """Folder of a Sentence Transformer, or hf://organisation/name."""
    output: str = Field(examples=["models/minilm"])
    """Folder or URI to publish the model to. Must not exist."""
    recipe: RecipeName | None = None
    """Settings of a published recipe. Other options override them."""
    mode: Literal["output", "input", "vocabulary", "word"] | None = None
    """output: the teacher's tokens, through the teacher; input: their input embeddings; vocabulary: its
    tokens and the words of a vocabulary; word: those words only. Default: output, or vocabulary if one is
    given."""
    pooling: Literal["auto", "mean", "first", "last", "pooler", "token"] = "auto"
    """Part of the teacher's output to keep: the mean, the first or last position, its pooler, or the token's
    own position. auto follows the Sentence Transformer, with its Dense layers and default prompt."""
    special_tokens: Literal["teacher", "reversed"] = "teacher"
    """Special tokens around each token: the teacher's own, or in reverse order as in model2vec 0.1."""
    keep_special_tokens: bool = False
    """Keep rows of tokens that only the teacher adds, such as [CLS]."""
    prompt: str | None = None
    """Text before each token. Default: the teacher's prompt with pooling auto, else none."""
    dimensions: Dimensions = 256
    """Output width D by PCA: a number, a share of variance to keep such as 0.95, auto for the teacher's
    width, or none for no PCA."""
    weighting: Literal["sif", "zipf", "none"] = "sif"
    """Weight of a token. sif: a / (a + p), with p from Zipf's law or from counts; zipf: log(1 + rank)."""
    counts: str | None = None
    """Counts that lakevec count wrote, or Parquet with the columns token and count, for p of the SIF weight
    and for PCA."""
    counts_share: float = Field(default=COUNTS_SHARE, gt=0, le=1)
    """Weight of measured frequencies beside the Zipf prior. 1 uses the counts alone."""
    sif_coefficient: float | None = Field(default=None, gt=0, lt=1)
    """a of the SIF weight. Default: 0.0001, or 0.0005 with counts."""
    axes: Literal["tokens", "texts"] | None = None
    """How PCA weighs tokens: all alike (tokens), or by frequency and weight in texts (texts). Default:
    tokens, or texts with counts."""
    whitening: float | None = Field(default=None, ge=0, le=1)
    """Divide each principal axis by its variance ** (W / 2). Default: 0, or 0.5 with counts."""
    input_columns: NotNegative = 0
    """Columns of the teacher's input embeddings to add to 256 columns of its output, before PCA reduces all
    to D."""
    position_scale: float | None = Field(default=None, gt=0)
    """Let a token at position p count 1 / (1 + p / S), so that a text's beginning counts more. Default: all
    tokens count alike."""
    normalize: bool = True
    """Give every text vector length 1."""
    dtype: TableType = "float32"
    """Type of the stored table. int8 rows have scales."""
    int8_scale: Literal["token", "table"] = "token"
    """Scale of int8 rows: one per row, or one for the table as in model2vec."""
    vocabulary_clusters: Annotated[int, Field(ge=1)] | None = None
    """Let tokens share this many rows, found by k-means. Default: every token has its own."""
    batch_size: Annotated[int, Field(ge=1)] = 256
    """Tokens per forward pass of the teacher."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Arithmetic of the teacher. `auto` takes float16 on cuda and float32 on cpu. A batch that overflows is
    computed in float32."""

    @classmethod
    def merge(cls, from_file: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
        """Combine file and command line. With a recipe, ignore values of the file that are defaults."""
        if {**from_file, **overrides}.get("recipe") is not None:
            fields = cls.model_fields
            from_file = {
                key: value
                for key, value in from_file.items()
                if key not in fields or value != fields[key].default
            }
        return {**from_file, **overrides}

    @model_validator(mode="before")
    @classmethod
    def _apply_recipe(cls, values: Any) -> Any:
        named = values.get("recipe") if isinstance(values, dict) else None
        return {**RECIPES[named], **values} if isinstance(named, str) and named in RECIPES else values

    @model_validator(mode="after")
    def _fit_together(self) -> DistillSettings:
        needs_words = self.mode in ("vocabulary", "word")
        if needs_words and self.vocabulary is None:
            raise ValueError(f"mode {self.mode} needs a vocabulary")
        if self.vocabulary is not None and self.mode in ("output", "input"):
            raise ValueError(f"mode {self.mode} takes no vocabulary")
        has_token_axes = self.axes == "tokens" or self.dimensions == "none"
        if self.counts is not None and self.weighting != "sif" and has_token_axes:
            raise ValueError("counts need weighting sif or axes texts; otherwise they have no effect")
        if self.counts is None and self.counts_share != COUNTS_SHARE:
            raise ValueError("counts_share needs counts")
        if self.dimensions == "none" and (self.axes == "texts" or self.whitening):
            raise ValueError("axes and whitening need PCA, which dimensions none turns off")
        if self.input_columns and not isinstance(self.dimensions, int):
            raise ValueError("input_columns need a number of dimensions")
        if self.input_columns and self.vocabulary_clusters is not None:
            raise ValueError("input_columns and vocabulary_clusters can't both be given")
        if self.min_fidelity is not None and self.sample is None:
            raise ValueError("min_fidelity needs a sample")
        return self
