"""Settings of ``lakevec benchmark``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lakevec.pipeline.settings.base import MODEL, Settings, SparkConf

BenchmarkPart = Literal[
    "worker",
    "kernel",
    "texts",
    "lengths",
    "dimensions",
    "vocabulary",
    "extremes",
    "job",
    "rows",
    "cores",
    "changes",
    "count",
    "distill",
]


def _main_parts() -> list[BenchmarkPart]:
    return ["worker", "kernel", "job"]


class BenchmarkSettings(Settings):
    """What ``lakevec benchmark`` measures and on which rows."""

    model: str = Field(description=MODEL)
    output: str = Field(description="folder for rows and results; must not exist yet")
    input: str | None = Field(
        default=None,
        description="local folder of Parquet files; by default the docstrings of the installed packages",
    )
    text: str = Field(default="text", description="text column of the input")
    part: list[BenchmarkPart] = Field(
        default_factory=_main_parts, min_length=1, description="what to measure, see above"
    )
    rows: int = Field(
        default=1_000_000, ge=1, description="rows to run over: the input's, repeated with fresh words"
    )
    peer_rows: int = Field(
        default=1_000_000, ge=1, description="rows for peers, which may be many times slower"
    )
    repeats: int = Field(default=3, ge=1, description="runs of everything; the median counts")
    growth: list[int] = Field(
        default_factory=lambda: [1, 10], description="how many times the rows, in the part rows"
    )
    cores: list[int] = Field(default_factory=lambda: [1, 2], description="how many cores, in the part cores")
    also: dict[str, str] = Field(
        default_factory=dict,
        description="texts of another kind, in the part texts, as NAME=FILE or NAME=FILE?COLUMN=VALUE: a "
        "Parquet file with a column text, and which of its rows",
    )
    teacher: str | None = Field(
        default=None, description="teacher of the part distill; by default the embedded all-MiniLM-L6-v2"
    )
    cpus: list[int] = Field(
        default_factory=list, description="bind all local processes to these CPUs; by default to none"
    )
    master: str | None = Field(default=None, description="Spark master; by default local[*]")
    conf: SparkConf = Field(default_factory=dict)
