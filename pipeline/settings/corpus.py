"""Settings of ``lakevec count`` and ``lakevec mine``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lakevec.pipeline.settings.base import Positive, Settings, SparkInput, SparkRuntime, SparkTasks

Length = Annotated[int, Field(ge=1, le=100)]


class CountSettings(SparkInput, SparkTasks, SparkRuntime):
    """Count the tokens and words of text columns exactly: occurrences, and texts that contain them.

    Examples
    --------
      lakevec count --model hf://BAAI/bge-base-en-v1.5 --input lake/docs --text body --output lake/counts
      lakevec distill --teacher hf://BAAI/bge-base-en-v1.5 --counts lake/counts --output models/counted
    """

    model: str = Field(examples=["models/minilm"])
    """Model whose tokens are counted: a Sentence Transformer, or any model that lakevec embed reads."""
    output: str = Field(examples=["lake/counts"])
    """Folder or URI for the counts. Finished counts of the same request are kept."""
    phrases: Annotated[int, Field(ge=1, le=3)] = 1
    """Also count phrases of up to 2 or 3 neighbouring words. 1 counts words only."""
    bigrams: Annotated[int, Field(ge=1, le=2_000_000)] | None = None
    """Also count pairs of neighbouring tokens, and keep this many of the most frequent. Default: none."""
    on_bad_row: Literal["fail", "skip"] = "fail"
    """For a text that is not valid UTF-8: fail, or skip the text and report the number of such texts."""


class MineSettings(Settings):
    """Choose frequent words that a tokenizer splits, from the counts of lakevec count.

    Words that save most tokens come first. Strings that look like keys, ids, numbers or addresses are left
    out.

    Examples
    --------
      lakevec mine --counts lake/counts --model hf://BAAI/bge-base-en-v1.5 --output lake/words
      lakevec distill --teacher hf://BAAI/bge-base-en-v1.5 --vocabulary lake/words --output models/mine
    """

    counts: str = Field(examples=["lake/counts"])
    """Folder or URI that lakevec count wrote."""
    model: str = Field(examples=["hf://sentence-transformers/all-MiniLM-L6-v2"])
    """Model whose tokenizer gets the words: a Sentence Transformer, or any model that lakevec embed reads."""
    output: str = Field(examples=["lake/words"])
    """Folder or URI for the vocabulary. Must not exist."""
    top: Positive = 20_000
    """Maximum number of words."""
    min_count: Positive = 20
    """Minimum number of occurrences of a word."""
    min_documents: Positive = 5
    """Texts that must contain the word, so that no single text can be recognised."""
    min_chars: Length = 3
    """Minimum number of characters of a word."""
    max_chars: Length = 30
    """Maximum number of characters of a word or phrase."""
    min_pieces: Annotated[int, Field(ge=2, le=100)] = 2
    """Minimum number of tokens that the tokenizer splits the word into."""
    script: list[str] = Field(default_factory=list)
    """Scripts that a word may be written in, such as Latin or Cyrillic. Default: any."""
    digits: bool = False
    """Also take words that contain digits."""
    phrases: bool = False
    """Also take phrases whose words belong together, if phrases were counted."""
    min_npmi: Annotated[float, Field(ge=-1.0, le=1.0)] = 0.5
    """Minimum normalised pointwise mutual information of a phrase, from -1 to 1."""

    @model_validator(mode="after")
    def _fit_together(self) -> MineSettings:
        if self.min_chars > self.max_chars:
            raise ValueError("min_chars is more than max_chars")
        return self
