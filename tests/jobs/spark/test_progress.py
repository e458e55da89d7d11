"""Progress in rows: of one long task while it runs, of many short ones, and of Spark's own readers."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark import TaskContext, cloudpickle

from lakevec.jobs.cli import RunContext
from lakevec.jobs.embed import run
from lakevec.jobs.spark import progress
from lakevec.jobs.spark.progress import Progress, show_progress
from lakevec.jobs.spark.row_counts import EmbeddedRows
from lakevec.pipeline.settings.embed import EmbedSettings
from lakevec.udfs import row_progress
from lakevec.udfs.embed_task import EmbedTask
from lakevec.udfs.row_progress import RowProgress

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


class SlowTask(EmbedTask):
    """Takes seconds for one row group, and tells its rows several times a second."""

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        usual, row_progress._EVERY_S = row_progress._EVERY_S, 0.2
        try:
            yield from super().__call__(batches)
        finally:
            row_progress._EVERY_S = usual

    def make_encoder(self) -> Any:
        encoder = super().make_encoder()

        class Slow:
            def encode(self, texts: pa.Array) -> Any:
                time.sleep(0.06)
                return encoder.encode(texts)

        return Slow()


class WatchedTask(SlowTask):
    """Takes its time until the driver has shown rows of the running micro-batch, but for seconds only."""

    shown: Path

    def make_encoder(self) -> Any:
        encoder, shown = EmbedTask.make_encoder(self), self.shown
        before = len(list(shown.iterdir()))

        class Watched:
            def encode(self, texts: pa.Array) -> Any:
                time.sleep(0.06 if len(list(shown.iterdir())) == before else 0)
                return encoder.encode(texts)

        return Watched()


# Workers can't import this file.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log as often as possible."""
    for name in ("_POLL_S", "_LOG_EVERY_S", "_ROWS_EVERY_S"):
        monkeypatch.setattr(progress, name, 0.02)


def batches(sizes: list[int]) -> Iterator[pa.RecordBatch]:
    for size in sizes:
        yield pa.RecordBatch.from_pydict({"c0": ["x"] * size})


def write_rows(folder: Path, name: str, rows: int) -> None:
    pq.write_table(pa.table({"text": ["north"] * rows}), folder / f"{name}.parquet")


def test_blank_lines_stand_for_ten_rows_and_fill_the_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_progress, "_EVERY_S", 0.0)
    counter = RowProgress(batches([7, 9, 0, 99_998]), "entry")
    told = [lines for _ in counter for lines in counter.lines()]
    assert [len(lines) for lines in told] == [1, 10_000]
    for lines in told:
        blank = lines["entry"]
        assert not any(text.strip() for text in blank.to_pylist())
        assert sum(buffer.size for buffer in blank.buffers() if buffer) >= row_progress._BUFFER_BYTES - 8
    assert (list(counter.last_lines()), counter.rows) == ([], 100_014)
    monkeypatch.setattr(row_progress, "_EVERY_S", 3600.0)
    counter = RowProgress(batches([26]), "entry")
    assert [lines for _ in counter for lines in counter.lines()] == []
    assert [len(lines) for lines in counter.last_lines()] == [3]


def test_rows_that_no_poll_saw_belong_to_their_own_micro_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_ROWS_EVERY_S", 0.0)
    rows = [0]
    shown = Progress("embedding", lambda: (1, 4), lambda: rows[0])
    shown.begin_batch(0, lambda: 3000)
    rows[0] = 3000
    shown.begin_batch(1, lambda: 7000)
    rows[0] = 3500
    line, share = shown.describe()
    assert line.startswith("micro-batch 2: 500 of 7,000 rows, ")
    assert share == 500 / 7000


