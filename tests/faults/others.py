"""Other programs that maintain a Delta table between the runs of the job."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable, Field

NOTE = "note"
# A delete takes the rows whose id has a remainder, one of as many.
_SHARES = 11


def maintain(output: Path) -> None:
    """Add a column, merge all files and remove the old ones; leave the rows as they are."""
    if not DeltaTable.is_deltatable(str(output)):
        return
    table = DeltaTable(str(output))
    add_note(table)
    table.optimize.compact()
    table.create_checkpoint()
    vacuum(table)


def add_note(table: DeltaTable) -> None:
    """Add a column, unless it is there."""
    if NOTE not in [field.name for field in table.schema().fields]:
        table.alter.add_columns([Field(NOTE, "string")])


def vacuum(table: DeltaTable) -> None:
    """Remove all files that the newest version does not list."""
    table.vacuum(0, dry_run=False, enforce_retention_duration=False, full=True)


class Others:
    """Programs that do some of their work before each run, in random order.

    Parameters
    ----------
    output : Path
    seed : int

    Attributes
    ----------
    deleted : set of int
        Ids of the rows that they deleted.
    notes : dict of int to str
        The notes of the rows that have one, after the last work.
    """

    def __init__(self, output: Path, seed: int) -> None:
        self._output = str(output)
        self._rng = np.random.default_rng(seed)
        self.deleted: set[int] = set()
        self.notes: dict[int, str] = {}

    def work(self) -> None:
        """Maintain the table, if there is one; do everything the first time."""
        if not DeltaTable.is_deltatable(self._output):
            return
        jobs = [self._compact, self._order, self._delete, self._note, self._checkpoint, self._vacuum]
        number = int(self._rng.integers(2, len(jobs))) if self.notes else len(jobs)
        for index in self._rng.permutation(len(jobs))[:number]:
            jobs[index]()
        self.notes = dict(self._read_notes())

    def count_lost_notes(self, ids: Iterable[int]) -> int:
        """Return the number of rows that had a note after the last work, and have another or none now."""
        now = dict(self._read_notes())
        kept = self.notes.keys() & set(ids)
        return sum(now.get(number) != self.notes[number] for number in kept)

    def _compact(self) -> None:
        self._table().optimize.compact()

    def _order(self) -> None:
        self._table().optimize.z_order(["id"])

    def _delete(self) -> None:
        before = self._ids()
        self._table().delete(f"id % {_SHARES} = {self._rng.integers(_SHARES)}")
        self.deleted |= before - self._ids()

    def _note(self) -> None:
        table = self._table()
        add_note(table)
        table.update({NOTE: "concat('note ', id)"}, predicate=f"id % 5 = {self._rng.integers(5)}")

    def _checkpoint(self) -> None:
        table = self._table()
        table.create_checkpoint()
        table.cleanup_metadata()

    def _vacuum(self) -> None:
        vacuum(self._table())

    def _table(self) -> DeltaTable:
        return DeltaTable(self._output)

    def _ids(self) -> set[int]:
        return set(self._read(["id"])["id"].to_pylist())

    def _read_notes(self) -> list[tuple[int, str]]:
        names = [field.name for field in self._table().schema().fields]
        if NOTE not in names:
            return []
        rows = self._read(["id", NOTE]).drop_null()
        return list(zip(rows["id"].to_pylist(), rows[NOTE].to_pylist(), strict=True))

    def _read(self, columns: list[str]) -> pa.Table:
        return self._table().to_pyarrow_table(columns=columns)
