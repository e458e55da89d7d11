"""The input of a job: its DataFrame, and the columns to embed, keep and write."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as t

from lakevec.jobs.spark.column_types import same_names, unfit_type
from lakevec.jobs.spark.errors import SPARK_ERRORS
from lakevec.jobs.spark.file_systems import check_file_system
from lakevec.jobs.spark.overlap import sql_on_files
from lakevec.jobs.spark.partition_columns import check_partition_columns
from lakevec.jobs.spark.session import changed_conf
from lakevec.jobs.spark.unreadable_columns import readable_schema
from lakevec.pipeline.chunk_columns import CHUNK_END, CHUNK_INDEX, CHUNK_START, CHUNK_TEXT
from lakevec.pipeline.encoding.options import SCALE_SUFFIX, TOKENS_SUFFIX, WEIGHTS_SUFFIX
from lakevec.pipeline.encoding.stored_vectors import VectorType
from lakevec.pipeline.errors import InputError, OutputError, did_you_mean
from lakevec.pipeline.heads.columns import column_types, prefix_of
from lakevec.pipeline.heads.head import Head
from lakevec.pipeline.output.iceberg_schema import BITS
from lakevec.pipeline.settings.base import SparkInput
from lakevec.pipeline.settings.embed import EmbedSettings
from lakevec.pipeline.storage import absolute_uri, is_local_path
from lakevec.udfs.distribution import is_local

# Override Spark's own settings: lakevec would record a silently skipped file as embedded.
WHOLE_FILES = {"ignoreCorruptFiles": "false", "ignoreMissingFiles": "false"}
# Above this number of folders or files, Spark lists them in tasks, one each.
_MOST_LISTED = "spark.sql.sources.parallelPartitionDiscovery.threshold"
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
        Schema of the output's files, without the partition columns unless Iceberg's files hold them.
    time_zone : str
        Time zone in which timestamps name folders; empty if none do.
    """

    kept: tuple[str, ...]
    embeddings: dict[str, str]
    partition_by: tuple[str, ...]
    schema: t.StructType
    time_zone: str = ""

    @property
    def read(self) -> tuple[str, ...]:
        """All input columns that the run needs."""
        return (*self.kept, *(column for column in self.embeddings if column not in self.kept))


@dataclass(frozen=True)
class ModelOutput:
    """What a model and its heads return for a text.

    Parameters
    ----------
    dimensions : int
        Width of the vectors.
    has_weights : bool
        Whether sums come with the sum of the tokens' weights, not with their number.
    heads : tuple of Head
    """

    dimensions: int
    has_weights: bool
    heads: tuple[Head, ...]


def read_input(spark: SparkSession, settings: SparkInput) -> DataFrame:
    """Create the input's DataFrame; read only schemas and footers.

    Raises
    ------
    InputError
        If the settings name several tables, or Spark can't read a needed column.
    """
    if settings.format == "table":
        return _read_table(spark, settings)
    paths = [absolute_uri(path) for path in settings.input]
    reader = spark.read.format(settings.format).options(**settings.option, **WHOLE_FILES)
    # File times decide between rows of one key, and Spark's V2 file sources do not provide them.
    conf = {"spark.sql.sources.useV1SourceList": settings.format, **local_listing(spark, paths)}
    with changed_conf(spark, conf):
        try:
            frame = reader.load(paths)
        except SPARK_ERRORS:
            schema = readable_schema(spark, settings, settings.format, paths)
            schema = schema or _schema_of_sound_files(spark, settings, paths)
            if not schema:
                raise
            frame = reader.schema(schema).load(paths)
    if not frame.columns:
        raise _no_columns(frame, settings.format)
    return frame


def local_listing(spark: SparkSession, paths: Iterable[str]) -> dict[str, str]:
    """Return the property with which the driver lists local files itself.

    On one machine, a task takes several milliseconds, and the listing of a file less than one. The property
    is left alone if somebody has set it.
    """
    is_here = is_local(spark) and all(map(is_local_path, paths))
    return {_MOST_LISTED: "10000"} if is_here and spark.conf.get(_MOST_LISTED) == "32" else {}


