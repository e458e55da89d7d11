"""What a task wrote and what a run wrote, as plain values that travel as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from pipeline.encoding.encoder import EncodingCounts


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
    counts : dict of str to EncodingCounts
        What was seen in each text column.
    """

    name: str
    rows: int
    bytes: int
    counts: dict[str, EncodingCounts]

    def to_json(self) -> str:
        """Return the entry as one line."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> FileEntry:
        """Read an entry back from `to_json`."""
        fields = json.loads(line)
        counts = {column: EncodingCounts(**values) for column, values in fields.pop("counts").items()}
        return cls(counts=counts, **fields)


def sum_counts(entries: Iterable[FileEntry]) -> dict[str, EncodingCounts]:
    """Add up what all files saw, per text column.

    Parameters
    ----------
    entries : iterable of FileEntry

    Returns
    -------
    dict of str to EncodingCounts
    """
    total: dict[str, EncodingCounts] = {}
    for entry in entries:
        for column, counts in entry.counts.items():
            total[column] = total.get(column, EncodingCounts()) + counts
    return total
