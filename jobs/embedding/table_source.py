"""A table as waves: its new rows where Spark can stream it, all of them once where it can't."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pyspark.errors import PySparkException

from lakevec.jobs.embedding.context import EmbedRun, select
from lakevec.jobs.embedding.micro_batches import Waves, wave_bytes
from lakevec.pipeline.output.commit_log import InputBatch

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


class TableWaves(Waves):
    """The rows of a table, from Spark's checkpoint to committed waves.

    Parameters
    ----------
    run : EmbedRun
        Its input is one table.
    """

    def __init__(self, run: EmbedRun) -> None:
        super().__init__(run, InputBatch(input=_identity(run), format="table"))

    def run(self, table: DataFrame) -> None:
        """Commit every wave of rows that are not in the output yet.

        Parameters
        ----------
        table : pyspark.sql.DataFrame
            All rows, for a table that Spark can't stream.

        Raises
        ------
        OutputError
            If such a table is in the output already.
        """
        rows = self._new_rows()
        if rows is not None:
            self._stream(select(rows, self._run.columns))
        elif not self._is_done_at_once():
            self._commit(self._wave, select(table, self._run.columns))

    def _new_rows(self) -> DataFrame | None:
        """Stream the table; None if Spark can't."""
        if not hasattr(self._spark, "_jvm"):
            return None
        settings = self._settings
        limit = (
            {"maxFilesPerTrigger": str(settings.wave_files)}
            if settings.wave_files
            else {"maxBytesPerTrigger": str(wave_bytes(settings))}
        )
        reader = self._spark.readStream.options(**{**limit, "maxFileAge": "36500d", **settings.option})
        try:
            rows = reader.table(settings.input[0])
        except PySparkException:
            # Spark has many words for it. A table that was streamed before is in trouble of its own.
            known = self._run.output.state.inputs.get(self._wave.input)
            if known is not None and known.query:
                raise
            return None
        # Spark hands files that are named by SQL over as a batch, and says nothing.
        return rows if rows.isStreaming else None

    def _commit(self, wave: InputBatch, batch: DataFrame) -> None:
        entries, rows = self._run.embed_selected(batch)
        self._run.commit(wave, entries, rows_read=rows)


def _identity(run: EmbedRun) -> str:
    """Name a table by what the catalog calls it, however it was given."""
    name = run.settings.input[0]
    try:
        table = run.spark.catalog.getTable(name)
        name = ".".join([table.catalog or "", *(table.namespace or []), table.name]).lower()
    except PySparkException:  # a path, for one, in quotes behind a format: letter case counts
        # Earlier versions named it without case. The prefix keeps their names apart from ours.
        if (old := _digest(name.lower())) in run.output.state.inputs:
            return old
        name = f"exactly {name}"
    return _digest(name)


def _digest(name: str) -> str:
    return hashlib.sha256(f"table {name}".encode()).hexdigest()[:12]
