"""What a task reports about a file that it wrote, and sums over such reports."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

# Counts for each text column, such as rows, nulls and tokens.
Counts = dict[str, dict[str, int]]

# Folder below the output for state, staging, lease and quarantine; Parquet readers skip the name.
OWN_FOLDER = "_lakevec"
# lakevec never writes these into a name: Spark escapes control characters, and a lone surrogate is invalid.
_CONTROL = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
QUARANTINE = f"{OWN_FOLDER}/quarantine/"


@dataclass(frozen=True)
class FileEntry:
    """One Parquet file of one successful task attempt.

    Parameters
    ----------
    name : str
        Name below the output's folder.
    rows : int
        Rows in the file.
    bytes : int
        Size of the file.
    counts : dict of str to dict of str to int
        Counts for each text column.
    worker : dict
        The process that wrote the file: ``host``, ``pid`` and its memory, ``peak_bytes`` and ``own_bytes``.
    sha256 : str
        Checksum of the file, hexadecimal; empty unless ``sha256`` is set.
    texts : int or None
        Number of texts whose first chunk is in the file. None if the file has a row per text.
    """

    name: str
    rows: int
    bytes: int
    counts: Counts
    worker: dict[str, str | int] = field(default_factory=dict)
    sha256: str = ""
    texts: int | None = None

    @property
    def input_rows(self) -> int:
        """Rows of the input that the file stands for."""
        return self.rows if self.texts is None else self.texts

    @property
    def is_quarantine(self) -> bool:
        """Whether the file holds rows that could not be embedded."""
        return self.name.startswith(QUARANTINE)

    def to_json(self) -> str:
        """Return the entry as one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)


def check_name(name: str) -> str:
    """Return the name of an output file; raise ValueError if it is unsafe or hidden."""
    visible = name.removeprefix(QUARANTINE)
    is_odd = _CONTROL.search(name) or "\\" in name or "" in visible.split("/")
    if is_odd or is_hidden(visible) or not name.endswith(".parquet"):
        raise ValueError("must be the name of a Parquet file below the output")
    return name


def is_hidden(name: str) -> bool:
    """Return whether Parquet readers skip a file because of its name or its folder's."""
    return any(part.startswith((".", "_")) and "=" not in part for part in name.split("/"))


def merge_counts(parts: Iterable[Counts]) -> Counts:
    """Add up counts, column by column."""
    total: dict[str, Counter[str]] = {}
    for part in parts:
        for column, counts in part.items():
            total.setdefault(column, Counter()).update(counts)
    return {column: dict(counts) for column, counts in total.items()}


def sum_memory(entries: Iterable[FileEntry]) -> dict[str, int]:
    """Sum up the memory of a run's workers.

    Returns
    -------
    dict of str to int
        ``workers``: their number. ``worker_peak_bytes``: the largest resident memory of a worker, mapped
        table included. ``node_own_bytes``: the largest sum of the private memory of a node's workers.
    """
    workers = pa.Table.from_pylist([entry.worker for entry in entries])
    workers = workers.group_by(["host", "pid"]).aggregate([("peak_bytes", "max"), ("own_bytes", "max")])
    nodes = workers.group_by("host").aggregate([("own_bytes_max", "sum")])
    return {
        "workers": workers.num_rows,
        "worker_peak_bytes": pc.max(workers["peak_bytes_max"]).as_py(),
        "node_own_bytes": pc.max(nodes["own_bytes_max_sum"]).as_py(),
    }
