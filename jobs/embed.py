"""``lakevec embed``: text columns of a lake become vectors in Parquet.

Started as ``lakevec embed``, ``python -m jobs.embed`` or ``spark-submit jobs/embed.py``, with the same words.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:
    # Started by path: spark-submit puts this folder on the path, where the project's root belongs.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from jobs.command_line import Call, run_job
from jobs.session import open_session
from jobs.spark_sink import check_spark_sink, choose_sink, quoted, recheck_sink, write_with_spark
from jobs.summary import effective_settings, summarize
from pipeline import __version__
from pipeline.encoding.encoder import warm_up
from pipeline.encoding.vector_types import VectorType
from pipeline.errors import DataError
from pipeline.location import absolute_uri, without_credentials
from pipeline.model.artifact import Artifact, load
from pipeline.output.commit import OutputFolder
from pipeline.output.manifest import FileEntry, sum_counts, sum_memory
from pipeline.output.sink import FileLayout
from pipeline.settings import EmbedSettings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from jobs.lake_input import Columns
    from udfs.embed_task import EmbedTask

SUMMARY = """\
Embed text columns with a published model and write them, with all other columns, as Parquet.

example:
  lakevec embed --model models/minilm --input lake/docs --text body --output lake/vectors
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
        0 done, 1 failed, 2 usage or configuration.
    """
    return run_job(EmbedSettings, embed, argv, name="embed", summary=SUMMARY)


def embed(call: Call[EmbedSettings], *, task_type: type[EmbedTask] | None = None) -> None:
    """Embed a lake as the settings say; everything that can be refused is refused before a task starts.

    Parameters
    ----------
    call : Call
    task_type : type, optional
        What runs in place of `EmbedTask`; the benchmark measures the same job with vectors that cost nothing.
    """
    settings = call.settings
    started = time.monotonic()
    artifact = load(settings.model)
    run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"
    sink = choose_sink(settings)
    output = OutputFolder(absolute_uri(settings.output), run_id) if sink != "spark out of reach" else None
    if output is not None:
        output.refuse_existing()
    if sink != "direct":
        check_spark_sink(settings)
    print(effective_settings(settings), flush=True)
    conf = {
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(settings.batch_rows),
        "spark.sql.files.maxPartitionBytes": f"{settings.input_split_mb}m",
        **settings.conf,
    }
    with open_session(
        "lakevec embed",
        master=settings.master,
        conf=conf,
        verbose=call.verbose,
        # Workers find the machine code then, on this machine or shipped.
        meanwhile=partial(warm_up, artifact.table),
    ) as spark:
        from jobs.lake_input import choose_columns, read_input
        from jobs.spark_errors import translated

        with translated():
            frame = read_input(spark, settings)
            columns = choose_columns(frame.schema, settings)
            if call.dry_run:
                _describe(frame, columns)
                return
            if output is not None and sink == "direct":
                sink = recheck_sink(spark, settings, output)
            startup_s = time.monotonic() - started
            if output is None or sink != "direct":
                is_free = output is not None
                record = _run_with_spark(
                    spark, frame, columns, settings, artifact, startup_s, is_free=is_free
                )
            else:
                run = _Run(spark, settings, artifact, columns, output, run_id, task_type)
                record = run.run(frame, startup_s=startup_s)
    print(summarize(record))


def _run_with_spark(
    spark: SparkSession,
    frame: DataFrame,
    columns: Columns,
    settings: EmbedSettings,
    artifact: Artifact,
    startup_s: float,
    *,
    is_free: bool,
) -> dict[str, Any]:
    """Let Spark write, and return what there is to tell."""
    from jobs.progress import show_progress

    started = time.monotonic()
    with show_progress(spark, "embedding"):
        record = write_with_spark(spark, frame, columns, settings, artifact.table, is_free=is_free)
    seconds = {"startup": round(startup_s, 3), "embed": round(time.monotonic() - started, 3)}
    return {**record, "output": without_credentials(settings.output), "seconds": seconds}


class _Run:
    """One embedding run on an open session."""

    def __init__(
        self,
        spark: SparkSession,
        settings: EmbedSettings,
        artifact: Artifact,
        columns: Columns,
        output: OutputFolder,
        run_id: str,
        task_type: type[EmbedTask] | None,
    ) -> None:
        self._spark = spark
        self._settings = settings
        self._artifact = artifact
        self._columns = columns
        self._output = output
        self._run_id = run_id
        self._task_type = task_type

    def run(self, frame: DataFrame, *, startup_s: float) -> dict[str, Any]:
        """Embed, check and commit; return the content of ``run.json``."""
        started_at, started = datetime.now(UTC), time.monotonic()
        try:
            entries, rows_read = self._embed(frame)
            if not entries:
                raise DataError("the input has no rows", remedy="check --input; nothing was written")
            record = self._record(entries)
            record["started"] = started_at.isoformat(timespec="seconds")
            record["seconds"] = {
                "startup": round(startup_s, 3),
                "embed": round(time.monotonic() - started, 3),
            }
            self._output.commit(entries, rows_read=rows_read, record=record)
        except BaseException:
            self._output.abandon()
            raise
        return record

    def _embed(self, frame: DataFrame) -> tuple[list[FileEntry], int]:
        """Run the tasks; return what they wrote and how many rows Spark read for them."""
        from pyspark.sql import Observation
        from pyspark.sql import functions as f

        from jobs.progress import show_progress
        from udfs.embed_task import ENTRY_SCHEMA

        read = Observation("lakevec input")
        rows = select(frame, self._columns).observe(read, f.count(f.lit(1)).alias("rows"))
        with show_progress(self._spark, "embedding"):
            lines = rows.mapInArrow(self._task(), ENTRY_SCHEMA).collect()
        entries = [FileEntry.from_json(line.entry) for line in lines]
        return entries, int(read.get["rows"]) if entries else 0

    def _task(self) -> Any:
        from udfs.embed_task import EmbedTask
        from udfs.node_table import make_node_table
        from udfs.shipping import ship_files

        table, files = make_node_table(self._artifact.table, node_dir=self._settings.node_dir)
        return (self._task_type or EmbedTask)(
            table=table,
            fetch=ship_files(self._spark, table, files),
            embedding_columns=self._columns.embeddings,
            read=self._columns.read,
            kept=self._columns.kept,
            staging=self._output.staging,
            run_id=self._run_id,
            layout=self._layout(),
            max_tokens=self._settings.max_tokens,
            partition_by=self._columns.partition_by,
            vector_type=VectorType(self._settings.vector_type),
        )

    def _layout(self) -> FileLayout:
        """Describe the files; Spark's own footer keys keep its exact types and its calendar."""
        return FileLayout(
            embedding_columns=tuple(self._columns.embeddings.values()),
            compression=self._settings.compression,
            metadata={
                "lakevec.version": __version__,
                "lakevec.run": self._run_id,
                "lakevec.model": self._artifact.table.fingerprint,
                "org.apache.spark.version": self._spark.version,
                "org.apache.spark.sql.parquet.row.metadata": self._columns.schema.json(),
            },
            compact=VectorType(self._settings.vector_type) is not VectorType.FLOAT32,
            target_bytes=self._settings.target_file_mb * 10**6,
        )

    def _record(self, entries: list[FileEntry]) -> dict[str, Any]:
        table = self._artifact.table
        return {
            "run": self._run_id,
            "lakevec": __version__,
            "spark": self._spark.version,
            "model": {
                "uri": self._artifact.uri,
                "fingerprint": table.fingerprint,
                "dimensions": table.dimensions,
            },
            "settings": self._settings.to_record(),
            "output": without_credentials(self._settings.output),
            "rows": sum(entry.rows for entry in entries),
            "files": len(entries),
            "bytes": sum(entry.bytes for entry in entries),
            "memory": sum_memory(entries),
            "columns": {
                column: {"embedding": self._columns.embeddings[column], **counts}
                for column, counts in sum_counts(entries).items()
            },
        }


def select(frame: DataFrame, columns: Columns) -> DataFrame:
    """Take the columns that the run reads, numbered: mapInArrow trips over dots in names."""
    chosen = [quoted(name) for name in columns.read]
    chosen += [quoted(name).cast("string") for name in columns.partition_by]
    return frame.select(*(column.alias(f"c{number}") for number, column in enumerate(chosen)))


def _describe(frame: DataFrame, columns: Columns) -> None:
    """Print what a dry run tells."""
    print("output schema:")
    for field in columns.schema.fields:
        print(f"  {field.name}: {field.dataType.simpleString()}")
    print("plan of the input:")
    select(frame, columns).explain()
    print("dry run: nothing was written")


if __name__ == "__main__":
    sys.exit(main())
