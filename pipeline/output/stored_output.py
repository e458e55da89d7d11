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
    table : DeltaLog, IcebergTable or None
        None for plain Parquet.
    """

    uri: str
    location: Location
    metadata: TableMetadata
    state: Snapshot
    table: DeltaLog | IcebergTable | None

    def find_unlisted_files(self) -> Iterator[str]:
        """Compare the files that readers see with those that the commit log lists; yield each problem."""
        committed = set(self.state.files)
        if self.table is None:
            visible = {name for name in self.location.files() if not is_hidden(name)}
        else:
            visible = self.table.files()
            log = "Delta's log" if self.metadata.table_format == "delta" else "the Iceberg table"
            yield from (f"{name} is not in {log}" for name in sorted(committed - visible))
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
    state = CommitLog(state_folder(location, metadata.generation)).state
    return StoredOutput(redact(uri), location, metadata, state, _open_table(uri, location, metadata))


def _open_table(uri: str, location: Location, metadata: TableMetadata) -> DeltaLog | IcebergTable | None:
    if metadata.table_format == "delta":
        return DeltaLog(uri, location, metadata.generation)
    if metadata.table_format == "iceberg":
        return IcebergTable(uri, location, metadata.catalog, metadata.table, metadata.generation)
    return None
