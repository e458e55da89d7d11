"""``lakevec embed``: turn text columns of a lake into vectors in Parquet.

Start it as ``lakevec embed``, ``python -m lakevec.jobs.embed`` or ``spark-submit jobs/embed.py``, with the
same arguments.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:
    # Started by its path: replace this folder on sys.path by the one that contains lakevec.
    sys.path[:1] = [str(path) for path in Path(__file__).resolve().parents if (path / "lakevec").is_dir()][:1]

import io
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, redirect_stdout, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from lakevec.jobs.cli import RunContext, format_settings, run_command
from lakevec.jobs.embedding.metrics import check_metrics, write_metrics
from lakevec.jobs.embedding.run_record import RunTimer, build_record, new_run_id
from lakevec.jobs.embedding.spark_writer import (
    check_spark_sink,
    find_output,
    is_direct,
    must_leave_to_spark,
    write_with_spark,
)
from lakevec.jobs.embedding.summary import summarize
from lakevec.jobs.spark.overlap import refuse_files_of_output, refuse_overlap, refuse_partitions_above
from lakevec.jobs.spark.session import open_session, runs_locally, task_properties
from lakevec.pipeline.encoding.encoder import warm_up
from lakevec.pipeline.errors import CommitError, DataError, LakevecError, UsageError, describe_failure
from lakevec.pipeline.model.artifact import Artifact, load
from lakevec.pipeline.output.output_folder import OpenOutput, OutputFolder
from lakevec.pipeline.output.table_metadata import TableMetadata
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.settings.embed import EmbedSettings
from lakevec.pipeline.storage import absolute_uri

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from lakevec.jobs.spark.input import Columns
    from lakevec.udfs.embed_task import EmbedTask

SETTINGS = EmbedSettings


def run(
    settings: EmbedSettings,
    context: RunContext,
    *,
    task_type: type[EmbedTask] | None = None,
    on_step: Callable[[str], None] = lambda step: None,
) -> None:
    """Embed a lake; check settings, input and output before any task starts.

    Parameters
    ----------
    settings : EmbedSettings
    context : RunContext
    task_type : type, optional
        Replaces `EmbedTask`. The benchmark measures the same job with constant vectors.
    on_step : callable, optional
        Receives the name of each finished step of a commit.
    """
    plan = plan_run(settings, on_step)
    print(format_settings(settings, full=context.verbose), flush=True)
    with ExitStack() as stack:
        opened = None
        if plan.is_direct and plan.output is not None and not context.dry_run:
            # Take the lease before Spark starts, so that a concurrent run fails at once.
            opened = stack.enter_context(plan.output.open(grace_s=_grace_s(settings)))
        spark = stack.enter_context(_open_session(plan, context))
        from lakevec.jobs.spark.errors import spark_errors

        with spark_errors():
            lake = _read_lake(spark, plan)
            if context.dry_run:
                _describe(lake)
                return
            if opened is not None and must_leave_to_spark(spark, settings, opened):
                check_spark_sink(settings, plan.output)
                opened.abandon()
                opened = None
            plan.timer.start_embedding()
            if opened is None:
                record = _embed_with_spark(spark, plan, lake)
            else:
                record = _embed_directly(spark, plan, lake, opened, task_type)
    print(summarize(record))
    if settings.metrics is not None:
        write_metrics(record, settings.metrics)


@dataclass(frozen=True)
class RunPlan:
    """The decisions of a run before Spark starts.

    Parameters
    ----------
    settings : EmbedSettings
    artifact : Artifact
    run_id : str
    timer : RunTimer
    is_direct : bool
        Whether tasks write the output themselves. Otherwise Spark's own writer does.
    output : OutputFolder or None
        None if this process has no file system for the output.
    """

    settings: EmbedSettings
    artifact: Artifact
    run_id: str
    timer: RunTimer
    is_direct: bool
    output: OutputFolder | None


@dataclass(frozen=True)
class Lake:
    """The input: its DataFrame, the run's columns, and the time zone of timestamp folders."""

    frame: DataFrame
    columns: Columns
    time_zone: str


def plan_run(settings: EmbedSettings, on_step: Callable[[str], None] = lambda step: None) -> RunPlan:
    """Check model, input paths and output; choose between lakevec's writer and Spark's."""
    timer = RunTimer()
    if settings.metrics is not None:
        check_metrics(settings.metrics)
    artifact = load(settings.model)
    refuse_overlap(
        settings.input,
        settings.option,
        {"--output": settings.output, "--checkpoint": settings.checkpoint},
        format=settings.format,
        is_partitioned=bool(settings.partition_by),
    )
    run_id = new_run_id()
    direct = is_direct(settings)
    output = find_output(settings, run_id, on_step)
    if not direct or output is None:
        check_spark_sink(settings, output)
    return RunPlan(settings, artifact, run_id, timer, direct and output is not None, output)