def _no_columns(frame: DataFrame, form: str) -> InputError:
    """Return the error for files without columns; name a compressed file first, if there is any."""
    names = sorted(map(unquote, frame.inputFiles()), key=lambda name: not name.endswith(_COMPRESSED))
    others = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
    return InputError(
        "the input has no columns",
        got=f"no column of format {form!r} in {names[0] if names else 'no file'}{others}",
        expected="files of the --format given",
        remedy="check --input, --format and --option, and whether the files have that format",
    )


def _read_table(spark: SparkSession, settings: SparkInput) -> DataFrame:
    """Read a table, a view, or files that SQL names as a table."""
    if len(settings.input) != 1:
        raise InputError("input", got=f"{len(settings.input)} tables", expected="one table name")
    name = settings.input[0]
    files = sql_on_files(name)
    if files is not None:
        check_file_system(spark, files.path)  # Spark's own error would not name it
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
    spark: SparkSession, settings: SparkInput, paths: list[str]
) -> t.StructType | None:
    """Merge the schemas of readable files, after Spark tried to infer the schema from a damaged one."""
    if getattr(settings, "on_bad_file", "fail") == "fail":
        return None
    lenient = spark.read.format(settings.format).options(**settings.option)
    return lenient.options(ignoreCorruptFiles="true", mergeSchema="true").load(paths).schema


def table_schema(columns: Columns, source: t.StructType) -> str:
    """Return the schema of the whole output as Spark's and Delta's JSON, partition columns last."""
    schema = t.StructType()
    apart = (source[name] for name in columns.partition_by if name not in columns.kept)
    for field in (*columns.schema.fields, *apart):
        is_limited = isinstance(field.dataType, t.CharType | t.VarcharType)  # unknown to Delta
        # Only a vector's: Spark copies metadata with a column, and a copy has no fixed size.
        has_bits = field.name in columns.embeddings.values() and isinstance(field.dataType, t.BinaryType)
        metadata = field.metadata if has_bits else None
        schema.add(field.name, t.StringType() if is_limited else field.dataType, metadata=metadata)
    return schema.json()


def choose_columns(schema: t.StructType, settings: EmbedSettings, model: ModelOutput) -> Columns:
    """Choose the columns to embed, to keep and to add.

    Parameters
    ----------
    schema : pyspark.sql.types.StructType
        The input's.
    settings : EmbedSettings
    model : ModelOutput

    Raises
    ------
    InputError
        If a column is missing, a text column has another type, or Parquet can't store a kept column.
    OutputError
        If an embedding column has the name of another column.
    """
    partition_by = tuple(settings.partition_by or ())
    check_text_columns(schema, settings.text)
    for column in (*(settings.keep or ()), *partition_by):
        if column not in schema.names:
            raise missing_column(column, schema.names)
    chosen = schema.names if settings.keep is None else settings.keep
    if settings.chunk_tokens is not None:
        # Each chunk would repeat its whole text.
        chosen = [name for name in chosen if name not in settings.text]
    # Iceberg's files hold their partition values; elsewhere the names of folders do.
    out_of_files = () if settings.table_format == "iceberg" else partition_by
    kept = tuple(
        name for name in schema.names if name in {*chosen, *partition_by} and name not in out_of_files
    )
    check_partition_columns(schema, settings)
    _refuse_same_names(schema.names, (*kept, *out_of_files, *settings.text))
    for column in kept:
        if unfit := unfit_type(schema[column].dataType):
            raise InputError(
                f"column {column!r} can't be written to Parquet",
                got=f"type {unfit}",
                remedy="cast it, or leave it out with --keep",
            )
    embeddings = {column: settings.embedding_column.format(column=column) for column in settings.text}
    of_chunks = _chunk_fields(settings)
    added = [
        field
        for column, name in embeddings.items()
        for field in (
            *(_embedding_fields(name, settings, model) if settings.vectors else ()),
            *label_fields(model.heads, prefix_of(column, embeddings)),
        )
    ]
    _refuse_clashes([*kept, *out_of_files], of_chunks, added)
    written = t.StructType([schema[name] for name in kept] + of_chunks + added)
    return Columns(kept, embeddings, partition_by, written)


