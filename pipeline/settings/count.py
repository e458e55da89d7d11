"""Settings of ``lakevec count``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lakevec.pipeline.settings.base import (
    LARGEST,
    MODEL,
    BatchRows,
    InputFormat,
    InputPaths,
    ReaderOptions,
    Settings,
    SparkConf,
    SparkMaster,
    SparkRemote,
    StringList,
)


class CountSettings(Settings):
    """What ``lakevec count`` reads, counts and writes."""

    model: str = Field(description=f"whose tokens are counted: a Sentence Transformer, or {MODEL}")
    input: InputPaths
    text: StringList = Field(min_length=1, description="string column to count; may be given several times")
    output: str = Field(
        description="folder or URI for the counts; one that holds those of the same request is left as it is"
    )
    format: InputFormat = "parquet"
    option: ReaderOptions = Field(default_factory=dict)
    phrases: int = Field(
        default=1,
        ge=1,
        le=3,
        description="also count phrases of up to 2 or 3 neighbouring words; 1 counts words alone",
    )
    on_bad_row: Literal["fail", "skip"] = Field(
        default="fail",
        description="for a text that is not valid UTF-8: end the run, or leave it out and count it",
    )
    input_split_mb: int = Field(default=32, ge=1, le=LARGEST, description="megabytes of input files per task")
    batch_rows: BatchRows = 10_000
    node_dir: str | None = Field(
        default=None,
        description="folder on every node for the one copy of the tokenizer; by default YARN's or the "
        "system's folder for temporary files",
    )
    master: SparkMaster = None
    remote: SparkRemote = None
    conf: SparkConf = Field(default_factory=dict)
