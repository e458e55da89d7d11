"""Files that other processes see whole or not at all, and lakevec's folder on each node."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lakevec.pipeline.errors import DataError

MACHINE_CODE = "machine-code"
# Copies of each kind that stay on a node even if unused.
_KEPT = 4
# A worker may still use a copy for this long after it last marked it.
_UNUSED_S = 24 * 3600.0
_OLD_CODE_S = 60 * 24 * 3600.0
_TABLE = re.compile("[0-9a-f]{64}")
_CODE = re.compile("code-[0-9a-f]{16}")
_STAGED = re.compile(r"(code-[0-9a-f]{11}|code|[0-9a-f]{16})\..+")


def replace_file(target: Path, content: bytes, *, is_executable: bool = False) -> None:
    """Write or replace a file in one step; if that fails, leave no temporary file."""
    handle, name = tempfile.mkstemp(dir=target.parent)
    staged = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        if is_executable:
            staged.chmod(staged.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        staged.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            staged.unlink()
        raise


def provide_folder(folder: Path, write: Callable[[Path], None], is_whole: Callable[[], bool]) -> Path:
    """Mark a folder of this node as used and return it; write it first if it is missing or damaged.

    Parameters
    ----------
    folder : pathlib.Path
        Below `private_folder`.
    write : callable
        Fills an empty folder.
    is_whole : callable
        Whether `folder` is complete; another worker may have installed it meanwhile.
    """
    if not is_whole():
        _install(folder, write, is_whole)
        _remove_unused(folder.parent)
    with contextlib.suppress(OSError):
        os.utime(folder)
    return folder


def _install(folder: Path, write: Callable[[Path], None], is_whole: Callable[[], bool]) -> None:
    """Write a folder beside its place and rename it; if two workers race, one complete copy stays."""
    staged = Path(tempfile.mkdtemp(prefix=f"{folder.name[:16]}.", dir=folder.parent))
    try:
        write(staged)
        if folder.exists() and not is_whole():
            shutil.rmtree(folder, ignore_errors=True)
        staged.rename(folder)
    except OSError:
        if not is_whole():
            raise
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def file_sha256(file: Path) -> str:
    """Return the hexadecimal sha256 of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def texts_sha256(texts: Sequence[str]) -> str:
    """Return the hexadecimal sha256 over texts, each preceded by its length in bytes (8, little-endian)."""
    digest = hashlib.sha256()
    for text in texts:
        content = text.encode()
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()


def private_folder(node_dir: str | None = None) -> Path:
    """Return this node's folder for tables, code and machine code; create it if needed.

    Parameters
    ----------
    node_dir : str, optional
        Parent folder. Default: the first of YARN's ``LOCAL_DIRS``, else the system's temporary folder.

    Raises
    ------
    DataError
        If another user could write to it.
    """
    yarn = os.environ.get("LOCAL_DIRS", "").split(",")[0]
    base = Path(node_dir or yarn or tempfile.gettempdir()) / f"lakevec-{os.getuid()}"
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_private(base):
        raise DataError(
            f"node folder {base} can't be trusted",
            expected="a folder that only this user can write",
            remedy="remove it, or give another --node-dir",
        )
    return base


def _is_private(folder: Path) -> bool:
    """Return whether a folder is this user's, and no other user can write to it."""
    owner = folder.lstat()
    is_own = owner.st_uid == os.getuid() and stat.S_ISDIR(owner.st_mode)
    return is_own and not owner.st_mode & 0o022


def cache_folder(name: str) -> Path:
    """Return a folder of the user's cache, or else below `private_folder`.

    The user's cache is not used if the home is missing, read-only, or open to other users.

    Raises
    ------
    DataError
        See `private_folder`.
    OSError
        If neither can be written.
    """
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        ours = cache / "lakevec"
        folder = ours / name
        for made in (ours, folder):
            made.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _is_private(ours) and _is_private(folder) and os.access(folder, os.W_OK | os.X_OK):
            return folder
    except (OSError, RuntimeError):  # Path.home() finds no home
        pass
    folder = private_folder() / name
    folder.mkdir(exist_ok=True)
    return folder


def _remove_unused(base: Path) -> None:
    """Remove tables and code that no worker has used for a day, but keep the last four of each.

    If a worker has mapped a removed table, it keeps the pages. A later worker fetches a new copy.
    """
    for kind, kept in ((_TABLE, _KEPT), (_CODE, _KEPT), (_STAGED, 0)):
        found = [(_last_use(copy), copy) for copy in base.iterdir() if kind.fullmatch(copy.name)]
        for used, copy in sorted(found, reverse=True)[kept:]:
            if time.time() - used > _UNUSED_S:
                shutil.rmtree(copy, ignore_errors=True)
    # Numba compiles removed code again.
    for file in (base / MACHINE_CODE).glob("*.nb[ci]"):
        if time.time() - _last_use(file) > _OLD_CODE_S:
            file.unlink(missing_ok=True)


def _last_use(copy: Path) -> float:
    """Return when a copy was last marked; now if another worker has removed it."""
    try:
        return copy.stat().st_mtime
    except OSError:
        return time.time()
