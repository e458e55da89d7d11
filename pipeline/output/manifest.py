"""What a task wrote and what a run wrote, as plain values that travel as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass

# Per text column, what was seen and how often.
Counts = dict[str, dict[str, int]]


@dataclass(frozen=True)
class FileEntry:
    """One Parquet file of one successful task attempt.

    Parameters
    ----------
    name : str
        File name, without folder.
    rows : int
        Rows in the file.
    bytes : int
        Size of the file.
    counts : dict of str to dict of str to int
        What was seen in each text column.
    """

    name: str
    rows: int
    bytes: int
    counts: Counts

    def to_json(self) -> str:
        """Return the entry as one line."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> FileEntry:
        """Read an entry back from `to_json`."""
        return cls(**json.loads(line))


def sum_counts(entries: Iterable[FileEntry]) -> Counts:
    """Add up what all files saw, per text column.

    Parameters
    ----------
    entries : iterable of FileEntry

    Returns
    -------
    dict of str to dict of str to int
    """
    total: dict[str, Counter[str]] = {}
    for entry in entries:
        for column, counts in entry.counts.items():
            total.setdefault(column, Counter()).update(counts)
    return {column: dict(counts) for column, counts in total.items()}
