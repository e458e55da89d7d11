"""One run at a time on one output: claims that are renewed while their holder lives.

A run writes a claim of its own and then looks for others; a file system that shows what was written before a
listing began (local disks, HDFS, S3, Google Cloud Storage, Azure) needs no locks for that: of two that start
at the same moment at least one sees the other. A claim that is not renewed for `_EXPIRY_S` belongs to a run
that is dead; one of this machine is known to be dead as soon as its process is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from pyarrow import ArrowException

from lakevec.pipeline.errors import BusyError, CommitError, OutputError, describe_failure
from lakevec.pipeline.storage import Location

_BEAT_S = 10.0
_EXPIRY_S = 60.0
_POLL_S = 1.0
_TRIES = 3


class Lease:
    """The right to write to an output; a context manager.

    Parameters
    ----------
    own : Location
        The output's own folder.
    run : str
        Who asks.
    uri : str
        The output as messages name it.
    """

    def __init__(self, own: Location, run: str, uri: str) -> None:
        self._folder = own / "lease"
        self._run = run
        self._uri = uri
        self._stop = threading.Event()
        self._beat = threading.Thread(target=self._renew, daemon=True)
        self._beats = 0
        # Held by whoever writes, removes or moves the claim, so that the heartbeat never recreates it.
        self._changing = threading.Lock()

    @property
    def claim(self) -> Location:
        """The file that says so."""
        return self._folder / f"{self._run}.json"

    def __enter__(self) -> Lease:
        """Take the lease.

        Raises
        ------
        BusyError
            If another run holds it.
        """
        # Another run may watch this claim while this one still watches the claim of a dead run.
        self._beat.start()
        try:
            self._acquire()
        except BaseException:
            self.give_back()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lease back."""
        self.give_back()

    def give_back(self) -> None:
        """Remove the claim; twice is once."""
        self._stop.set()
        if self._beat.is_alive():
            self._beat.join()
        self._release()

    @contextlib.contextmanager
    def moving_to(self, own: Location) -> Iterator[None]:
        """Let the block move the folder that holds the claim; no heartbeat is written meanwhile.

        Parameters
        ----------
        own : Location
            The output's own folder after the move.

        Yields
        ------
        None
        """
        with self._changing:
            yield
            self._folder = own / "lease"

    def copy_to(self, own: Location) -> None:
        """Copy the claim to a folder that will replace the one it lies in."""
        (own / "lease" / self.claim.name).write_atomic(self.claim.read_bytes())

    def check(self) -> None:
        """Make sure that the lease is still ours, as it isn't after a minute without a sign of life.

        Raises
        ------
        CommitError
            If another run has taken it.
        """
        others = [name for name in self._claims() if name != self.claim.name]
        if others or not self.claim.exists():
            raise CommitError(
                f"output {self._uri!r} was taken over by another run",
                got="no sign of life of this one for too long",
                remedy="nothing more was committed; let the other run end, then run again",
            )

    def _acquire(self) -> None:
        for attempt in range(_TRIES):
            with self._changing:
                self._write()
            others = [name for name in self._claims() if name != self.claim.name]
            living = [name for name in others if self._lives(name)]
            for name in set(others) - set(living):
                (self._folder / name).delete()
            # A run that completes a swap may have moved the folder with this claim in it.
            if not living and self.claim.exists():
                return
            if attempt == _TRIES - 1:
                break
            # Two that start at once see each other; who comes back first finds the place free.
            with self._changing:
                self.claim.delete()
            time.sleep(random.uniform(0.1, 1.0))  # noqa: S311
        raise BusyError(
            f"another run is writing to output {self._uri!r}",
            got=f"run {living[0].removesuffix('.json')}" if living else "a swap that it completes",
            remedy="let it end, then run again",
        )

    def _lives(self, name: str) -> bool:
        """Watch a claim until it is renewed, or until its holder must be dead."""
        before = self._read(name)
        if before is None:
            return False
        if (alive := _process_lives(before)) is not None:
            return alive
        deadline = time.monotonic() + _EXPIRY_S
        while time.monotonic() < deadline:
            time.sleep(_POLL_S)
            now = self._read(name)
            if now is None:
                return False
            if now != before:
                return True
        return False

    def _claims(self) -> list[str]:
        return sorted(info.base_name for info in self._folder.list() if info.base_name.endswith(".json"))

    def _read(self, name: str) -> dict[str, object] | None:
        try:
            content = json.loads((self._folder / name).read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, RecursionError):
            return {}
        return content if isinstance(content, dict) else {}

    def _write(self) -> None:
        try:
            self.claim.write_atomic(json.dumps(_describe_process() | {"beats": self._beats}).encode())
        except (OSError, ArrowException) as error:
            raise OutputError(
                f"can't write to output {self._uri!r}",
                got=describe_failure(error),
                remedy="check its permissions and free space",
            ) from None

    def _renew(self) -> None:
        while not self._stop.wait(_BEAT_S):
            self._beats += 1
            # Never recreate a missing claim: another run has taken over.
            with self._changing, contextlib.suppress(OSError, ArrowException, OutputError):
                if self.claim.exists():
                    self._write()

    def _release(self) -> None:
        with self._changing, contextlib.suppress(OSError, ArrowException):
            self.claim.delete()
            if self._folder.is_local:  # a folder that holds another's claim by now stays
                Path(self._folder.path).rmdir()


def _describe_process() -> dict[str, object]:
    """Name this process so that another one on the machine can tell whether it still runs."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid()), **_machine()}


def _process_lives(claim: dict[str, object]) -> bool | None:
    """Say whether the process of a claim runs; None where only its own machine can tell."""
    machine = _machine()
    if not machine or {key: claim.get(key) for key in machine} != machine:
        return None
    pid = claim.get("pid")
    return isinstance(pid, int) and _started(pid) == claim.get("started") != ""


def _machine() -> dict[str, object]:
    """Name this boot of this machine, and the namespace in which process ids mean something."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return {"boot": boot, "namespace": Path("/proc/self/ns/pid").readlink().name}
    except OSError:
        return {}


def _started(pid: int) -> str:
    """Return when a process began, in clock ticks since boot; empty where there is none, or only a zombie."""
    try:
        # Behind the name, which may hold anything: state is the first field, the start the twentieth.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
