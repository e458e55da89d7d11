"""A folder on every node that only this user can write: tables, shipped code and machine code lie there."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import tempfile
import time
from pathlib import Path

from lakevec.pipeline.errors import DataError

# Copies of one kind that stay on a node, however long ago they were used.
_KEPT = 4
# A copy may be in use for as long after a worker looked at it.
_UNUSED_S = 24 * 3600.0
MACHINE_CODE = "machine-code"
_OLD_CODE_S = 60 * 24 * 3600.0
_TABLE = re.compile("[0-9a-f]{64}")
_CODE = re.compile("code-[0-9a-f]{16}")
_STAGED = re.compile(r"(code|[0-9a-f]{16})\..+")


def private_folder(node_dir: str | None = None) -> Path:
    """Return the folder, made where there is none.

    Parameters
    ----------
    node_dir : str, optional
        Where it lies; None takes the first there is of YARN's ``LOCAL_DIRS`` and the system's folder for
        temporary files.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    DataError
        If somebody else could plant something in it.
    """
    yarn = os.environ.get("LOCAL_DIRS", "").split(",")[0]
    base = Path(node_dir or yarn or tempfile.gettempdir()) / f"lakevec-{os.getuid()}"
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner = base.lstat()
    if owner.st_uid != os.getuid() or not stat.S_ISDIR(owner.st_mode) or owner.st_mode & 0o022:
        raise DataError(
            f"node folder {base} can't be trusted",
            expected="a folder that only this user can write",
            remedy="remove it, or give another --node-dir",
        )
    return base


def mark_used(copy: Path) -> None:
    """Note that a copy in the folder is in use from now on.

    Parameters
    ----------
    copy : pathlib.Path
    """
    with contextlib.suppress(OSError):
        os.utime(copy)


def remove_unused(base: Path) -> None:
    """Remove tables and code that no worker has used for a day, except the four of each used last.

    Parameters
    ----------
    base : pathlib.Path
        What `private_folder` returned.

    Notes
    -----
    A worker that has mapped a removed table keeps its pages. A worker that comes later fetches a new copy.
    """
    for kind, kept in ((_TABLE, _KEPT), (_CODE, _KEPT), (_STAGED, 0)):
        found = [(_last_use(copy), copy) for copy in base.iterdir() if kind.fullmatch(copy.name)]
        for used, copy in sorted(found, reverse=True)[kept:]:
            if time.time() - used > _UNUSED_S:
                shutil.rmtree(copy, ignore_errors=True)
    # Numba compiles again what is gone.
    for file in (base / MACHINE_CODE).glob("*.nb[ci]"):
        if time.time() - _last_use(file) > _OLD_CODE_S:
            file.unlink(missing_ok=True)


def _last_use(copy: Path) -> float:
    try:
        return copy.stat().st_mtime
    except OSError:  # another worker has removed it
        return time.time()
