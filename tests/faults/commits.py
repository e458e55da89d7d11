"""Kill the commit alone, without Spark, at every single change that it makes to files.

A few lines stand in for the tasks, and each run is a fork, so a kill costs a tenth of a second. So
``python -m tests.faults.commits`` can try all points of all modes, and pairs of points.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import deltalake  # noqa: F401 - once for all forks, as pandas
import pandas as pd  # noqa: F401
import pyarrow as pa
import pyarrow.parquet as pq

from lakevec.pipeline.errors import LakevecError
from lakevec.pipeline.output.commit_log import Commit, InputBatch
from lakevec.pipeline.output.file_entry import FileEntry
from lakevec.pipeline.output.output_folder import OpenOutput, OutputFolder
from lakevec.pipeline.output.parquet_writer import FileLayout, TaskParquetWriter
from lakevec.pipeline.output.table_metadata import TableMetadata

from . import iceberg
from .driver import Points, watch_changes
from .others import maintain

_LAYOUT = FileLayout(embedding_columns=(), compression="none", metadata={})
_ROWS_A_FILE = 4
_FIELDS = [("id", "long"), ("vector", "long")]
_SCHEMA = json.dumps(
    {
        "type": "struct",
        "fields": [{"name": name, "type": kind, "nullable": True, "metadata": {}} for name, kind in _FIELDS],
    }
)

# Rows to compare: an id, and a number that stands for its vector.
View = list[tuple[int, int]]


@dataclass(frozen=True)
class Play:
    """A kind of run.

    Parameters
    ----------
    name : str
    model : int
        The number that stands for each vector.
    waves : int
        Number of batches.
    is_delta, is_refresh, is_rewrite : bool
        Whether it writes a Delta table, refreshes the output, or replaces the files of the first ids.
    is_iceberg : bool
        Whether it writes an Iceberg table, whose catalog lies beside the output.
    is_maintained : bool
        Whether other programs maintain the Delta table before each run.
    """

    name: str
    model: int = 1
    waves: int = 3
    is_delta: bool = False
    is_refresh: bool = False
    is_rewrite: bool = False
    is_iceberg: bool = False
    is_maintained: bool = False

    @property
    def is_atomic(self) -> bool:
        return self.is_refresh or self.is_rewrite

    def result(self) -> View:
        """Return the rows that the finished output must hold."""
        ids = range(self.waves * 2 * _ROWS_A_FILE)
        return [(number, self._vector(number)) for number in ids]

    def allows(self, old: View, seen: View) -> bool:
        """Return whether readers may see these rows while the play replaces or extends the old ones."""
        new = self.result()
        if self.is_atomic:
            return seen in (old, new)
        return len(seen) == len(set(seen)) and set(old) <= set(seen) <= set(new)

    def _vector(self, number: int) -> int:
        return 7 if self.is_rewrite and number < 3 * _ROWS_A_FILE else self.model

    def run(self, folder: Path | str, on_step: Callable[[str], None]) -> None:
        """Begin, commit and finish an output as the job does."""
        if self.is_iceberg:
            os.environ.update(iceberg.environment(folder))
        run = f"run-{os.getpid()}-{os.urandom(3).hex()}"
        found = OutputFolder(str(folder), run, on_step=on_step)
        found.inspect()
        with found.open(grace_s=0.0) as output:
            output.begin(self._contract(), _SCHEMA, refresh=self.is_refresh)
            if self.is_rewrite:
                self._rewrite(output, run)
            else:
                self._append(output, run)
            output.finish({"run": run})

    def _append(self, output: OpenOutput, run: str) -> None:
        known = output.state.inputs.get("lake")
        # Spark's checkpoint replays the last batch at most.
        for batch in range(known.batch if known else 0, self.waves):
            wave = InputBatch(input="lake", batch=batch, query="q")
            output.state.check_follows(wave)
            if output.state.has(wave):
                continue
            first = batch * 2 * _ROWS_A_FILE
            added = [
                self._write(output, f"{batch}-{part}-{run}", range(start, start + _ROWS_A_FILE))
                for part, start in enumerate((first, first + _ROWS_A_FILE))
            ]
            self._commit(output, run, wave, added)

    def _rewrite(self, output: OpenOutput, run: str) -> None:
        output.check_can_replace()
        removed, added = [], []
        for name in sorted(output.state.files):
            file = output.location / name
            rows = pq.read_table(file.path, filesystem=file.filesystem).to_pylist()
            ids = [row["id"] for row in rows]
            if [row["vector"] for row in rows] != [self._vector(number) for number in ids]:
                removed.append(name)
                added.append(self._write(output, f"again-{len(added)}-{run}", ids))
        if removed:
            self._commit(output, run, InputBatch(input="key"), added, removed=removed)

    def _write(self, output: OpenOutput, stem: str, ids: range | list[int]) -> FileEntry:
        rows = {"id": list(ids), "vector": [self._vector(number) for number in ids]}
        layout = replace(_LAYOUT, field_ids=output.field_ids)
        with TaskParquetWriter(output.staging, f"part-{stem}", layout) as files:
            files.write(pa.RecordBatch.from_pydict(rows), {})
            return files.close()[0]

    def _commit(
        self,
        output: OpenOutput,
        run: str,
        wave: InputBatch,
        added: list[FileEntry],
        *,
        removed: list[str] | None = None,
    ) -> None:
        rows = sum(entry.rows for entry in added)
        number = output.state.number + 1
        output.commit(
            Commit(number=number, run=run, wave=wave, rows_read=rows, added=added, removed=removed or [])
        )

    def _contract(self) -> TableMetadata:
        return TableMetadata(
            generation="",
            fingerprint=str(self.model),
            dimensions=1,
            columns={"id": "vector"},
            vector_type="float32",
            max_tokens=None,
            schema_of_files=dict(_FIELDS),
            partition_by=(),
            key=None,
            table_format="delta" if self.is_delta else "iceberg" if self.is_iceberg else "parquet",
            catalog="faults" if self.is_iceberg else "",
            table=iceberg.NAME if self.is_iceberg else "",
        )


# Each play with the play whose output it continues. "append" reaches the commit that writes a snapshot.
_OLD, _OLD_DELTA = Play("old", waves=18), Play("old delta", waves=3, is_delta=True)
_OLD_ICEBERG = Play("old iceberg", waves=3, is_iceberg=True)
PLAYS: dict[Play, Play | None] = {
    Play("new"): None,
    Play("append", waves=21): _OLD,
    Play("refresh", waves=2, model=2, is_refresh=True): _OLD,
    Play("rewrite", waves=18, is_rewrite=True): _OLD,
    Play("new delta", is_delta=True): None,
    Play("append delta", waves=5, is_delta=True): _OLD_DELTA,
    Play("refresh delta", waves=2, model=2, is_delta=True, is_refresh=True): _OLD_DELTA,
    Play("rewrite delta", is_delta=True, is_rewrite=True): _OLD_DELTA,
    Play("new iceberg", is_iceberg=True): None,
    Play("append iceberg", waves=5, is_iceberg=True): _OLD_ICEBERG,
    Play("refresh iceberg", waves=2, model=2, is_iceberg=True, is_refresh=True): _OLD_ICEBERG,
    Play("rewrite iceberg", is_iceberg=True, is_rewrite=True): _OLD_ICEBERG,
    Play("append maintained delta", waves=5, is_delta=True, is_maintained=True): _OLD_DELTA,
    Play("rewrite maintained delta", is_delta=True, is_rewrite=True, is_maintained=True): _OLD_DELTA,
}


class Stage:
    """Run plays in a folder, each run in a new process.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = folder / "log"

    def prepare(self, play: Play) -> tuple[Path | None, View, list[str]]:
        """Return the output that a play continues, the rows in it, and all points of the play."""
        before = PLAYS[play]
        start = None
        if before is not None:
            start = self._folder / before.name
            if not start.exists():
                # An Iceberg table can't be moved, so make it where the play continues it.
                place = self._place(None)
                if self._run(before, place / "out", "none") != 0:
                    raise RuntimeError(self._log.read_text())
                shutil.copytree(place, start)
        place = self._place(start)
        trace = self._folder / "trace"
        trace.unlink(missing_ok=True)
        if self._run(play, place / "out", "none", trace=trace) != 0:
            raise RuntimeError(self._log.read_text())
        points = [line.partition("\t")[0] for line in trace.read_text().splitlines()]
        return start, before.result() if before else [], points

    def strike(self, play: Play, start: Path | None, old: View, points: list[str]) -> list[str]:
        """Kill one run at each of the points, then let one run finish; return all problems.

        After each run, read the output as a reader does.
        """
        place = self._place(start)
        output = place / "out"
        wrong = []
        for number, point in enumerate([*points, "none"]):
            code = self._run(play, output, point)
            if point == "none" and code != 0:
                wrong.append(f"run {number} ends with {code}: {self._log.read_text().splitlines()[-1]}")
            wrong += [f"after run {number}: {found}" for found in self._check(play, output, old)]
        known = (output.name, iceberg.CATALOG)
        wrong += [f"left {entry.name}" for entry in place.iterdir() if entry.name not in known]
        for found in self._check(play, output, old, is_end=True):
            wrong.append(f"in the end: {found}")
        return wrong

    def _place(self, start: Path | None) -> Path:
        place = self._folder / "place"
        shutil.rmtree(place, ignore_errors=True)
        if start is None:
            place.mkdir()
        else:
            shutil.copytree(start, place)
        return place

    def _run(self, play: Play, output: Path, point: str, *, trace: Path = Path(os.devnull)) -> int:
        if play.is_maintained and self._fork(lambda: maintain(output)) != 0:
            raise RuntimeError(self._log.read_text())

        def work() -> None:
            points = Points(str(trace), point)
            watch_changes(points)
            if play.is_iceberg:
                iceberg.watch_catalog(points)
            play.run(output, points.step)

        return self._fork(work)

    def _check(self, play: Play, output: Path, old: View, *, is_end: bool = False) -> list[str]:
        """Read the output in a new process, since a process with deltalake's threads must not fork."""
        told = self._folder / "view"

        def work() -> None:
            told.write_text(json.dumps(list(_complaints(play, output, old, is_end=is_end))))

        told.unlink(missing_ok=True)
        if self._fork(work) != 0:
            return [self._log.read_text().splitlines()[-1]]
        found: list[str] = json.loads(told.read_text())
        return found

    def _fork(self, work: Callable[[], None]) -> int:
        """Call `work` in a fork; return 0 if done, 1 after a LakevecError, 2 after others, -9 if killed."""
        pid = os.fork()
        if pid:
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        code = 2
        try:
            work()
            code = 0
        except LakevecError as error:
            self._log.write_text(str(error))
            code = 1
        except BaseException:
            self._log.write_text(traceback.format_exc())
        finally:
            os._exit(code)


