"""What a job reads: the rows, and which columns are embedded, kept and written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from pyspark.sql import functions as f
from pyspark.sql import types as t

from lakevec.jobs.spark.column_types import same_names, unfit_type
from lakevec.jobs.spark.errors import SPARK_ERRORS
from lakevec.jobs.spark.file_systems import check_file_system
from lakevec.jobs.spark.overlap import sql_on_files
from lakevec.jobs.spark.partition_columns import check_partition_columns
from lakevec.jobs.spark.session import changed_conf
from lakevec.jobs.spark.unreadable_columns import InputSettings, readable_schema
from lakevec.pipeline.encoding.stored_vectors import SCALE_SUFFIX, TOKENS_SUFFIX, VectorType
from lakevec.pipeline.errors import InputError, OutputError, did_you_mean
from lakevec.pipeline.settings.embed import EmbedSettings
from lakevec.pipeline.storage import absolute_uri

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

# Whatever Spark's own settings say: a file that it left out in silence would count as taken.
WHOLE_FILES = {"ignoreCorruptFiles": "false", "ignoreMissingFiles": "false"}


_COMPRESSED = (".bz2", ".gz", ".zst", ".deflate")


@dataclass(frozen=True)
class Columns:
    """The columns of a run.

    Parameters
    ----------
    kept : tuple of str
        Input columns that are written, in the input's order.
    embeddings : dict of str to str
        Text column and the name of its embedding column.
    partition_by : tuple of str
        Input columns whose values become folders.
    schema : pyspark.sql.types.StructType
        Schema of the output's files, without the partition columns.
    """

    kept: tuple[str, ...]
    embeddings: dict[str, str]
    partition_by: tuple[str, ...]
    schema: t.StructType

    @property
    def read(self) -> tuple[str, ...]:
        """All input columns that the run needs."""
        return (*self.kept, *(column for column in self.embeddings if column not in self.kept))


def read_input(spark: SparkSession, settings: InputSettings) -> DataFrame:
    """Describe the input to Spark; read nothing but schemas and footers.

    Raises
    ------
    InputError
        If several tables are named, or a needed column can't be read.
    """
    if settings.format == "table":
        return _read_table(spark, settings)
    paths = [absolute_uri(path) for path in settings.input]
    for path in paths:
        check_file_system(spark, path)
    reader = spark.read.format(settings.format).options(**settings.option, **WHOLE_FILES)
    # Spark's second kind of file source knows no times of files, which decide between rows of one key.
    with changed_conf(spark, {"spark.sql.sources.useV1SourceList": settings.format}):
        try:
            frame = reader.load(paths)
        except SPARK_ERRORS as error:
            schema = readable_schema(spark, settings, settings.format, paths)
            if schema is None:
                schema = _schema_of_sound_files(spark, settings, paths, error)
            frame = reader.schema(schema).load(paths)
    if not frame.columns:
        raise _no_columns(frame, settings.format)
    return frame


def _no_columns(frame: DataFrame, form: str) -> InputError:
    """Return the error for files without columns; name a file whose extension doesn't fit its content."""
    names = sorted(map(unquote, frame.inputFiles()), key=lambda name: not name.endswith(_COMPRESSED))
    others = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
    return InputError(
        "the input has no columns",
        got=f"nothing that format {form!r} finds in {names[0] if names else 'no file'}{others}",
        expected="files of the --format given",
        remedy="check --input, --format and --option; look for files that aren't what their names say",
    )


def _read_table(spark: SparkSession, settings: InputSettings) -> DataFrame:
    """Describe a table, a view, or files that SQL names as a table."""
    if len(settings.input) != 1:
        raise InputError("input", got=f"{len(settings.input)} tables", expected="one table name")
    name = settings.input[0]
    files = sql_on_files(name)
    if files is not None:
        check_file_system(spark, files.path)
    try:
        frame = spark.read.options(**settings.option).table(name)
    except SPARK_ERRORS:
        schema = readable_schema(spark, settings, files.format, [files.path]) if files is not None else None
        if files is None or schema is None:
            raise
        frame = spark.read.format(files.format).options(**settings.option).schema(schema).load(files.path)
    if frame.isStreaming and (not isinstance(settings, EmbedSettings) or settings.key is not None):
        raise InputError(
            f"table {name!r} is a stream",
            expected="a table or view that can be read whole",
            remedy="name the table that the stream reads",
        )
    return frame


def _schema_of_sound_files(
    spark: SparkSession, settings: InputSettings, paths: list[str], error: Exception
) -> t.StructType:
    """Merge the schema of readable files, after Spark took a damaged file for it."""
    if not isinstance(settings, EmbedSettings) or settings.on_bad_file == "fail":
        raise error
    lenient = spark.read.format(settings.format).options(**settings.option)
    schema = lenient.options(ignoreCorruptFiles="true", mergeSchema="true").load(paths).schema
    if not schema.fields:
        raise error
    return schema


