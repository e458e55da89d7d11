"""The interface of table formats: where tasks write, and how readers come to see a commit."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from lakevec.pipeline.errors import OutputError
from lakevec.pipeline.output.commit_log import Commit, CommitLog
from lakevec.pipeline.output.field_ids import FieldIds
from lakevec.pipeline.output.file_entry import OWN_FOLDER
from lakevec.pipeline.output.lease import Lease
from lakevec.pipeline.output.staging import Staging
from lakevec.pipeline.output.table_changes import TableChanges
from lakevec.pipeline.output.table_metadata import (
    CURRENT,
    NEXT,
    TableMetadata,
    read_generation,
    state_folder,
    write_generation,
)
from lakevec.pipeline.storage import Location


@dataclass(frozen=True)
class Run:
    """A run that holds the lease of an output.

    Parameters
    ----------
    id : str
        Part of the names of the run's files.
    uri : str
        The output, credentials included; errors redact it.
    location : Location
        The output.
    lease : Lease
    on_step : callable
        Called with the name of each finished step of a commit.
    """

    id: str
    uri: str
    location: Location
    lease: Lease
    on_step: Callable[[str], None]

    @property
    def own(self) -> Location:
        """The ``_lakevec`` folder of the output: state, staging, lease and quarantine."""
        return self.location / OWN_FOLDER


def _describe(metadata: TableMetadata) -> str:
    name = f" {metadata.table} of catalog {metadata.catalog}" if metadata.table else ""
    return f"{metadata.table_format}{name}, partitions ({', '.join(metadata.partition_by)})"


class Committer(ABC):
    """Writer of one generation of an output in a table format.

    Parameters
    ----------
    run : Run
    generation : str, optional
        Default: a new one.
    is_refresh : bool, default=False
        Whether readers see the old generation until `end_refresh`.
    target : Location, optional
        Folder of rows and state. Default: the output.

    Attributes
    ----------
    log : CommitLog
        The log of the generation.
    changes : TableChanges
        What other programs changed, as `begin` found it.
    """

    # Name of the pointer to the generation, below `target`.
    pointer = CURRENT
    # Properties that a full refresh can't change.
    fixed: tuple[str, ...] = ("table_format",)

    def __init__(
        self, run: Run, generation: str = "", *, is_refresh: bool = False, target: Location | None = None
    ) -> None:
        self.run = run
        self.generation = generation or uuid.uuid4().hex[:12]
        self.is_refresh = is_refresh
        self.target = target or run.location
        self.log = CommitLog(state_folder(self.target, self.generation))
        self.changes = TableChanges()

    @property
    @abstractmethod
    def staging(self) -> Location:
        """The folder that tasks write files to."""

    @property
    def field_ids(self) -> FieldIds:
        """Ids for the columns of files, after `begin`; empty if the format has none."""
        return {}

    def check_can_refresh(self, stored: TableMetadata, asked: TableMetadata) -> None:
        """Refuse a full refresh if the format or the storage can't do it."""
        if any(getattr(stored, name) != getattr(asked, name) for name in self.fixed):
            raise OutputError(
                f"output {self.run.uri!r} is a table of another format or with other partitions",
                got=_describe(asked),
                expected=_describe(stored),
                remedy="choose another --output",
            )

    def check_can_replace(self) -> None:  # noqa: B027
        """Refuse to replace files if the storage can't do so in one step."""

    def recover(self) -> Committer:
        """Complete or undo an interrupted full refresh; return the writer of the current generation."""
        return self

    def complete(self, last: Commit) -> None:
        """Make the log's last commit visible, since its run may have died before it did so."""
        self.apply(last)

    def begin(self, metadata: TableMetadata, schema: str) -> None:  # noqa: B027  (optional, like the others)
        """Prepare for commits; `schema` holds all columns in Delta's JSON."""

    def adopt(self, metadata: TableMetadata, schema: str = "") -> None:  # noqa: B027
        """Take into the log's state what other programs changed, as `begin` does."""

    def count(self) -> dict[str, int]:
        """Count the table's rows, files and bytes, if others changed what the log doesn't know."""
        return {}

    def check_alone(self) -> None:  # noqa: B027
        """Before the first commit, refuse an output that another program wrote to."""

    def commit(self, commit: Commit) -> None:
        """Append a commit to the log, then make it visible to readers."""
        self.log.append(commit)
        self.run.on_step("logged")
        self.apply(commit)

    @abstractmethod
    def apply(self, commit: Commit) -> None:
        """Make the last commit of the log visible to readers; a second call changes nothing."""

    @abstractmethod
    def end_refresh(self) -> None:
        """Make this generation visible in place of the old one."""

    def mark_success(self) -> None:  # noqa: B027
        """Write the format's marker of a finished run."""

    @abstractmethod
    def clean(self, staging: Staging, grace_s: float) -> None:
        """Remove uncommitted files of a run that wrote nothing for `grace_s` seconds."""

    def forget(self) -> None:  # noqa: B027
        """Remove what `begin` created, for an output without a row."""


class TableCommitter(Committer):
    """Lets a table's own log show the files, as Delta and Iceberg do."""

    def __init__(self, run: Run, generation: str = "", *, is_refresh: bool = False) -> None:
        super().__init__(run, generation, is_refresh=is_refresh)
        self.pointer = NEXT if is_refresh else CURRENT

    @property
    def staging(self) -> Location:
        """The output itself: readers see only what the table lists."""
        return self.target

    @abstractmethod
    def version(self) -> int | None:
        """Return the number of this generation's last visible commit; None before the first."""

    def recover(self) -> Committer:
        """Finish a refresh that the table has; undo any other."""
        following = read_generation(self.target, NEXT)
        if not following:
            return self
        refresh = type(self)(self.run, following, is_refresh=True)
        if refresh.version() is not None:
            refresh._end()
            return refresh
        (self.run.own / NEXT).delete()
        for name in refresh.log.state.all_files:
            (self.target / name).delete()
        state_folder(self.target, following).delete()
        return self

    def _end(self) -> None:
        """Remove the old generation's state; its files stay for readers of earlier versions."""
        old = read_generation(self.target)
        write_generation(self.target, self.generation)
        (self.run.own / NEXT).delete()
        if old != self.generation:
            state_folder(self.target, old).delete()
        self.is_refresh, self.pointer = False, CURRENT

    def clean(self, staging: Staging, grace_s: float) -> None:
        """Remove a run's uncommitted files from the table's folder, and its staging folder."""
        files = self.log.state.all_files
        if following := read_generation(self.target, NEXT):
            files |= type(self)(self.run, following).log.state.all_files
        staging.note_committed(name for name, file in files.items() if file.run == staging.run)
        if staging.age_s >= grace_s:
            staging.remove_uncommitted(self.target, files)
            staging.remove()