def _complaints(play: Play, output: Path, old: View, *, is_end: bool) -> Iterator[str]:
    new = play.result()
    seen = sorted(_read(play, output))
    if is_end:
        if seen != new:
            yield f"{len(seen)} rows instead of {len(new)}"
        run = json.loads((output / "_lakevec" / "run.json").read_text())
        yield from () if run else ["no record"]
    elif not play.allows(old, seen):
        yield f"{len(seen)} rows, {len(set(seen) - set(new))} foreign, {len(set(old) - set(seen))} gone"


def _read(play: Play, output: Path) -> View:
    if play.is_delta:
        from deltalake import DeltaTable

        if not DeltaTable.is_deltatable(str(output)):
            return []
        files = DeltaTable(str(output)).file_uris()
    elif play.is_iceberg:
        files = iceberg.list_files(output) or []
    else:
        files = [str(file) for file in output.glob("*.parquet")]
    return [(row["id"], row["vector"]) for file in files for row in pq.read_table(file).to_pylist()]


def with_worse(points: list[str]) -> list[str]:
    """Return the points, and for each change also points where it is torn, fails, or seems to fail."""
    changes = [point.partition(":")[2] for point in points if point.startswith("change:")]
    return points + [f"{word}:{number}" for number in changes for word in ("torn", "failed", "late")]


