"""Delta Lake: each commit is one transaction of Delta's log.

Tasks write straight to the table's folder, since readers see only files that Delta's log lists. So no file is
renamed; an object store would copy it. Other programs may maintain the table: the transactions in Delta's log
tell which commits it has, and each run continues with the files that the table has then.
"""

from __future__ import annotations

from collections.abc import Iterable

from lakevec.pipeline.errors import DamagedOutputError, OutputError
from lakevec.pipeline.output.commit_log import Commit
from lakevec.pipeline.output.committer import Run, TableCommitter
from lakevec.pipeline.output.delta_log import FOLDER, DeltaLog
from lakevec.pipeline.output.table_changes import find_changes, find_limits, find_obstacles
from lakevec.pipeline.output.table_metadata import (
    TableMetadata,
    read_metadata,
)


class DeltaCommitter(TableCommitter):
    """Leave files where tasks wrote them, and list them in Delta's log."""

    fixed = ("table_format", "partition_by")

    def __init__(self, run: Run, generation: str = "", *, is_refresh: bool = False) -> None:
        super().__init__(run, generation, is_refresh=is_refresh)
        self._table = DeltaLog(run.uri, run.location, self.generation)
        self._schema = ""
        self._is_created = False

    def version(self) -> int | None:
        """Return the number of this generation's last visible commit; None before the first."""
        return self._table.version()

    def complete(self, last: Commit) -> None:
        """Finish a dead run's commit, or undo it if other programs changed the table meanwhile.

        Then nobody has seen it, and this run makes it again. Files that it would replace may be gone.
        """
        version = self._table.version()
        if (-1 if version is None else version) != last.number - 1:
            return  # Delta's log has it, or holds another table, which `begin` refuses
        if self._is_as_before(last):
            self.apply(last)
        else:
            self.log.undo()

    def _is_as_before(self, last: Commit) -> bool:
        """Return whether the table is as lakevec left it, and the commit's files are there."""
        metadata = read_metadata(self.target)
        if metadata is None or not self._table.exists():
            return False
        table = self._table.read()
        return (
            table.bytes.keys() == self.log.before_last.files.keys()
            and not table.has_deletion_vectors
            and {column["name"] for column in table.columns} == metadata.schema_of_files.keys()
            and all((self.target / entry.name).exists() for entry in last.added)
        )

    def begin(self, metadata: TableMetadata, schema: str) -> None:
        """Create the table, or adopt what other programs changed; refuse one that can't be continued."""
        # An output without vectors has no column that is sure to be there but the last.
        first = next(iter(metadata.columns.values()))
        marked = first if first in metadata.schema_of_files else list(metadata.schema_of_files)[-1]
        self._schema = self._table.mark(schema, marked)
        metadata = metadata.model_copy(update={"generation": self.generation})
        if not self._table.exists() and (self.is_refresh or self.log.state.number < 0):
            self._table.create(self._schema, metadata.partition_by)
            self._is_created = True
        if self.is_refresh:
            self._refuse(find_limits(self._table.read(), metadata.partition_by, replaces=True))
        else:
            self.adopt(metadata, schema)

    def adopt(self, metadata: TableMetadata, schema: str = "") -> None:
        """Take into the state what other programs changed; refuse a table that can't be continued."""
        if not self._table.exists():
            self._refuse(["no table, though lakevec made one"])
        table = self._table.read()
        limits = find_limits(table, metadata.partition_by, replaces=True)
        self._refuse(find_obstacles(table, self.log.state, metadata, schema), has_limits=any(limits))
        self.changes = find_changes(self._table, table, self.log.state, metadata, self.target)
        self.log.adopt(self.changes.others)

    def _refuse(self, reasons: Iterable[str], *, has_limits: bool = False) -> None:
        if not (found := list(reasons)):
            return
        if self.is_refresh:
            raise OutputError(
                f"lakevec can't write to Delta table {self.run.uri!r}",
                got="; ".join(found),
                remedy="choose another --output, or undo that",
            )
        raise DamagedOutputError(
            f"another program changed Delta table {self.run.uri!r} so that lakevec can't continue it",
            got="; ".join(found),
            remedy=f"undo that, or {'choose another --output' if has_limits else 'use --full-refresh'}",
        )

    def apply(self, commit: Commit) -> None:
        """Write the commit's transaction, unless a refresh is under way or Delta's log has it."""
        if not self.is_refresh:
            self._table.append(commit, self.log.before_last)

    def end_refresh(self) -> None:
        """Replace all files in one transaction."""
        self._table.replace(self.log.state, self._schema, self.run.id)
        self.run.on_step("delta replaced")
        self._end()

    def forget(self) -> None:
        """Remove the table that `begin` created."""
        if self._is_created:
            (self.target / FOLDER).delete()