def _refuse_clashes(names: list[str], of_chunks: list[t.StructField], added: list[t.StructField]) -> None:
    """Raise OutputError if a column of chunks or embeddings has the name of another column."""
    with_chunks = [*names, *(field.name for field in of_chunks)]
    if of_chunks and (twins := same_names(with_chunks)) is not None:
        raise OutputError(
            f"column {twins[0]!r} of the input has a name that chunks need",
            remedy="rename it in a view or table first, or leave it out with --keep",
        )
    if (twins := same_names([*with_chunks, *(field.name for field in added)])) is not None:
        raise OutputError(
            f"column {twins[1]!r} of embeddings or heads clashes with another column",
            remedy="choose another --embedding-column, or leave the other out with --keep",
        )


def check_text_columns(schema: t.StructType, names: list[str]) -> None:
    """Raise InputError for text columns that are missing or neither string nor binary."""
    for column in names:
        if column not in schema.names:
            raise missing_column(column, schema.names)
        kind = schema[column].dataType
        if not isinstance(kind, t.StringType | t.CharType | t.VarcharType | t.BinaryType):
            raise InputError(
                f"text column {column!r}",
                got=kind.simpleString(),
                expected="string, or binary that holds UTF-8",
                remedy="cast it to string in a view or table first",
            )


def _chunk_fields(settings: EmbedSettings) -> list[t.StructField]:
    """Return Spark's fields for the columns of chunks; none if texts are not split."""
    if settings.chunk_tokens is None:
        return []
    numbers = [t.StructField(name, t.IntegerType()) for name in (CHUNK_INDEX, CHUNK_START, CHUNK_END)]
    return numbers + ([t.StructField(CHUNK_TEXT, t.StringType())] if settings.chunk_text else [])


def _embedding_fields(name: str, settings: EmbedSettings, model: ModelOutput) -> list[t.StructField]:
    """Return Spark's fields for the columns of one embedding."""
    if VectorType(settings.vector_type) is VectorType.BINARY:
        return [t.StructField(name, t.BinaryType(), metadata={BITS: model.dimensions})]
    if settings.store == "sum":
        # Spark copies the metadata with the column, so a copy is still marked as sums.
        is_sum = {"lakevec.store": "sum"}
        tokens = t.StructField(name + TOKENS_SUFFIX, t.IntegerType())
        weights = t.StructField(name + WEIGHTS_SUFFIX, t.DoubleType())
        vectors = t.StructField(name, t.ArrayType(t.FloatType()), metadata=is_sum)
        return [vectors, weights if model.has_weights else tokens]
    if VectorType(settings.vector_type) is not VectorType.INT8:
        return [t.StructField(name, t.ArrayType(t.FloatType()))]
    scale = t.StructField(name + SCALE_SUFFIX, t.FloatType())
    return [t.StructField(name, t.ArrayType(t.ByteType())), scale]


def label_fields(heads: tuple[Head, ...], prefix: str) -> list[t.StructField]:
    """Return Spark's fields for the columns of heads."""
    kinds = (pair for head in heads for pair in column_types(head, prefix).items())
    return [t.StructField(name, t.DataType.fromDDL(kind)) for name, kind in kinds]


def missing_column(column: str, present: list[str]) -> InputError:
    """Return the error for a column that the input lacks."""
    return InputError(
        f"column {column!r} is not in the input",
        expected=f"one of {', '.join(map(repr, present))}",
        remedy=did_you_mean(column, present),
    )


def _refuse_same_names(names: list[str], chosen: tuple[str, ...]) -> None:
    """Raise InputError for chosen columns whose names differ in case at most."""
    duplicate = next((name for name in chosen if names.count(name) > 1), None)
    if duplicate is not None:
        raise InputError(
            f"two columns of the input have the name {duplicate!r}",
            remedy="rename one in a view or table first, or leave both out with --keep",
        )
    if (twins := same_names(list(dict.fromkeys(chosen)))) is not None:
        raise InputError(
            f"columns {twins[0]!r} and {twins[1]!r} differ in case only",
            expected="names that differ in more than case",
            remedy="leave one out with --keep, or rename it in a view or table first",
        )
