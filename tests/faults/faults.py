"""Faults of a running job: kill a part of it with SIGKILL, stall a worker, or fill its disk."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

STEP, CHANGE = "driver at a step", "driver at a change"
TIME, MACHINE, JVM = "driver at some time", "whole machine", "JVM"
WORKER, EXECUTOR = "Python worker", "executor"
# These kill nothing. A stalled worker continues after a copy of its task has finished.
STALL, DISK = "stalled worker", "disk full"
# Seconds of a stall.
_STALL_S = 8.0
LONGEST_RUN_S = 900.0
_POLL_S = 0.003


@dataclass(frozen=True)
class Fault:
    """One fault.

    Parameters
    ----------
    kind : str
        One of the constants above.
    point : str, default=""
        Point at which the driver kills itself, see `driver`. For a worker: ``writing`` or ``busy``.
    delay_s : float, default=0
        Seconds between the start and the fault, or the search for a worker.
    share : float, default=0
        Free space of the disk, as a share of the bytes that the job writes.
    """

    kind: str
    point: str = ""
    delay_s: float = 0.0
    share: float = 0.0

    def __str__(self) -> str:
        if self.kind in (STEP, CHANGE):
            return f"driver at {self.point}"
        if self.kind == DISK:
            return f"disk full after {self.share:.0%}"
        return f"{self.kind} {self.point} after {self.delay_s:.1f} s".replace("  ", " ")

    @property
    def is_kill(self) -> bool:
        return self.kind not in (STALL, DISK)

    def strike(self, driver: subprocess.Popen[bytes], output: Path, *, parents: Sequence[int] = ()) -> bool:
        """Cause the fault, or wait for the driver to cause it; return whether it struck before the job's end.

        Parameters
        ----------
        driver : subprocess.Popen
        output : Path
        parents : sequence of int, optional
            Other ancestors of executors than the driver.
        """
        if self.kind in (STEP, CHANGE, DISK):
            code = driver.wait(LONGEST_RUN_S)
            return code != 0 if self.kind == DISK else code == -signal.SIGKILL
        with contextlib.suppress(subprocess.TimeoutExpired):
            driver.wait(self.delay_s)
            return False
        if self.kind == TIME:
            driver.kill()
            return True
        if self.kind == MACHINE:
            victims = [driver.pid, *descendants(driver.pid)]
            for pid in victims:
                kill(pid)
            return True
        return self._strike_child(driver, output, parents)

    def _strike_child(self, driver: subprocess.Popen[bytes], output: Path, parents: Sequence[int]) -> bool:
        busy: dict[int, int] = {}
        while driver.poll() is None:
            family = [pid for parent in (driver.pid, *parents) for pid in descendants(parent)]
            for pid in family:
                if self._is_victim(pid, output, busy) and (stall if self.kind == STALL else kill)(pid):
                    return True
            time.sleep(_POLL_S)
        return False

    def _is_victim(self, pid: int, output: Path, busy: dict[int, int]) -> bool:
        command = _command(pid)
        if self.kind == JVM:
            return "org.apache.spark.deploy.SparkSubmit" in command
        if self.kind == EXECUTOR:
            is_executor = "CoarseGrainedExecutorBackend" in command
            return is_executor and any(_writes(child, output) for child in descendants(pid))
        is_worker = "pyspark.daemon" in command and "pyspark.daemon" in _command(_parent(pid))
        if not is_worker:
            return False
        if self.point == "writing":
            return _writes(pid, output)
        ticks = _ticks(pid)
        first = busy.setdefault(pid, ticks)
        return ticks > first + 1  # it has computed since the first look


def descendants(pid: int) -> list[int]:
    """Return all processes that descend from one, parents before children."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            children.setdefault(_parent(int(entry.name)), []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        new = children.get(waiting.pop(), [])
        found += new
        waiting += new
    return found


def stall(pid: int) -> bool:
    """Stop a process for `_STALL_S` seconds; return whether it existed."""
    try:
        os.kill(pid, signal.SIGSTOP)
    except ProcessLookupError:
        return False
    time.sleep(_STALL_S)
    with contextlib.suppress(ProcessLookupError):  # Spark may have killed it after the copy finished
        os.kill(pid, signal.SIGCONT)
    return True


def kill(pid: int) -> bool:
    """Kill a process; return whether it existed."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _fields(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _parent(pid: int) -> int:
    fields = _fields(pid)
    return int(fields[1]) if fields else 0


def _ticks(pid: int) -> int:
    fields = _fields(pid)
    return int(fields[11]) + int(fields[12]) if fields else 0


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _writes(pid: int, output: Path) -> bool:
    """Return whether a process is writing a Parquet file in or beside the output."""
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = str(entry.readlink())
                if target.startswith(f"{output.parent}/") and ".parquet" in target:
                    flags = Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text().split("flags:")[1].split()[0]
                    if int(flags, 8) & os.O_ACCMODE:
                        return True
    return False


def marked(marker: str) -> list[int]:
    """Return all processes whose environment contains a marker."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and marker.encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return found


class SmallDisk:
    """A file system in memory with variable size; a context manager that mounts it.

    Parameters
    ----------
    folder : Path
        Mount point.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> SmallDisk:
        self._folder.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(self._folder)], check=True, capture_output=True)
        return self

    def __exit__(self, *error: object) -> None:
        subprocess.run(["umount", "--lazy", str(self._folder)], check=True, capture_output=True)

    @property
    def used_bytes(self) -> int:
        found = os.statvfs(self._folder)
        return (found.f_blocks - found.f_bfree) * found.f_frsize

    def leave(self, free_bytes: int) -> None:
        """Set the size so that `free_bytes` are free."""
        size = self.used_bytes + max(free_bytes, 4096)
        command = ["mount", "-o", f"remount,size={size}", str(self._folder)]
        subprocess.run(command, check=True, capture_output=True)

    @staticmethod
    def can_mount(folder: Path) -> bool:
        """Return whether this process may mount file systems."""
        try:
            with SmallDisk(folder):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False
        finally:
            with contextlib.suppress(OSError):
                folder.rmdir()
