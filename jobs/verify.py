"""``lakevec verify``: check an output against its log and its model.

Start it as ``lakevec verify``, ``python -m lakevec.jobs.verify`` or ``spark-submit jobs/verify.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:
    # Started by its path: replace this folder on sys.path by the one that contains lakevec.
    sys.path[:1] = [str(path) for path in Path(__file__).resolve().parents if (path / "lakevec").is_dir()][:1]

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lakevec.jobs.cli import RunContext, run_command
from lakevec.jobs.output_model import load_model_of
from lakevec.jobs.spark.session import open_session
from lakevec.pipeline.chunk_columns import CHUNK_TEXT
from lakevec.pipeline.encoding.options import EncodeOptions
from lakevec.pipeline.encoding.stored_vectors import VectorType
from lakevec.pipeline.errors import CommitError, LakevecError
from lakevec.pipeline.heads.columns import prefix_of
from lakevec.pipeline.heads.head import Head
from lakevec.pipeline.heads.head_folder import load_head
from lakevec.pipeline.output.partitions import partition_values
from lakevec.pipeline.output.stored_output import StoredOutput, read_output
from lakevec.pipeline.output.table_changes import describe_changes
from lakevec.pipeline.output.time_zones import comes_twice
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.settings.models import VerifySettings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from lakevec.pipeline.model.table import StaticTable

SETTINGS = VerifySettings
_MAX_SHOWN = 20


def run(settings: VerifySettings, context: RunContext) -> None:
    """Check an output and print the findings; raise CommitError if it is damaged."""
    output = read_output(settings.output)
    table, note = _find_model(settings, output)
    heads, note_on_heads = _find_heads(output) if table is not None else ((), "")
    print(
        f"checking {output.uri}: {_count_rows(output)} in {len(output.state.files):,} files,"
        f" {output.state.number + 1:,} commits",
        flush=True,
    )
    for line in [*_tell_changes(output), *filter(None, (note, note_on_heads))]:
        print(redact(line), flush=True)
    if context.dry_run:
        print("dry run: no file was read")
        return
    with open_session(
        "lakevec verify",
        master=settings.master,
        remote=settings.remote,
        conf=settings.conf,
        verbose=context.verbose,
    ) as spark:
        from lakevec.jobs.spark.errors import spark_errors
        from lakevec.jobs.spark.progress import show_progress

        with spark_errors(), show_progress(spark, "verifying"):
            reports = _check_files(spark, settings, output, table, heads)
            of_files = [f"{report['name']} {problem}" for report in reports for problem in report["problems"]]
            problems = [*output.problems, *output.find_unlisted_files(), *_find_repeated_hours(spark, output)]
            problems += of_files or _find_duplicate_keys(spark, output)
    if problems:
        for problem in problems[:_MAX_SHOWN]:
            print(redact(f"  {problem}"))
        raise CommitError(
            f"output {output.uri!r} is damaged",
            got=f"{len(problems)} problem{'' if len(problems) == 1 else 's'}",
            remedy="restore the files named above, or rewrite the output with --full-refresh",
        )
    print(_summarize(output, reports, settings))


def _tell_changes(output: StoredOutput) -> Iterator[str]:
    """Say what other programs changed in a Delta table."""
    if record := output.changes.to_record():
        yield f"others changed the table since lakevec's last commit: {describe_changes(record)}"
    yield from output.notes
    if output.is_pending:
        yield "the last commit is not in the table yet; the next run completes or repeats it"


def _find_model(settings: VerifySettings, output: StoredOutput) -> tuple[StaticTable | None, str]:
    """Load the output's model; if that fails, return a note for the user."""
    if settings.sample == 0:
        return None, ""
    if not set(_embedded(output)) & set(output.metadata.schema_of_files):
        return None, "no text is embedded again: the output holds no text column"
    try:
        return load_model_of(output, settings.model).table, ""
    except LakevecError as error:
        if settings.model is not None:
            raise
        return None, f"no text is embedded again: {error}"


def _find_heads(output: StoredOutput) -> tuple[tuple[Head, ...], str]:
    """Load the output's heads; if that fails, return a note for the user."""
    metadata = output.metadata
    heads = []
    for name, uri in metadata.head_uris.items():
        try:
            head = load_head(uri)
        except LakevecError as error:
            return (), f"no label is predicted again: {error}"
        if head.fingerprint != metadata.heads[name]:
            return (), f"no label is predicted again: {uri!r} now holds another head"
        heads.append(head)
    return tuple(heads), ""


def _embedded(output: StoredOutput) -> dict[str, str]:
    """Return the column of the embedded texts, which the output may lack, and their embedding column."""
    columns = output.metadata.columns
    return columns if output.metadata.chunk_tokens is None else {CHUNK_TEXT: next(iter(columns.values()))}


