"""Run the job, and kill it at a given point: ``python -m tests.faults.driver TRACE POINT WORDS``.

A point is the n-th occurrence of an event:

- ``moved:n`` and other names: after a step of the commit.
- ``change:n``: before the driver changes a file. ``torn:n``: half way through that change.
- ``failed:n``: instead of a kill, the change fails as on a bad disk.
- ``late:n``: the change is done, but reports a failure, as when a store's answer is lost.

The file TRACE lists all events, so an undisturbed run shows all points.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from pyarrow import fs as pafs

from lakevec.jobs import embed
from lakevec.jobs.cli import run_job
from lakevec.pipeline.output import atomic_swap
from lakevec.pipeline.settings.embed import EmbedSettings
from lakevec.pipeline.storage import Location

_LEASE = "lease"


class Points:
    """Count events, and kill this process at one point."""

    def __init__(self, trace: str, fatal: str) -> None:
        self._trace = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._fatal = fatal
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()

    def step(self, name: str) -> None:
        """Count a step of the commit."""
        self._pass(name)

    def change(self, what: str, do: Callable[[], Any], do_half: Callable[[], Any]) -> Any:
        """Change a file, unless this change is the point to strike at."""
        # The heartbeat renews a claim at any time, so renewals are not numbered among the changes.
        name = "claim" if f"/{_LEASE}/" in what else "change"
        number = self._pass(name, what)
        if name == "claim":
            return do()
        if self._fatal == f"torn:{number}":
            do_half()
            _die()
        if self._fatal == f"failed:{number}":
            raise OSError(errno.EIO, "failed")
        done = do()
        if self._fatal == f"late:{number}":
            raise OSError(errno.EIO, "failed, or so it seems")
        return done

    def _pass(self, name: str, what: str = "") -> int:
        with self._lock:
            self._seen[name] += 1
            number = self._seen[name]
            os.write(self._trace, f"{name}:{number}\t{what}\n".encode())
        if self._fatal == f"{name}:{number}":
            _die()
        return number


def _die() -> None:
    """Die as after a power failure: without handlers, finally blocks or Python's exit."""
    os.kill(os.getpid(), signal.SIGKILL)


def watch_changes(points: Points) -> None:
    """Make a point of each change that this process makes to files, except renames, which are steps."""
    write, delete, link, exchange = (
        Location.write_bytes,
        Location.delete,
        os.link,
        atomic_swap.exchange_folders,
    )

    def write_bytes(self: Location, content: bytes) -> None:
        half = partial(write, self, content[: len(content) // 2])
        points.change(f"write {self.path}", partial(write, self, content), half)

    def delete_whole(self: Location) -> None:
        points.change(f"delete {self.path}", partial(delete, self), partial(_delete_half, self))

    def link_file(source: str, target: str) -> None:
        do = partial(link, source, target)
        points.change(f"link {target}", do, do)

    def exchange_folders(one: Location, other: Location) -> bool:
        do = partial(exchange, one, other)
        done: bool = points.change(f"exchange {one.path}", do, do)
        return done

    Location.write_bytes = write_bytes  # type: ignore[method-assign]
    Location.delete = delete_whole  # type: ignore[method-assign]
    os.link = link_file  # type: ignore[assignment]
    atomic_swap.exchange_folders = exchange_folders


def _delete_half(place: Location) -> None:
    """Remove every other file of a folder; do nothing for a file."""
    if place.type() != pafs.FileType.Directory:
        return
    files = [info.path for info in place.list(recursive=True) if info.type == pafs.FileType.File]
    for path in sorted(files)[::2]:
        place.filesystem.delete_file(path)


def main(argv: list[str]) -> int:
    trace, fatal, *words = argv
    points = Points(trace, fatal)
    watch_changes(points)
    if "iceberg" in words:
        from .iceberg import watch_catalog

        watch_catalog(points)
    job = partial(embed.run, on_step=points.step)
    return run_job(EmbedSettings, job, words, name="embed")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
