"""Files on a local disk that other processes see whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path


def replace_file(target: Path, content: bytes, *, is_executable: bool = False) -> None:
    """Write a file in one step, replacing what was there.

    Parameters
    ----------
    target : pathlib.Path
        In a folder that exists.
    content : bytes
    is_executable : bool, default=False

    Raises
    ------
    OSError
        If it can't be written; nothing is left behind then.
    """
    handle, name = tempfile.mkstemp(dir=target.parent)
    beside = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        if is_executable:
            beside.chmod(beside.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        beside.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
