"""The base of all settings, strict and with masked secrets, and groups of fields for several commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator
from pydantic.fields import FieldInfo

from lakevec.pipeline.redaction import redact_values

# The largest number of rows or files that Java counts.
LARGEST = 2**31 - 1
# A command-line argument without the name of an option.
POSITIONAL: Any = {"positional": True}
# A setting that Spark's own writer does not support.
DIRECT: Any = {"writer": "direct"}
# A list whose values may be separated by commas on the command line.
COMMAS: Any = {"commas": True}


def _as_list(value: object) -> object:
    """Turn a single value of a YAML file into a list."""
    return [value] if isinstance(value, str | int) else value


def _check_pattern(value: str | None) -> str | None:
    try:
        re.compile(value or "")
    except re.error as error:
        raise ValueError(f"must be a regular expression ({error})") from None
    return value


Positive = Annotated[int, Field(ge=1, le=LARGEST)]
NotNegative = Annotated[int, Field(ge=0, le=LARGEST)]
StringList = Annotated[list[str], BeforeValidator(_as_list)]
IntegerList = Annotated[list[Positive], BeforeValidator(_as_list)]
Pattern = Annotated[str | None, AfterValidator(_check_pattern)]
StringMap = dict[str, str]
TableType = Literal["float32", "float16", "int8"]
VectorTypeName = Literal["float32", "float16", "int8", "binary"]
VectorTypeList = Annotated[list[VectorTypeName], BeforeValidator(_as_list)]


class Settings(BaseModel):
    """Base of all settings. Unknown keys are errors, values are not coerced, and instances are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    @field_validator("*")
    @classmethod
    def _holds_text(cls, value: Any) -> Any:
        if not _is_text(value):
            raise ValueError("may hold only whole characters, and no null")
        return value

    @classmethod
    def merge(cls, from_file: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
        """Combine values of a file and of the command line. The command line overrides the file."""
        return {**from_file, **overrides}

    @classmethod
    def groups(cls) -> Iterator[tuple[str, dict[str, FieldInfo]]]:
        """Yield the command's own fields with an empty title, then each shared group with its title."""
        shared = [kind for kind in cls.__bases__ if kind is not Settings and issubclass(kind, Settings)]
        names = {name for kind in shared for name in kind.model_fields}
        yield "", {name: field for name, field in cls.model_fields.items() if name not in names}
        for kind in shared:
            yield str(kind.__doc__).rstrip("."), {name: cls.model_fields[name] for name in kind.model_fields}

    @classmethod
    def fields(cls) -> dict[str, FieldInfo]:
        """Return all fields, the command's own first."""
        return {name: field for _, fields in cls.groups() for name, field in fields.items()}

    def to_record(self) -> dict[str, Any]:
        """Return the settings with masked secrets, to print and for ``run.json``."""
        return {name: redact_values(getattr(self, name)) for name in self.fields()}


class SparkInput(Settings):
    """Input."""

    input: StringList = Field(min_length=1, examples=[["lake/docs"]])
    """Paths, patterns or URIs to read, or the name of one table with format `table`."""
    text: StringList = Field(min_length=1, examples=[["body"]])
    """Text column: string, or binary that holds UTF-8. May be given several times."""
    format: str = "parquet"
    """Any format that Spark reads (parquet, csv, json, text, orc, ...), or `table`."""
    option: StringMap = Field(default_factory=dict)
    """Reader option of the format as KEY=VALUE, such as header=true."""


class SparkTasks(Settings):
    """Tasks."""

    input_split_mb: Positive = 32
    """Megabytes of input files per task."""
    batch_rows: Positive = 10_000
    """Rows that Spark hands to Python at a time."""
    node_dir: str | None = None
    """Folder on every node for its copy of the model. Default: YARN's or the system's temporary folder."""


class SparkRuntime(Settings):
    """Spark."""

    master: str | None = None
    """Spark master, such as local[2]. Default: spark-submit's, else local[*]."""
    remote: str | None = None
    """Spark Connect server, such as sc://host:15002. Default: SPARK_REMOTE, else none."""
    conf: StringMap = Field(default_factory=dict)
    """Spark property as KEY=VALUE."""


class TeacherRuntime(Settings):
    """Teacher."""

    revision: str | None = None
    """Branch, tag or commit of a teacher on the hub. The commit is recorded."""
    trust_remote_code: bool = False
    """Run Python code that comes with the teacher. Its author can then do what you can."""
    name: str | None = None
    """Teacher's name in the model card. Default: its hub id, or the folder's name."""
    device: str = "auto"
    """Torch device of the teacher. `auto` takes cuda if there is one, else cpu."""
    precision: Literal["auto", "float32", "bfloat16", "float16", "int8"] = "auto"
    """Arithmetic of the teacher. `auto` takes float16 on cuda and float32 on cpu. `int8` is less exact, and
    faster on a cpu with VNNI. A batch that overflows float16 is computed in float32."""


class VocabularyOptions(Settings):
    """Vocabulary."""

    vocabulary: str | None = None
    """Words to add as tokens: a text file with one word a line, or Parquet or CSV with a column of words and
    optionally a column `count`."""
    vocabulary_column: str = "word"
    """Column of words in a Parquet or CSV vocabulary."""
    token_remove_pattern: Pattern = r"\[unused\d+\]"  # noqa: S105
    """Regular expression. Remove tokens that begin with a match."""


class GateOptions(Settings):
    """Quality gate."""

    sample: str | None = None
    """Parquet of your own texts. Measure the table's fidelity to its teacher on them before publishing, and
    record the figures in the model card. `tune` takes the held-out texts by default."""
    sample_text: str = "text"
    """Text column of the sample."""
    min_fidelity: float | None = Field(default=None, ge=-1, le=1)
    """Minimum correlation of the table's and the teacher's similarities of text pairs. Below it, publish
    nothing."""


def _is_text(value: Any) -> bool:
    """Return whether all strings of a value are valid in paths, in Java and in Parquet."""
    if isinstance(value, dict):
        return all(_is_text(part) for pair in value.items() for part in pair)
    if isinstance(value, list):
        return all(map(_is_text, value))
    # Python reads a byte of the command line that is not UTF-8 as a lone surrogate.
    return not isinstance(value, str) or not re.search("[\0\ud800-\udfff]", value)


def has_flag(field: FieldInfo, flag: dict[str, Any]) -> bool:
    """Return whether a field is marked with `POSITIONAL`, `DIRECT` or `COMMAS`."""
    extra = field.json_schema_extra
    return isinstance(extra, dict) and flag.items() <= extra.items()


def describe(field: FieldInfo) -> str:
    """Return a field's description on one line."""
    return " ".join(str(field.description).split()).replace("`", "")
