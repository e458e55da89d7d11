"""Settings of ``lakevec embed``."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

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


class EmbedSettings(Settings):
    """What ``lakevec embed`` reads, computes and writes."""

    model: str = Field(description=MODEL)
    input: InputPaths
    text: StringList = Field(min_length=1, description="string column to embed; may be given several times")
    output: str = Field(
        description="folder or URI for the Parquet files; one that an earlier run wrote is gone on with"
    )
    format: InputFormat = "parquet"
    option: ReaderOptions = Field(default_factory=dict)
    keep: StringList | None = Field(
        default=None, description="input columns that travel along; by default all of them"
    )
    embedding_column: str = Field(
        default="{column}_embedding", description="name of an embedding column; {column} is its text column"
    )
    max_tokens: int | None = Field(
        default=None,
        ge=1,
        le=LARGEST,
        description="embed only the first N known tokens of a text; by default all",
    )
    wave_bytes: Annotated[str | None, Field(pattern=r"^[1-9][0-9]{0,14}[kmgt]?$")] = Field(
        default=None,
        description="bytes of input files that are embedded and committed together, as in 500m or 32g; by "
        "default 32g, or any number with wave-files",
    )
    wave_files: int | None = Field(
        default=None, ge=1, le=LARGEST, description="input files that are embedded and committed together"
    )
    full_refresh: bool = Field(
        default=False,
        description="embed everything anew beside the old output, and put it in its place when it is whole",
    )
    key: str | None = Field(
        default=None,
        description="column of which the output holds every value once; rows with another text are embedded "
        "anew, all others are left or copied",
    )
    key_order: str | None = Field(
        default=None,
        description="of input rows with one key, the one with the greatest value of this column counts; by "
        "default that of the file changed last",
    )
    deletes: Literal["keep", "remove"] = Field(
        default="keep", description="with a key: what becomes of rows whose key is gone from the input"
    )
    on_bad_row: Literal["fail", "null", "quarantine"] = Field(
        default="fail",
        description="for a text that is not valid UTF-8 or too long: end the run, write a null vector, or "
        "write the row with its reason to _lakevec/quarantine",
    )
    max_chars: int | None = Field(
        default=None,
        ge=1,
        le=LARGEST,
        description="a text of more characters is a bad row; by default none is",
    )
    on_bad_file: Literal["fail", "skip"] = Field(
        default="fail",
        description="for an input file that can't be read: end the run, or leave it out until it changes",
    )
    table_format: Literal["parquet", "delta"] = Field(
        default="parquet",
        description="delta commits the same files to a Delta table, which any store can switch in one step",
    )
    sha256: bool = Field(
        default=False, description="take each file's check sum while writing, for lakevec verify"
    )
    compression: Literal["zstd", "snappy", "none"] = Field(
        default="zstd", description="codec of all columns but the embeddings, which hardly compress"
    )
    vector_type: Literal["float32", "float16", "int8"] = Field(
        default="float32",
        description="elements of stored vectors; float16 is rounded and read as float, int8 comes with a "
        "column of scales",
    )
    store: Literal["mean", "sum"] = Field(
        default="mean",
        description="what is kept of a text: its vector, or the plain sum of its tokens' rows and a column "
        "of how many they are, which add up over texts in SQL",
    )
    partition_by: StringList | None = Field(
        default=None, description="columns whose values become folders, as Spark's partitionBy makes them"
    )
    target_file_mb: int = Field(
        default=512,
        ge=1,
        le=LARGEST,
        description="a task that has written so many megabytes begins another file",
    )
    sink: Literal["auto", "direct", "spark"] = Field(
        default="auto",
        description="who writes: the tasks themselves, or Spark's own writer; auto takes Spark's only where "
        "tasks can't",
    )
    output_format: str = Field(
        default="parquet", description="format of the output; any but parquet is written by Spark"
    )
    input_split_mb: int = Field(
        default=32,
        ge=1,
        le=LARGEST,
        description="megabytes of input files per task; what a task writes is some seven times larger",
    )
    batch_rows: BatchRows = 10_000
    checkpoint: str | None = Field(
        default=None,
        description="folder or URI for Spark's checkpoints, where Spark can't reach the output; by default "
        "they lie in the output's _lakevec folder",
    )
    grace_minutes: int = Field(
        default=60,
        ge=0,
        le=LARGEST,
        description="what dead runs left is removed after this time; local tasks die with their driver, so "
        "locally at once",
    )
    metrics: str | None = Field(
        default=None, description="local file for the run's figures in Prometheus' text format"
    )
    node_dir: str | None = Field(
        default=None,
        description="folder on every node for the one copy of the table; by default YARN's or the system's "
        "folder for temporary files",
    )
    master: SparkMaster = None
    remote: SparkRemote = None
    conf: SparkConf = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fit_together(self) -> EmbedSettings:
        if self.wave_bytes is not None and self.wave_files is not None:
            raise ValueError("wave_bytes and wave_files can't both be given")
        if self.key is not None and self.on_bad_file == "skip":
            raise ValueError("on_bad_file skip goes with new files, not with a key: rows would seem gone")
        if self.store == "sum" and self.vector_type != "float32":
            raise ValueError("store sum needs vector_type float32: what is rounded does not add up")
        if self.key is None and (self.key_order is not None or self.deletes != "keep"):
            raise ValueError("key_order and deletes need a key")
        return self

    @field_validator("embedding_column")
    @classmethod
    def _names_the_column(cls, value: str) -> str:
        if re.search(r"\{(?!column\})|(?<!\{column)\}", value):
            raise ValueError("may hold no other braces than {column}")
        return value
