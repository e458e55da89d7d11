"""The part shapes: the job on inputs of unusual shapes, beside the usual lake."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakevec.jobs.benchmarks import timing
from lakevec.jobs.benchmarks.corpus import Workload
from lakevec.jobs.benchmarks.spark_parts import alone, quiet_session, run_job
from lakevec.jobs.benchmarks.timing import Comparison

_USUAL = "the usual files"
_ROWS_PER_SMALL_FILE = 100
_COLUMNS = 300
_TEXTS_PER_LONG_TEXT = 240


def measure_shapes(workload: Workload) -> Iterator[Comparison]:
    """Embed many small files, one large row group, many columns and long texts, in turn."""
    settings, output = workload.settings, workload.folder / "vectors"
    memory: dict[str, Any] = {}

    def run(way: str) -> int:
        record = run_job(settings, lakes[way], output)
        memory[way] = record["memory"]["worker_peak_bytes"]
        return int(record["rows"])

    lakes = {_USUAL: workload.lake(), **_write_lakes(workload, workload.folder / "lake-shapes")}
    with quiet_session(settings, verbose=workload.verbose) as spark:
        run_job(settings, workload.lake(), output)  # warms up
        ways = {way: alone(spark, way, partial(run, way), output) for way in lakes}
        rates = timing.take_turns(ways, settings.repeats)
        shutil.rmtree(output)
    seconds = ", ".join(f"{rate.way} {rate.seconds:.1f} s" for rate in rates)
    peaks = ", ".join(f"{way} {peak / 1e6:,.0f} MB" for way, peak in memory.items())
    notes = [f"A run took: {seconds}.", f"The largest Python worker peaked at: {peaks}."]
    yield Comparison("shapes of inputs", rates, _USUAL, notes, {"memory": memory})


def _write_lakes(workload: Workload, folder: Path) -> dict[str, Path]:
    """Write a lake of each shape from the texts of the lake; return them by way."""
    text, rows, texts = workload.settings.text, workload.settings.rows, workload.texts
    random = np.random.default_rng(0)
    files = max(rows // 200, 1)
    lakes = {
        f"{files:,} files of {_ROWS_PER_SMALL_FILE} rows": folder / "files",
        f"one row group of {2 * rows:,} rows": folder / "group",
        f"{_COLUMNS} columns": folder / "columns",
        f"texts of {_TEXTS_PER_LONG_TEXT} paragraphs": folder / "texts",
    }
    for lake in lakes.values():
        lake.mkdir(parents=True)
    small, group, columns, long = lakes.values()
    for number in range(files):
        places = random.integers(0, len(texts), _ROWS_PER_SMALL_FILE)
        pq.write_table(pa.table({text: texts.take(places)}), small / f"{number:05d}.parquet")
    many = pa.table({text: texts.take(random.integers(0, len(texts), 2 * rows))})
    pq.write_table(many, group / "rows.parquet", row_group_size=2 * rows)
    pq.write_table(_widen(many.slice(0, max(rows // 5, 1)), random), columns / "rows.parquet")
    lengths = np.full(max(rows // 300, 1), _TEXTS_PER_LONG_TEXT)
    parts = pa.ListArray.from_arrays(
        pa.array(np.append(0, np.cumsum(lengths)), pa.int32()),
        texts.take(random.integers(0, len(texts), lengths.sum())).cast(pa.string()),
    )
    pq.write_table(pa.table({text: pc.binary_join(parts, "\n\n")}), long / "rows.parquet")
    return lakes


def _widen(rows: pa.Table, random: np.random.Generator) -> pa.Table:
    """Add integers, numbers and repeated words up to 300 columns."""
    words = pa.array([f"value {number}" for number in range(1000)])
    kinds = [
        lambda: pa.array(random.integers(0, 1000, len(rows))),
        lambda: pa.array(random.random(len(rows))),
        lambda: words.take(random.integers(0, 1000, len(rows))),
    ]
    for number in range(_COLUMNS - 1):
        rows = rows.append_column(f"column{number}", kinds[number % len(kinds)]())
    return rows
