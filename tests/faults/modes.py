"""The modes of the job to strike: each with its lake, its first output and its expected result."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyspark

from lakevec.jobs.spark.java import ensure_java

from . import iceberg
from .cluster import Cluster
from .content import Rows
from .faults import LONGEST_RUN_S
from .lakes import embedded, make_rows, publish_model, write_lake

ROOT = Path(__file__).resolve().parents[2]
_FAST_JVM = "-XX:+IgnoreUnrecognizedVMOptions -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto"
_CLUSTER = "local-cluster[2,1,1024]"
# Placeholder for the address of `Cluster`.
_STANDALONE = "standalone"
# Commits before an append. After a few more micro-batches, the log writes a snapshot.
_EARLIER_COMMITS = 17
_SPECULATION = [
    "spark.speculation=true",
    "spark.speculation.interval=10ms",
    "spark.speculation.multiplier=1.01",
    "spark.speculation.quantile=0.1",
    "spark.speculation.minTaskRuntime=1ms",
    "spark.driver.host=127.0.0.1",
    "spark.cores.max=2",
    "spark.executor.cores=1",
    "spark.eventLog.enabled=true",
    "spark.eventLog.compress=false",
    "spark.eventLog.rolling.enabled=false",
]


@dataclass(frozen=True)
class Mode:
    """A way to run the job.

    Parameters
    ----------
    name : str
    lake : str
        Folder of its input.
    words : tuple of str
        Command-line arguments of this mode alone.
    before : str, default=""
        Mode whose result this one continues; empty for no output.
    model : str, default="a"
    like : str, default=""
        Mode with the same steps and the same result, which saves an undisturbed run.
    is_struck : bool, default=True
        Whether faults strike it. Otherwise it only makes the output that other modes continue.
    is_maintained : bool, default=False
        Whether other programs maintain its Delta table before each run.
    """

    name: str
    lake: str
    words: tuple[str, ...]
    before: str = ""
    model: str = "a"
    like: str = ""
    is_struck: bool = True
    is_maintained: bool = False

    @property
    def is_delta(self) -> bool:
        return "delta" in self.words

    @property
    def is_iceberg(self) -> bool:
        return "iceberg" in self.words

    @property
    def is_atomic(self) -> bool:
        """Whether readers must see either the old output or the new one, and never a mixture."""
        return "--key" in self.words or "--full-refresh" in self.words

    @property
    def is_cluster(self) -> bool:
        return self.is_standalone or _CLUSTER in self.words

    @property
    def is_standalone(self) -> bool:
        return _STANDALONE in self.words


_WAVES = ("--wave-files", "9")
_DELTA = ("--table-format", "delta")
_KEY = ("--key", "id", "--deletes", "remove")
_ON_CLUSTER = ("--master", _CLUSTER)

MODES = {
    mode.name: mode
    for mode in (
        Mode("first rows", "grown", ("--wave-files", "1"), is_struck=False),
        Mode("new", "many", _WAVES),
        Mode("append", "grown", ("--wave-files", "2"), before="first rows"),
        Mode("refresh", "many", (*_WAVES, "--full-refresh"), before="new", model="b"),
        Mode("first keys", "keyed", _KEY, is_struck=False),
        Mode("key", "keyed later", _KEY, before="first keys"),
        Mode("key, other model", "keyed later", _KEY, before="first keys", model="b"),
        Mode("delta", "many", (*_WAVES, *_DELTA)),
        Mode("delta refresh", "many", (*_WAVES, *_DELTA, "--full-refresh"), before="delta", model="b"),
        Mode("first delta keys", "keyed", (*_KEY, *_DELTA), is_struck=False),
        Mode("delta key", "keyed later", (*_KEY, *_DELTA), before="first delta keys"),
        Mode("iceberg", "many", (*_WAVES, *iceberg.WORDS)),
        Mode(
            "iceberg refresh",
            "many",
            (*_WAVES, *iceberg.WORDS, "--full-refresh"),
            before="iceberg",
            model="b",
        ),
        Mode("first iceberg keys", "keyed", (*_KEY, *iceberg.WORDS), is_struck=False),
        Mode("iceberg key", "keyed later", (*_KEY, *iceberg.WORDS), before="first iceberg keys"),
        Mode("first delta rows", "maintained", ("--wave-files", "1", *_DELTA), is_struck=False),
        Mode(
            "delta of others",
            "maintained",
            ("--wave-files", "3", *_DELTA),
            before="first delta rows",
            is_maintained=True,
        ),
        Mode(
            "delta key of others",
            "keyed later",
            (*_KEY, *_DELTA),
            before="first delta keys",
            like="delta key",
            is_maintained=True,
        ),
        Mode("retries", "many", (*_WAVES, "--master", "local[2,4]"), like="new"),
        Mode("cluster", "many", (*_WAVES, *_ON_CLUSTER), like="new"),
        Mode("speculation", "many", (*_WAVES, "--master", _STANDALONE, "--conf", *_SPECULATION), like="new"),
    )
}


@dataclass
class Known:
    """Facts about a mode from an undisturbed run.

    Parameters
    ----------
    mode : Mode
    start : Path or None
        Output to continue.
    old : Rows or None
        The rows of `start`.
    result : pyarrow.Table
        All rows of the expected output, sorted by id.
    new : Rows
        The rows of `result`.
    points : list of str
        Events of an undisturbed run, in order.
    seconds : float
        Duration of that run.
    bytes : int
        Bytes that it writes.
    """

    mode: Mode
    start: Path | None
    old: Rows | None
    result: pa.Table
    new: Rows
    points: list[str] = field(default_factory=list)
    seconds: float = 0.0
    bytes: int = 0

    def without(self, ids: set[int]) -> Known:
        """Return the same without some rows of the result."""
        if not ids:
            return self
        kept = pc.invert(pc.is_in(self.result["id"], pa.array(sorted(ids), pa.int64())))
        result = self.result.filter(kept)
        return replace(self, result=result, new=Rows.of(result))


class Workshop:
    """The folder of lakes, models and outputs of undisturbed runs.

    Parameters
    ----------
    folder : Path
    rows : int
        Rows of a lake.
    java : str, default=""
        Options of Java with an archive of classes. By default the first run makes an archive, for many runs.
    run_here : callable, optional
        Runs a command in this process, for outputs that others continue. By default they are processes.
    """

    def __init__(
        self,
        folder: Path,
        rows: int,
        *,
        java: str = "",
        run_here: Callable[[list[str]], int] | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self._rows, self._java, self._run_here = rows, java, run_here
        self._lakes: dict[str, pa.Table] = {}
        self._known: dict[str, Known] = {}
        self._archive = self.folder / "classes.jsa"
        self.cluster: Cluster | None = None
        ensure_java()

    def prepare(self) -> None:
        """Write models and lakes."""
        for seed, name in enumerate("ab"):
            publish_model(self.folder / "models" / name, seed=seed)
        # Spark creates the folders of executors in its own folder.
        home = self.folder / "spark"
        home.mkdir()
        for entry in Path(pyspark.__file__).parent.iterdir():
            if entry.name != "work":
                (home / entry.name).symlink_to(entry)
        ids = np.arange(self._rows)
        few = make_rows(np.arange(10_000_000, 10_000_000 + 10 * _EARLIER_COMMITS))
        many = make_rows(ids)
        self._lakes = {"grown": few, "maintained": few, "many": pa.concat_tables([few, many]), "keyed": many}
        for lake in ("grown", "maintained", "many"):
            write_lake(self._lake(lake), few, _EARLIER_COMMITS)
        write_lake(self._lake("many"), many, 8, number=50)
        write_lake(self._lake("keyed"), many, 4)
        # A quarter of the rows does not change, so that some files stay.
        is_early = ids < 0.75 * self._rows
        later = make_rows(ids, text=(ids % 89 == 1) & is_early, version=(ids % 83 == 2) & is_early)
        later = later.filter(pa.array((ids % 97 != 0) | ~is_early))
        added = make_rows(np.arange(self._rows, self._rows + self._rows // 100))
        self._lakes["keyed later"] = pa.concat_tables([later, added])
        write_lake(self._lake("keyed later"), self._lakes["keyed later"], 4, number=50)

    def know(self, name: str, *, undisturbed: bool = True) -> Known:
        """Return the facts about a mode; run it undisturbed if they are not known yet.

        Parameters
        ----------
        name : str
        undisturbed : bool, default=True
            Whether to run the mode. Otherwise the encoder alone computes the result.
        """
        if name in self._known:
            return self._known[name]
        mode = MODES[name]
        if mode.is_standalone and self.cluster is None:
            self.cluster = Cluster(self.folder / "spark", self.folder / "cluster")
            self.cluster.start()
        if mode.like:
            like = self.know(mode.like, undisturbed=undisturbed)
            known = replace(like, mode=mode)
            self._known[name] = known
            return known
        before = self.know(mode.before) if mode.before else None  # so that its output exists
        if name in ("append", "delta of others"):
            self._grow(mode.lake)
        expected = embedded(self._lakes[mode.lake], self.model(mode.model)).sort_by("id")
        start = self._output(mode.before) if before is not None else None
        known = Known(mode, start, before.new if before else None, expected, Rows.of(expected))
        self._known[name] = known
        if undisturbed:
            self._run_undisturbed(known)
        return known

    def close(self) -> None:
        """Stop the cluster."""
        if self.cluster is not None:
            self.cluster.stop()

    def command(self, mode: Mode, output: Path, scratch: Path, point: str, marker: str) -> list[str]:
        """Return the command line of a run."""
        words = self._words(mode, output)
        if "--master" not in mode.words:
            words += ["--master", "local[2]"]
        url = self.cluster.url if self.cluster is not None else ""
        own = [url if word == _STANDALONE else word for word in mode.words]
        conf = [] if "--conf" not in own else own[own.index("--conf") + 1 :]
        own = own[: own.index("--conf")] if conf else own
        archive = f"-XX:SharedArchiveFile={self._archive}"
        if not self._archive.exists() and not mode.is_cluster and point == "learn":
            archive = f"-XX:ArchiveClassesAtExit={self._archive}"
        conf += [
            "spark.ui.enabled=false",
            "spark.sql.shuffle.partitions=2",
            f"spark.driver.extraJavaOptions={self._java or f'{_FAST_JVM} {archive}'}",
            f"spark.executor.extraJavaOptions={_FAST_JVM}",
            f"spark.executorEnv.LAKEVEC_FAULTS={marker}",
            f"spark.eventLog.dir=file://{scratch / 'events'}",
        ]
        driver = [sys.executable, "-m", "tests.faults.driver", str(scratch / "trace"), point]
        return [*driver, *words, *own, "--conf", *conf]

    def _words(self, mode: Mode, output: Path) -> list[str]:
        words = ["--model", self.model(mode.model), "--input", str(self._lake(mode.lake)), "--text", "text"]
        return [*words, "--output", str(output), "--node-dir", str(self.folder / "node")]

    def start(
        self, mode: Mode, output: Path, scratch: Path, *, point: str = "none", marker: str = ""
    ) -> subprocess.Popen[bytes]:
        """Start a run; write its log to ``scratch/log`` and its events to ``scratch/trace``."""
        temporary = scratch / "tmp"
        for folder in (temporary, scratch / "events"):
            folder.mkdir(parents=True, exist_ok=True)
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("SPARK_", "PYSPARK_"))
        }
        environment = {
            **kept,
            **iceberg.environment(output),
            "PYSPARK_PYTHON": sys.executable,
            # An archive holds the classes of one folder.
            "SPARK_HOME": str(Path(pyspark.__file__).parent if self._java else self.folder / "spark"),
            "TMPDIR": str(temporary),
            "SPARK_LOCAL_DIRS": str(temporary),
            "LAKEVEC_FAULTS": marker,
        }
        with (scratch / "log").open("ab") as log:
            return subprocess.Popen(
                self.command(mode, output, scratch, point, marker),
                env=environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def copy_start(self, known: Known, output: Path, scratch: Path) -> None:
        """Make the output that a run continues."""
        if known.start is None:
            return
        if not known.mode.is_iceberg:
            shutil.copytree(known.start, output)
        elif self.start(MODES[known.mode.before], output, scratch).wait(LONGEST_RUN_S) != 0:
            # An Iceberg table can't be moved, so it is made in its place.
            raise RuntimeError((scratch / "log").read_text()[-3000:])

    def model(self, name: str) -> str:
        return str(self.folder / "models" / name)

    def _lake(self, name: str) -> Path:
        return self.folder / "lakes" / name.replace(" ", "-")

    def _output(self, name: str) -> Path:
        return self.folder / "undisturbed" / name.replace(" ", "-").replace(",", "") / "out"

    def _grow(self, lake: str) -> None:
        """Add most rows to a lake that began with few."""
        write_lake(self._lake(lake), self._lakes["keyed"], 8, number=50)
        self._lakes[lake] = self._lakes["many"]

    def _run_undisturbed(self, known: Known) -> None:
        """Run a mode undisturbed: record its steps, and check its result."""
        output = self._output(known.mode.name)
        output.parent.mkdir(parents=True)
        self.copy_start(known, output, output.parent / "before")
        had = set(_sizes(output))
        started = time.monotonic()
        if self._run_here is not None and not known.mode.is_struck:
            code = self._run_here([*self._words(known.mode, output), *known.mode.words])
        else:
            code = self.start(known.mode, output, output.parent, point="learn").wait(LONGEST_RUN_S)
        known.seconds = time.monotonic() - started
        log, trace = output.parent / "log", output.parent / "trace"
        if code != 0:
            raise RuntimeError(log.read_text()[-3000:] if log.exists() else f"exit code {code}")
        result = read_output(output, known.mode).sort_by("id")
        if not Rows.of(result).equals(known.new):
            raise RuntimeError(f"an undisturbed run of {known.mode.name!r} does not write what it should")
        known.result = result
        steps = trace.read_text().splitlines() if trace.exists() else []
        known.points = [line.split("\t")[0] for line in steps]
        known.bytes = sum(size for name, size in _sizes(output).items() if name not in had)


def _sizes(folder: Path) -> dict[str, int]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(file.relative_to(folder)): file.stat().st_size for file in files}


def read_output(output: Path, mode: Mode) -> pa.Table:
    """Read an output with readers' libraries, which find the files in their own way."""
    if mode.is_iceberg:
        return iceberg.read(output)
    if not mode.is_delta:
        return pq.read_table(output)
    from deltalake import DeltaTable

    table = DeltaTable(str(output))
    # The rows come with types that pyarrow can't sort, such as views of strings.
    return table.to_pyarrow_table().cast(pa.schema(table.schema().to_arrow()).remove_metadata())
