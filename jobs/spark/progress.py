"""Progress of a Spark job: a bar on a terminal, or a line every 30 seconds in a log."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_POLL_S = 0.5
_LOG_EVERY_S = 30.0


@contextmanager
def show_progress(spark: SparkSession, label: str) -> Iterator[None]:
    """Show how many tasks of the running stages are done, until the block ends.

    Spark Connect has no status tracker, so nothing is shown there.
    """
    context = getattr(spark, "_sc", None)
    if context is None:
        yield
        return
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(context.statusTracker(), label, stop), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()


def _watch(tracker: Any, label: str, stop: threading.Event) -> None:
    started = logged = time.monotonic()
    # With disable=None tqdm draws only on a terminal.
    with tqdm(desc=label, unit="task", disable=None, leave=False) as bar:
        while not stop.wait(_POLL_S):
            done, total = _count_tasks(tracker)
            bar.total, bar.n = total, done
            bar.refresh()
            now = time.monotonic()
            if bar.disable and total and now - logged >= _LOG_EVERY_S:
                logged = now
                line = f"{label}: {done} of {total} tasks after {now - started:.0f} s"
                print(line, file=sys.stderr, flush=True)


def _count_tasks(tracker: Any) -> tuple[int, int]:
    """Return the numbers of finished and of all tasks of the running stages."""
    stages = list(filter(None, map(tracker.getStageInfo, tracker.getActiveStageIds())))
    return sum(stage.numCompletedTasks for stage in stages), sum(stage.numTasks for stage in stages)
