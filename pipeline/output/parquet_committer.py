"""Plain Parquet: the folder is the table, so commits move or hard-link files into it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pyarrow import fs as pafs

from lakevec.pipeline.errors import CommitError, OutputError
from lakevec.pipeline.output.atomic_swap import check_can_swap, sibling, swap
from lakevec.pipeline.output.commit_log import NO_LINKS, Commit, CommitLog, Snapshot
from lakevec.pipeline.output.committer import Committer, Run
from lakevec.pipeline.output.file_entry import OWN_FOLDER, FileEntry
from lakevec.pipeline.output.staging import Staging
from lakevec.pipeline.output.table_metadata import TableMetadata, state_folder
from lakevec.pipeline.output.validation import THREADS
from lakevec.pipeline.storage import Location

_SUCCESS = "_SUCCESS"
# Staging and lease belong to one run; quarantined files are linked by their names in the snapshot.
_NOT_LINKED = ("staging/", "lease/", "quarantine/")


class ParquetCommitter(Committer):
    """Move files from staging to the output; swap the whole folder to refresh it or to replace rows."""

    def __init__(self, run: Run, generation: str = "", *, is_refresh: bool = False) -> None:
        super().__init__(run, generation, is_refresh=is_refresh)
        if is_refresh:
            self.target = sibling(run.location, "next")

    @property
    def staging(self) -> Location:
        """The run's own folder, which readers skip."""
        return Staging(self.run.own, self.run.id).folder

    def check_can_refresh(self, stored: TableMetadata, asked: TableMetadata) -> None:
        """Refuse storage that can't swap folders."""
        check_can_swap(self.run.location, self.run.name, "--full-refresh")

    def check_can_replace(self) -> None:
        """Refuse remote storage, and folders that can't be swapped."""
        if not self.run.location.is_local:
            raise OutputError(
                f"rows of output {self.run.name!r} can't be replaced",
                got="Parquet on a store that can't swap old and new files in one step",
                expected="--table-format delta there, or a local or mounted file system",
                remedy="write a new --output as such",
            )
        check_can_swap(self.run.location, self.run.name, "replacing rows")

    def check_alone(self) -> None:
        """Refuse an output that holds files of other programs."""
        names = [info.base_name for info in self.target.list() if info.base_name != OWN_FOLDER]
        if names:
            raise CommitError(
                f"another program wrote to output {self.run.name!r} meanwhile",
                got=f"{len(names)} new names",
                remedy="nothing was committed; choose another --output",
            )

    def commit(self, commit: Commit, log: CommitLog) -> None:
        """Log the commit and move its files; if it replaces files, build the next folder and swap."""
        if commit.removed:
            self._replace(commit, log)
        else:
            super().commit(commit, log)

    def apply(self, commit: Commit, before: Snapshot) -> None:
        """Move the commit's files from staging to the output."""
        staging = Staging(self.run.own, commit.run).folder
        move_files(commit, staging, self.target, on_move=lambda: self.run.on_step("moved"))

    def _replace(self, commit: Commit, log: CommitLog) -> None:
        """Build the output after `commit` from hard links, and swap it with this one."""
        successor = sibling(self.run.location, "next")
        successor.delete()
        staged = {entry.name: self.staging / entry.name for entry in commit.added}
        link_output(self.run.location, log.state.after(commit), staged, successor)
        successor_log = CommitLog(state_folder(successor, self.generation))
        successor_log.read()
        successor_log.append(commit)
        self.run.lease.copy_to(successor / OWN_FOLDER)
        self.run.on_step("built")
        self.run.lease.check()
        swap(self.run.location)
        log.read()
        self.run.on_step("switched")

    def end_refresh(self, snapshot: Snapshot) -> None:
        """Swap the new folder with the old one."""
        self.run.lease.copy_to(self.target / OWN_FOLDER)
        self.mark_success()
        self.run.on_step("built")
        swap(self.run.location)
        self.target = self.run.location
        self.is_refresh = False

    def mark_success(self) -> None:
        """Write ``_SUCCESS``."""
        (self.target / _SUCCESS).write_bytes(b"")

    def clean(self, staging: Staging, snapshot: Snapshot, grace_s: float) -> None:
        """Remove the staging folder."""
        if staging.age_s >= grace_s:
            staging.remove()


def move_files(commit: Commit, staging: Location, target: Location, *, on_move: Callable[[], Any]) -> None:
    """Move a commit's files from staging to the output; skip files that are there already."""
    for folder in sorted({entry.name.rpartition("/")[0] for entry in commit.added} - {""}):
        target.filesystem.create_dir((target / folder).path, recursive=True)

    def move(entry: FileEntry) -> None:
        source, destination = staging / entry.name, target / entry.name
        if source.exists():
            source.filesystem.move(source.path, destination.path)
            on_move()
        elif not destination.exists():
            raise CommitError(
                f"file {entry.name} of an output is gone",
                expected="a file that a run has written and checked",
                remedy="restore it, or write everything anew with --full-refresh",
            )

    if target.can_rename_folders:  # a rename is cheap, a copy in an object store is not
        for entry in commit.added:
            move(entry)
    else:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(move, commit.added))


def link_output(output: Location, snapshot: Snapshot, staged: dict[str, Location], target: Location) -> None:
    """Build the folder of a snapshot from hard links, or from copies if the file system has no links.

    Parameters
    ----------
    output : Location
    snapshot : Snapshot
        Lists the files of the new folder.
    staged : dict of str to Location
        Listed files that are not in the output yet.
    target : Location
        The new folder, on the same disk.
    """
    for name in (*snapshot.files, *snapshot.quarantine):
        _link(staged.get(name, output / name), target / name)
    own = output / OWN_FOLDER
    for info in own.list(recursive=True):
        name = info.path.removeprefix(f"{own.path}/")
        if info.type == pafs.FileType.File and not name.startswith(_NOT_LINKED):
            _link(own / name, target / OWN_FOLDER / name)
    if (output / _SUCCESS).exists():
        _link(output / _SUCCESS, target / _SUCCESS)


def _link(source: Location, target: Location) -> None:
    target.filesystem.create_dir(target.parent.path, recursive=True)
    try:
        os.link(source.path, target.path)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        shutil.copyfile(source.path, target.path)
