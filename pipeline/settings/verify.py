"""Settings of ``lakevec verify``."""

from __future__ import annotations

from pydantic import Field

from lakevec.pipeline.settings.base import Settings, SparkConf, SparkMaster, SparkRemote


class VerifySettings(Settings):
    """What ``lakevec verify`` checks of an output."""

    output: str = Field(
        description="folder or URI that lakevec embed wrote", json_schema_extra={"positional": True}
    )
    sha256: bool = Field(
        default=False, description="read all files and compare their check sums, where embed took them"
    )
    model: str | None = Field(
        default=None, description="embed a sample of rows again with this model; by default the run's own"
    )
    sample: int = Field(default=1000, ge=0, description="rows to embed again; 0 embeds none")
    master: SparkMaster = None
    remote: SparkRemote = None
    conf: SparkConf = Field(default_factory=dict)
