"""The shared context of an embed run: tasks write rows to files, the driver commits the files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as f

from lakevec import __version__
from lakevec.jobs.embedding.plan import RunPlan
from lakevec.jobs.spark.column_types import quoted
from lakevec.jobs.spark.input import Columns
from lakevec.jobs.spark.partition_columns import folder_value
from lakevec.jobs.spark.progress import Progress
from lakevec.pipeline.chunk_columns import CHUNK_INDEX
from lakevec.pipeline.encoding.node_files import pack_table
from lakevec.pipeline.encoding.options import ChunkOptions, EncodeOptions
from lakevec.pipeline.encoding.stored_vectors import VectorType
from lakevec.pipeline.errors import CommitError
from lakevec.pipeline.output.commit_log import Commit, InputBatch
from lakevec.pipeline.output.file_entry import FileEntry
from lakevec.pipeline.output.output_folder import OpenOutput
from lakevec.pipeline.output.parquet_writer import FileLayout
from lakevec.pipeline.settings.embed import EmbedSettings
from lakevec.udfs.distribution import distribute_files
from lakevec.udfs.embed_task import ENTRY_SCHEMA, ROWS_READ, EmbedTask, InvalidRows, TaskColumns
from lakevec.udfs.split_reader import SPLIT, FileSplit, InputColumn, ReadSplitsTask, SplitReport


@dataclass
class EmbedContext:
    """One run of ``lakevec embed`` on an open session and an open output.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
    plan : RunPlan
    columns : Columns
    output : OpenOutput
    progress : Progress
    task_type : type, default=EmbedTask
    entries : list of FileEntry
        Files that the run has committed.
    micro_batches, rows_read : int
        Numbers of micro-batches and rows that the run has committed.
    details : dict
        Extra keys of the run's record.
    """

    spark: SparkSession
    plan: RunPlan
    columns: Columns
    output: OpenOutput
    progress: Progress
    task_type: type[EmbedTask] = EmbedTask
    entries: list[FileEntry] = field(default_factory=list)
    micro_batches: int = 0
    rows_read: int = 0
    details: dict[str, Any] = field(default_factory=dict)
    settings: EmbedSettings = field(init=False)
    spark_version: str = field(init=False)

    def __post_init__(self) -> None:
        self.settings = self.plan.settings
        # Read now, since the record needs the version even if the JVM dies.
        self.spark_version = self.spark.version

    @property
    def embeddings(self) -> dict[str, str]:
        """The embedding column of each text column."""
        return self.columns.embeddings

    def embed(self, rows: DataFrame) -> tuple[list[FileEntry], int]:
        """Run the tasks without committing.

        Parameters
        ----------
        rows : pyspark.sql.DataFrame
            From `select`.

        Returns
        -------
        list of FileEntry
        int
            Number of rows that Spark read.
        """
        read = Observation("lakevec input")
        observed = rows.observe(read, f.count(f.lit(1)).alias("rows"))
        results = self._run(observed, self._task)
        if not results.rows_read:
            # Without a task, Spark never completes an observation.
            if not rows.isEmpty():
                raise CommitError(
                    "tasks returned nothing",
                    expected="one line with a row count from each task",
                    remedy="nothing of this micro-batch was committed; run again",
                )
            return [], 0
        return results.entries, int(read.get["rows"])

    def embed_splits(
        self, columns: tuple[InputColumn, ...], partitions: Sequence[Sequence[FileSplit]]
    ) -> TaskResults:
        """Run tasks that read file splits themselves, without committing.

        Parameters
        ----------
        columns : tuple of InputColumn
        partitions : sequence of sequence of FileSplit
            The splits of each task.
        """
        if not partitions:
            return TaskResults([], 0, [])
        splits = self.spark.sparkContext.broadcast(partitions)
        task = ReadSplitsTask(self._task, columns, self.settings.batch_rows, splits)
        try:
            numbers = self.spark.range(0, len(partitions), 1, len(partitions))
            return self._run(numbers, task)
        finally:
            splits.destroy()

    def _run(self, rows: DataFrame, task: EmbedTask | ReadSplitsTask) -> TaskResults:
        """Run tasks, and let the JVM drop the blank lines that tell of their progress."""
        lines = rows.mapInArrow(task, ENTRY_SCHEMA)
        return collect_results(lines.where(f.col("entry").startswith("{")))

    def commit(self, batch: InputBatch, entries: list[FileEntry], rows_read: int, **others: Any) -> None:
        """Commit the files of `rows_read` input rows; `others` are more fields of `Commit`."""
        commit = Commit(
            number=self.output.state.number + 1,
            run=self.plan.run_id,
            wave=batch,
            rows_read=rows_read,
            added=entries,
            **others,
        )
        self.output.commit(commit)
        self.entries += entries
        self.micro_batches += 1
        self.rows_read += rows_read

    @cached_property
    def _task(self) -> EmbedTask:
        settings, columns = self.settings, self.columns
        table = self.plan.artifact.table.cut(settings.dimensions)
        packed = pack_table(table, node_dir=settings.node_dir)
        return self.task_type(
            table=distribute_files(self.spark, packed),
            columns=TaskColumns(
                columns.embeddings,
                columns.read,
                columns.kept,
                columns.partition_by,
                settings.chunk_text,
                has_exact_folders=settings.table_format == "iceberg",
                has_vectors=settings.vectors,
            ),
            options=EncodeOptions(settings.max_tokens, settings.store, settings.dimensions),
            vector_type=VectorType(settings.vector_type),
            invalid=InvalidRows(settings.on_bad_row, settings.max_chars),
            layout=self.layout,
            staging=self.output.staging,
            run_id=self.plan.run_id,
            chunks=self.chunks,
            heads=self.plan.heads,
        )

    @property
    def chunks(self) -> ChunkOptions | None:
        """How texts are split; None if they are not."""
        tokens = self.settings.chunk_tokens
        return None if tokens is None else ChunkOptions(tokens, self.settings.chunk_overlap)

    @cached_property
    def layout(self) -> FileLayout:
        """How to store files; Spark's footer keys preserve its exact types and calendar."""
        settings = self.settings
        return FileLayout(
            embedding_columns=tuple(self.columns.embeddings.values()) if settings.vectors else (),
            compression=settings.compression,
            metadata={
                "lakevec.version": __version__,
                "lakevec.run": self.plan.run_id,
                "lakevec.model": self.plan.artifact.table.fingerprint,
                **({"lakevec.dimensions": str(self.plan.dimensions)} if settings.vectors else {}),
                **({"lakevec.store": "sum"} if settings.store == "sum" else {}),
                **{f"lakevec.head.{head.name}": head.fingerprint for head in self.plan.heads},
                "org.apache.spark.version": self.spark_version,
                "org.apache.spark.sql.parquet.row.metadata": self.columns.schema.json(),
            },
            compact=settings.vector_type in (VectorType.FLOAT16, VectorType.INT8),
            plain_binary=settings.table_format == "delta",
            target_bytes=settings.target_file_mb * 10**6,
            sha256=settings.sha256,
            index_column=CHUNK_INDEX if self.chunks else None,
            field_ids=self.output.field_ids,
        )


class TaskResults(NamedTuple):
    """What tasks report: files, the number of rows that they received, and splits that they read."""

    entries: list[FileEntry]
    rows_read: int
    splits: list[SplitReport]


def collect_results(tasks: DataFrame) -> TaskResults:
    """Run tasks that return JSON lines, and collect these."""
    lines = [json.loads(row.entry) for row in tasks.collect()]
    entries = [FileEntry(**line) for line in lines if not line.keys() & {ROWS_READ, SPLIT}]
    splits = [SplitReport(**line[SPLIT]) for line in lines if SPLIT in line]
    return TaskResults(entries, sum(line.get(ROWS_READ, 0) for line in lines), splits)


def select(frame: DataFrame, columns: Columns) -> DataFrame:
    """Select the run's columns under numbered names, since mapInArrow can't take dots in names."""
    selected = [quoted(name) for name in columns.read]
    selected += [folder_value(frame, name) for name in columns.partition_by]
    return frame.select(*(column.alias(f"c{number}") for number, column in enumerate(selected)))
