"""``lakevec embed``: text columns of a lake become vectors in Parquet.

Started as ``lakevec embed``, ``python -m lakevec.jobs.embed`` or ``spark-submit jobs/embed.py``, with the
same words.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:
    # Started by path: spark-submit puts this folder on the path, where the project's root belongs.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import io
from collections.abc import Callable, Sequence
from contextlib import ExitStack, redirect_stdout, suppress
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from lakevec.jobs.command_line import Call, run_job
from lakevec.jobs.embedding.clock import RunTimer, new_run_id
from lakevec.jobs.embedding.metrics import check_metrics, write_metrics
from lakevec.jobs.embedding.spark_writer import check_spark_sink, choose_sink, recheck_sink, write_with_spark
from lakevec.jobs.embedding.summary import effective_settings, summarize
from lakevec.jobs.spark.overlap import refuse_files_of_output, refuse_overlap, refuse_partitions_above
from lakevec.jobs.spark.session import open_session, runs_locally
from lakevec.pipeline.encoding.encoder import warm_up
from lakevec.pipeline.errors import CommitError, DataError, LakevecError, UsageError, describe_failure
from lakevec.pipeline.model.artifact import Artifact, load
from lakevec.pipeline.output.output_folder import OutputFolder
from lakevec.pipeline.output.table_metadata import TableMetadata
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.settings import EmbedSettings
from lakevec.pipeline.storage import absolute_uri

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from lakevec.jobs.spark.input import Columns
    from lakevec.udfs.embed_task import EmbedTask

SUMMARY = """\
Embed text columns with a published model and write them, with all other columns, as Parquet.

The first run embeds the whole input; a later one embeds the files that are new since. A run that was killed,
wherever it was, is finished by the next one: no row is lost, doubled or of another model.

example:
  lakevec embed --model models/minilm --input lake/docs --text body --output lake/vectors

