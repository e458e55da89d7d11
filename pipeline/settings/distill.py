"""Settings of ``lakevec distill``, and published recipes by name."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from lakevec.pipeline.settings.base import Precision, Settings, TableType, TokenRemovePattern, TorchDevice


def _as_number(value: object) -> object:
    """Let the command line write a number as a word."""
    if isinstance(value, str) and re.fullmatch(r"\d+", value):
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"\d*\.\d+", value):
        return float(value)
    return value


# How much counts decide beside ranks, where nothing else is asked for.
COUNTS_SHARE = 0.5
Dimensions = Annotated[
    Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)] | Literal["auto", "none"],
    BeforeValidator(_as_number),
]
RecipeName = Literal["model2vec-0.1", "model2vec-0.10"]

# What each name stands for; whatever is given beside it wins.
RECIPES: dict[RecipeName, dict[str, Any]] = {
    # Of 0.1 to 0.4: the teacher saw "[SEP] token [CLS]", in that order, and the token's own state was kept.
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


class DistillSettings(Settings):
    """How ``lakevec distill`` turns a Sentence Transformer into a table."""

    teacher: str = Field(description="folder of a Sentence Transformer, or hf://organisation/name")
    output: str = Field(description="folder or URI to publish the model to; must not exist yet")
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
    recipe: RecipeName | None = Field(
        default=None, description="a published recipe by name; options given beside it win"
    )
    mode: Literal["output", "input", "vocabulary", "word"] | None = Field(
        default=None,
        description="output: the teacher's tokens, seen by it; input: their input embeddings; vocabulary: "
        "its tokens and the words of a vocabulary; word: those words alone; by default output, or vocabulary "
        "where one is given",
    )
    vocabulary: str | None = Field(
        default=None,
        description="words to find whole: a text file of one a line, or Parquet or CSV with a column of "
        "words and perhaps a column count",
    )
    vocabulary_column: str = Field(default="word", description="column of a vocabulary's words")
    pooling: Literal["auto", "mean", "first", "last", "pooler", "token"] = Field(
        default="auto",
        description="what is kept of the teacher's output: the mean, the first or last position, its pooler, "
        "or the token's own position; auto does what the Sentence Transformer itself does, Dense layers and "
        "default prompt included",
    )
    special_tokens: Literal["teacher", "reversed"] = Field(
        default="teacher",
        description="around each token: the teacher's own, or those in the reverse order, as model2vec 0.1",
    )
    keep_special_tokens: bool = Field(
        default=False, description="keep rows of tokens that only the teacher writes, such as [CLS]"
    )
    prompt: str | None = Field(
        default=None,
        description="text before each token; by default none, or with pooling auto the teacher's",
    )
    dimensions: Dimensions = Field(
        default=256,
        description="output width D by PCA: a number, a share of variance to keep such as 0.95, auto for the "
        "teacher's width, or none for no PCA",
    )
    weighting: Literal["sif", "zipf", "none"] = Field(
        default="sif",
        description="sif: a / (a + p), p from Zipf's law over ranks or from counts; zipf: log(1 + rank)",
    )
    counts: str | None = Field(
        default=None,
        description="what lakevec count wrote, or Parquet of columns token and count, for p of the SIF "
        "weight and for the axes",
    )
    counts_share: float = Field(
        default=COUNTS_SHARE,
        gt=0,
        le=1,
        description="how much counts decide about p beside the token's rank; 1 is the counts alone",
    )
    sif_coefficient: float | None = Field(
        default=None, gt=0, lt=1, description="a of the SIF weight; by default 0.0001, with counts 0.0005"
    )
    axes: Literal["tokens", "texts"] | None = Field(
        default=None,
        description="whose centre and principal axes PCA finds: of tokens, each once, or of tokens as often "
        "as texts hold them and as heavy as they are weighed; by default tokens, with counts texts",
    )
    whitening: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="W, if each principal axis is to be divided by its variance ** (W / 2); by default 0, "
        "with counts 0.5",
    )
    normalize: bool = Field(default=True, description="give every text vector length 1")
    dtype: TableType = "float32"
    int8_scale: Literal["token", "table"] = Field(
        default="token", description="whether int8 rows have each their own scale, or one as model2vec's"
    )
    vocabulary_clusters: int | None = Field(
        default=None, ge=1, description="let tokens share this many rows, found by k-means"
    )
    token_remove_pattern: TokenRemovePattern = Field(default=r"\[unused\d+\]")
    device: TorchDevice = "auto"
    precision: Precision = "auto"
    batch_size: int = Field(default=256, ge=1, description="tokens per forward pass of the teacher")
    sample: str | None = Field(
        default=None,
        description="Parquet of your own texts to compare teacher and table on before it is published; the "
        "figures go into the model card",
    )
    sample_text: str = Field(default="text", description="text column of that sample")
    min_fidelity: float | None = Field(
        default=None,
        ge=-1,
        le=1,
        description="publish only if the similarities of pairs of the sample's texts correlate so well with "
        "the teacher's",
    )

    @model_validator(mode="before")
    @classmethod
    def _spell_out_the_recipe(cls, values: Any) -> Any:
        named = values.get("recipe") if isinstance(values, dict) else None
        return {**RECIPES[named], **values} if isinstance(named, str) and named in RECIPES else values

    @model_validator(mode="after")
    def _fit_together(self) -> DistillSettings:
        needs_words = self.mode in ("vocabulary", "word")
        if needs_words and self.vocabulary is None:
            raise ValueError(f"mode {self.mode} needs a vocabulary")
        if self.vocabulary is not None and self.mode in ("output", "input"):
            raise ValueError(f"mode {self.mode} takes no vocabulary")
        if self.counts is not None and self.weighting != "sif" and self._keeps_axes_of_tokens:
            raise ValueError("counts decide about weighting sif and axes texts; neither is asked for")
        if self.counts is None and self.counts_share != COUNTS_SHARE:
            raise ValueError("counts_share needs counts")
        if self.dimensions == "none" and (self.axes == "texts" or self.whitening):
            raise ValueError("axes and whitening need principal axes; dimensions none finds none")
        if self.min_fidelity is not None and self.sample is None:
            raise ValueError("min_fidelity needs a sample")
        return self

    @property
    def _keeps_axes_of_tokens(self) -> bool:
        return self.axes == "tokens" or self.dimensions == "none"

    @field_validator("token_remove_pattern")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"must be a regular expression ({error})") from None
        return value
