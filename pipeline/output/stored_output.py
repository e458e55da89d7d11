"""An output as readers see it: its committed content, and files that no commit lists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pyarrow import fs as pafs

from lakevec.pipeline.errors import OutputError
from lakevec.pipeline.output.atomic_swap import find_unfinished_swap
from lakevec.pipeline.output.commit_log import CommitLog, Snapshot
from lakevec.pipeline.output.delta_committer import DeltaLog
from lakevec.pipeline.output.file_entry import OWN_FOLDER, is_hidden
from lakevec.pipeline.output.table_metadata import TableMetadata, read_generation, read_metadata, state_folder
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
    contract : TableMetadata
        What all rows share.
    state : Snapshot
        Files, rows, counts.
    model_uri : str
        Model of the first run; empty if unknown.
    delta : DeltaLog or None
        Set for a Delta table.
    """

    uri: str
    location: Location
    contract: TableMetadata
    state: Snapshot
    model_uri: str
    delta: DeltaLog | None

    def find_unlisted_files(self) -> Iterator[str]:
        """Compare the files that readers see with the files that the commit log lists.

        Yields
        ------
        str
            One problem.
        """
        committed = set(self.state.files)
        if self.delta is not None:
            visible = self.delta.files()
        else:
            visible = {
                name
                for info in self.location.list(recursive=True)
                if info.type == pafs.FileType.File
                and not is_hidden(name := info.path.removeprefix(f"{self.location.path}/"))
            }
        yield from (f"{name} is in the output but in no commit" for name in sorted(visible - committed))
        if self.delta is not None:
            yield from (f"{name} is not in Delta's log" for name in sorted(committed - visible))


def read_output(uri: str) -> StoredOutput:
    """Read the committed content of an output.

    Raises
    ------
    OutputError
        If lakevec wrote no output there.
    CommitError
        If its log is damaged.
    """
    location = locate(uri, error=OutputError)
    location = find_unfinished_swap(location) or location
    shown = redact(uri)
    generation = read_generation(location)
    if not generation:
        raise OutputError(
            f"{shown!r} is no output of lakevec embed",
            expected=f"a folder with {OWN_FOLDER}/current.json",
            remedy="check the path; Spark's own writer (--sink spark) leaves nothing to verify",
        )
    folder = state_folder(location, generation)
    metadata = read_metadata(folder)
    log = CommitLog(folder)
    log.read()
    delta = DeltaLog(uri, location, generation) if metadata.table_format == "delta" else None
    return StoredOutput(shown, location, metadata, log.state, metadata.model, delta)
