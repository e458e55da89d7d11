"""An output as its readers see it: its committed content, and files that no commit lists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lakevec.pipeline.errors import OutputError
from lakevec.pipeline.output.atomic_swap import find_unfinished_swap
from lakevec.pipeline.output.commit_log import CommitLog, Snapshot
from lakevec.pipeline.output.delta_committer import DeltaLog
from lakevec.pipeline.output.file_entry import OWN_FOLDER, is_hidden
from lakevec.pipeline.output.iceberg_table import IcebergTable
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
    delta : DeltaLog or None
        Set for a Delta table.
    notes : tuple of str
        What other programs changed in an Iceberg table. `state` leaves their files out.
    """

    uri: str
    location: Location
    metadata: TableMetadata
    state: Snapshot
    delta: DeltaLog | None
    notes: tuple[str, ...] = ()

    def find_unlisted_files(self) -> Iterator[str]:
        """Compare the files that readers see with those that the commit log lists; yield each problem."""
        if self.metadata.table_format == "iceberg":
            return  # its list is the only one
        committed = set(self.state.files)
        if self.delta is None:
            visible = {name for name in self.location.files() if not is_hidden(name)}
        else:
            visible = self.delta.files()
            yield from (f"{name} is not in Delta's log" for name in sorted(committed - visible))
        yield from (f"{name} is in the output but in no commit" for name in sorted(visible - committed))


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
    delta = DeltaLog(uri, location, metadata.generation) if metadata.table_format == "delta" else None
    log = CommitLog(state_folder(location, metadata.generation))
    if metadata.table_format == "iceberg":
        return _read_iceberg(uri, location, metadata, log)
    return StoredOutput(redact(uri), location, metadata, log.state, delta)


def _read_iceberg(uri: str, location: Location, metadata: TableMetadata, log: CommitLog) -> StoredOutput:
    """Read the part of an Iceberg table that lakevec wrote."""
    table = IcebergTable(uri, location, metadata.catalog, metadata.table, metadata.generation)
    state, notes = log.state, []
    if log.last is not None and table.lacks(log.last.number):
        state = log.before_last
        notes.append("the last commit is not in the table yet; the next run completes it")
    table.check(state.number, metadata.partition_by)
    visible = table.files()
    own = {name: file for name, file in state.files.items() if name in visible}
    if own.keys() != state.files.keys() or own.keys() != visible:
        rows = state.rows - sum(file.rows for file in own.values())
        notes.append(
            f"other programs changed the table: {len(state.files) - len(own):,} of lakevec's files, of"
            f" {rows:,} rows, are not in it any more, and {len(visible) - len(own):,} files are theirs"
        )
    state = state.model_copy(update={"files": own})
    return StoredOutput(redact(uri), location, metadata, state, None, tuple(notes))
