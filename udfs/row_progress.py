"""Tells the driver how many rows a running task has embedded: one blank line for every ten rows.

With each heartbeat, Spark's executors report how many rows each node of the plan has put out. A task of
`embed` puts out a line per file when it ends. So it adds blank lines meanwhile, which the plan drops. This
needs neither a port nor a file, and works wherever Spark does.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

ROWS_PER_LINE = 10
_EVERY_S = 2.0
# PySpark sends a worker's output when this many bytes have gathered, or when the task ends.
_BUFFER_BYTES = 65_536


class RowProgress:
    """Counter of a task's rows: iterate over it in place of the task's batches.

    Parameters
    ----------
    batches : iterator of pyarrow.RecordBatch
    column : str
        Name of the lines' column.
    """

    def __init__(self, batches: Iterator[pa.RecordBatch], column: str) -> None:
        self.rows = 0
        self._batches = batches
        self._column = column
        self._lines = 0
        self._told_at = time.monotonic()

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Yield the batches."""
        for batch in self._batches:
            self.rows += batch.num_rows
            yield batch

    def lines(self) -> Iterator[pa.RecordBatch]:
        """Every two seconds, yield blank lines for the rows so far; fill PySpark's buffer with them."""
        now = time.monotonic()
        if now - self._told_at >= _EVERY_S:
            self._told_at = now
            yield from self._take(self.rows // ROWS_PER_LINE, _BUFFER_BYTES)

    def last_lines(self) -> Iterator[pa.RecordBatch]:
        """Yield blank lines for all other rows."""
        yield from self._take(round(self.rows / ROWS_PER_LINE), 0)

    def _take(self, lines: int, total_bytes: int) -> Iterator[pa.RecordBatch]:
        """Yield the lines that are missing; blanks in the last one bring them to `total_bytes`."""
        missing = lines - self._lines
        if missing <= 0:
            return
        self._lines = lines
        ends = np.zeros(missing + 1, dtype=np.int32)
        ends[-1] = max(0, total_bytes - ends.nbytes)
        buffers = [None, pa.py_buffer(ends), pa.py_buffer(b" " * int(ends[-1]))]
        array = pa.Array.from_buffers(pa.string(), missing, buffers)
        yield pa.RecordBatch.from_arrays([array], names=[self._column])
