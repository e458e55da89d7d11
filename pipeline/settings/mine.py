"""Settings of ``lakevec mine``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from lakevec.pipeline.settings.base import LARGEST, MODEL, Settings


class MineSettings(Settings):
    """Which words ``lakevec mine`` takes for a vocabulary."""

    counts: str = Field(description="folder or URI that lakevec count wrote")
    model: str = Field(description=f"whose tokenizer shall learn words: a Sentence Transformer, or {MODEL}")
    output: str = Field(description="folder or URI for the vocabulary; must not exist yet")
    top: int = Field(default=20_000, ge=1, le=LARGEST, description="most words to take")
    min_count: int = Field(default=20, ge=1, le=LARGEST, description="a word must occur so often")
    min_documents: int = Field(
        default=5, ge=1, le=LARGEST, description="and in so many texts, so that no single text shows"
    )
    min_chars: int = Field(default=3, ge=1, le=100, description="a word must have so many characters")
    max_chars: int = Field(default=30, ge=1, le=100, description="and no more than so many, a phrase's too")
    min_pieces: int = Field(default=2, ge=2, le=100, description="the tokenizer must split it into so many")
    script: list[str] = Field(
        default_factory=list,
        description="scripts that a word may be written in, such as Latin or Cyrillic; by default any",
    )
    digits: bool = Field(default=False, description="also take words that hold digits")
    phrases: bool = Field(
        default=False, description="also take phrases that belong together, where they were counted"
    )
    min_npmi: Annotated[float, Field(ge=-1.0, le=1.0)] = Field(
        default=0.5,
        description="normalised pointwise mutual information, -1 to 1, that a phrase must have",
    )

    @model_validator(mode="after")
    def _fit_together(self) -> MineSettings:
        if self.min_chars > self.max_chars:
            raise ValueError("min_chars is more than max_chars")
        return self
