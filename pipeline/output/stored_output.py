"""An output as its readers see it: its committed content, and what no commit lists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from lakevec.pipeline.errors import DamagedOutputError, OutputError
from lakevec.pipeline.output.atomic_swap import find_unfinished_swap
from lakevec.pipeline.output.commit_log import CommitLog, Snapshot
from lakevec.pipeline.output.delta_log import DeltaLog
from lakevec.pipeline.output.file_entry import OWN_FOLDER, is_hidden
from lakevec.pipeline.output.iceberg_table import IcebergTable
from lakevec.pipeline.output.table_changes import TableChanges, find_changes, find_obstacles
from lakevec.pipeline.output.table_metadata import TableMetadata, read_metadata, state_folder
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.storage import Location, locate


@dataclass(frozen=True)
class StoredOutput:
    """The committed content of an output.

    Parameters
    ----------
    uri : str
        Without credentials.
    location : Location
    metadata : TableMetadata
    state : Snapshot
        What readers see. In a Delta table, other programs may have written a part of it.
    changes : TableChanges
        What other programs changed in a Delta table.
    problems : tuple of str
        Why no run can continue a Delta table.
    is_pending : bool
        Whether the next run must complete a commit that readers of a Delta table don't see.
    notes : tuple of str
        What other programs changed in an Iceberg table. `state` leaves their files out.
    has_deleted_rows : bool
        Whether files of an Iceberg table have rows that only its readers know to be deleted.
    """

    uri: str
    location: Location
    metadata: TableMetadata
    state: Snapshot
    changes: TableChanges = field(default_factory=TableChanges)
    problems: tuple[str, ...] = ()
    is_pending: bool = False
    notes: tuple[str, ...] = ()
    has_deleted_rows: bool = False

    def check(self) -> None:
        """Raise DamagedOutputError if the files of `state` hold other rows than readers see."""
        deleted = ["rows marked as deleted in its files"] if self.has_deleted_rows else []
        if found := [*self.problems, *deleted]:
            raise DamagedOutputError(
                f"another program changed output {self.uri!r} so that lakevec can't tell its rows",
                got="; ".join(found),
                remedy="undo that, or rewrite the output with --full-refresh",
            )

    def find_unlisted_files(self) -> Iterator[str]:
        """Yield each file that readers of a Parquet folder see, and that no commit lists."""
        if self.metadata.table_format == "parquet":
            visible = {name for name in self.location.files() if not is_hidden(name)}
            unlisted = sorted(visible - self.state.files.keys())
            yield from (f"{name} is in the output but in no commit" for name in unlisted)


def read_output(uri: str) -> StoredOutput:
    """Read the committed content of an output.

    Raises
    ------
    OutputError
        If lakevec wrote no output there.
    DamagedOutputError
        If its log is damaged.
    """
    location = locate(uri, error=OutputError)
    location = find_unfinished_swap(location) or location
    metadata = read_metadata(location)
    if metadata is None:
        raise OutputError(
            f"{uri!r} is no output of lakevec embed",
            expected=f"a folder with {OWN_FOLDER}/current.json",
            remedy="check the path; Spark's own writer (--sink spark) leaves nothing to verify",
        )
    log = CommitLog(state_folder(location, metadata.generation))
    if metadata.table_format == "delta":
        return _read_delta(DeltaLog(uri, location, metadata.generation), log, uri, location, metadata)
    if metadata.table_format == "iceberg":
        return _read_iceberg(uri, location, metadata, log)
    return StoredOutput(redact(uri), location, metadata, log.state)


def _read_delta(
    delta: DeltaLog, log: CommitLog, uri: str, location: Location, metadata: TableMetadata
) -> StoredOutput:
    """Read the content that a Delta table has now."""
    if not delta.exists():
        return StoredOutput(redact(uri), location, metadata, log.state, problems=("no Delta table is left",))
    table = delta.read()
    is_pending = (
        log.last is not None and (-1 if table.number is None else table.number) == log.last.number - 1
    )
    state = log.before_last if is_pending else log.state
    problems = tuple(find_obstacles(table, state, metadata))
    changes = TableChanges() if problems else find_changes(delta, table, state, metadata, location)
    state = state.changed_by(changes.others)
    return StoredOutput(redact(uri), location, metadata, state, changes, problems, is_pending)


def _read_iceberg(uri: str, location: Location, metadata: TableMetadata, log: CommitLog) -> StoredOutput:
    """Read the part of an Iceberg table that lakevec wrote."""
    table = IcebergTable(uri, location, metadata)
    state, notes = log.state, []
    is_pending = log.last is not None and table.lacks(log.last.number)
    if is_pending:
        state = log.before_last
    table.check(state.number)
    files = table.files()
    visible = files.files.keys()
    own = {name: file for name, file in state.files.items() if name in visible}
    if own.keys() != state.files.keys() or own.keys() != visible:
        rows = state.rows - sum(file.rows for file in own.values())
        notes.append(
            f"other programs changed the table: {len(state.files) - len(own):,} of lakevec's files, of"
            f" {rows:,} rows, are not in it any more, and {len(visible) - len(own):,} files are theirs"
        )
    if files.marked:
        notes.append(f"other programs marked rows as deleted: {len(files.marked):,} files hold more rows")
    return StoredOutput(
        redact(uri),
        location,
        metadata,
        state.model_copy(update={"files": own}),
        is_pending=is_pending,
        notes=tuple(notes),
        has_deleted_rows=bool(files.marked),
    )
