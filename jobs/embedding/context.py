"""One run of ``lakevec embed`` on an open session: rows go through tasks into files, wave by wave."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lakevec import __version__
from lakevec.jobs.embedding.clock import RunTimer
from lakevec.jobs.embedding.spark_writer import quoted
from lakevec.pipeline.encoding.stored_vectors import VectorType
from lakevec.pipeline.errors import CommitError
from lakevec.pipeline.model.artifact import Artifact
from lakevec.pipeline.output.commit_log import Commit, InputBatch, InputFile
from lakevec.pipeline.output.file_entry import Counts, FileEntry, sum_counts, sum_memory
from lakevec.pipeline.output.output_folder import OutputFolder
from lakevec.pipeline.output.parquet_writer import FileLayout
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.settings import EmbedSettings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from lakevec.jobs.spark.input import Columns
    from lakevec.pipeline.output.table_metadata import TableMetadata
    from lakevec.udfs.embed_task import EmbedTask


class EmbedRun(ABC):
    """A run that commits waves to one output.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
    settings : EmbedSettings
    artifact : Artifact
    columns : Columns
    output : OutputFolder
        `run` begins it.
    run_id : str
    clock : RunTimer
    task_type : type, optional
        What runs in place of `EmbedTask`.
    """

    def __init__(
        self,
        spark: SparkSession,
        settings: EmbedSettings,
        artifact: Artifact,
        columns: Columns,
        output: OutputFolder,
        run_id: str,
        clock: RunTimer,
        task_type: type[EmbedTask] | None = None,
    ) -> None:
        self.spark = spark
        self.settings = settings
        self.columns = columns
        self.output = output
        self.details: dict[str, Any] = {}
        self._artifact = artifact
        self.run_id = run_id
        self._task_type = task_type
        self._clock = clock
        # Asked for now: a JVM that has died tells nothing, and the record is wanted all the same.
        self._spark_version = spark.version
        self._entries: list[FileEntry] = []
        self._waves = 0
        self._rows_read = 0

    @abstractmethod
    def run(self, frame: DataFrame, contract: TableMetadata, schema: str) -> None:
        """Begin the output and commit what there is to commit.

        Parameters
        ----------
        frame : pyspark.sql.DataFrame
            The whole input.
        contract : TableMetadata
            What all rows share.
        schema : str
            All columns as Delta's JSON.
        """

    def embed(self, frame: DataFrame) -> tuple[list[FileEntry], int]:
        """Run the tasks; commit nothing yet.

        Parameters
        ----------
        frame : pyspark.sql.DataFrame
            All columns that the run needs.

        Returns
        -------
        list of FileEntry
            What they wrote.
        int
            How many rows Spark read for them.
        """
        return self.embed_selected(select(frame, self.columns))

    def embed_selected(self, rows: DataFrame) -> tuple[list[FileEntry], int]:
        """Do as `embed` on columns that `select` took."""
        from pyspark.sql import Observation
        from pyspark.sql import functions as f

        from lakevec.udfs.embed_task import ENTRY_SCHEMA

        read = Observation("lakevec input")
        observed = rows.observe(read, f.count(f.lit(1)).alias("rows"))
        entries, reported = entries_of(observed.mapInArrow(self._task, ENTRY_SCHEMA))
        if not reported:
            # Spark answers for an observation only if a task saw it.
            if not rows.isEmpty():
                raise CommitError(
                    "tasks returned nothing",
                    expected="a line from each task with the number of its rows",
                    remedy="nothing of this wave was committed; run again",
                )
            return [], 0
        return entries, int(read.get["rows"])

    def commit(
        self,
        wave: InputBatch,
        entries: list[FileEntry],
        *,
        rows_read: int,
        removed: Sequence[str] = (),
        skipped: Sequence[InputFile] = (),
        retaken: Sequence[str] = (),
    ) -> None:
        """Commit what tasks wrote.

        Parameters
        ----------
        wave : InputBatch
        entries : list of FileEntry
        rows_read : int
            Rows that the files must hold.
        removed : sequence of str
            Files that they replace.
        skipped : sequence of InputFile
            Input files that were left out.
        retaken : sequence of str
            Input files that are not left out any more.
        """
        self.output.commit(
            Commit(
                number=self.output.state.number + 1,
                run=self.run_id,
                wave=wave,
                rows_read=rows_read,
                added=entries,
                removed=list(removed),
                skipped=list(skipped),
                retaken=list(retaken),
            )
        )
        self._entries += entries
        self._waves += 1
        self._rows_read += rows_read

    @cached_property
    def _task(self) -> Any:
        from lakevec.udfs.distribution import distribute_files
        from lakevec.udfs.embed_task import EmbedTask
        from lakevec.udfs.node_files import pack_table

        table, files = pack_table(self._artifact.table, node_dir=self.settings.node_dir)
        return (self._task_type or EmbedTask)(
            table=table,
            fetch=distribute_files(self.spark, table, files),
            embedding_columns=self.columns.embeddings,
            read=self.columns.read,
            kept=self.columns.kept,
            staging=self.output.staging,
            run_id=self.run_id,
            layout=self.layout,
            max_tokens=self.settings.max_tokens,
            partition_by=self.columns.partition_by,
            vector_type=VectorType(self.settings.vector_type),
            on_bad_row=self.settings.on_bad_row,
            max_chars=self.settings.max_chars,
            store=self.settings.store,
        )

    @cached_property
    def layout(self) -> FileLayout:
        """How files are stored; Spark's own footer keys keep its exact types and its calendar."""
        return FileLayout(
            embedding_columns=tuple(self.columns.embeddings.values()),
            compression=self.settings.compression,
            metadata={
                "lakevec.version": __version__,
                "lakevec.run": self.run_id,
                "lakevec.model": self._artifact.table.fingerprint,
                **({"lakevec.store": "sum"} if self.settings.store == "sum" else {}),
                "org.apache.spark.version": self._spark_version,
                "org.apache.spark.sql.parquet.row.metadata": self.columns.schema.json(),
            },
            compact=VectorType(self.settings.vector_type) is not VectorType.FLOAT32,
            target_bytes=self.settings.target_file_mb * 10**6,
            sha256=self.settings.sha256,
        )

    def _other_columns(self, counts: Counts) -> dict[str, Any]:
        """Say in which columns beside the texts values were not valid UTF-8."""
        others = {name: counts[name] for name in counts if name not in self.columns.embeddings}
        return {"invalid_values": others} if others else {}

    def record(self, *, error: str = "") -> dict[str, Any]:
        """Say what the run did and what the output holds now: the content of ``run.json``.

        Parameters
        ----------
        error : str, default=""
            What ended the run before its end.

        Returns
        -------
        dict
        """
        # A refresh that failed has served nobody.
        table, state = self._artifact.table, self.output.served if error else self.output.state
        rows = [entry for entry in self._entries if not entry.is_quarantine]
        counts = sum_counts(self._entries)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return {
            "run": self.run_id,
            "status": "failed" if error else "done" if self._waves else "nothing new",
            **({"error": error} if error else {}),
            "last_success": self.output.last_record().get("last_success") if error else now,
            "lakevec": __version__,
            "spark": self._spark_version,
            "started": self._clock.started_at.isoformat(timespec="seconds"),
            "model": {
                "uri": self._artifact.uri,
                "fingerprint": table.fingerprint,
                "dimensions": table.dimensions,
            },
            "settings": self.settings.to_record(),
            "output": redact(self.settings.output),
            "waves": self._waves,
            "rows_read": self._rows_read,
            "rows": sum(entry.rows for entry in rows),
            "rows_quarantined": sum(entry.rows for entry in self._entries if entry.is_quarantine),
            "files": len(rows),
            "bytes": sum(entry.bytes for entry in rows),
            "seconds": self._clock.seconds(),
            **({"memory": sum_memory(self._entries)} if self._entries else {}),
            "columns": {
                column: {"embedding": name, **Counter(counts.get(column, {}))}
                for column, name in self.columns.embeddings.items()
            },
            **self.details,
            **self._other_columns(counts),
            "total": {
                "commits": state.number + 1,
                "rows": state.rows,
                "rows_quarantined": state.rows_quarantined,
                "files": len(state.files),
                "bytes": state.bytes,
            },
            "skipped_files": [file.model_dump() for file in state.skipped.values()],
        }


def entries_of(tasks: DataFrame) -> tuple[list[FileEntry], int]:
    """Run tasks that write files, and return what they say of them.

    Parameters
    ----------
    tasks : pyspark.sql.DataFrame
        Of one column, an entry as JSON in each row.

    Returns
    -------
    list of FileEntry
    int
        How many rows came to the tasks, by their own account.
    """
    from lakevec.udfs.embed_task import ROWS_READ

    lines = [json.loads(line.entry) for line in tasks.collect()]
    rows_read = sum(line[ROWS_READ] for line in lines if ROWS_READ in line)
    return [FileEntry(**line) for line in lines if ROWS_READ not in line], rows_read


def select(frame: DataFrame, columns: Columns) -> DataFrame:
    """Take the columns that the run reads, numbered: mapInArrow trips over dots in names."""
    from lakevec.jobs.spark.partition_columns import folder_value

    chosen = [quoted(name) for name in columns.read]
    chosen += [folder_value(frame, name) for name in columns.partition_by]
    return frame.select(*(column.alias(f"c{number}") for number, column in enumerate(chosen)))
