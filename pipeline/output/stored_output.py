"""An output as its readers may see it: what it holds, and what lies there that nobody promised."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pyarrow import fs as pafs

from lakevec.pipeline.errors import OutputError
from lakevec.pipeline.output.atomic_swap import find_unfinished_swap
from lakevec.pipeline.output.commit_log import CommitLog, Snapshot
from lakevec.pipeline.output.delta_committer import DeltaLog
from lakevec.pipeline.output.file_entry import OWN_FOLDER
from lakevec.pipeline.output.table_metadata import TableMetadata, read_generation, read_metadata, state_folder
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.storage import Location, locate


@dataclass(frozen=True)
class StoredOutput:
    """What is promised of an output.

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
        Where the first run found its model; empty if unknown.
    delta : DeltaLog or None
        Where it is a Delta table.
    """

    uri: str
    location: Location
    contract: TableMetadata
    state: Snapshot
    model_uri: str
    delta: DeltaLog | None

    def find_unlisted_files(self) -> Iterator[str]:
        """Find files that readers see and no run promised, and the other way round.

        Yields
        ------
        str
            One problem.
        """
        promised = set(self.state.files)
        if self.delta is not None:
            seen = self.delta.files()
        else:
            seen = {
                name
                for info in self.location.list(recursive=True)
                if info.type == pafs.FileType.File
                and not _is_hidden(name := info.path.removeprefix(f"{self.location.path}/"))
            }
        yield from (f"{name} is in the output and of no run" for name in sorted(seen - promised))
        if self.delta is not None:
            yield from (f"{name} is not in Delta's log" for name in sorted(promised - seen))


def read_output(uri: str) -> StoredOutput:
    """Read what is promised of an output.

    Parameters
    ----------
    uri : str

    Returns
    -------
    StoredOutput

    Raises
    ------
    OutputError
        If there is no output of ours.
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
    contract = read_metadata(folder)
    history = CommitLog(folder)
    history.read()
    delta = DeltaLog(uri, location, generation) if contract.table_format == "delta" else None
    return StoredOutput(shown, location, contract, history.state, contract.model, delta)


def _is_hidden(name: str) -> bool:
    """Say whether readers skip a file: for its own name, or for a folder's."""
    return any(part.startswith(("_", ".")) and "=" not in part for part in name.split("/"))