def strike_every(stride: int, play: Play, folder: Path) -> list[tuple[str, list[str]]]:
    """Kill a play at each `stride`-th point; return the points with problems, and the problems."""
    stage = Stage(folder)
    start, old, points = stage.prepare(play)
    struck = [(point, stage.strike(play, start, old, [point])) for point in with_worse(points)[::stride]]
    return [(point, wrong) for point, wrong in struck if wrong]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.commits", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="plays")
    parser.add_argument(
        "--pairs", type=int, default=0, metavar="N", help="kill the next run at N points, too"
    )
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="lakevec-commits-"))
    stage, kills, failures = Stage(folder), 0, 0
    for play in PLAYS:
        if given.only and play.name not in given.only:
            continue
        start, old, points = stage.prepare(play)
        here = 0
        for first in with_worse(points):
            seconds = [[], *([f"change:{n}"] for n in range(1, given.pairs + 1))]
            for second in seconds:
                chain = [first, *second]
                kills, here = kills + len(chain), here + len(chain)
                if wrong := stage.strike(play, start, old, chain):
                    failures += 1
                    print(f"{play.name}: {', then '.join(chain)}: {'; '.join(wrong)}", flush=True)
        print(f"{play.name}: {here} kills", flush=True)
    shutil.rmtree(folder)
    print(f"{kills} kills, {failures} went wrong")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
