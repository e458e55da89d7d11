"""A folder on every node that only this user can write: tables, shipped code and machine code lie there."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from pipeline.errors import DataError


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