def _check_files(
    spark: SparkSession,
    settings: VerifySettings,
    output: StoredOutput,
    table: StaticTable | None,
    heads: tuple[Head, ...],
) -> list[dict[str, Any]]:
    from lakevec.pipeline.encoding.node_files import pack_table
    from lakevec.udfs.distribution import distribute_files
    from lakevec.udfs.verify_task import REPORT_SCHEMA, VerifyTask

    node_table = (
        distribute_files(spark, pack_table(table.cut(output.metadata.dimensions)))
        if table is not None
        else None
    )
    state, metadata, columns = output.state, output.metadata, _embedded(output)
    task = VerifyTask(
        output=output.location,
        fingerprint=metadata.fingerprint,
        dimensions=metadata.dimensions,
        columns=columns,
        promised=tuple(metadata.names_in_files),
        vector_type=VectorType(metadata.vector_type),
        options=EncodeOptions(metadata.max_tokens, metadata.store),
        table=node_table,
        sample_every=max(1, state.rows // settings.sample) if table is not None else 0,
        sha256=settings.sha256,
        schema=output.changes.schema,
        # A run with a key copies rows that others ordered anew. Lost chunks are found by key.
        has_vectors=metadata.has_vectors,
        heads=heads,
        label_prefixes={name: prefix_of(name, columns) for name in columns},
        has_chunk_order=metadata.key is None or metadata.table_format == "parquet",
    )
    files = [(json.dumps({"name": name, **file.model_dump()}),) for name, file in state.all_files.items()]
    if not files:
        return []
    frame = spark.createDataFrame(files, "file string").repartition(min(len(files), 10_000))
    reports = [json.loads(row.report) for row in frame.mapInArrow(task, REPORT_SCHEMA).collect()]
    if len(reports) != len(files):
        raise CommitError(
            "tasks did not report on every file",
            got=f"{len(reports):,} reports",
            expected=f"{len(files):,}",
            remedy="run again",
        )
    return reports


def _find_repeated_hours(spark: SparkSession, output: StoredOutput) -> list[str]:
    """Find partition folders whose local time stands for two instants."""
    metadata = output.metadata
    stamps = [name for name in metadata.partition_by if metadata.schema_of_files.get(name) == "timestamp"]
    if not stamps:
        return []
    zone = metadata.time_zone or str(spark.conf.get("spark.sql.session.timeZone"))
    return [
        f"{file} is in a folder for two instants: {value} occurs twice in {zone}"
        for file in output.state.files
        for name, value in partition_values(file, metadata.partition_by).items()
        if name in stamps and comes_twice(value or "", zone)
    ]


def _find_duplicate_keys(spark: SparkSession, output: StoredOutput) -> list[str]:
    from pyspark.sql import functions as f

    from lakevec.udfs.upsert_tasks import ReadKeysTask

    key = output.metadata.key
    if key is None or not output.state.files:
        return []
    kind = output.metadata.schema_of_files[key]
    names = spark.createDataFrame([(name,) for name in output.state.files], "name string")
    has_chunks = output.metadata.chunk_tokens is not None
    read = ReadKeysTask(
        output.location,
        (key,),
        is_text=kind == "string",
        schema=output.changes.schema,
        has_chunks=has_chunks,
    )
    keys = names.repartition(min(len(output.state.files), 10_000)).mapInArrow(
        read, f"c0 {kind}, name string, row long, chunk int"
    )
    counts = keys.filter("chunk IS NOT NULL").groupBy("c0", "chunk").count().groupBy("c0")
    numbers = counts.agg(
        f.max("chunk").alias("last"), f.count("chunk").alias("chunks"), f.max("count").alias("copies")
    )
    problems = []
    if duplicates := numbers.filter("copies > 1").count():
        if output.changes.schema is None:
            problems.append(f"{duplicates} keys occur more than once")
        else:
            print(f"{duplicates:,} keys occur more than once; the next run keeps one row of each")
    if has_chunks and (wrong := numbers.filter("chunks != last + 1").count()):
        problems.append(f"{wrong} keys lack chunks")
    return problems


def _count_rows(output: StoredOutput) -> str:
    texts = f", chunks of {output.state.input_rows:,} texts," if output.metadata.chunk_tokens else ""
    return f"{output.state.rows:,} rows{texts}"


def _describe_vectors(output: StoredOutput) -> str:
    if not output.metadata.has_vectors:
        return "without vectors"
    return f"all vectors finite and of length {output.metadata.dimensions}"


def _summarize(output: StoredOutput, reports: list[dict[str, Any]], settings: VerifySettings) -> str:
    sampled = sum(report["sampled"] for report in reports)
    summed = sum(report["summed"] for report in reports)
    lines = [
        f"sound: {_count_rows(output).rstrip(',')}, {_describe_vectors(output)}, model"
        f" {output.metadata.fingerprint[:19]}...",
        f"  {sampled:,} texts embedded again, with the same bits",
    ]
    if settings.sha256:
        lines.append(f"  {summed:,} of {len(reports):,} files compared by sha256")
    if foreign := sum(not file.run for file in output.state.files.values()):
        lines.append(
            f"  {foreign:,} of {len(reports):,} files were written by others, so no run reported their rows"
        )
    if planes := sum(report["in_byte_planes"] for report in reports):
        lines.append(
            f"  {planes:,} files hold vectors in byte planes, which Spark before 4.3 reads only with"
            " spark.sql.parquet.enableVectorizedReader=false; --full-refresh rewrites them"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run_command("verify"))