def test_total_of_an_earlier_micro_batch_is_not_the_next_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next batch begins while another thread counts the rows of this one."""
    monkeypatch.setattr(progress, "_ROWS_EVERY_S", 0.0)
    rows = [0]
    shown = Progress("embedding", lambda: (1, 4), lambda: rows[0])

    def count_slowly() -> int:
        shown.begin_batch(1, lambda: 7000)
        return 3000

    shown.begin_batch(0, count_slowly)
    shown.describe()
    rows[0] = 5000
    assert shown.describe()[0].startswith("micro-batch 2: 5,000 of 7,000 rows, ")


def test_micro_batch_begins_even_if_spark_is_lost() -> None:
    def count_rows() -> int:
        raise ConnectionError

    shown = Progress("embedding", lambda: (1, 4), count_rows)
    shown.begin_batch(1, lambda: 7000)
    assert shown.describe()[0].startswith("micro-batch 2: 1 of 4 tasks")


@pytest.mark.usefixtures("impatient")
def test_one_failure_does_not_end_progress(
    spark: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as Spark's, when it is asked for rows of a query that has just ended."""
    calls = []
    describe, told = Progress.describe, threading.Event()

    def fail_first(self: Progress) -> tuple[str, float]:
        calls.append(self)
        if len(calls) == 1:
            raise ConnectionError
        line, share = describe(self)
        if line:
            told.set()
        return line, share

    monkeypatch.setattr(Progress, "describe", fail_first)
    with show_progress(spark, "reading"):
        rows = spark.range(10).mapInArrow(lambda parts: (time.sleep(1) or part for part in parts), "id long")
        while not told.is_set() and len(calls) < 1_000_000:
            rows.collect()
    assert capsys.readouterr().err.startswith("reading: ")


@pytest.mark.usefixtures("spark", "impatient")
def test_one_long_task_shows_its_rows_while_it_runs(
    tiny_model: str, lake: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(lake, "0", 3000)
    settings = EmbedSettings(
        model=tiny_model, input=[str(lake)], text=["text"], output=str(out), batch_rows=75
    )
    run(settings, RunContext(), task_type=SlowTask)
    told = re.findall(r"^embedding: ([\d,]+) of 3,000 rows, .* 0 of 1 tasks", capsys.readouterr().err, re.M)
    assert any(0 < int(rows.replace(",", "")) < 3000 for rows in told), told


@pytest.mark.usefixtures("impatient")
def test_rows_of_all_tasks_add_up_in_every_micro_batch(
    spark: Any, tiny_model: str, lake: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However slowly tasks start and executors report: a task is slow until its rows are shown."""
    for number in range(4):
        write_rows(lake, str(number), 1000 * (number + 1))
    totals: dict[str, int] = {}
    describe, shown = Progress.describe, tmp_path / "shown"

    def note(self: Progress) -> tuple[str, float]:
        line, share = describe(self)
        if found := re.match(r"(.+): [\d,]+ of ([\d,]+) rows, ", line):
            totals[found[1]] = int(found[2].replace(",", ""))
            (shown / found[1]).touch()
        return line, share

    monkeypatch.setattr(Progress, "describe", note)
    shown.mkdir()
    task_type = type("Task", (WatchedTask,), {"shown": shown})
    counter = EmbeddedRows(spark)
    settings = EmbedSettings(
        **{"model": tiny_model, "input": [str(lake)], "text": ["text"], "output": str(out)},
        **{"wave_files": 2, "batch_rows": 20},
    )
    run(settings, RunContext(), task_type=task_type)
    # Spark counts in a thread of its own, which may be behind.
    spark.sparkContext._jsc.sc().listenerBus().waitUntilEmpty(60_000)
    assert counter.count() == 10_000
    # Files written at the same time may be in either micro-batch.
    assert totals.keys() == {"embedding", "micro-batch 2"}
    assert sum(totals.values()) == 10_000


@pytest.mark.usefixtures("impatient")
def test_rows_of_sparks_own_readers_are_counted(
    spark: Any, lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spark knows a task's rows once it has ended: the other task runs until rows are shown."""
    describe, shown, told = Progress.describe, tmp_path / "shown", []

    def note(self: Progress) -> tuple[str, float]:
        line, share = describe(self)
        if re.match(r"reading: [\d,]+ rows, [\d,]+ a second, \d of \d tasks", line):
            told.append(line)
            shown.touch()
        return line, share

    def wait(parts: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        context, ends = TaskContext.get(), time.monotonic() + 60
        while context and context.partitionId() and not shown.exists() and time.monotonic() < ends:
            time.sleep(0.05)
        yield from parts

    monkeypatch.setattr(Progress, "describe", note)
    for number in range(3):
        write_rows(lake, str(number), 5000)
    with show_progress(spark, "reading"):
        assert spark.read.parquet(str(lake)).mapInArrow(wait, "text string").count() == 15_000
    assert told
