"""Staging folders of uncommitted files; each run removes its own, later runs those of dead runs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable

from pyarrow import fs as pafs

from lakevec.pipeline.storage import Location

_MARKER = "run"
_COMMITTED = "committed.json"


class Staging:
    """The staging folder of one run.

    Parameters
    ----------
    own : Location
        The output's own folder.
    run : str
    """

    def __init__(self, own: Location, run: str) -> None:
        self.run = run
        self.folder = own / "staging" / run

    def begin(self) -> None:
        """Create the folder, so that later runs can find it."""
        (self.folder / _MARKER).write_atomic(b"")

    def remove(self) -> None:
        """Remove the folder."""
        self.folder.delete()
        self.folder.parent.delete_if_empty()

    @property
    def age_s(self) -> float:
        """Seconds since the last change in the folder."""
        times = [info.mtime_ns or 0 for info in self.folder.list(recursive=True)]
        return time.time() - max(times, default=0) / 1e9

    def note_committed(self, names: Iterable[str]) -> None:
        """Write the names of the run's committed files, before later commits replace some of them."""
        note = self.folder / _COMMITTED
        if self.folder.exists() and not note.exists():
            note.write_atomic(json.dumps(list(names)).encode())

    def remove_uncommitted(self, output: Location, kept: Iterable[str]) -> None:
        """Remove the run's files from the output, except its noted files and those named in `kept`."""
        committed = {*kept, *json.loads((self.folder / _COMMITTED).read_bytes())}
        for name in sorted(output.files() - committed):
            if self.run in name.rpartition("/")[2] and name.endswith(".parquet"):
                (output / name).delete()


def stagings(own: Location) -> list[Staging]:
    """List all staging folders of an output."""
    found = (own / "staging").list()
    return [Staging(own, info.base_name) for info in found if info.type == pafs.FileType.Directory]
