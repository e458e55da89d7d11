"""The lease of an output: one run at a time writes to it.

A run writes its own claim file, then lists the claims of other runs. If two runs start at once, at least one
sees the other. So no locks are needed, as long as the file system lists every file written before; local
disks, HDFS, S3, Google Cloud Storage and Azure do. A heartbeat renews the claim. A run is dead if it has not
renewed its claim for `EXPIRY_S`, or if its process on this machine is gone.
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

from pyarrow import ArrowException

from lakevec.pipeline.errors import BusyError, CommitError, OutputError, describe_failure, rephrase
from lakevec.pipeline.storage import Location

BEAT_S = 10.0
EXPIRY_S = 60.0
POLL_S = 1.0
_TRIES = 3


class Lease:
    """The exclusive right to write to an output; a context manager.

    Parameters
    ----------
    own : Location
        The output's own folder.
    run : str
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
        # Guards writing, removing and moving the claim, so that the heartbeat never recreates it.
        self._changing = threading.Lock()

    @property
    def claim(self) -> Location:
        """The claim file of this run."""
        return self._folder / f"{self._run}.json"

    def __enter__(self) -> Lease:
        """Take the lease; raise BusyError if another run holds it."""
        # Renew from the start: while this run waits for a dead claim to expire, others watch its claim.
        self._beat.start()
        try:
            self._acquire()
        except BaseException:
            self.give_back()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        """Give the lease back."""
        self.give_back()

    def give_back(self) -> None:
        """Remove the claim; a second call changes nothing."""
        self._stop.set()
        if self._beat.is_alive():
            self._beat.join()
        with self._changing, contextlib.suppress(OSError, ArrowException):
            self.claim.delete()
            if self._folder.is_local:  # fails if it holds another run's claim
                Path(self._folder.path).rmdir()

    @contextlib.contextmanager
    def moving_to(self, own: Location) -> Iterator[None]:
        """Pause the heartbeat while the block moves the output's own folder to `own`."""
        with self._changing:
            yield
            self._folder = own / "lease"

    def copy_to(self, own: Location) -> None:
        """Copy the claim to the own folder of the output's successor."""
        (own / "lease" / self.claim.name).write_atomic(self.claim.read_bytes())

    def check(self) -> None:
        """Raise CommitError if another run took the lease, as it may after a minute without a heartbeat."""
        if self._other_claims() or not self.claim.exists():
            raise CommitError(
                f"output {self._uri!r} was taken over by another run",
                got="no heartbeat of this run for too long",
                remedy="nothing more was committed; let the other run end, then run again",
            )

    def _acquire(self) -> None:
        for attempt in range(_TRIES):
            with self._changing:
                self._write()
            others = self._other_claims()
            living = [name for name in others if self._is_alive(name)]
            for name in set(others) - set(living):
                (self._folder / name).delete()
            # A run that completes a swap may have moved the folder with this claim in it.
            if not living and self.claim.exists():
                return
            if attempt == _TRIES - 1:
                break
            # Two runs that start at once may see each other. The first to retry takes the lease.
            with self._changing:
                self.claim.delete()
            time.sleep(random.uniform(0.1, 1.0))  # noqa: S311
        raise BusyError(
            f"another run is writing to output {self._uri!r}",
            got=f"run {living[0].removesuffix('.json')}" if living else "a swap under way",
            remedy="let it end, then run again",
        )

    def _is_alive(self, name: str) -> bool:
        """Watch a claim until its run renews it or counts as dead."""
        before = self._read(name)
        if before is None:
            return False
        if (runs := is_process_alive(before)) is not None:
            return runs
        deadline = time.monotonic() + EXPIRY_S
        while time.monotonic() < deadline:
            time.sleep(POLL_S)
            if (now := self._read(name)) != before:
                return now is not None
        return False

    def _other_claims(self) -> list[str]:
        names = self._folder.names() - {self.claim.name}
        return sorted(name for name in names if name.endswith(".json"))

    def _read(self, name: str) -> dict[str, object] | None:
        try:
            content = json.loads((self._folder / name).read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, RecursionError):
            return {}
        return content if isinstance(content, dict) else {}

    def _write(self) -> None:
        # Others on this machine check whether the process runs.
        process = {"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid())}
        with rephrase(
            OutputError,
            f"can't write to output {self._uri!r}",
            on=(OSError, ArrowException),
            describe=describe_failure,
            remedy="check its permissions and free space",
        ):
            self.claim.write_atomic(json.dumps(process | this_machine() | {"beats": self._beats}).encode())

    def _renew(self) -> None:
        while not self._stop.wait(BEAT_S):
            self._beats += 1
            # Never recreate a missing claim: another run has taken over.
            with self._changing, contextlib.suppress(OSError, ArrowException, OutputError):
                if self.claim.exists():
                    self._write()


def is_process_alive(claim: dict[str, object]) -> bool | None:
    """Return whether the process of a claim runs; None for a process of another machine."""
    machine = this_machine()
    if not machine or {key: claim.get(key) for key in machine} != machine:
        return None
    pid = claim.get("pid")
    return isinstance(pid, int) and _started(pid) == claim.get("started") != ""


def this_machine() -> dict[str, object]:
    """Identify this boot of the machine and its namespace of process ids."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return {"boot": boot, "namespace": Path("/proc/self/ns/pid").readlink().name}
    except OSError:
        return {}


def _started(pid: int) -> str:
    """Return when a process started, in clock ticks since boot; empty if it is gone or a zombie."""
    try:
        # After the name, which may hold any character: field 1 is the state, field 20 the start.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
