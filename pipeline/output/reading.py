"""An output as its readers may see it: what it holds, and what lies there that nobody promised."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pyarrow import fs as pafs

from lakevec.pipeline.errors import OutputError
from lakevec.pipeline.location import Location, locate
from lakevec.pipeline.output.contract import Contract, read_contract
from lakevec.pipeline.output.delta import DeltaLog
from lakevec.pipeline.output.generation import read_pointer, state_folder
from lakevec.pipeline.output.history import History, State
from lakevec.pipeline.output.manifest import OWN_FOLDER
from lakevec.pipeline.output.switch import find_unfinished
from lakevec.pipeline.redaction import redact


@dataclass(frozen=True)
class StoredOutput:
    """What is promised of an output.

    Parameters
    ----------
    uri : str
        Without credentials.
    location : Location
    contract : Contract
        What all rows share.
    state : State
        Files, rows, counts.
    model_uri : str
        Where the first run found its model; empty if unknown.
    delta : DeltaLog or None
        Where it is a Delta table.
    """

    uri: str
    location: Location
    contract: Contract
    state: State
    model_uri: str
    delta: DeltaLog | None

    def find_strays(self) -> Iterator[str]:
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


def open_output(uri: str) -> StoredOutput:
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
    location = find_unfinished(location) or location
    shown = redact(uri)
    generation = read_pointer(location)
    if not generation:
        raise OutputError(
            f"{shown!r} is no output of lakevec embed",
            expected=f"a folder with {OWN_FOLDER}/current.json",
            remedy="check the path; Spark's own writer (--sink spark) leaves nothing to verify",
        )
    folder = state_folder(location, generation)
    contract = read_contract(folder)
    history = History(folder)
    history.read()
    delta = DeltaLog(uri, location, generation) if contract.table_format == "delta" else None
    return StoredOutput(shown, location, contract, history.state, contract.model, delta)


def _is_hidden(name: str) -> bool:
    """Say whether readers skip a file: for its own name, or for a folder's."""
    return any(part.startswith(("_", ".")) and "=" not in part for part in name.split("/"))
