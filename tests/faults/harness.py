"""Run a case: strike, run again until the job is done, and compare the output with an undisturbed run's."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from pyarrow import ArrowException

from . import iceberg
from .content import Rows
from .faults import DISK, LONGEST_RUN_S, Fault, SmallDisk, kill, marked
from .modes import Known, Workshop, read_output
from .others import Others
from .plan import Case
from .reader import DeltaView, FolderView, IcebergView, Reader

# Runs without a fault, after which the case counts as never done.
_RERUNS = 3
# Seconds that processes may outlive a killed driver.
_ORPHANS_S = 20.0
_BIG_DISK = 4 << 30
_HIDDEN = ("staging", "lease")


@dataclass
class Outcome:
    """The result of a case.

    Parameters
    ----------
    case : Case
    struck : list of str
        Kinds of the faults that struck. A run may end before its fault strikes.
    kills : int
        Number of these faults that killed a process.
    copies : int
        Speculative copies of tasks that Spark started.
    reruns : int
        Runs after the last fault, including the one that finished.
    is_done : bool
        Whether a run finished.
    lost, doubled, wrong : int
        Numbers of rows that differ from an undisturbed run.
    views, overtaken : int
        Reads of the output, and reads that a swap interrupted and that were repeated.
    bad : list of str
        Problems that the reader saw.
    left : list of str
        Files that should have been cleaned up.
    seconds : float
    """

    case: Case
    struck: list[str] = field(default_factory=list)
    kills: int = 0
    copies: int = 0
    reruns: int = 0
    is_done: bool = False
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    views: int = 0
    overtaken: int = 0
    bad: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        return self.is_done and not (self.lost or self.doubled or self.wrong or self.bad)

    def __str__(self) -> str:
        what = ", then ".join(map(str, self.case.faults)) or "nothing"
        found = "exact" if self.is_good else f"{self.lost} lost, {self.doubled} doubled, {self.wrong} wrong"
        found += "" if self.is_done else ", never done"
        found += f", bad views: {'; '.join(sorted(set(self.bad))[:3])}" if self.bad else ""
        found += f", left: {', '.join(self.left[:4])}" if self.left else ""
        counts = f"{self.kills} kills, {self.reruns} reruns"
        counts += f", {self.copies} speculative copies" if self.copies else ""
        return f"{self.case.mode}: {what}: {counts}, {found} ({self.seconds:.0f} s)"


class Harness:
    """Run cases in a workshop.

    Parameters
    ----------
    workshop : Workshop
    """

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        self._cases = 0
        self._lock = threading.Lock()

    def run_all(
        self, cases: Iterable[Case], *, at_once: int = 1, tell: Callable[[Outcome], None] = lambda _: None
    ) -> list[Outcome]:
        """Run cases, `at_once` of them at the same time."""

        def run(case: Case) -> Outcome:
            outcome = self.run(case)
            tell(outcome)
            return outcome

        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(run, cases))

    def run(self, case: Case) -> Outcome:
        """Run one case; keep its folder if it failed."""
        with self._lock:
            self._cases += 1
            name = f"{self._cases:03d}-{case.mode.replace(' ', '-').replace(',', '')}"
        outcome = Outcome(case)
        started = time.monotonic()
        _Trial(self._workshop, case, self._workshop.folder / "cases" / name, outcome).run()
        outcome.seconds = time.monotonic() - started
        return outcome


class _Trial:
    """One case while it runs."""

    def __init__(self, workshop: Workshop, case: Case, folder: Path, outcome: Outcome) -> None:
        self._workshop, self._case, self._folder, self._outcome = workshop, case, folder, outcome
        self._known: Known = workshop.know(case.mode)
        self._mode = self._known.mode
        self._marker = f"faults-{uuid.uuid4().hex}"
        self._runs = 0
        self._disk: SmallDisk | None = None
        self._others: Others | None = None
        self._reader: Reader | None = None

    def run(self) -> None:
        self._folder.mkdir(parents=True)
        with ExitStack() as held:
            place = self._folder / "place"
            if any(fault.kind == DISK for fault in self._case.faults):
                self._disk = held.enter_context(SmallDisk(place))
                self._disk.leave(_BIG_DISK)
            else:
                place.mkdir()
            output = place / "out"
            self._workshop.copy_start(self._known, output, self._folder / "before")
            views = {"delta": DeltaView, "iceberg": IcebergView}
            view = next((views[word] for word in self._mode.words if word in views), FolderView)(output)
            reader = Reader(view.look, self._known.old, self._known.new, is_atomic=self._mode.is_atomic)
            if self._mode.is_maintained:
                self._others = Others(output, seed=zlib.crc32(str(self._case).encode()))
            self._reader = reader
            reader.start()
            try:
                self._let_run(output)
            finally:
                self._bury()
                reader.stop()
            reader.check()
            self._outcome.views, self._outcome.overtaken = reader.views, reader.overtaken
            self._outcome.bad = reader.bad
            self._compare(output)
            self._outcome.copies = _count_copies(self._folder)
            if not self._mode.is_cluster:  # there, staging files stay an hour
                self._outcome.left = list(_left_over(output))
        if self._outcome.is_good:
            shutil.rmtree(self._folder)

    def _let_run(self, output: Path) -> None:
        for fault in self._case.faults:
            is_done = self._strike(fault, output)
        if self._case.faults and is_done:
            self._outcome.is_done = True
            return
        for _ in range(_RERUNS):
            if self._outcome.is_done:
                break
            self._outcome.is_done = self._start(output, "none").wait(LONGEST_RUN_S) == 0
            self._outcome.reruns += len(self._case.faults) > 0

    def _strike(self, fault: Fault, output: Path) -> bool:
        """Start a run and cause a fault; return whether the run finished nevertheless."""
        if fault.kind == DISK and self._disk is not None:
            self._disk.leave(int(fault.share * self._known.bytes))
        driver = self._start(output, fault.point or "none")
        cluster = self._workshop.cluster if self._mode.is_standalone else None
        if fault.strike(driver, output, parents=cluster.pids if cluster else ()):
            self._outcome.struck.append(fault.kind)
            self._outcome.kills += fault.is_kill
        code = driver.wait(LONGEST_RUN_S)
        if self._disk is not None:
            self._disk.leave(_BIG_DISK)
        return code == 0

    def _start(self, output: Path, point: str) -> subprocess.Popen[bytes]:
        if self._others is not None and self._reader is not None:
            with self._reader.pause():
                self._others.work()
        self._runs += 1
        scratch = self._folder / f"run-{self._runs}"
        return self._workshop.start(self._mode, output, scratch, point=point, marker=self._marker)

    def _bury(self) -> None:
        """Wait for processes that outlived their driver and may still write; kill the last ones."""
        deadline = time.monotonic() + _ORPHANS_S
        while marked(self._marker) and time.monotonic() < deadline:
            time.sleep(0.2)
        for pid in marked(self._marker):
            kill(pid)

    def _compare(self, output: Path) -> None:
        """Compare the output with an undisturbed run's, row by row and byte by byte."""
        outcome, expected = self._outcome, self._known
        if self._others is not None and not self._mode.is_atomic:
            expected = expected.without(self._others.deleted)
        try:
            table = read_output(output, self._mode).sort_by("id")
            rows = Rows.of(table)
        except (OSError, ArrowException) as error:
            outcome.lost = len(expected.new)
            outcome.bad.append(f"can't be read in the end: {error}")
            return
        outcome.lost, outcome.doubled = rows.lost(expected.new), rows.doubled
        outcome.wrong = rows.wrong(expected.new)
        names = expected.result.column_names
        if rows.equals(expected.new) and not table.select(names).equals(expected.result):
            outcome.wrong = sum(table[name] != expected.result[name] for name in names)
        if self._others is not None:
            outcome.wrong += self._others.count_lost_notes(table["id"].to_pylist())


