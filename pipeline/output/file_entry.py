"""What a task wrote and what a run wrote, as plain values that travel as JSON."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from lakevec.pipeline.storage import Location

# Per text column, what was seen and how often.
Counts = dict[str, dict[str, int]]

# Everything of ours that is no row lies here, below the output; Parquet readers skip the name.
OWN_FOLDER = "_lakevec"
# Spark writes these as % and two digits; no name of ours has them. Nor has one half of a surrogate pair.
_CONTROL = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
QUARANTINE = f"{OWN_FOLDER}/quarantine/"


@dataclass(frozen=True)
class FileEntry:
    """One Parquet file of one successful task attempt.

    Parameters
    ----------
    name : str
        File name, below the output's folder.
    rows : int
        Rows in the file.
    bytes : int
        Size of the file.
    counts : dict of str to dict of str to int
        What was seen in each text column.
    worker : dict
        The process that wrote it: ``host``, ``pid`` and its memory, ``peak_bytes`` and ``own_bytes``.
    sha256 : str
        Of the file's bytes, hexadecimal; empty where nobody asked for it.
    """

    name: str
    rows: int
    bytes: int
    counts: Counts
    worker: dict[str, str | int] = field(default_factory=dict)
    sha256: str = ""

    @property
    def is_quarantine(self) -> bool:
        """Whether its rows could not be embedded."""
        return self.name.startswith(QUARANTINE)

    def to_json(self) -> str:
        """Return the entry as one line."""
        return json.dumps(asdict(self), ensure_ascii=False)


def check_name(name: str) -> str:
    """Make sure that a file's name can't lead out of the output, or to what is not a run's.

    Parameters
    ----------
    name : str
        Name of a file of rows, or of rows in quarantine, below the output.

    Returns
    -------
    str
        The same.

    Raises
    ------
    ValueError
    """
    parts = name.removeprefix(QUARANTINE).split("/")
    is_hidden = any(part.startswith((".", "_")) and "=" not in part for part in parts)
    if _CONTROL.search(name) or "\\" in name or "" in parts or is_hidden or not name.endswith(".parquet"):
        raise ValueError("must be the name of a Parquet file below the output")
    return name


def read_record(output: Location) -> dict[str, Any]:
    """Read the ``run.json`` of an output's last run.

    Parameters
    ----------
    output : Location

    Returns
    -------
    dict
        Empty where there is none that can be read.
    """
    try:
        record = json.loads((output / OWN_FOLDER / "run.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


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


def sum_memory(entries: Iterable[FileEntry]) -> dict[str, int]:
    """Say how much memory the workers of a run took.

    Parameters
    ----------
    entries : iterable of FileEntry

    Returns
    -------
    dict of str to int
        ``workers``, how many there were; ``worker_peak_bytes``, the most that one had resident, the mapped
        table included; ``node_own_bytes``, the most that all workers of one node had for themselves.
    """
    workers: dict[tuple[str | int, str | int], dict[str, int]] = {}
    for entry in entries:
        known = workers.setdefault((entry.worker["host"], entry.worker["pid"]), Counter())
        for key in ("peak_bytes", "own_bytes"):
            known[key] = max(known[key], int(entry.worker[key]))
    nodes: Counter[str | int] = Counter()
    for (host, _), memory in workers.items():
        nodes[host] += memory["own_bytes"]
    return {
        "workers": len(workers),
        "worker_peak_bytes": max(memory["peak_bytes"] for memory in workers.values()),
        "node_own_bytes": max(nodes.values()),
    }
