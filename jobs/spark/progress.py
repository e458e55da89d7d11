"""Progress of a Spark job in rows and tasks: a bar on a terminal, or a line every 30 seconds in a log."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from lakevec.jobs.spark.errors import SPARK_ERRORS
from lakevec.jobs.spark.row_counts import EmbeddedRows, ReadRows
from lakevec.udfs.distribution import has_spark_context

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_POLL_S = 0.5
_LOG_EVERY_S = 30.0
# To ask Spark for rows takes some milliseconds of the driver, and executors report every ten seconds.
_ROWS_EVERY_S = 2.0
# What the driver's Java raises when it ends, or if another Spark names its counters otherwise.
_LOST = (*SPARK_ERRORS, ConnectionError, AttributeError, TypeError, ValueError)
# One failure may be that of a query that has just ended; after so many seconds of them, the driver is lost.
_GIVE_UP_S = 10.0
_BAR = "{desc} |{bar}| {percentage:3.0f} %"


@dataclass
class _Batch:
    """A micro-batch: its label, when it began, the rows before it, and its own rows once they are known."""

    label: str
    count_total: Callable[[], int | None]
    rows_before: int = 0
    started: float = field(default_factory=time.monotonic)
    total: int | None = None

    def find_total(self) -> None:
        """Count the batch's rows, unless that was done."""
        count_total, self.count_total = self.count_total, lambda: None
        self.total = self.total or count_total()


class Progress:
    """What a job has done so far.

    Parameters
    ----------
    label : str
        Name of the work.
    count_tasks : callable
        Returns the numbers of finished and of all tasks of the running stages.
    count_rows : callable
        Returns the number of rows since the job began.
    """

    def __init__(
        self, label: str, count_tasks: Callable[[], tuple[int, int]], count_rows: Callable[[], int]
    ) -> None:
        self._count_tasks, self._count_rows = count_tasks, count_rows
        # A micro-batch begins in another thread than the one that shows progress.
        self._counting = threading.Lock()
        self._asked = time.monotonic()
        self._rows = 0
        self._batch = _Batch(label, lambda: None)

    def begin_batch(self, number: int, count_total: Callable[[], int | None]) -> None:
        """Begin a micro-batch; `count_total` returns the number of its rows, if it is known.

        It is called after seconds, so that short runs don't pay for it.
        """
        label = f"micro-batch {number + 1}" if number else self._batch.label
        with suppress(*_LOST):
            self._update_rows()
        self._batch = _Batch(label, count_total, self._rows)

    def _update_rows(self) -> None:
        with self._counting:
            self._rows = self._count_rows()

    def describe(self) -> tuple[str, float]:
        """Return a line for people, and the finished share of the work."""
        now, batch = time.monotonic(), self._batch
        done, tasks = self._count_tasks()
        if now - self._asked >= _ROWS_EVERY_S:
            self._asked = now
            self._update_rows()
            batch.find_total()
        rows, seconds = self._rows - batch.rows_before, now - batch.started
        words, share = [f"{done:,} of {tasks:,} tasks"], done / max(tasks, 1)
        if rows > 0:
            of_all = ""
            if batch.total:
                rows = min(rows, batch.total)
                of_all, share = f" of {batch.total:,}", rows / batch.total
            words = [f"{rows:,}{of_all} rows", f"{rows / seconds:,.0f} a second", *words]
        return f"{batch.label}: {', '.join(words)} after {seconds:.0f} s" if tasks else "", share


@contextmanager
def show_progress(spark: SparkSession, label: str, *, tells_rows: bool = False) -> Iterator[Progress]:
    """Show how many rows and tasks are done, until the block ends.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
        Spark Connect reports tasks only.
    label : str
        Name of the work.
    tells_rows : bool, default=False
        Whether tasks report their rows, see `lakevec.udfs.row_progress`. By default rows are counted that
        Spark itself has read.
    """
    with ExitStack() as stack:
        if has_spark_context(spark):
            rows = (EmbeddedRows if tells_rows else ReadRows)(spark)
            progress = Progress(label, partial(_count_tasks, spark.sparkContext.statusTracker()), rows.count)
        else:
            tasks: Any = _ConnectTasks()
            spark.registerProgressHandler(tasks)
            stack.callback(spark.removeProgressHandler, tasks)
            progress = Progress(label, tasks.count, lambda: 0)
        stop = threading.Event()
        watcher = threading.Thread(target=_watch, args=(progress, stop), daemon=True)
        stack.callback(watcher.join)
        stack.callback(stop.set)
        watcher.start()
        yield progress


def _watch(progress: Progress, stop: threading.Event) -> None:
    logged, failing_since = time.monotonic(), math.inf
    # With disable=None tqdm draws only on a terminal.
    with tqdm(total=1.0, bar_format=_BAR, disable=None, leave=False) as bar:
        while not stop.wait(_POLL_S) and time.monotonic() - failing_since < _GIVE_UP_S:
            if bar.disable and time.monotonic() - logged < _LOG_EVERY_S:
                continue
            logged = time.monotonic()
            try:
                line, share = progress.describe()
            except _LOST:  # such as a query that has just ended
                failing_since = min(failing_since, logged)
                continue
            failing_since = math.inf
            if bar.disable and line:
                print(line, file=sys.stderr, flush=True)
            bar.n = share
            bar.set_description_str(line)


def _count_tasks(tracker: Any) -> tuple[int, int]:
    """Return the numbers of finished and of all tasks of the running stages."""
    stages = list(filter(None, map(tracker.getStageInfo, tracker.getActiveStageIds())))
    return sum(stage.numCompletedTasks for stage in stages), sum(stage.numTasks for stage in stages)


class _ConnectTasks:
    """Tasks of the running stages, as a Spark Connect server reports them every two seconds."""

    def __init__(self) -> None:
        self._counts = 0, 0

    def __call__(self, *, stages: Iterable[Any] | None, done: bool, **_others: Any) -> None:
        running = [] if done or stages is None else [stage for stage in stages if not stage.done]
        self._counts = (
            sum(stage.num_completed_tasks for stage in running),
            sum(stage.num_tasks for stage in running),
        )

    def count(self) -> tuple[int, int]:
        return self._counts
