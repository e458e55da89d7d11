"""Formats with a list of the table's files: tasks write to the table's folder, and a commit lists the files.

Readers see only listed files. So no file is renamed; an object store would copy it.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import Generic, Protocol, TypeVar

from lakevec.pipeline.output.commit_log import Snapshot
from lakevec.pipeline.output.committer import Committer, Run
from lakevec.pipeline.output.staging import Staging
from lakevec.pipeline.output.table_metadata import (
    CURRENT,
    NEXT,
    read_generation,
    state_folder,
    write_generation,
)
from lakevec.pipeline.storage import Location


class ListedTable(Protocol):
    """A table of one generation."""

    def version(self) -> int | None:
        """Return the number of the generation's last visible commit; None before the first."""

    def replace(self, snapshot: Snapshot, schema: str, run: str) -> None:
        """Replace all files by those of a snapshot in one step."""


_T = TypeVar("_T", bound=ListedTable)


class ListedCommitter(Committer, Generic[_T]):
    """Leave files where tasks wrote them, and list them."""

    fixed: tuple[str, ...] = ("table_format", "partition_by")
    # Name of the step after which readers see a refresh.
    replaced = "replaced"

    def __init__(self, run: Run, generation: str = "", *, is_refresh: bool = False) -> None:
        super().__init__(run, generation, is_refresh=is_refresh)
        self.pointer = NEXT if is_refresh else CURRENT
        self._schema = ""
        self._is_created = False

    @cached_property
    def _table(self) -> _T:
        return self._open_table()

    @abstractmethod
    def _open_table(self) -> _T:
        """Open the table, whether or not it exists."""

    @property
    def staging(self) -> Location:
        """The output itself: readers see only what the table lists."""
        return self.target

    def recover(self) -> Committer:
        """Finish a refresh that the table shows; undo any other."""
        following = read_generation(self.target, NEXT)
        if not following:
            return self
        refresh = type(self)(self.run, following, is_refresh=True)
        if refresh._table.version() is not None:
            refresh._end()
            return refresh
        (self.run.own / NEXT).delete()
        for name in refresh.log.state.all_files:
            (self.target / name).delete()
        state_folder(self.target, following).delete()
        return self

    def end_refresh(self) -> None:
        """Replace all files in one step."""
        self._table.replace(self.log.state, self._schema, self.run.id)
        self.run.on_step(self.replaced)
        self._end()

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
