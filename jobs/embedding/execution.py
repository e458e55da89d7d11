"""Execute a planned run on a Spark session: read the input, embed it, and record the run."""

from __future__ import annotations

import io
from contextlib import redirect_stdout, suppress
from dataclasses import replace
from typing import Any
from urllib.parse import unquote, urlsplit

from pyspark.sql import DataFrame, SparkSession

from lakevec.jobs.embedding.append import append_rows
from lakevec.jobs.embedding.context import EmbedContext, select
from lakevec.jobs.embedding.lineage import Lineage
from lakevec.jobs.embedding.metrics import write_metrics
from lakevec.jobs.embedding.plan import RunPlan, check_spark_sink
from lakevec.jobs.embedding.run_record import build_record
from lakevec.jobs.embedding.spark_writer import must_leave_to_spark, write_with_spark
from lakevec.jobs.embedding.upsert import upsert_rows, with_hashes
from lakevec.jobs.spark.errors import SPARK_ERRORS, spark_errors
from lakevec.jobs.spark.file_systems import check_file_system
from lakevec.jobs.spark.input import Columns, ModelOutput, choose_columns, read_input, table_schema
from lakevec.jobs.spark.overlap import refuse_files_of_output, refuse_partitions_above
from lakevec.jobs.spark.partition_columns import partition_zone
from lakevec.jobs.spark.progress import show_progress
from lakevec.pipeline.errors import CommitError, DataError, LakevecError, UsageError, describe_failure
from lakevec.pipeline.output.output_folder import OpenOutput
from lakevec.pipeline.output.table_metadata import TableMetadata
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.storage import absolute_uri
from lakevec.udfs.distribution import has_spark_context
from lakevec.udfs.embed_task import EmbedTask


def execute(
    spark: SparkSession, plan: RunPlan, opened: OpenOutput | None, task_type: type[EmbedTask] | None
) -> dict[str, Any]:
    """Embed the input, and return the run's record.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
    plan : RunPlan
    opened : OpenOutput or None
        The output that tasks write to. None if Spark's own writer writes it.
    task_type : type or None
        Replaces `EmbedTask`.
    """
    with spark_errors():
        frame, columns = _read_input(spark, plan)
        if opened is not None and must_leave_to_spark(spark, plan.settings, opened):
            check_spark_sink(plan.settings, plan.output)
            opened.abandon()
            opened = None
        if opened is not None and plan.settings.key is not None:
            columns = with_hashes(columns, plan.settings.key)
        if plan.lineage is not None:
            _describe_datasets(plan.lineage, spark, frame, columns)
        plan.timer.start_embedding()
        with show_progress(spark, "embedding", tells_rows=opened is not None) as progress:
            if opened is None:
                return write_with_spark(spark, plan, frame, columns)
            context = EmbedContext(spark, plan, columns, opened, progress, task_type or EmbedTask)
            return _embed_directly(context, frame)


def describe(spark: SparkSession, plan: RunPlan) -> None:
    """Print the output's schema and the plan of the input."""
    with spark_errors():
        frame, columns = _read_input(spark, plan)
        print("output schema:")
        for field in columns.schema.fields:
            print(f"  {field.name}: {field.dataType.simpleString()}")
        print("plan of the input:")
        explained = io.StringIO()
        with redirect_stdout(explained):
            select(frame, columns).explain()
        print(redact(explained.getvalue()))
        print("dry run: nothing was written")


def _read_input(spark: SparkSession, plan: RunPlan) -> tuple[DataFrame, Columns]:
    """Read the input's schema; raise InputError if the input contains files of the output."""
    settings = plan.settings
    frame = read_input(spark, settings)
    has_weights = plan.artifact.table.position_scale is not None
    columns = choose_columns(frame.schema, settings, ModelOutput(plan.dimensions, has_weights, plan.heads))
    if not plan.is_direct:
        check_file_system(spark, absolute_uri(settings.output))
    if settings.format != "table":
        refuse_partitions_above(settings.input, settings.output, lambda: map(unquote, frame.inputFiles()))
    is_whole = settings.key is not None or settings.format == "table" or not plan.is_direct
    if is_whole and not frame.isStreaming:
        # Other runs check the files of each micro-batch.
        refuse_files_of_output(map(unquote, frame.inputFiles()), settings.output)
    is_new = plan.output is None or not plan.output.is_begun or settings.full_refresh
    zone = partition_zone(spark, frame.schema, columns.partition_by, is_new=is_new)
    return frame, replace(columns, time_zone=zone)


