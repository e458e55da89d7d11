"""Plain Parquet: the folder is the table, so a commit moves or hard-links files into it."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from lakevec.pipeline.errors import CommitError, OutputError
from lakevec.pipeline.output.atomic_swap import check_can_swap, sibling, swap
from lakevec.pipeline.output.commit_log import Commit, CommitLog, Snapshot
from lakevec.pipeline.output.committer import Committer, Run
from lakevec.pipeline.output.file_entry import OWN_FOLDER, FileEntry
from lakevec.pipeline.output.staging import Staging
from lakevec.pipeline.output.table_metadata import TableMetadata, state_folder
from lakevec.pipeline.output.validation import THREADS
from lakevec.pipeline.storage import Location

_SUCCESS = "_SUCCESS"
# Staging and lease belong to one run. The snapshot lists the quarantine's files.
_NOT_LINKED = ("staging/", "lease/", "quarantine/")


class ParquetCommitter(Committer):
    """Move files from staging to the output; swap the whole folder to refresh it or to replace rows."""

    def __init__(self, run: Run, generation: str = "", *, is_refresh: bool = False) -> None:
        target = sibling(run.location, "next") if is_refresh else run.location
        super().__init__(run, generation, is_refresh=is_refresh, target=target)

    @property
    def staging(self) -> Location:
        """The run's own folder, which readers skip."""
        return Staging(self.run.own, self.run.id).folder

    def check_can_refresh(self, stored: TableMetadata, asked: TableMetadata) -> None:
        """Refuse another format, and storage that can't swap folders."""
        super().check_can_refresh(stored, asked)
        check_can_swap(self.run.location, self.run.uri, "--full-refresh")

    def check_can_replace(self) -> None:
        """Refuse remote storage, and folders that can't be swapped."""
        if not self.run.location.is_local:
            raise OutputError(
                f"rows of output {self.run.uri!r} can't be replaced",
                got="Parquet on a store that can't swap old and new files in one step",
                expected="--table-format delta there, or a local or mounted file system",
                remedy="write a new --output in that way",
            )
        check_can_swap(self.run.location, self.run.uri, "replacing rows")

    def check_alone(self) -> None:
        """Refuse an output that holds files of other programs."""
        if names := self.target.names() - {OWN_FOLDER}:
            raise CommitError(
                f"another program wrote to output {self.run.uri!r} meanwhile",
                got=f"{len(names)} new names",
                remedy="nothing was committed; choose another --output",
            )

    def commit(self, commit: Commit) -> None:
        """Log the commit and move its files; if it replaces files, build the next folder and swap."""
        if commit.removed:
            self._replace(commit)
        else:
            super().commit(commit)

    def apply(self, commit: Commit) -> None:
        """Move the commit's files from staging to the output, except those moved already."""
        target, staging = self.target, Staging(self.run.own, commit.run).folder
        for folder in sorted({entry.name.rpartition("/")[0] for entry in commit.added} - {""}):
            target.filesystem.create_dir((target / folder).path, recursive=True)
        move = partial(self._move, staging)
        if target.can_rename_folders:  # other stores copy each file, so move files in parallel
            list(map(move, commit.added))
        else:
            with ThreadPoolExecutor(THREADS) as pool:
                list(pool.map(move, commit.added))

    def _move(self, staging: Location, entry: FileEntry) -> None:
        source, destination = staging / entry.name, self.target / entry.name
        if source.exists():
            source.filesystem.move(source.path, destination.path)
            self.run.on_step("moved")
        elif not destination.exists():
            raise CommitError(
                f"file {entry.name} of an output is gone",
                expected="a file that a run has written and checked",
                remedy="restore it, or rewrite the output with --full-refresh",
            )

    def _replace(self, commit: Commit) -> None:
        """Build the output after `commit` from hard links, and swap it with this one."""
        successor = sibling(self.run.location, "next")
        successor.delete()
        staged = {entry.name: self.staging / entry.name for entry in commit.added}
        link_output(self.run.location, self.log.state.after(commit), staged, successor)
        CommitLog(state_folder(successor, self.generation)).append(commit)
        self._swap(successor)
        self.log.read()
        self.run.on_step("switched")

    def _swap(self, successor: Location) -> None:
        self.run.lease.copy_to(successor / OWN_FOLDER)
        self.run.on_step("built")
        self.run.lease.check()
        swap(self.run.location)

    def end_refresh(self) -> None:
        """Swap the new folder with the old one."""
        self.mark_success()
        self._swap(self.target)
        self.target, self.is_refresh = self.run.location, False
        self.log = CommitLog(state_folder(self.target, self.generation))

    def mark_success(self) -> None:
        """Write ``_SUCCESS``."""
        (self.target / _SUCCESS).write_bytes(b"")

    def clean(self, staging: Staging, grace_s: float) -> None:
        """Remove the staging folder."""
        if staging.age_s >= grace_s:
            staging.remove()


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
    for name in snapshot.all_files:
        _link(staged.get(name, output / name), target / name)
    own = output / OWN_FOLDER
    for name in sorted(own.files()):
        if not name.startswith(_NOT_LINKED):
            _link(own / name, target / OWN_FOLDER / name)
    if (output / _SUCCESS).exists():
        _link(output / _SUCCESS, target / _SUCCESS)


def _link(source: Location, target: Location) -> None:
    target.filesystem.create_dir(target.parent.path, recursive=True)
    if not source.link_to(target):
        shutil.copyfile(source.path, target.path)
