"""What table formats do differently: where tasks write, and how readers get to see files."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from lakevec.pipeline.errors import OutputError
from lakevec.pipeline.output.commit_log import Commit, CommitLog, Snapshot
from lakevec.pipeline.output.file_entry import OWN_FOLDER
from lakevec.pipeline.output.lease import Lease
from lakevec.pipeline.output.staging import Staging
from lakevec.pipeline.output.table_metadata import CURRENT, TableMetadata, state_folder
from lakevec.pipeline.storage import Location


@dataclass(frozen=True)
class Run:
    """A run on an output, under its lease.

    Parameters
    ----------
    id : str
        Part of the names of the run's files.
    uri : str
        The output, credentials included.
    name : str
        The output as messages show it.
    location : Location
        The output.
    lease : Lease
    on_step : callable
        Called with the name of each finished step of a commit.
    """

    id: str
    uri: str
    name: str
    location: Location
    lease: Lease
    on_step: Callable[[str], None]

    @property
    def own(self) -> Location:
        """The folder of everything in the output that is no row."""
        return self.location / OWN_FOLDER


class Committer(ABC):
    """One generation of an output, as a table format stores it.

    Parameters
    ----------
    run : Run
    generation : str, optional
        Default: a new one.
    is_refresh : bool, default=False
        Whether readers see another generation until `end_refresh`.
    """

    # Name of the pointer to the generation, below `target`.
    pointer = CURRENT

    def __init__(self, run: Run, generation: str = "", *, is_refresh: bool = False) -> None:
        self.run = run
        self.generation = generation or uuid.uuid4().hex[:12]
        self.is_refresh = is_refresh
        # Where rows and state go: the output itself, or the folder that will replace it.
        self.target = run.location

    def open_log(self) -> CommitLog:
        """Read the log of the generation."""
        log = CommitLog(state_folder(self.target, self.generation))
        log.read()
        return log

    @property
    @abstractmethod
    def staging(self) -> Location:
        """Where tasks write their files."""

    @abstractmethod
    def check_can_refresh(self, stored: TableMetadata, asked: TableMetadata) -> None:
        """Refuse a full refresh that this format or this storage can't do."""

    def check_can_replace(self) -> None:  # noqa: B027
        """Refuse to replace some of an output's files if that takes more than one step."""

    def recover(self) -> None:  # noqa: B027  (optional, like the others)
        """Complete or forget a full refresh that was cut off; `generation` may be another one then."""

    def begin(self, metadata: TableMetadata, schema: str, snapshot: Snapshot) -> None:  # noqa: B027
        """Prepare for commits; `schema` holds all columns as Delta's JSON."""

    def check_alone(self) -> None:  # noqa: B027
        """Before the first commit: make sure that nobody else has written to the output."""

    @abstractmethod
    def commit(self, commit: Commit, log: CommitLog) -> None:
        """Append to the log, then let readers see the commit."""

    @abstractmethod
    def apply(self, commit: Commit, before: Snapshot) -> None:
        """Let readers see a logged commit; parts that they see already are left as they are."""

    @abstractmethod
    def end_refresh(self, snapshot: Snapshot) -> None:
        """Let readers see this generation in place of the old one."""

    def mark_success(self) -> None:  # noqa: B027
        """Write what the format's readers take for the end of a run."""

    @abstractmethod
    def clean(self, staging: Staging, snapshot: Snapshot, grace_s: float) -> None:
        """Remove the files that a run staged and never committed, once its tasks can't be alive."""

    def forget(self) -> None:  # noqa: B027
        """Remove what `begin` created in an output that got no row."""


def refuse_format(name: str, stored: TableMetadata, asked: TableMetadata) -> OutputError:
    """Return the error for a refresh with another table format or other partitions."""
    return OutputError(
        f"output {name!r} is a table of another format or with other partitions",
        got=f"{asked.table_format}, partitions ({', '.join(asked.partition_by)})",
        expected=f"{stored.table_format}, partitions ({', '.join(stored.partition_by)})",
        remedy="choose another --output",
    )
