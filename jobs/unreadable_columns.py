"""Columns that this Spark can't read: left out where nobody needs them, named where somebody does.

Spark refuses a whole Parquet input for one column of nanoseconds. Here Spark's own reader of footers and its
own converter, in the JVM, look at each column alone, so that every file system works that Spark reaches.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from pyspark.sql import types as t

from jobs.overlap import read_option
from pipeline.errors import InputError
from pipeline.settings import CountSettings, EmbedSettings, TuneSettings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

InputSettings = EmbedSettings | CountSettings | TuneSettings


def readable_schema(spark: SparkSession, settings: InputSettings, paths: list[str]) -> t.StructType | None:
    """Return the columns of a Parquet input that this Spark can read.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
    settings : EmbedSettings, CountSettings or TuneSettings
    paths : list of str
        The input.

    Returns
    -------
    pyspark.sql.types.StructType or None
        Without partition columns. None where no column is to blame, or none can be looked at.

    Raises
    ------
    InputError
        If a column that the run needs can't be read.
    """
    if settings.format != "parquet" or not hasattr(spark, "_jvm"):
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
        if _is_needed(name, settings):
            raise InputError(
                f"column {name!r} can't be read by this Spark",
                got=told,
                remedy="leave it out with --keep, or write it in another type or name first",
            )
    return t.StructType([field for name, field in fields.items() if name not in unread])


def _is_needed(name: str, settings: InputSettings) -> bool:
    if isinstance(settings, CountSettings):
        return name in settings.text
    if isinstance(settings, TuneSettings):
        return name in (*settings.text, settings.stratify)
    named = (*settings.text, *(settings.partition_by or ()), settings.key, settings.key_order)
    return settings.keep is None or name in (*settings.keep, *named)


def _columns(
    spark: SparkSession, settings: InputSettings, paths: list[str]
) -> Iterator[tuple[str, t.StructField | str]]:
    """Tell name and Spark's field of each column; in its place what Spark says of one that it can't read."""
    jvm: Any = spark._jvm
    package = jvm.org.apache.spark.sql.execution.datasources.parquet
    converter = package.ParquetToSparkSchemaConverter(spark._jsparkSession.sessionState().conf())
    for file in _files(spark, settings, paths):
        schema = _footer(spark, file)
        for number in range(schema.getFieldCount()):
            column = schema.getType(number)
            alone = jvm.org.apache.parquet.schema.Types.buildMessage().addField(column).named("alone")
            try:
                found = t.StructType.fromJson(json.loads(converter.convert(alone).json())).fields[0]
                unfit = "time" if found.dataType.simpleString().startswith("time(") else ""
            except Exception as error:
                found, unfit = None, _reason(error)
            yield column.getName(), unfit or found  # type: ignore[misc]


def _files(spark: SparkSession, settings: InputSettings, paths: list[str]) -> list[str]:
    """List the files whose footers Spark would read: the first, or all to merge their schemas."""
    reader = spark.read.format("parquet").options(**settings.option).schema("x string")
    files = sorted(unquote(file) for file in reader.load(paths).inputFiles())
    merges = read_option(settings.option, "mergeSchema", "") or read_option(
        _session_conf(spark), "spark.sql.parquet.mergeSchema", "false"
    )
    return files if merges.lower() == "true" else files[:1]


def _footer(spark: SparkSession, file: str) -> Any:
    jvm: Any = spark._jvm
    path, configuration = jvm.org.apache.hadoop.fs.Path(file), spark._jsc.hadoopConfiguration()
    hadoop = jvm.org.apache.parquet.hadoop
    reader = hadoop.ParquetFileReader.open(hadoop.util.HadoopInputFile.fromPath(path, configuration))
    try:
        return reader.getFileMetaData().getSchema()
    finally:
        reader.close()


def _session_conf(spark: SparkSession) -> dict[str, str]:
    names = ("spark.sql.caseSensitive", "spark.sql.parquet.mergeSchema")
    return {name: str(spark.conf.get(name)).lower() for name in names}


def _reason(error: Exception) -> str:
    """Return the first line of what Spark says of a type."""
    told = str(getattr(error, "java_exception", error))
    line = re.sub(r"^[\w.$]*:?\s*\[[A-Z0-9_.]+\]\s*", "", told.strip()).split("\n")[0]
    return re.sub(r"\s*SQLSTATE: \w+.*$", "", line).rstrip(". ")
