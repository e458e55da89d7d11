"""Columns that this Spark can't read: left out if the run doesn't need them, else named in the error.

Spark refuses a whole Parquet input for one column of nanoseconds. Here Spark's own footer reader and type
converter, in the JVM, check each column alone, on every file system that Spark reaches.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from pyspark.sql import types as t

from lakevec.jobs.spark.column_types import clashing_fields
from lakevec.jobs.spark.overlap import read_option
from lakevec.pipeline.errors import InputError
from lakevec.pipeline.settings.corpus import CountSettings
from lakevec.pipeline.settings.embed import EmbedSettings
from lakevec.pipeline.settings.tune import TuneSettings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_READERS = 8  # footers at a time, which on an object store are a request each

InputSettings = EmbedSettings | CountSettings | TuneSettings


def readable_schema(
    spark: SparkSession, settings: InputSettings, form: str, paths: list[str]
) -> t.StructType | None:
    """Return the columns of a Parquet input that this Spark can read, without partition columns.

    None if no column is to blame, or none can be checked.

    Raises
    ------
    InputError
        If a column that the run needs can't be read.
    """
    if form != "parquet" or not hasattr(spark, "_jvm"):
        return None
    fields: dict[str, t.StructField] = {}
    unread: dict[str, str] = {}
    try:
        for name, field in _columns(spark, settings, paths):
            if isinstance(field, str):
                unread[name] = field
            else:
                fields.setdefault(name, field)
    except Exception:  # whatever Java finds: no files, a damaged footer
        return None
    if read_option(_session_conf(spark), "spark.sql.caseSensitive", "false") != "true":
        for name in list(fields):
            twins = [other for other in fields if other.lower() == name.lower()]
            if len(twins) > 1:
                told = f"names that differ in case only: {', '.join(map(repr, twins))}"
                unread |= dict.fromkeys(twins, told)
                fields = {other: field for other, field in fields.items() if other not in twins}
    if not unread:
        return None
    for name, told in unread.items():
        _refuse_needed(name, told, settings)
    return t.StructType([field for name, field in fields.items() if name not in unread])


def _refuse_needed(name: str, told: str, settings: InputSettings) -> None:
    """Refuse a column that can't be read if the run needs it."""
    named: tuple[str | None, ...] = tuple(settings.text)
    is_kept = False
    if isinstance(settings, TuneSettings):
        named += (settings.stratify,)
    elif isinstance(settings, EmbedSettings):
        named += (*(settings.partition_by or ()), settings.key, settings.key_order)
        is_kept = settings.keep is None or name in settings.keep
    if name in named or is_kept:
        otherwise = "write it in another type or name first"
        raise InputError(
            f"column {name!r} can't be read by this Spark",
            got=told,
            remedy=otherwise if name in named else f"leave it out with --keep, or {otherwise}",
        )


def _columns(
    spark: SparkSession, settings: InputSettings, paths: list[str]
) -> Iterator[tuple[str, t.StructField | str]]:
    """Yield name and Spark's field of each column, or the reason why Spark can't read it."""
    jvm: Any = spark._jvm
    package = jvm.org.apache.spark.sql.execution.datasources.parquet
    converter = package.ParquetToSparkSchemaConverter(spark._jsparkSession.sessionState().conf())
    for footer in _footers(spark, settings, paths):
        schema = footer.getSchema()
        columns = [schema.getType(number) for number in range(schema.getFieldCount())]
        names = [column.getName() for column in columns]
        of_spark = _fields_of_spark(footer)
        for name, column in zip(names, columns, strict=True):
            if names.count(name) > 1:
                yield name, f"{names.count(name)} columns of this name"
                continue
            alone = jvm.org.apache.parquet.schema.Types.buildMessage().addField(column).named("alone")
            try:
                converted = json.loads(converter.convert(alone).json())["fields"][0]
                found = t.StructField.fromJson(of_spark.get(name, converted))
            except Exception as error:
                yield name, _reason(error)
                continue
            is_time = found.dataType.simpleString().startswith("time(")
            yield name, "time" if is_time else clashing_fields(found.dataType) or found


def _fields_of_spark(footer: Any) -> dict[str, Any]:
    """Return the fields that Spark recorded when it wrote the file, and trusts when it reads it."""
    noted = footer.getKeyValueMetaData().get("org.apache.spark.sql.parquet.row.metadata")
    return {field["name"]: field for field in json.loads(noted)["fields"]} if noted else {}


def _footers(spark: SparkSession, settings: InputSettings, paths: list[str]) -> Iterator[Any]:
    """Read the footers that Spark would read: of the first file, or of all to merge their schemas."""
    reader = spark.read.format("parquet").options(**settings.option).schema("x string")
    files = sorted(unquote(file) for file in reader.load(paths).inputFiles())
    skips = isinstance(settings, EmbedSettings) and settings.on_bad_file == "skip"

    def read(file: str) -> Any:
        try:
            return _footer(spark, file)
        except Exception:  # whatever Java finds
            if not skips:
                raise
            return None

    merges = read_option(settings.option, "mergeSchema", "") or read_option(
        _session_conf(spark), "spark.sql.parquet.mergeSchema", "false"
    )
    if merges.lower() == "true":
        with ThreadPoolExecutor(_READERS) as pool:
            yield from filter(None, pool.map(read, files))
    else:
        yield from islice(filter(None, map(read, files)), 1)


def _footer(spark: SparkSession, file: str) -> Any:
    jvm: Any = spark._jvm
    path, configuration = jvm.org.apache.hadoop.fs.Path(file), spark._jsc.hadoopConfiguration()
    hadoop = jvm.org.apache.parquet.hadoop
    reader = hadoop.ParquetFileReader.open(hadoop.util.HadoopInputFile.fromPath(path, configuration))
    try:
        return reader.getFileMetaData()
    finally:
        reader.close()


def _session_conf(spark: SparkSession) -> dict[str, str]:
    names = ("spark.sql.caseSensitive", "spark.sql.parquet.mergeSchema")
    return {name: str(spark.conf.get(name)).lower() for name in names}


def _reason(error: Exception) -> str:
    """Return the first line of Spark's message about a type."""
    told = str(getattr(error, "java_exception", error))
    line = re.sub(r"^[\w.$]*:?\s*\[[A-Z0-9_.]+\]\s*", "", told.strip()).split("\n")[0]
    return re.sub(r"\s*SQLSTATE: \w+.*$", "", line).rstrip(". ")
