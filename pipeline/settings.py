"""The settings of each job: strict models.

The models are the only place where a key, its type, default, range and help text stand; the command line
(`jobs.command_line`), ``conf/*.yaml`` and the tables in ``README.md`` follow them. This module
knows nothing of argparse or Spark.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from pipeline.location import without_credentials


def _as_list(value: object) -> object:
    """Let a YAML file write one value where a list is meant."""
    return [value] if isinstance(value, str) else value


StringList = Annotated[list[str], BeforeValidator(_as_list)]


class Settings(BaseModel):
    """Base of all settings: unknown keys are errors, values are not coerced, instances don't change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @field_validator("*")
    @classmethod
    def _holds_text(cls, value: Any) -> Any:
        if not _is_text(value):
            raise ValueError("may hold only whole characters, and no null")
        return value

    def to_record(self) -> dict[str, Any]:
        """Return the settings for people and ``run.json``: values that look like secrets are masked."""
        return {key: _mask(key, value) for key, value in self.model_dump().items()}


def _is_text(value: Any) -> bool:
    """Tell whether all strings in a value are ones that paths, Java and Parquet can hold."""
    if isinstance(value, dict):
        return all(_is_text(part) for pair in value.items() for part in pair)
    if isinstance(value, list):
        return all(map(_is_text, value))
    # Half a character is also what Python makes of a byte on the command line that is no UTF-8.
    return not isinstance(value, str) or not re.search("[\0\ud800-\udfff]", value)


# As spark.redaction.regex, and names that object stores use.
_SECRET_KEY = re.compile(
    r"secret|password|passwd|token$|access[._-]?key|account[._-]?key|credential", re.IGNORECASE
)


def _mask(key: str, value: Any) -> Any:
    """Hide values of secret keys, and user and password inside URIs."""
    if isinstance(value, dict):
        return {inner: _mask(inner, content) for inner, content in value.items()}
    if isinstance(value, list):
        return [_mask(key, content) for content in value]
    if isinstance(value, str):
        return "***" if _SECRET_KEY.search(key) else without_credentials(value)
    return value


# Java counts rows and files up to here.
_LARGEST = 2**31 - 1

_MODEL = (
    "a published model, or one of model2vec, Sentence Transformers, GloVe, word2vec, BPEmb or WordLlama: "
    "folder, file, URI or Hugging Face hub id"
)


class EmbedSettings(Settings):
    """What ``lakevec embed`` reads, computes and writes."""

    model: str = Field(description=_MODEL)
    input: StringList = Field(
        min_length=1, description="paths or URIs to read, or table names with format 'table'"
    )
    text: StringList = Field(min_length=1, description="string column to embed; may be given several times")
    output: str = Field(
        description="folder or URI for the Parquet files; one that an earlier run wrote is gone on with"
    )
    format: str = Field(
        default="parquet",
        description="any format Spark reads (parquet, csv, json, text, orc, ...), or 'table'",
    )
    option: dict[str, str] = Field(
        default_factory=dict, description="reader option of that format, as KEY=VALUE, such as header=true"
    )
    keep: StringList | None = Field(
        default=None, description="input columns that travel along; by default all of them"
    )
    embedding_column: str = Field(
        default="{column}_embedding", description="name of an embedding column; {column} is its text column"
    )
    max_tokens: int | None = Field(
        default=None,
        ge=1,
        le=_LARGEST,
        description="embed only the first N known tokens of a text; by default all",
    )
    wave_bytes: Annotated[str | None, Field(pattern=r"^[1-9][0-9]{0,14}[kmgt]?$")] = Field(
        default=None,
        description="bytes of input files that are embedded and committed together, as in 500m or 32g; by "
        "default 32g, or any number with wave-files",
    )
    wave_files: int | None = Field(
        default=None, ge=1, le=_LARGEST, description="input files that are embedded and committed together"
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
        le=_LARGEST,
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
    partition_by: StringList | None = Field(
        default=None, description="columns whose values become folders, as Spark's partitionBy makes them"
    )
    target_file_mb: int = Field(
        default=512,
        ge=1,
        le=_LARGEST,
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
        le=_LARGEST,
        description="megabytes of input files per task; what a task writes is some seven times larger",
    )
    batch_rows: int = Field(
        default=10_000, ge=1, le=_LARGEST, description="rows that Spark hands to Python at a time"
    )
    checkpoint: str | None = Field(
        default=None,
        description="folder or URI for Spark's checkpoints, where Spark can't reach the output; by default "
        "they lie in the output's _lakevec folder",
    )
    grace_minutes: int = Field(
        default=60,
        ge=0,
        le=_LARGEST,
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
    master: str | None = Field(
        default=None,
        description="Spark master, such as local[2]; by default spark-submit's, or else local[*]",
    )
    conf: dict[str, str] = Field(default_factory=dict, description="Spark property, as KEY=VALUE")

    @model_validator(mode="after")
    def _fit_together(self) -> EmbedSettings:
        if self.wave_bytes is not None and self.wave_files is not None:
            raise ValueError("wave_bytes and wave_files can't both be given")
        if self.key is not None and self.on_bad_file == "skip":
            raise ValueError("on_bad_file skip goes with new files, not with a key: rows would seem gone")
        if self.key is None and (self.key_order is not None or self.deletes != "keep"):
            raise ValueError("key_order and deletes need a key")
        return self

    @field_validator("embedding_column")
    @classmethod
    def _names_the_column(cls, value: str) -> str:
        if re.search(r"\{(?!column\})|(?<!\{column)\}", value):
            raise ValueError("may hold no other braces than {column}")
        return value


def _as_number(value: object) -> object:
    """Let the command line write a number as a word."""
    if isinstance(value, str) and re.fullmatch(r"\d+", value):
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"\d*\.\d+", value):
        return float(value)
    return value


Dimensions = Annotated[
    Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)] | Literal["auto", "none"],
    BeforeValidator(_as_number),
]
RecipeName = Literal["model2vec-0.1", "model2vec-0.10"]