def _describe_datasets(lineage: Lineage, spark: SparkSession, frame: DataFrame, columns: Columns) -> None:
    """Tell the run's lineage the columns of input and output, and the name of an input table."""
    settings = lineage.settings
    written = [*columns.schema.fields, *(frame.schema[name] for name in columns.partition_by)]
    lineage.columns_read = {field.name: field.dataType.simpleString() for field in frame.schema.fields}
    lineage.columns_written = {field.name: field.dataType.simpleString() for field in written}
    if settings.format == "table":
        lineage.table = _name_table(spark, settings.input[0])


def _name_table(spark: SparkSession, name: str) -> tuple[str, str]:
    """Return the namespace and name that OpenLineage gives a table."""
    metastore = None
    if has_spark_context(spark):
        metastore = spark.sparkContext._jsc.hadoopConfiguration().get("hive.metastore.uris")
    first = urlsplit(str(metastore).split(",")[0])
    namespace = f"hive://{first.netloc}" if metastore else "spark"
    with suppress(*SPARK_ERRORS):  # views and files that SQL names as a table have no full name
        table = spark.catalog.getTable(name)
        name = ".".join([*(table.namespace or []), table.name])
    return namespace, name


def _embed_directly(context: EmbedContext, frame: DataFrame) -> dict[str, Any]:
    """Let tasks write, commit each micro-batch, and return the run's record."""
    settings, output = context.settings, context.output
    write = append_rows if settings.key is None else upsert_rows
    try:
        write(context, frame, _metadata(context, frame), table_schema(context.columns, frame.schema))
        if not output.state.rows_read:
            raise _no_rows(len(output.state.skipped))
        record = build_record(context)
        output.finish(record)
    except UsageError:  # the run changed nothing, so keep the last run's record
        raise
    except Exception as error:
        if output.has_begun and output.served.rows_read + output.state.rows_read:
            reason = str(error) if isinstance(error, LakevecError) else describe_failure(error)
            failed = build_record(context, error=reason)
            with suppress(CommitError):  # a full disk may have stopped the run
                output.write_record(failed)
            if settings.metrics is not None:
                write_metrics(failed, settings.metrics)
        raise
    return record


def _metadata(context: EmbedContext, frame: DataFrame) -> TableMetadata:
    settings, columns, artifact = context.settings, context.columns, context.plan.artifact
    apart = (frame.schema[name] for name in columns.partition_by if name not in columns.kept)
    fields = [*columns.schema.fields, *apart]
    return TableMetadata(
        generation="",
        fingerprint=artifact.table.fingerprint,
        dimensions=context.plan.dimensions,
        columns=columns.embeddings,
        vector_type=settings.vector_type,
        store=settings.store,
        max_tokens=settings.max_tokens,
        heads={head.name: head.fingerprint for head in context.plan.heads},
        head_uris={head.name: head.uri for head in context.plan.heads},
        has_vectors=settings.vectors,
        chunk_tokens=settings.chunk_tokens,
        chunk_overlap=None if settings.chunk_tokens is None else settings.chunk_overlap,
        model=artifact.uri,
        schema_of_files={field.name: field.dataType.simpleString() for field in fields},
        partition_by=columns.partition_by,
        key=settings.key,
        table_format=settings.table_format,
        time_zone=columns.time_zone,
        catalog=settings.catalog or "",
        table=settings.table or "",
    )


def _no_rows(skipped: int) -> DataError:
    if skipped:
        return DataError(
            "no file of the input can be read",
            got=f"{skipped:,} unreadable files",
            expected="at least one readable file of the --format given",
            remedy="check --format and the files; nothing was written",
        )
    return DataError("the input has no rows", remedy="check --input; nothing was written")
