"""``lakevec embed`` without a key: rows that are new are added, wave by wave."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakevec.jobs.embedding.context import EmbedRun
from lakevec.jobs.embedding.file_source import run_files
from lakevec.jobs.embedding.table_source import TableWaves

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from lakevec.pipeline.output.table_metadata import TableMetadata


class NewRowsRun(EmbedRun):
    """A run that adds what is not in the output yet; see `EmbedRun` for the parameters."""

    def run(self, frame: DataFrame, contract: TableMetadata, schema: str) -> None:
        """Embed new files, or new rows of a table.

        Parameters
        ----------
        frame : pyspark.sql.DataFrame
            The whole input.
        contract : TableMetadata
        schema : str
            See `OutputFolder.begin`.
        """
        self.output.begin(contract, schema, refresh=self.settings.full_refresh)
        if self.settings.format == "table":
            TableWaves(self).run(frame)
        else:
            run_files(self, frame.schema)
