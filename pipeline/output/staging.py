"""Staging folders of uncommitted files; each run removes its own, later runs those of dead runs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable

from pyarrow import fs as pafs

from lakevec.pipeline.output.commit_log import Snapshot
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
        self._all = own / "staging"
        self.run = run
        self.folder = self._all / run

    def begin(self) -> None:
        """Create the folder, so that later runs can find it."""
        (self.folder / _MARKER).write_atomic(b"")

    def remove(self) -> None:
        """Remove the folder."""
        self.folder.delete()
        if self._all.exists() and not self._all.list():
            self._all.delete()

    @property
    def age_s(self) -> float:
        """Seconds since the last change in the folder."""
        times = [info.mtime_ns or 0 for info in self.folder.list(recursive=True)]
        return time.time() - max(times, default=0) / 1e9

    def note_committed(self, states: Iterable[Snapshot]) -> None:
        """Write the names of the run's committed files, before later commits replace some of them.

        Parameters
        ----------
        states : iterable of Snapshot
            Snapshots of all generations.
        """
        note = self.folder / _COMMITTED
        if not self.folder.exists() or note.exists():
            return
        names = [
            name
            for state in states
            for name, file in (*state.files.items(), *state.quarantine.items())
            if file.run == self.run
        ]
        note.write_atomic(json.dumps(names).encode())

    def remove_uncommitted(self, output: Location, states: Iterable[Snapshot]) -> None:
        """Remove uncommitted files that the run wrote straight to the output.

        Parameters
        ----------
        output : Location
        states : iterable of Snapshot
            Snapshots of all generations, whose files stay.
        """
        committed = set(json.loads((self.folder / _COMMITTED).read_bytes()))
        for state in states:
            committed |= {*state.files, *state.quarantine}
        for info in output.list(recursive=True):
            name = info.path.removeprefix(f"{output.path}/")
            if self.run in info.base_name and name.endswith(".parquet") and name not in committed:
                (output / name).delete()


def stagings(own: Location) -> list[Staging]:
    """List all staging folders of an output."""
    found = (own / "staging").list()
    return [Staging(own, info.base_name) for info in found if info.type == pafs.FileType.Directory]