def _open_session(plan: RunPlan, context: RunContext) -> AbstractContextManager[SparkSession]:
    settings = plan.settings
    return open_session(
        "lakevec embed",
        master=settings.master,
        remote=settings.remote,
        conf={**task_properties(settings), **settings.conf},
        verbose=context.verbose,
        # Compile here, so that local workers and executors receive the machine code.
        meanwhile=partial(warm_up, plan.artifact.table),
    )


def _read_lake(spark: SparkSession, plan: RunPlan) -> Lake:
    """Read the input's schema; raise InputError if the input contains files of the output."""
    from lakevec.jobs.spark.file_systems import check_file_system
    from lakevec.jobs.spark.input import choose_columns, read_input
    from lakevec.jobs.spark.partition_columns import partition_zone

    settings = plan.settings
    frame = read_input(spark, settings)
    columns = choose_columns(frame.schema, settings)
    if not plan.is_direct:
        check_file_system(spark, absolute_uri(settings.output))
    if settings.format != "table":
        refuse_partitions_above(settings.input, settings.output, lambda: map(unquote, frame.inputFiles()))
    is_whole = settings.key is not None or settings.format == "table" or not plan.is_direct
    if is_whole and not frame.isStreaming:
        # Other runs check the files of each micro-batch.
        refuse_files_of_output(map(unquote, frame.inputFiles()), settings.output)
    is_new = plan.output is None or not plan.output.is_begun or settings.full_refresh
    return Lake(frame, columns, partition_zone(spark, frame.schema, columns.partition_by, is_new=is_new))


def _embed_directly(
    spark: SparkSession, plan: RunPlan, lake: Lake, output: OpenOutput, task_type: type[EmbedTask] | None
) -> dict[str, Any]:
    """Let tasks write, commit each micro-batch, and return the run's record."""
    from lakevec.jobs.embedding.append import append_rows
    from lakevec.jobs.embedding.context import EmbedContext
    from lakevec.jobs.embedding.upsert import upsert_rows, with_hashes
    from lakevec.jobs.spark.input import table_schema
    from lakevec.jobs.spark.progress import show_progress

    settings, columns = plan.settings, lake.columns
    if settings.key is not None:
        columns = with_hashes(columns, settings.key)
    context = EmbedContext(
        spark, settings, plan.artifact, columns, output, plan.run_id, plan.timer, task_type
    )
    write = append_rows if settings.key is None else upsert_rows
    try:
        with show_progress(spark, "embedding"):
            schema = table_schema(columns, lake.frame.schema)
            write(context, lake.frame, _metadata(plan, lake, columns), schema)
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


def _metadata(plan: RunPlan, lake: Lake, columns: Columns) -> TableMetadata:
    settings, table = plan.settings, plan.artifact.table
    partitions = [lake.frame.schema[name] for name in columns.partition_by]
    return TableMetadata(
        generation="",
        fingerprint=table.fingerprint,
        dimensions=table.dimensions,
        columns=columns.embeddings,
        vector_type=settings.vector_type,
        store=settings.store,
        max_tokens=settings.max_tokens,
        model=plan.artifact.uri,
        schema_of_files={
            field.name: field.dataType.simpleString() for field in (*columns.schema.fields, *partitions)
        },
        partition_by=columns.partition_by,
        key=settings.key,
        table_format=settings.table_format,
        time_zone=lake.time_zone,
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


def _grace_s(settings: EmbedSettings) -> float:
    """Return how long tasks may outlive the driver: local tasks end with it."""
    is_local = settings.remote is None and runs_locally(settings.master)
    return 0.0 if is_local else 60.0 * settings.grace_minutes


def _embed_with_spark(spark: SparkSession, plan: RunPlan, lake: Lake) -> dict[str, Any]:
    """Let Spark write, and return the run's record."""
    from lakevec.jobs.spark.progress import show_progress

    settings = plan.settings
    with show_progress(spark, "embedding"):
        record = write_with_spark(
            spark, lake.frame, lake.columns, settings, plan.artifact.table, is_free=plan.output is not None
        )
    return {**record, "output": redact(settings.output), "seconds": plan.timer.seconds()}


def _describe(lake: Lake) -> None:
    """Print the output's schema and the plan of the input."""
    from lakevec.jobs.embedding.context import select

    print("output schema:")
    for field in lake.columns.schema.fields:
        print(f"  {field.name}: {field.dataType.simpleString()}")
    print("plan of the input:")
    plan = io.StringIO()
    with redirect_stdout(plan):
        select(lake.frame, lake.columns).explain()
    print(redact(plan.getvalue()))
    print("dry run: nothing was written")


if __name__ == "__main__":
    sys.exit(run_command("embed"))
