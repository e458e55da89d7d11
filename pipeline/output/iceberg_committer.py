"""Apache Iceberg: each commit is one snapshot of a table in a catalog, made without a JVM.

Tasks write straight to the table's folder, since readers see only files that a snapshot lists. Other programs
may add columns and rows, rewrite files and remove old snapshots meanwhile.
"""

from __future__ import annotations

from functools import cached_property

from lakevec.pipeline.errors import DamagedOutputError, OutputError
from lakevec.pipeline.output.commit_log import Commit
from lakevec.pipeline.output.committer import Run, TableCommitter
from lakevec.pipeline.output.field_ids import FieldIds
from lakevec.pipeline.output.iceberg_table import IcebergTable, ReplacedFilesError
from lakevec.pipeline.output.table_metadata import (
    TableMetadata,
    read_metadata_of,
)


class IcebergCommitter(TableCommitter):
    """Leave files where tasks wrote them, and list them in the table's snapshots."""

    fixed = ("table_format", "partition_by", "catalog", "table")

    def __init__(self, run: Run, generation: str = "", *, is_refresh: bool = False) -> None:
        super().__init__(run, generation, is_refresh=is_refresh)
        self._schema = ""
        self._field_ids: FieldIds = {}
        self._is_created = False

    @cached_property
    def _table(self) -> IcebergTable:
        metadata = read_metadata_of(self.target, self.generation)
        return IcebergTable(self.run.uri, self.target, metadata)

    def version(self) -> int | None:
        """Return the number of this generation's last visible commit; None before the first."""
        return self._table.version()

    @property
    def field_ids(self) -> FieldIds:
        """The table's ids for the columns of files."""
        return self._field_ids

    def begin(self, metadata: TableMetadata, schema: str) -> None:
        """Create the table, or check that this run can continue it."""
        self._schema = schema
        is_new = self.is_refresh or self.log.state.number < 0
        if is_new and not self._table.exists():
            self._is_created = True  # even if the catalog reports a failure
            self._table.create(schema)
        self._table.check(None if self.is_refresh else self.log.state.number)
        self._field_ids = self._table.field_ids(schema, is_refresh=self.is_refresh)

    def check_can_replace(self) -> None:
        """Refuse to replace rows of files that other programs wrote or marked."""
        files = self._table.files()
        if files.marked or files.files.keys() != self.log.state.files.keys():
            raise DamagedOutputError(
                f"another program changed rows of Iceberg table {self._table.name!r}",
                got="other files than those of lakevec's commits, or rows marked as deleted",
                expected="the files of lakevec's own runs, since --key finds changed rows there",
                remedy="rewrite the output with --full-refresh --deletes remove",
            )

    def adopt(self, metadata: TableMetadata, schema: str = "") -> None:
        """Refuse a table whose rows are not all those of lakevec's log."""
        self._table.check(self.log.state.number)
        self.check_can_replace()

    def count(self) -> dict[str, int]:
        """Count the table's rows, files and bytes, if others changed what the log doesn't know."""
        if self.is_refresh:
            return {}
        table = self._table.files()
        if table.files.keys() == self.log.state.files.keys() and not table.marked:
            return {}
        files = table.files.values()
        return {
            "rows": sum(file.record_count for file in files),
            "files": len(files),
            "bytes": sum(file.file_size_in_bytes for file in files),
            "files_with_deleted_rows": len(table.marked),
        }

    def complete(self, last: Commit) -> None:
        """Finish a dead run's commit, or undo it if other programs changed the table meanwhile.

        Then nobody has seen it, and this run makes it again. Its files may be gone.
        """
        if not self._table.lacks(last.number):
            return  # the table has it, or is another one, which `begin` refuses
        if not all((self.target / entry.name).exists() for entry in last.added):
            self.log.undo()
            return
        try:
            self._table.check(last.number - 1)
            self._table.append(last)
        except (OutputError, DamagedOutputError, ReplacedFilesError):
            self.log.undo()

    def apply(self, commit: Commit) -> None:
        """Make the commit's snapshot, unless a refresh is under way or the table has it."""
        if self.is_refresh:
            return
        try:
            self._table.append(commit)
        except (DamagedOutputError, ReplacedFilesError):
            self.log.undo()
            raise

    def end_refresh(self) -> None:
        """Replace all files in one snapshot."""
        self._table.replace(self.log.state, self._schema, self._field_ids, self.run.id)
        self.run.on_step("iceberg replaced")
        self._end()

    def forget(self) -> None:
        """Remove the table that `begin` created."""
        if self._is_created:
            if self._table.lacks(0):
                self._table.drop()
            (self.target / "metadata").delete()
