"""Settings of ``lakevec embed``."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from lakevec.pipeline.settings.base import (
    COMMAS,
    DIRECT,
    NotNegative,
    Positive,
    SparkInput,
    SparkRuntime,
    SparkTasks,
    StringList,
    VectorTypeName,
)

WaveBytes = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,14}[kmgt]?$")]


class EmbedSettings(SparkInput, SparkTasks, SparkRuntime):
    """Embed text columns with a published model, and write them with all other columns as Parquet.

    The first run embeds the whole input; later runs embed only new files. If a run is killed, the next run
    completes it. No row is lost, duplicated or embedded by another model.

    example:
      lakevec embed --model models/minilm --input lake/docs --text body --output lake/vectors

    exit codes:
      0  done, or nothing new
      1  failed; earlier commits stay
      2  wrong usage or configuration; nothing was started
      3  another run is writing to this output
    """

    model: str = Field(examples=["models/minilm"])
    """Published model, or one of model2vec, Sentence Transformers, GloVe, word2vec, BPEmb or WordLlama: a
    folder, file, URI or hf://organisation/name."""
    output: str = Field(examples=["lake/vectors"])
    """Folder or URI for the Parquet files. An existing lakevec output is continued."""
    keep: StringList | None = Field(default=None, json_schema_extra=COMMAS)
    """Input columns to write beside the vectors. Default: all."""
    embedding_column: str = "{column}_embedding"
    """Name of an embedding column; {column} stands for its text column."""
    head: StringList = Field(default_factory=list)
    """Heads that lakevec train-head published for this model. Each adds columns with labels and their
    probabilities."""
    vectors: bool = Field(default=True, json_schema_extra=DIRECT)
    """Write the vectors. --no-vectors writes only the labels of heads."""
    max_tokens: Positive | None = None
    """Embed only the first N known tokens of a text. Default: all."""
    dimensions: Positive | None = None
    """Keep only the first N elements of each vector, and normalise it again if the model normalises. Default:
    all."""
    chunk_tokens: Positive | None = Field(default=None, json_schema_extra=DIRECT)
    """Split each text into chunks of at most N known tokens, and write a row per chunk. Default: do not
    split."""
    chunk_overlap: NotNegative = Field(default=0, json_schema_extra=DIRECT)
    """Tokens at the end of a chunk that the next one may repeat, at most half of chunk-tokens."""
    chunk_text: bool = Field(default=False, json_schema_extra=DIRECT)
    """Write the text of each chunk, as column chunk_text."""
    wave_bytes: WaveBytes | None = Field(default=None, json_schema_extra=DIRECT)
    """Input bytes per micro-batch, such as 500m. Default: 32g, unlimited if wave-files is set."""
    wave_files: Positive | None = Field(default=None, json_schema_extra=DIRECT)
    """Input files per micro-batch. Default: no limit."""
    full_refresh: bool = Field(default=False, json_schema_extra=DIRECT)
    """Embed everything again beside the old output, and replace it when the run is complete."""
    key: str | None = Field(default=None, json_schema_extra=DIRECT)
    """Column that identifies a row. Keep one row per value, and embed only rows that are new or whose text
    has changed."""
    key_order: str | None = None
    """Among input rows with the same key, keep the one with the largest value here. Default: the row of the
    file that was changed last."""
    deletes: Literal["keep", "remove"] = "keep"
    """With a key: keep or remove output rows whose key is not in the input any more."""
    on_bad_row: Literal["fail", "null", "quarantine"] = Field(default="fail", json_schema_extra=DIRECT)
    """For a text that is not valid UTF-8, or longer than max-chars: fail, write a null vector, or write the
    row with the reason to _lakevec/quarantine."""
    max_chars: Positive | None = Field(default=None, json_schema_extra=DIRECT)
    """Treat longer texts as invalid rows. Default: no limit."""
    on_bad_file: Literal["fail", "skip"] = Field(default="fail", json_schema_extra=DIRECT)
    """For an input file that can't be read: fail, or skip the file and try it again in the next run."""
    table_format: Literal["parquet", "delta", "iceberg"] = Field(default="parquet", json_schema_extra=DIRECT)
    """Write plain Parquet, or a Delta or Iceberg table, whose commits are atomic on every store."""
    catalog: str | None = Field(default=None, json_schema_extra=DIRECT)
    """Iceberg catalog, a name in pyiceberg's configuration. Required with table_format iceberg."""
    table: str | None = Field(default=None, json_schema_extra=DIRECT)
    """Table in the Iceberg catalog, such as db.docs. Its files are in the output. Required with table_format
    iceberg."""
    sha256: bool = Field(default=False, json_schema_extra=DIRECT)
    """Record each file's checksum for lakevec verify."""
    compression: Literal["zstd", "snappy", "none"] = "zstd"
    """Codec of all columns except embeddings, which hardly compress."""
    vector_type: VectorTypeName = "float32"
    """Type of stored vectors. float16 is rounded and read as float; int8 adds a column of scales; binary
    stores one bit per element, its sign."""
    store: Literal["mean", "sum"] = Field(default="mean", json_schema_extra=DIRECT)
    """Store a text's vector (mean), or the sum of its tokens' rows and a column with their number (sum). SQL
    can add sums up over texts."""
    partition_by: StringList | None = None
    """Columns whose values become folders, as in Spark's partitionBy."""
    target_file_mb: Positive = 512
    """Size in megabytes after which a task begins another file."""
    sink: Literal["auto", "direct", "spark"] = "auto"
    """Let tasks write files directly, or use Spark's own writer. auto takes Spark's only if the format is not
    parquet, or if tasks can't write to the output."""
    output_format: str = "parquet"
    """Format of the output. Formats other than parquet need Spark's own writer."""
    checkpoint: str | None = Field(default=None, json_schema_extra=DIRECT)
    """Folder or URI for Spark's checkpoints, if Spark can't write to the output. Default: the output's
    _lakevec folder."""
    grace_minutes: NotNegative = 60
    """Minutes to keep staging files of dead runs. Local mode removes them at once."""
    metrics: str | None = Field(default=None, json_schema_extra=DIRECT)
    """Local file for the run's figures in Prometheus' text format."""
    lineage: str | None = None
    """Server, such as http://marquez:5000, or local file for the run's OpenLineage events."""

    @model_validator(mode="after")
    def _fit_together(self) -> EmbedSettings:
        if self.wave_bytes is not None and self.wave_files is not None:
            raise ValueError("wave_bytes and wave_files can't both be given")
        if self.key is not None and self.on_bad_file == "skip":
            raise ValueError(
                "on_bad_file skip can't be used with a key: rows of a skipped file would seem deleted"
            )
        if self.store == "sum" and self.vector_type != "float32":
            raise ValueError("store sum needs vector_type float32: rounded values do not add up")
        self._check_heads()
        self._check_chunks()
        if self.key is None and (self.key_order is not None or self.deletes != "keep"):
            raise ValueError("key_order and deletes need a key")
        named = [self.catalog is not None, self.table is not None]
        if self.table_format == "iceberg" and not all(named):
            raise ValueError("table_format iceberg needs a catalog and a table")
        if self.table_format != "iceberg" and any(named):
            raise ValueError("catalog and table need table_format iceberg")
        return self

    def _check_heads(self) -> None:
        if not self.head and not self.vectors:
            raise ValueError("no-vectors needs a head: nothing else would be written")
        if self.head and self.store == "sum":
            raise ValueError("head needs store mean: it was trained on vectors, not on sums")
        if not self.vectors and self.vector_type != "float32":
            raise ValueError("vector_type and no-vectors can't both be given")

    def _check_chunks(self) -> None:
        if self.chunk_tokens is None:
            if self.chunk_overlap or self.chunk_text:
                raise ValueError("chunk_overlap and chunk_text need chunk_tokens")
            return
        if self.chunk_overlap > self.chunk_tokens // 2:
            raise ValueError(f"chunk_overlap may be at most {self.chunk_tokens // 2}, half of chunk_tokens")
        if self.max_tokens is not None:
            raise ValueError("max_tokens and chunk_tokens can't both be given")
        if len(set(self.text)) != 1:
            raise ValueError("chunk_tokens needs a single text column: chunks of several would not match")
        if set(self.text) & {*(self.keep or ()), *(self.partition_by or ())}:
            raise ValueError(
                f"column {self.text[0]!r} is split into chunks and can't be kept whole: use chunk_text"
            )

    @field_validator("embedding_column")
    @classmethod
    def _names_the_column(cls, value: str) -> str:
        if re.search(r"\{(?!column\})|(?<!\{column)\}", value):
            raise ValueError("may hold no other braces than {column}")
        return value
