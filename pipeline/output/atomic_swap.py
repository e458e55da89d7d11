"""Replace a whole output, atomically if the file system can.

A run builds the new output beside the old one, as ``.NAME.lakevec-next``, a name that readers of the parent
folder skip. Linux exchanges two folders in one step (``renameat2``), so a reader sees the old output or the
new one. Other file systems (HDFS, some network disks) need two renames. Between them the output is missing.
If a run dies there, the next run makes the second rename under its lease.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os

from lakevec.pipeline.errors import BusyError, OutputError
from lakevec.pipeline.output.file_entry import OWN_FOLDER
from lakevec.pipeline.output.table_metadata import CURRENT, is_foreign
from lakevec.pipeline.storage import Location

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_READY = f"{OWN_FOLDER}/ready"
_CURRENT = f"{OWN_FOLDER}/{CURRENT}"


def sibling(output: Location, word: str) -> Location:
    """Return the hidden folder beside an output for its successor ("next") or predecessor ("old")."""
    return output.parent / f".{output.name}.lakevec-{word}"


def swap(output: Location) -> None:
    """Replace an output by its successor, then remove the old output."""
    successor = sibling(output, "next")
    (successor / _READY).write_atomic(b"")
    if not exchange_folders(output, successor):
        output.filesystem.move(output.path, sibling(output, "old").path)
        with contextlib.suppress(FileNotFoundError):  # another run has completed the swap
            output.filesystem.move(successor.path, output.path)
    _remove_siblings(output)


def find_unfinished_swap(output: Location) -> Location | None:
    """Find the folder that an interrupted swap must still rename to the output.

    Returns
    -------
    Location or None
        The successor if it is complete, else the predecessor. None if the output is in its place, or if
        neither exists.
    """
    if (output / _CURRENT).exists() or not output.can_rename_folders or is_foreign(output):
        return None
    successor, predecessor = sibling(output, "next"), sibling(output, "old")
    if (successor / _READY).exists():
        return successor
    return predecessor if (predecessor / _CURRENT).exists() else None


def complete_swap(output: Location, waiting: Location) -> None:
    """Rename `waiting`, from `find_unfinished_swap`, to the output; needs the lease.

    Raises
    ------
    BusyError
        If another run has completed the swap.
    """
    if find_unfinished_swap(output) != waiting:
        raise BusyError("another run completes a swap of this output", remedy="let it end, then run again")
    output.delete()  # an empty folder that another program made between the renames
    output.filesystem.move(waiting.path, output.path)


def clean_swap(output: Location) -> None:
    """Remove the folders that a swap or an unfinished refresh left beside an output."""
    if output.can_rename_folders and (output / _CURRENT).exists():
        _remove_siblings(output)


def check_can_swap(output: Location, uri: str, wish: str) -> None:
    """Raise OutputError if an output can't be renamed.

    Parameters
    ----------
    output : Location
    uri : str
        The output as messages name it.
    wish : str
        The operation, for the error message.
    """
    got = ""
    if not output.can_rename_folders:
        got = "an object store, which has no step that replaces a folder"
    elif output.is_local and os.path.ismount(output.path):
        got = "a mount point, which nothing beside it can replace"
    if got:
        raise OutputError(
            f"{wish} can't be done on output {uri!r}",
            got=got,
            expected="--table-format delta there, or a folder that can be renamed",
            remedy="or embed into a new --output",
        )


def _remove_siblings(output: Location) -> None:
    sibling(output, "next").delete()
    sibling(output, "old").delete()
    (output / _READY).delete()


def exchange_folders(one: Location, other: Location) -> bool:
    """Exchange two folders in one step; return False if the file system can't."""
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
