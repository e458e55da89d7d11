"""What all settings have in common: strictness, how secrets are hidden, words that come up in several."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator
from pydantic.fields import FieldInfo

from lakevec.pipeline.redaction import redact_values

# Java counts rows and files up to here.
LARGEST = 2**31 - 1

MODEL = (
    "a published model, or one of model2vec, Sentence Transformers, GloVe, word2vec, BPEmb or WordLlama: "
    "folder, file, URI or hf://organisation/name"
)


def _as_list(value: object) -> object:
    """Let a YAML file write one value where a list is meant."""
    return [value] if isinstance(value, str) else value


StringList = Annotated[list[str], BeforeValidator(_as_list)]

# Settings that several commands have, each told once.
InputPaths = Annotated[
    StringList, Field(min_length=1, description="paths or URIs to read, or table names with format 'table'")
]
InputFormat = Annotated[
    str, Field(description="any format Spark reads (parquet, csv, json, text, orc, ...), or 'table'")
]
ReaderOptions = Annotated[
    dict[str, str], Field(description="reader option of that format, as KEY=VALUE, such as header=true")
]
BatchRows = Annotated[int, Field(ge=1, le=LARGEST, description="rows that Spark hands to Python at a time")]
SparkMaster = Annotated[
    str | None,
    Field(description="Spark master, such as local[2]; by default spark-submit's, or else local[*]"),
]
SparkRemote = Annotated[
    str | None,
    Field(description="Spark Connect server, as in sc://host:15002; by default SPARK_REMOTE, or else none"),
]
SparkConf = Annotated[dict[str, str], Field(description="Spark property, as KEY=VALUE")]
TableType = Annotated[
    Literal["float32", "float16", "int8"],
    Field(description="type of the stored table; int8 rows come with their scale"),
]
TokenRemovePattern = Annotated[
    str | None, Field(description="regular expression; tokens that begin with a match are left out")
]
TorchDevice = Annotated[
    str, Field(description="torch device of the teacher; auto is cuda where there is one, else cpu")
]
Precision = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"],
    Field(
        description="the teacher's arithmetic; auto is float16 on cuda, with float32 for what overflows, and "
        "float32 on cpu"
    ),
]


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
        return {name: redact_values(value) for name, value in self.model_dump().items()}


def _is_text(value: Any) -> bool:
    """Tell whether all strings in a value are ones that paths, Java and Parquet can hold."""
    if isinstance(value, dict):
        return all(_is_text(part) for pair in value.items() for part in pair)
    if isinstance(value, list):
        return all(map(_is_text, value))
    # Half a character is also what Python makes of a byte on the command line that is no UTF-8.
    return not isinstance(value, str) or not re.search("[\0\ud800-\udfff]", value)


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