def table_schema(columns: Columns, source: t.StructType) -> str:
    """Return the schema of the whole output as Spark's and Delta's JSON, partition columns last."""
    fields = [*columns.schema.fields, *(source[name] for name in columns.partition_by)]
    plain = [t.StructField(field.name, _without_length(field.dataType)) for field in fields]
    return t.StructType(plain).json()


def _without_length(kind: t.DataType) -> t.DataType:
    """Return plain strings for char and varchar, which Delta lacks."""
    return t.StringType() if isinstance(kind, t.CharType | t.VarcharType) else kind


def choose_columns(schema: t.StructType, settings: EmbedSettings) -> Columns:
    """Decide which columns are embedded and which are kept.

    Raises
    ------
    InputError
        If a column is missing, a text column holds no strings, or a kept column can't be written.
    OutputError
        If an embedding column has the name of another column.
    """
    fields = {field.name: field for field in schema.fields}
    partition_by = tuple(settings.partition_by or ())
    for column in dict.fromkeys([*settings.text, *(settings.keep or []), *partition_by]):
        if column not in fields:
            raise missing_column(column, list(fields))
    _check_texts(fields, settings.text)
    kept = tuple(
        name
        for name in fields
        if (settings.keep is None or name in settings.keep) and name not in partition_by
    )
    check_partition_columns(fields, settings)
    _refuse_same_names(schema.names, (*kept, *partition_by, *settings.text))
    for column in kept:
        if unfit := unfit_type(fields[column].dataType):
            raise InputError(
                f"column {column!r} can't be written to Parquet",
                got=f"type {unfit}",
                remedy="cast it, or leave it out with --keep",
            )
    embeddings = {column: settings.embedding_column.format(column=column) for column in settings.text}
    added = [field for name in embeddings.values() for field in _embedding_fields(name, settings)]
    _refuse_clash((*kept, *partition_by), [field.name for field in added])
    schema = t.StructType([fields[name] for name in kept] + added)
    return Columns(kept, embeddings, partition_by, schema)


def check_text_columns(schema: t.StructType, names: list[str]) -> None:
    """Refuse text columns that are missing or hold no strings."""
    fields = {field.name: field for field in schema.fields}
    for column in names:
        if column not in fields:
            raise missing_column(column, list(fields))
    _check_texts(fields, names)


def _check_texts(fields: dict[str, t.StructField], names: list[str]) -> None:
    for column in names:
        if not isinstance(fields[column].dataType, t.StringType | t.CharType | t.VarcharType | t.BinaryType):
            raise InputError(
                f"text column {column!r}",
                got=fields[column].dataType.simpleString(),
                expected="string, or binary that holds UTF-8",
                remedy="cast it to string in a view or table first",
            )


def _embedding_fields(name: str, settings: EmbedSettings) -> list[t.StructField]:
    """Describe the columns of one embedding as Spark reads them."""
    if settings.store == "sum":
        # For whoever finds the column without the output around it.
        is_sum = {"lakevec.store": "sum"}
        tokens = t.StructField(name + TOKENS_SUFFIX, t.IntegerType())
        return [t.StructField(name, t.ArrayType(t.FloatType()), metadata=is_sum), tokens]
    if VectorType(settings.vector_type) is not VectorType.INT8:
        return [t.StructField(name, t.ArrayType(t.FloatType()))]
    scale = t.StructField(name + SCALE_SUFFIX, t.FloatType())
    return [t.StructField(name, t.ArrayType(t.ByteType())), scale]


def missing_column(column: str, present: list[str]) -> InputError:
    """Return the error for a column that the input lacks."""
    return InputError(
        f"column {column!r} is not in the input",
        expected=f"one of {', '.join(map(repr, present))}",
        remedy=did_you_mean(column, present),
    )


def _refuse_same_names(names: list[str], chosen: tuple[str, ...]) -> None:
    """Refuse columns that most readers can't tell apart."""
    doubles = [name for name in dict.fromkeys(chosen) if names.count(name) > 1]
    if doubles:
        raise InputError(
            f"two columns of the input have the name {doubles[0]!r}",
            remedy="rename one in a view or table first, or leave both out with --keep",
        )
    if (twins := same_names(list(dict.fromkeys(chosen)))) is not None:
        raise InputError(
            f"columns {twins[0]!r} and {twins[1]!r} differ in case only",
            expected="names that every reader of Parquet tells apart",
            remedy="leave one out with --keep, or rename it in a view or table first",
        )


def _refuse_clash(kept: tuple[str, ...], embeddings: list[str]) -> None:
    """Refuse embedding columns with the name of another column, ignoring case as Spark does."""
    seen = {name.lower() for name in kept}
    for name in embeddings:
        if name.lower() in seen:
            raise OutputError(
                f"embedding column {name!r} clashes with another column",
                remedy="choose another --embedding-column, or leave the other out with --keep",
            )
        seen.add(name.lower())


def quoted(name: str) -> Column:
    """Return the column with exactly this name, dots and backticks included."""
    return f.col(f"`{name.replace('`', '``')}`")
