"""Columns that this Spark can't read: leave them out if the run doesn't need them, else raise an error.

Spark rejects a whole Parquet input because of a single column of nanoseconds. This module checks each column
alone, with Spark's own footer reader and type converter in the JVM.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any
from urllib.parse import unquote

from pyspark.sql import SparkSession
from pyspark.sql import types as t

from lakevec.jobs.spark.column_types import clashing_fields
from lakevec.jobs.spark.errors import first_line
from lakevec.jobs.spark.overlap import read_option
from lakevec.pipeline.errors import InputError
from lakevec.pipeline.settings.base import SparkInput

_READERS = 8  # threads; on an object store each footer costs a request


def readable_schema(
    spark: SparkSession, settings: SparkInput, form: str, paths: list[str]
) -> t.StructType | None:
    """Return the columns of a Parquet input that this Spark can read, without partition columns.

    Return None if Spark can read every column, or if the check itself fails.

    Raises
    ------
    InputError
        If Spark can't read a column that the run needs.
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
    except Exception:  # Java errors of any class: no files, a damaged footer
        return None
    if not _is_true(spark.conf.get("spark.sql.caseSensitive")):
        for name in fields:
            twins = [other for other in fields if other.lower() == name.lower()]
            if len(twins) > 1:
                unread[name] = f"names that differ in case only: {', '.join(map(repr, twins))}"
    if not unread:
        return None
    for name, reason in unread.items():
        _refuse_needed(name, reason, settings)
    return t.StructType([field for name, field in fields.items() if name not in unread])


def _refuse_needed(name: str, reason: str, settings: SparkInput) -> None:
    """Raise InputError for an unreadable column that the run needs."""
    values = settings.model_dump()
    named = {*settings.text, *(values.get("partition_by") or ())}
    named |= {values.get(role) for role in ("key", "key_order", "stratify")}
    kept = values.get("keep", [])  # None keeps all
    if name in named or kept is None or name in kept:
        otherwise = "write it with another type or name first"
        raise InputError(
            f"column {name!r} can't be read by this Spark",
            got=reason,
            remedy=otherwise if name in named else f"leave it out with --keep, or {otherwise}",
        )


def _columns(
    spark: SparkSession, settings: SparkInput, paths: list[str]
) -> Iterator[tuple[str, t.StructField | str]]:
    """Yield each column's name, and its Spark field or the reason why Spark can't read it."""
    jvm: Any = spark._jvm
    package = jvm.org.apache.spark.sql.execution.datasources.parquet
    converter = package.ParquetToSparkSchemaConverter(spark._jsparkSession.sessionState().conf())
    for footer in _footers(spark, settings, paths):
        schema = footer.getSchema()
        columns = [schema.getType(number) for number in range(schema.getFieldCount())]
        names = [column.getName() for column in columns]
        recorded = _recorded_fields(footer)
        for name, column in zip(names, columns, strict=True):
            if names.count(name) > 1:
                yield name, f"{names.count(name)} columns of this name"
                continue
            alone = jvm.org.apache.parquet.schema.Types.buildMessage().addField(column).named("alone")
            try:
                converted = json.loads(converter.convert(alone).json())["fields"][0]
                found = t.StructField.fromJson(recorded.get(name, converted))
            except Exception as error:
                yield name, first_line(str(getattr(error, "java_exception", error)))
                continue
            is_time = found.dataType.simpleString().startswith("time(")
            yield name, "time" if is_time else clashing_fields(found.dataType) or found


def _recorded_fields(footer: Any) -> dict[str, Any]:
    """Return the fields that Spark recorded in a file that it wrote; its reader uses them."""
    recorded = footer.getKeyValueMetaData().get("org.apache.spark.sql.parquet.row.metadata")
    return {field["name"]: field for field in json.loads(recorded)["fields"]} if recorded else {}


def _footers(spark: SparkSession, settings: SparkInput, paths: list[str]) -> Iterator[Any]:
    """Read the footers that Spark would read: the first file's, or all if it merges schemas."""
    reader = spark.read.format("parquet").options(**settings.option).schema("x string")
    files = sorted(unquote(file) for file in reader.load(paths).inputFiles())
    skips = getattr(settings, "on_bad_file", "fail") == "skip"

    def read(file: str) -> Any:
        try:
            return _footer(spark, file)
        except Exception:  # Java errors of any class
            if not skips:
                raise
            return None

    merges = read_option(settings.option, "mergeSchema", "")
    if _is_true(merges or spark.conf.get("spark.sql.parquet.mergeSchema")):
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


def _is_true(value: object) -> bool:
    return str(value).lower() == "true"