def _count_copies(folder: Path) -> int:
    """Count speculative copies of tasks in Spark's event logs."""
    lines = (line for log in folder.glob("run-*/events/*") for line in log.read_text().splitlines())
    return sum("SparkListenerTaskStart" in line and '"Speculative":true' in line for line in lines)


def _left_over(output: Path) -> Iterable[str]:
    """Name all files that a finished run should have removed."""
    for entry in os.scandir(output.parent):
        if entry.name not in (output.name, iceberg.CATALOG):
            yield entry.name
    own = output / "_lakevec"
    yield from (name for name in _HIDDEN if (own / name).exists())
    for file in own.rglob(".*"):
        # Hidden files in Spark's checkpoint belong to Spark.
        if "checkpoint" not in file.parts:
            yield str(file.relative_to(output))
    generations = [entry.name for entry in own.iterdir() if (entry / "output.json").exists()]
    if len(generations) > 1:
        yield f"{len(generations)} generations"
    if (output / "_delta_log").exists():
        yield from _unknown_to_delta(output)
    if iceberg.open_table(output) is not None:
        yield from iceberg.unknown_files(output)


def _unknown_to_delta(output: Path) -> Iterable[str]:
    """Name files that no version of a Delta table lists."""
    log = "".join(file.read_text() for file in (output / "_delta_log").glob("*.json"))
    for file in output.glob("*.parquet"):
        if file.name not in log:
            yield file.name