exit codes:
  0  done, or nothing new
  1  failed; what was committed before stays
  2  usage or configuration; nothing was started
  3  another run is at work on this output
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job.

    Parameters
    ----------
    argv : sequence of str, optional
        Words of the command line; by default the process's.

    Returns
    -------
    int
        0 done, 1 failed, 2 usage or configuration, 3 another run is at work.
    """
    return run_job(EmbedSettings, embed, argv, name="embed", summary=SUMMARY)


def embed(
    call: Call[EmbedSettings],
    *,
    task_type: type[EmbedTask] | None = None,
    on_step: Callable[[str], None] = lambda step: None,
) -> None:
    """Embed a lake as the settings say; everything that can be refused is refused before a task starts.

    Parameters
    ----------
    call : Call
    task_type : type, optional
        What runs in place of `EmbedTask`; the benchmark measures the same job with vectors that cost nothing.
    on_step : callable, optional
        Called with the name of each step of the commit that is done.
    """
    settings = call.settings
    clock = RunTimer()
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
    sink = choose_sink(settings)
    output = None
    if sink != "spark out of reach":
        output = OutputFolder(absolute_uri(settings.output), run_id, on_step=on_step)
        output.look()
    if sink != "direct":
        check_spark_sink(settings, output)
    print(effective_settings(settings, whole=call.verbose), flush=True)
    conf = {
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(settings.batch_rows),
        "spark.sql.files.maxPartitionBytes": f"{settings.input_split_mb}m",
        **settings.conf,
    }
    with ExitStack() as held:
        if output is not None and sink == "direct" and not call.dry_run:
            # Before Spark starts: a second run should learn at once that there is a first.
            held.enter_context(output.held(grace_s=_grace_s(settings)))
        spark = held.enter_context(
            open_session(
                "lakevec embed",
                master=settings.master,
                remote=settings.remote,
                conf=conf,
                verbose=call.verbose,
                # Workers find the machine code then, on this machine or shipped.
                meanwhile=partial(warm_up, artifact.table),
            )
        )
        from lakevec.jobs.spark.errors import spark_errors
        from lakevec.jobs.spark.file_systems import check_file_system
        from lakevec.jobs.spark.input import choose_columns, read_input
        from lakevec.jobs.spark.partition_columns import partition_zone

        with spark_errors():
            frame = read_input(spark, settings)
            columns = choose_columns(frame.schema, settings)
            if sink != "direct":
                check_file_system(spark, absolute_uri(settings.output))
            if settings.format != "table":
                refuse_partitions_above(
                    settings.input, settings.output, lambda: map(unquote, frame.inputFiles())
                )
            is_whole = settings.key is not None or settings.format == "table" or sink != "direct"
            if is_whole and not frame.isStreaming:
                # Other runs look at the files of each wave.
                refuse_files_of_output(map(unquote, frame.inputFiles()), settings.output)
            is_new = output is None or not output.is_begun or settings.full_refresh
            zone = partition_zone(spark, frame.schema, columns.partition_by, is_new=is_new)
            if call.dry_run:
                _describe(frame, columns)
                return
            if output is not None and sink == "direct":
                sink = recheck_sink(spark, settings, output)
            clock.start_embedding()
            if output is None or sink != "direct":
                record = _run_with_spark(
                    spark, frame, columns, settings, artifact, clock, is_free=output is not None
                )
            else:
                record = _run_directly(
                    spark, frame, columns, settings, artifact, output, run_id, clock, task_type, zone
                )
    print(summarize(record))
    if settings.metrics is not None:
        write_metrics(record, settings.metrics)


def _run_directly(
    spark: SparkSession,
    frame: DataFrame,
    columns: Columns,
    settings: EmbedSettings,
    artifact: Artifact,
    output: OutputFolder,
    run_id: str,
    clock: RunTimer,
    task_type: type[EmbedTask] | None,
    zone: str,
) -> dict[str, Any]:
    """Let tasks write, commit wave by wave, and return what there is to tell."""
    from lakevec.jobs.embedding.append import NewRowsRun
    from lakevec.jobs.embedding.upsert import KeyedRun, with_hashes
    from lakevec.jobs.spark.input import table_schema
    from lakevec.jobs.spark.progress import show_progress

    if settings.key is not None:
        columns = with_hashes(columns, settings.key)
    kind = NewRowsRun if settings.key is None else KeyedRun
    run = kind(spark, settings, artifact, columns, output, run_id, clock, task_type)
    contract = TableMetadata(
        generation="",
        fingerprint=artifact.table.fingerprint,
        dimensions=artifact.table.dimensions,
        columns=columns.embeddings,
        vector_type=settings.vector_type,
        store=settings.store,
        max_tokens=settings.max_tokens,
        model=artifact.uri,
        schema_of_files={
            field.name: field.dataType.simpleString()
            for field in (*columns.schema.fields, *(frame.schema[name] for name in columns.partition_by))
        },
        partition_by=columns.partition_by,
        key=settings.key,
        table_format=settings.table_format,
        time_zone=zone,
    )
    try:
        with show_progress(spark, "embedding"):
            run.run(frame, contract, table_schema(columns, frame.schema))
        if not output.state.rows_read:
            raise _no_rows(len(output.state.skipped))
        record = run.record()
        output.finish(record)
    except UsageError:  # nothing was done, so the last run is still the last
        raise
    except Exception as error:
        if output.is_open and output.served.rows_read + output.state.rows_read:
            told = str(error) if isinstance(error, LakevecError) else describe_failure(error)
            failed = run.record(error=told)
            with suppress(CommitError):  # a full disk, say, has stopped the run, too
                output.write_record(failed)
            if settings.metrics is not None:
                write_metrics(failed, settings.metrics)
        raise
    return record


def _no_rows(skipped: int) -> DataError:
    """Make the error for a run that has nothing to write."""
    if skipped:
        return DataError(
            "no file of the input can be read",
            got=f"{skipped:,} unreadable files",
            expected="at least one readable file of the --format given",
            remedy="check --format and the files; nothing was written",
        )
    return DataError("the input has no rows", remedy="check --input; nothing was written")


def _grace_s(settings: EmbedSettings) -> float:
    """Say how long tasks may outlive their driver: not at all where they are its own children."""
    is_local = settings.remote is None and runs_locally(settings.master)
    return 0.0 if is_local else 60.0 * settings.grace_minutes


def _run_with_spark(
    spark: SparkSession,
    frame: DataFrame,
    columns: Columns,
    settings: EmbedSettings,
    artifact: Artifact,
    clock: RunTimer,
    *,
    is_free: bool,
) -> dict[str, Any]:
    """Let Spark write, and return what there is to tell."""
    from lakevec.jobs.spark.progress import show_progress

    with show_progress(spark, "embedding"):
        record = write_with_spark(spark, frame, columns, settings, artifact.table, is_free=is_free)
    return {**record, "output": redact(settings.output), "seconds": clock.seconds()}


def _describe(frame: DataFrame, columns: Columns) -> None:
    """Print what a dry run tells."""
    from lakevec.jobs.embedding.context import select

    print("output schema:")
    for field in columns.schema.fields:
        print(f"  {field.name}: {field.dataType.simpleString()}")
    print("plan of the input:")
    plan = io.StringIO()
    with redirect_stdout(plan):
        select(frame, columns).explain()
    print(redact(plan.getvalue()))
    print("dry run: nothing was written")


if __name__ == "__main__":
    sys.exit(main())
