"""Settings of the commands that look at models, or write them for other libraries."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lakevec.pipeline.settings.base import MODEL, Settings, StringList


class ConvertSettings(Settings):
    """What ``lakevec convert`` reads and writes."""

    model: str = Field(description=MODEL, json_schema_extra={"positional": True})
    output: str = Field(description="folder or URI to write the model to; must not exist yet")
    to: Literal["lakevec", "model2vec", "sentence-transformers", "onnx"] = Field(
        default="lakevec",
        description="library to write for; model2vec and Sentence Transformers read lakevec's own folder too",
    )
    revision: str | None = Field(default=None, description="branch, tag or commit of a hub model")
    dtype: Literal["float32", "float16", "int8"] | None = Field(
        default=None, description="type of the stored table; by default as it is"
    )


class InspectSettings(Settings):
    """Which model ``lakevec inspect`` looks at."""

    model: str = Field(description=MODEL, json_schema_extra={"positional": True})
    words: StringList = Field(
        default_factory=lambda: ["date", "river", "doctor"],
        description="words whose nearest tokens are shown",
    )
    neighbours: int = Field(default=5, ge=1, description="how many tokens to show for each word")
