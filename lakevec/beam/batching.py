"""A DoFn that gathers the elements of a bundle in batches, and takes tables one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.utils.windowed_value import WindowedValue

from lakevec.beam.elements import Fields

# A batch has no more rows or characters.
_ROWS = 4096
_CHARS = 1 << 22


class BatchFn(beam.DoFn):
    """Give batches to `handle` and tables to `handle_table`.

    Windows, timestamps and panes stay with each element. Beam's ``BatchElements`` gives all elements of a
    batch one timestamp.
    """

    fields: Fields

    def handle(self, batch: Sequence[WindowedValue]) -> Iterator[Any]:
        """Yield windowed results of windowed elements."""
        raise NotImplementedError

    def handle_table(self, rows: pa.Table) -> Iterator[Any]:
        """Yield the results of a table."""
        raise NotImplementedError

    def start_bundle(self) -> None:
        """Forget elements of a bundle that failed."""
        self._waiting: list[WindowedValue] = []
        self._chars = 0

    # Beam asks for each window of an element by itself, since `process` names it.
    def process(
        self,
        element: Any,
        timestamp: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
        pane: Any = beam.DoFn.PaneInfoParam,
    ) -> Iterator[Any]:
        """Handle a table; let another element wait until its batch is full."""
        if isinstance(element, pa.Table):
            yield from self.handle_table(element)
            return
        self._waiting.append(WindowedValue(element, timestamp, (window,), pane))
        text = self.fields.read(element)
        self._chars += len(text) if isinstance(text, str | bytes) else 0
        if len(self._waiting) >= _ROWS or self._chars >= _CHARS:
            yield from self._handle_waiting()

    def finish_bundle(self) -> Iterator[Any]:
        """Handle the last batch."""
        if self._waiting:
            yield from self._handle_waiting()

    def _handle_waiting(self) -> Iterator[Any]:
        waiting = self._waiting
        self.start_bundle()
        yield from self.handle(waiting)