# What each name stands for; whatever is given beside it wins.
RECIPES: dict[RecipeName, dict[str, Any]] = {
    # Of 0.1 to 0.4: the teacher saw "[SEP] token [CLS]", in that order, and the token's own state was kept.
    "model2vec-0.1": {
        "pooling": "token",
        "special_tokens": "reversed",
        "keep_special_tokens": True,
        "weighting": "zipf",
        "normalize": False,
        "token_remove_pattern": r"\[unused",
    },
    "model2vec-0.10": {
        "pooling": "mean",
        "special_tokens": "teacher",
        "weighting": "sif",
        "sif_coefficient": 1e-4,
        "normalize": True,
        "dtype": "float16",
        "int8_scale": "table",
        "token_remove_pattern": r"\[unused\d+\]",
    },
}


class DistillSettings(Settings):
    """How ``lakevec distill`` turns a Sentence Transformer into a table."""

    teacher: str = Field(description="folder of a Sentence Transformer, or its Hugging Face hub id")
    output: str = Field(description="folder or URI to publish the model to; must not exist yet")
    revision: str | None = Field(
        default=None, description="branch, tag or commit of a hub teacher; the commit is recorded"
    )
    name: str | None = Field(
        default=None, description="teacher's name for the model card; by default its hub id or folder's name"
    )
    recipe: RecipeName | None = Field(
        default=None, description="a published recipe by name; options given beside it win"
    )
    mode: Literal["output", "input", "vocabulary", "word"] | None = Field(
        default=None,
        description="output: the teacher's tokens, seen by it; input: their input embeddings; vocabulary: "
        "its tokens and the words of a vocabulary; word: those words alone; by default output, or vocabulary "
        "where one is given",
    )
    vocabulary: str | None = Field(
        default=None,
        description="words to find whole: a text file of one a line, or Parquet or CSV with a column of "
        "words and perhaps a column count",
    )
    vocabulary_column: str = Field(default="word", description="column of a vocabulary's words")
    pooling: Literal["auto", "mean", "first", "last", "pooler", "token"] = Field(
        default="auto",
        description="what is kept of the teacher's output: the mean, the first or last position, its pooler, "
        "or the token's own position; auto does what the Sentence Transformer itself does, Dense layers and "
        "default prompt included",
    )
    special_tokens: Literal["teacher", "reversed"] = Field(
        default="teacher",
        description="around each token: the teacher's own, or those in the reverse order, as model2vec 0.1",
    )
    keep_special_tokens: bool = Field(
        default=False, description="keep rows of tokens that only the teacher writes, such as [CLS]"
    )
    prompt: str | None = Field(
        default=None,
        description="text before each token; by default none, or with pooling auto the teacher's",
    )
    dimensions: Dimensions = Field(
        default=256,
        description="output width D by PCA: a number, a share of variance to keep such as 0.95, auto for the "
        "teacher's width, or none for no PCA",
    )
    weighting: Literal["sif", "zipf", "none"] = Field(
        default="sif",
        description="sif: a / (a + p), p from Zipf's law over ranks or from counts; zipf: log(1 + rank)",
    )
    counts: str | None = Field(
        default=None, description="Parquet of columns token and count, for p of the SIF weight"
    )
    sif_coefficient: float | None = Field(
        default=None, gt=0, lt=1, description="a of the SIF weight; by default 0.0001, with counts 0.001"
    )
    normalize: bool = Field(default=True, description="give every text vector length 1")
    dtype: Literal["float32", "float16", "int8"] = Field(
        default="float32", description="type of the stored table; int8 rows come with their scale"
    )
    int8_scale: Literal["token", "table"] = Field(
        default="token", description="whether int8 rows have each their own scale, or one as model2vec's"
    )
    vocabulary_clusters: int | None = Field(
        default=None, ge=1, description="let tokens share this many rows, found by k-means"
    )
    token_remove_pattern: str | None = Field(
        default=r"\[unused\d+\]",
        description="regular expression; tokens that begin with a match are left out",
    )
    device: str = Field(
        default="auto", description="torch device of the teacher; auto is cuda where there is one, else cpu"
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="the teacher's arithmetic; auto is float16 on cuda, with float32 for what overflows, and "
        "float32 on cpu",
    )
    batch_size: int = Field(default=256, ge=1, description="tokens per forward pass of the teacher")

    @model_validator(mode="before")
    @classmethod
    def _spell_out_the_recipe(cls, values: Any) -> Any:
        named = values.get("recipe") if isinstance(values, dict) else None
        return {**RECIPES[named], **values} if isinstance(named, str) and named in RECIPES else values

    @model_validator(mode="after")
    def _fit_together(self) -> DistillSettings:
        needs_words = self.mode in ("vocabulary", "word")
        if needs_words and self.vocabulary is None:
            raise ValueError(f"mode {self.mode} needs a vocabulary")
        if self.vocabulary is not None and self.mode in ("output", "input"):
            raise ValueError(f"mode {self.mode} takes no vocabulary")
        if self.counts is not None and self.weighting != "sif":
            raise ValueError("counts belong to weighting sif")
        return self

    @field_validator("token_remove_pattern")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"must be a regular expression ({error})") from None
        return value


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
    master: str | None = Field(
        default=None,
        description="Spark master, such as local[2]; by default spark-submit's, or else local[*]",
    )
    conf: dict[str, str] = Field(default_factory=dict, description="Spark property, as KEY=VALUE")


