"""Apache Iceberg: each commit is one snapshot of a table in a catalog, made without a JVM."""

from __future__ import annotations

from lakevec.pipeline.errors import DamagedOutputError
from lakevec.pipeline.output.commit_log import Commit
from lakevec.pipeline.output.field_ids import FieldIds
from lakevec.pipeline.output.iceberg_table import IcebergTable, ReplacedFilesError
from lakevec.pipeline.output.listed_committer import ListedCommitter
from lakevec.pipeline.output.table_metadata import TableMetadata, read_metadata_of


class IcebergCommitter(ListedCommitter[IcebergTable]):
    """List files in the snapshots of an Iceberg table."""

    fixed = (*ListedCommitter.fixed, "catalog", "table")
    replaced = "iceberg replaced"
    _field_ids: FieldIds = {}  # noqa: RUF012 - never changed in place
    _has_begun = False

    def _open_table(self) -> IcebergTable:
        metadata = read_metadata_of(self.target, self.generation)
        return IcebergTable(self.run.uri, self.target, metadata.catalog, metadata.table, self.generation)

    @property
    def field_ids(self) -> FieldIds:
        """The table's ids for the columns of files."""
        return self._field_ids

    def begin(self, metadata: TableMetadata, schema: str) -> None:
        """Create the table, or check that this run can continue it."""
        self._schema = schema
        table = self._table
        is_new = not self.is_refresh and self.log.state.number < 0
        if (is_new or self.is_refresh) and not table.exists():
            table.create(schema, metadata.partition_by)
            self._is_created = True
        table.check(is_refresh=self.is_refresh, partition_by=metadata.partition_by)
        self._field_ids = table.field_ids(schema, is_refresh=self.is_refresh)
        self._has_begun = True

    def check_can_replace(self) -> None:
        """Refuse to replace rows of files that lakevec did not write."""
        table = self._table
        if table.files() != set(self.log.state.files) or table.has_deleted_rows():
            raise DamagedOutputError(
                f"another program changed rows of Iceberg table {table.name!r}",
                got="other files than those of lakevec's commits, or rows marked as deleted",
                expected="the rows of lakevec's own runs, to find changed keys among them",
                remedy="write the rows to the input, and rewrite the output with --full-refresh",
            )

    def apply(self, commit: Commit) -> None:
        """Make the commit's snapshot, unless a refresh is under way or the table has it."""
        if self.is_refresh or not (self._has_begun or self._table.exists()):
            return  # `begin` tells that the table is gone
        try:
            self._table.append(commit)
        except ReplacedFilesError:
            self.log.withdraw()
            raise

    def forget(self) -> None:
        """Remove the table that `begin` created."""
        if self._is_created:
            self._table.drop()
            (self.target / "metadata").delete()
