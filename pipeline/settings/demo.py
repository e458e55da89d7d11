"""Settings of ``lakevec demo``."""

from __future__ import annotations

from pydantic import Field

from lakevec.pipeline.settings.base import Settings


class DemoSettings(Settings):
    """Where ``lakevec demo`` works."""

    folder: str = Field(default="demo", description="working folder; its lake, model and vectors are kept")
    teacher: str | None = Field(
        default=None, description="teacher to distil; by default the embedded all-MiniLM-L6-v2"
    )
    master: str = Field(default="local[*]", description="Spark master")
