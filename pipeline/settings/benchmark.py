"""Settings of ``lakevec benchmark`` and ``lakevec demo``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lakevec.pipeline.settings.base import Settings, StringMap

BenchmarkPart = Literal[
    "worker",
    "kernel",
    "texts",
    "tokenizers",
    "phrases",
    "bigrams",
    "lengths",
    "dimensions",
    "vocabulary",
    "vectors",
    "extremes",
    "start",
    "job",
    "rows",
    "shapes",
    "cores",
    "changes",
    "count",
    "distill",
    "teacher",
]
AtLeastOne = Annotated[int, Field(ge=1)]


def _main_parts() -> list[BenchmarkPart]:
    return ["worker", "kernel", "job"]


class BenchmarkSettings(Settings):
    """Measure lakevec and its peers on the same rows, and write JSON, Markdown tables and a plot.

    parts:
      worker      time until a new worker embeds
      kernel      texts to vectors in one process, beside model2vec, StaticEmbedding and the tokenizer alone
      texts       the same if every word is new, and for the files of --also
      tokenizers  the texts of --also with the tokenizers of --tokenizers
      phrases     the texts with up to 500 mined phrases in the vocabulary, beside the same without
      bigrams     the texts with rows for 100,000 bigrams, and with position weights, beside the plain table
      lengths     the same for several text lengths
      dimensions  the same for several table widths
      vocabulary  the same for several sizes of the vocabulary
      vectors     a column of vectors written, beside pyarrow's and a plain write of the same bytes
      extremes    one text of 100 MB, one word of 10 MB
      start       one row, and nothing new, beside plain Spark, from start to exit
      job         Parquet to Parquet on Spark, beside pandas UDFs and the job with constant vectors
      rows        the job with more rows (--growth)
      shapes      the job on small files, a large row group, 300 columns and long texts
      cores       the job on more cores (--cores)
      changes     the job with a key, after few rows have changed
      count       counting, beside embedding without a write
      distill     distilling --teacher, beside model2vec
      teacher     whole texts through --teacher, beside sentence-transformers

    example:
      lakevec benchmark --model models/minilm --output bench --cpus 0 --master 'local[1]'
    """

    model: str
    """Any model that lakevec embed reads."""
    output: str
    """Folder for rows and results. Must not exist."""
    input: str | None = None
    """Local folder of Parquet files. Default: the docstrings of the installed packages."""
    text: str = "text"
    """Text column of the input."""
    part: list[BenchmarkPart] = Field(default_factory=_main_parts, min_length=1)
    """Parts to measure; `lakevec benchmark --help` explains them."""
    rows: AtLeastOne = 1_000_000
    """Number of rows: those of the input, repeated with fresh words."""
    peer_rows: AtLeastOne = 1_000_000
    """Number of rows for other libraries, which may be many times slower."""
    repeats: AtLeastOne = 3
    """Number of runs of each measurement. Results are medians."""
    growth: list[int] = Field(default_factory=lambda: [1, 10])
    """For the part rows: multiples of the number of rows."""
    cores: list[int] = Field(default_factory=lambda: [1, 2])
    """For the part cores: numbers of cores."""
    also: StringMap = Field(default_factory=dict)
    """For the parts texts and tokenizers: other texts, as NAME=FILE or NAME=FILE?COLUMN=VALUE. FILE is
    Parquet with a column text. COLUMN=VALUE selects some of its rows."""
    tokenizers: StringMap = Field(default_factory=dict)
    """For the part tokenizers: other tokenizers, as NAME=FOLDER. FOLDER holds a model or a teacher."""
    teacher: str | None = None
    """For the parts distill and teacher: the teacher. Default: the embedded all-MiniLM-L6-v2."""
    cpus: list[int] = Field(default_factory=list)
    """Bind all local processes to these CPUs. Default: do not bind them."""
    master: str | None = None
    """Spark master. Default: local[*]."""
    conf: StringMap = Field(default_factory=dict)
    """Spark property as KEY=VALUE."""


class DemoSettings(Settings):
    """Run everything once on real text: the docstrings of the installed Python packages.

    example:
      lakevec demo --folder demo
    """

    folder: str = "demo"
    """Working folder. Its lake, model and vectors are kept."""
    teacher: str | None = None
    """Teacher to distil. Default: the embedded all-MiniLM-L6-v2."""
    master: str = "local[*]"
    """Spark master."""
