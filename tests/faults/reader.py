"""A reader of the output while it is written, which must never see a part of a commit."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq

from . import iceberg
from .content import COLUMNS, Rows

# Identity of a file when it was read: device, inode, size, modification time.
_Key = tuple[int, int, int, int]
_PAUSE_S = 0.02


class Overtaken(Exception):  # noqa: N818
    """The folder was swapped between listing and reading; another listing shows the new one."""


class Files:
    """Read files; read each again only if it changed."""

    def __init__(self) -> None:
        self._rows: dict[_Key, Rows] = {}
        self._views: dict[frozenset[_Key], Rows] = {}

    def read(self, paths: list[str]) -> Rows:
        keys = frozenset(self._read_file(path) for path in paths)
        if keys not in self._views:
            self._views[keys] = Rows.union([self._rows[key] for key in keys])
        return self._views[keys]

    def _read_file(self, path: str) -> _Key:
        with open(path, "rb") as file:  # noqa: PTH123
            found = os.fstat(file.fileno())
            key = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
            if key not in self._rows:
                self._rows[key] = Rows.of(pq.read_table(file, columns=COLUMNS))
        return key


def list_parquet(folder: Path) -> list[str] | None:
    """List the files that Parquet readers see, in one listing of the folder; None if it is missing."""
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        names = os.listdir(opened)  # noqa: PTH208 - list the opened folder, even if it was renamed
        if not os.path.samestat(os.fstat(opened), os.stat(folder)):  # noqa: PTH116
            raise Overtaken
    finally:
        os.close(opened)
    return sorted(name for name in names if name.endswith(".parquet") and not name.startswith(("_", ".")))


class FolderView:
    """The output as readers of Parquet folders see it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = Files()

    def look(self) -> Rows | None:
        names = list_parquet(self._folder)
        if names is None:
            return None
        try:
            return self._files.read([f"{self._folder}/{name}" for name in names])
        except FileNotFoundError as error:
            # Files may be missing because the folder was swapped meanwhile.
            now = list_parquet(self._folder)
            if now is not None and Path(str(error.filename)).name in now:
                raise
            raise Overtaken from None


class DeltaView:
    """The output as Delta's readers see it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = Files()

    def look(self) -> Rows | None:
        from deltalake import DeltaTable

        if not DeltaTable.is_deltatable(str(self._folder)):
            return None
        return self._files.read(DeltaTable(str(self._folder)).file_uris())


class IcebergView:
    """The output as Iceberg's readers see it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = Files()

    def look(self) -> Rows | None:
        names = iceberg.list_files(self._folder)
        return None if names is None else self._files.read(names)


class Reader(threading.Thread):
    """Read an output again and again until it is stopped, and keep all problems.

    Parameters
    ----------
    look : callable
        Returns the rows of the output; None without an output.
    old, new : Rows
        Rows before the job, and rows that it must leave.
    is_atomic : bool
        Whether the new output replaces the old one in one step. Otherwise rows are added.
    """

    def __init__(
        self, look: Callable[[], Rows | None], old: Rows | None, new: Rows, *, is_atomic: bool
    ) -> None:
        super().__init__(daemon=True)
        self._look = look
        self._old, self._new, self._is_atomic = old, new, is_atomic
        self._last: Rows | None = None
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self.views = self.overtaken = 0
        self.bad: list[str] = []

    def run(self) -> None:
        while not self._ended.is_set():
            self.check()
            self._ended.wait(_PAUSE_S)

    def stop(self) -> None:
        self._ended.set()
        self.join()

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Don't read while other programs change the output; afterwards its rows are the old ones."""
        with self._lock:
            yield
            self._old, self._last = self._look(), None

    def check(self) -> None:
        """Read the output once."""
        with self._lock:
            self._check()

    def _check(self) -> None:
        try:
            seen = self._look()
        except Overtaken:
            self.overtaken += 1
            return
        except Exception as error:  # any error of a reader is a problem
            self._note(f"{type(error).__name__}: {error}")
            return
        self.views += 1
        if seen is self._last and self.views > 1:
            return
        if reason := self._judge(seen):
            self._note(reason)
        self._last = seen

    def _judge(self, seen: Rows | None) -> str:
        """Describe the problem of a view; empty if there is none."""
        if seen is None:
            # A failed run removes a new output without rows.
            is_missed = self._old is not None or (self._last is not None and len(self._last) > 0)
            return "no output" if is_missed else ""
        if seen.doubled:
            return f"{seen.doubled} rows twice"
        if self._is_atomic:
            is_new = seen.equals(self._new)
            if not is_new and (self._old is None or not seen.equals(self._old)):
                return f"{len(seen)} rows, neither the old nor the new"
            if not is_new and self._last is not None and self._last.equals(self._new):
                return "the old rows after the new ones"
            return ""
        if wrong := seen.wrong(self._new):
            return f"{wrong} rows that are not the job's"
        for before in (self._old, self._last):
            if before is not None and (gone := seen.lost(before)):
                return f"{gone} rows gone"
        return ""

    def _note(self, reason: str) -> None:
        if len(self.bad) < 1000:
            self.bad.append(reason)