class DemoSettings(Settings):
    """Where ``lakevec demo`` works."""

    folder: str = Field(default="demo", description="working folder; its lake, model and vectors are kept")
    teacher: str | None = Field(
        default=None, description="teacher to distil; by default the embedded all-MiniLM-L6-v2"
    )
    master: str = Field(default="local[*]", description="Spark master")


class ConvertSettings(Settings):
    """What ``lakevec convert`` reads and writes."""

    model: str = Field(description=_MODEL, json_schema_extra={"positional": True})
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

    model: str = Field(description=_MODEL, json_schema_extra={"positional": True})
    words: StringList = Field(
        default_factory=lambda: ["date", "river", "doctor"],
        description="words whose nearest tokens are shown",
    )
    neighbours: int = Field(default=5, ge=1, description="how many tokens to show for each word")


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
    "distill",
]


def _main_parts() -> list[BenchmarkPart]:
    return ["worker", "kernel", "job"]


class BenchmarkSettings(Settings):
    """What ``lakevec benchmark`` measures and on which rows."""

    model: str = Field(description=_MODEL)
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
    conf: dict[str, str] = Field(default_factory=dict, description="Spark property, as KEY=VALUE")


def is_positional(field: FieldInfo) -> bool:
    """Tell whether a setting stands on the command line without its name.

    Parameters
    ----------
    field : pydantic.fields.FieldInfo

    Returns
    -------
    bool
    """
    return isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("positional") is True
