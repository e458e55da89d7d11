"""Files on their way: from staging to where readers look, and by hard links into another folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pyarrow import fs as pafs

from lakevec.pipeline.errors import CommitError
from lakevec.pipeline.output.commit_log import NO_LINKS, Commit, Snapshot
from lakevec.pipeline.output.file_entry import OWN_FOLDER, FileEntry
from lakevec.pipeline.output.validation import THREADS
from lakevec.pipeline.storage import Location

SUCCESS = "_SUCCESS"
# What belongs to a run, or is moved by name.
_NOT_LINKED = ("staging/", "lease/", "quarantine/")


def move_files(commit: Commit, staging: Location, target: Location, *, on_move: Callable[[], Any]) -> None:
    """Move a commit's files to where readers look; some may be there already.

    Parameters
    ----------
    commit : Commit
    staging, target : Location
    on_move : callable
        Called behind each move.

    Raises
    ------
    CommitError
        If a file is in neither place.
    """
    for folder in sorted({entry.name.rpartition("/")[0] for entry in commit.added} - {""}):
        target.filesystem.create_dir((target / folder).path, recursive=True)

    def move(entry: FileEntry) -> None:
        source, place = staging / entry.name, target / entry.name
        if source.exists():
            source.filesystem.move(source.path, place.path)
            on_move()
        elif not place.exists():
            raise CommitError(
                f"file {entry.name} of an output is gone",
                expected="a file that a run has written and checked",
                remedy="restore it, or write everything anew with --full-refresh",
            )

    if target.can_rename_folders:  # a rename costs nothing
        for entry in commit.added:
            move(entry)
    else:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(move, commit.added))


def link_output(output: Location, state: Snapshot, staged: dict[str, Location], target: Location) -> None:
    """Make another folder of an output's files, without copying them where links are known.

    Parameters
    ----------
    output : Location
    state : Snapshot
        The files that the other folder shall have.
    staged : dict of str to Location
        Those of them that are not in the output yet.
    target : Location
        The other folder, on the same disk.
    """
    for name in (*state.files, *state.quarantine):
        _link(staged.get(name, output / name), target / name)
    own = output / OWN_FOLDER
    for info in own.list(recursive=True):
        name = info.path.removeprefix(f"{own.path}/")
        if info.type == pafs.FileType.File and not name.startswith(_NOT_LINKED):
            _link(own / name, target / OWN_FOLDER / name)
    if (output / SUCCESS).exists():
        _link(output / SUCCESS, target / SUCCESS)


def _link(source: Location, target: Location) -> None:
    target.filesystem.create_dir(target.parent.path, recursive=True)
    try:
        os.link(source.path, target.path)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        shutil.copyfile(source.path, target.path)
