"""Let tasks read Parquet files themselves, and account for every row group of every file."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from pyspark.sql import DataFrame

from lakevec.jobs.embedding.context import EmbedContext
from lakevec.jobs.spark.errors import SPARK_ERRORS, WORKER_DIED
from lakevec.jobs.spark.file_splits import SparkOnlyError, check_reader, describe_columns, plan_splits
from lakevec.pipeline.errors import CommitError
from lakevec.pipeline.output.commit_log import InputFile
from lakevec.pipeline.output.file_entry import FileEntry
from lakevec.pipeline.redaction import redact
from lakevec.udfs.split_reader import InputColumn, SplitReport


@dataclass
class DirectRead:
    """What tasks have read themselves, and the files that are left to Spark.

    Parameters
    ----------
    entries : list of FileEntry
        Files that tasks wrote.
    rows : int
        Rows in the footers of the files that tasks read.
    left : list of InputFile
        Files for Spark's reader.
    """

    left: list[InputFile]
    entries: list[FileEntry] = field(default_factory=list)
    rows: int = 0


def read_directly(context: EmbedContext, frame: DataFrame, files: list[InputFile]) -> DirectRead:
    """Embed the files that tasks can read themselves with the same result as Spark's reader.

    Parameters
    ----------
    context : EmbedContext
    frame : pyspark.sql.DataFrame
        The files as Spark would read them, without any transformation.
    files : list of InputFile

    Raises
    ------
    CommitError
        If a row group was lost or read twice.
    """
    try:
        check_reader(context.spark, context.settings.option, files)
        zone = str(context.spark.conf.get("spark.sql.session.timeZone"))
        described = describe_columns(frame.schema, context.columns.read, context.columns.partition_by, zone)
        folders, partitions = plan_splits(frame, files)
        columns = _place(described, folders)
    except SparkOnlyError as reason:
        _record(context, 0, [str(reason)] * len(files))
        return DirectRead(files)
    except SPARK_ERRORS:  # another Spark may name the parts of its plans otherwise
        _record(context, 0, ["its plan can't be inspected"] * len(files))
        return DirectRead(files)
    try:
        results = context.embed_splits(columns, partitions)
    except SPARK_ERRORS as error:
        if WORKER_DIED not in str(error):
            raise
        # A damaged footer can end the worker. Spark's reader names such a file, or reads it.
        _record(context, 0, ["a worker died while it read them"] * len(files))
        return DirectRead(files)
    refused = check_reports(results.splits, files)
    if any(report.rows for report in results.splits if report.path in refused):
        # The tasks' files hold a part of its rows.
        for entry in results.entries:
            (context.output.staging / entry.name).delete()
        _record(context, 0, [next(iter(refused.values()))] * len(files))
        return DirectRead(files)
    left = [file for file in files if file.path in refused]
    _record(context, len(files) - len(left), refused.values())
    return DirectRead(left, results.entries, sum(report.rows for report in results.splits))


def check_reports(reports: Iterable[SplitReport], files: Sequence[InputFile]) -> dict[str, str]:
    """Check that tasks read each row group of each file once, or refused the file.

    Returns
    -------
    dict of str to str
        Path of each refused file and the reason.

    Raises
    ------
    CommitError
        If a row group was lost or read twice, or if the rows differ from the footer's.
    """
    of_file: dict[str, list[SplitReport]] = defaultdict(list)
    for report in reports:
        of_file[report.path].append(report)
    refused = {}
    for file in files:
        parts = of_file[file.path]
        if reason := next((part.refused for part in parts if part.refused), ""):
            refused[file.path] = reason
            continue
        groups = sorted(group for part in parts for group in part.groups)
        footers = {(part.groups_of_file, part.rows_of_file) for part in parts}
        read = (len(groups), sum(part.rows for part in parts))
        if footers != {read} or groups != list(range(len(groups))):
            raise CommitError(
                f"rows of {file.path!r} were lost or read twice",
                got=f"{read[1]:,} rows in row groups {groups}",
                expected=" or ".join(f"{rows:,} rows in {number:,} groups" for number, rows in footers),
                remedy="nothing of this micro-batch was committed; run again",
            )
    return refused


def _place(columns: list[InputColumn], folders: list[str]) -> tuple[InputColumn, ...]:
    """Mark the columns whose values folders hold."""
    places = {name: place for place, name in enumerate(folders)}
    placed = tuple(replace(column, folder=places.get(column.name)) for column in columns)
    if all(column.folder is not None for column in placed):
        raise SparkOnlyError("no needed column is in the files")
    return placed


def _record(context: EmbedContext, direct: int, reasons: Collection[str]) -> None:
    """Count files for the run's record, and print each new reason for Spark's reader."""
    reader = context.details.setdefault("reader", {"tasks": 0, "spark": 0, "reasons": {}})
    reader["tasks"] += direct
    reader["spark"] += len(reasons)
    for reason, files in Counter(map(redact, reasons)).items():
        if reason not in reader["reasons"]:
            print(
                f"reader: Spark's own for {files:,} of {direct + len(reasons):,} files, since {reason}",
                flush=True,
            )
        reader["reasons"][reason] = reader["reasons"].get(reason, 0) + files
