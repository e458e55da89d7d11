"""A whole output in the place of another: in one step where the file system has one.

The new output is built beside the old one, as ``.NAME.lakevec-next``, a name that readers of the parent
folder skip. Linux exchanges two folders in one step (``renameat2``), so whoever lists sees the one or the
other. File systems without that step (HDFS, some network disks) get two renames, between which the output is
not there; the next run completes the second under its lease.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from pathlib import Path

from pyarrow.fs import FileType

from lakevec.pipeline.errors import BusyError, OutputError
from lakevec.pipeline.output.file_entry import OWN_FOLDER
from lakevec.pipeline.output.table_metadata import CURRENT
from lakevec.pipeline.storage import Location

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_READY = f"{OWN_FOLDER}/ready"
_CURRENT = f"{OWN_FOLDER}/{CURRENT}"


def sibling(output: Location, word: str) -> Location:
    """Return the place beside an output where its successor or predecessor lies."""
    return output.parent / f".{output.name}.lakevec-{word}"


def swap(output: Location) -> None:
    """Put what was built beside an output in its place; the old one is removed afterwards.

    Parameters
    ----------
    output : Location
        Folder on a file system that renames folders.
    """
    successor = sibling(output, "next")
    (successor / _READY).write_atomic(b"")
    if not _exchange(output, successor):
        output.filesystem.move(output.path, sibling(output, "old").path)
        with contextlib.suppress(FileNotFoundError):  # somebody finished it for us
            output.filesystem.move(successor.path, output.path)
    _tidy(output)


def find_unfinished_swap(output: Location) -> Location | None:
    """Find where an output lies that an interrupted swap left without its name.

    Parameters
    ----------
    output : Location

    Returns
    -------
    Location or None
        The whole successor, or else the predecessor; None if the output is in its place, or there is none.
    """
    if (output / _CURRENT).exists() or not output.can_rename_folders:
        return None
    if output.type() == FileType.File or {info.base_name for info in output.list()} - {OWN_FOLDER}:
        return None  # somebody else's
    successor, predecessor = sibling(output, "next"), sibling(output, "old")
    if (successor / _READY).exists():
        return successor
    return predecessor if (predecessor / _CURRENT).exists() else None


def complete_swap(output: Location, waiting: Location) -> None:
    """Complete an interrupted swap, under the lease of the run that found it.

    Parameters
    ----------
    output : Location
    waiting : Location
        What `find_unfinished_swap` returned.

    Raises
    ------
    BusyError
        If another run has completed it.
    """
    if find_unfinished_swap(output) != waiting:
        raise BusyError("another run completes a swap of this output", remedy="let it end, then run again")
    output.delete()  # a folder that somebody made in the gap, without a row in it
    output.filesystem.move(waiting.path, output.path)


def clean_swap(output: Location) -> None:
    """Remove what a swap, or a run that was building a successor, left beside an output.

    Parameters
    ----------
    output : Location
    """
    if output.can_rename_folders and (output / _CURRENT).exists():
        _tidy(output)


def check_can_swap(output: Location, uri: str, wish: str) -> None:
    """Refuse to replace a whole output where no rename could do it.

    Parameters
    ----------
    output : Location
    uri : str
        The output as messages name it.
    wish : str
        What was asked for.

    Raises
    ------
    OutputError
    """
    got = ""
    if not output.can_rename_folders:
        got = "an object store, which has no step that replaces a folder"
    elif output.is_local and _device(output) != _device(output.parent):
        got = "a mount point, which nothing beside it can replace"
    if got:
        raise OutputError(
            f"{wish} can't be done on output {uri!r}",
            got=got,
            expected="--table-format delta there, or a folder that can be renamed",
            remedy="or embed into a new --output",
        )


def _tidy(output: Location) -> None:
    sibling(output, "next").delete()
    sibling(output, "old").delete()
    (output / _READY).delete()


def _device(folder: Location) -> int:
    return Path(folder.path).stat().st_dev if folder.exists() else -1


def _exchange(one: Location, other: Location) -> bool:
    """Exchange two folders in one step; say whether the file system can."""
    if not one.is_local:
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    if rename(_AT_FDCWD, os.fsencode(one.path), _AT_FDCWD, os.fsencode(other.path), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EXDEV):
        return False
    raise OSError(code, os.strerror(code), one.path)
