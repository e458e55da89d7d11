"""What is run: each mode of the job with its lake, what it begins with, and what it must end with."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyspark

from lakevec.jobs.spark.java import ensure_java

from .cluster import Cluster
from .content import Rows
from .faults import LONGEST_RUN_S
from .lakes import embedded, make_rows, publish_model, write_lake

ROOT = Path(__file__).resolve().parents[2]
_FAST_JVM = "-XX:+IgnoreUnrecognizedVMOptions -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto"
_CLUSTER = "local-cluster[2,1,1024]"
# Stands for the address of `Cluster`.
_STANDALONE = "standalone"
# Commits of an output before it is appended to, so that its log is folded within the few waves that follow.
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
        Its own words of the command line.
    before : str, default=""
        Mode whose result it begins with; empty for no output.
    model : str, default="a"
    like : str, default=""
        Mode that has the same steps and the same result, so that no run is needed to learn them.
    is_struck : bool, default=True
        Whether it is run to be killed, or only for what others begin with.
    """

    name: str
    lake: str
    words: tuple[str, ...]
    before: str = ""
    model: str = "a"
    like: str = ""
    is_struck: bool = True

    @property
    def is_delta(self) -> bool:
        return "delta" in self.words

    @property
    def is_atomic(self) -> bool:
        """Whether readers must see all that was there before until they see all that is there then."""
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
        Mode("retries", "many", (*_WAVES, "--master", "local[2,4]"), like="new"),
        Mode("cluster", "many", (*_WAVES, *_ON_CLUSTER), like="new"),
        Mode("speculation", "many", (*_WAVES, "--master", _STANDALONE, "--conf", *_SPECULATION), like="new"),
    )
}


@dataclass
class Known:
    """What is known about a mode before it is struck.

    Parameters
    ----------
    mode : Mode
    start : Path or None
        Output to begin with.
    old : Rows or None
        What that holds.
    result : pyarrow.Table
        All rows that must be there in the end, sorted by id.
    new : Rows
        The same.
    points : list of str
        What happens in a run that nobody kills, in order.
    seconds : float
        How long that takes.
    bytes : int
        What it writes.
    """

    mode: Mode
    start: Path | None
    old: Rows | None
    result: pa.Table
    new: Rows
    points: list[str] = field(default_factory=list)
    seconds: float = 0.0
    bytes: int = 0


class Workshop:
    """The folder where lakes, models and outputs of undisturbed runs lie.

    Parameters
    ----------
    folder : Path
    rows : int
        Rows of a lake.
    """

    def __init__(self, folder: Path, rows: int) -> None:
        self.folder = folder.absolute()
        self._rows = rows
        self._lakes: dict[str, pa.Table] = {}
        self._known: dict[str, Known] = {}
        self._archive = self.folder / "classes.jsa"
        self.cluster: Cluster | None = None
        ensure_java()

    def prepare(self) -> None:
        """Make models and lakes."""
        for seed, name in enumerate("ab"):
            publish_model(self.folder / "models" / name, seed=seed)
        # Spark puts the folders of executors into its own.
        home = self.folder / "spark"
        home.mkdir()
        for entry in Path(pyspark.__file__).parent.iterdir():
            if entry.name != "work":
                (home / entry.name).symlink_to(entry)
        ids = np.arange(self._rows)
        few = make_rows(np.arange(10_000_000, 10_000_000 + 10 * _EARLIER_COMMITS))
        many = make_rows(ids)
        self._lakes = {"grown": few, "many": pa.concat_tables([few, many]), "keyed": many}
        for lake in ("grown", "many"):
            write_lake(self._lake(lake), few, _EARLIER_COMMITS)
        write_lake(self._lake("many"), many, 8, number=50)
        write_lake(self._lake("keyed"), many, 4)
        # Nothing changes in a quarter of the rows, so that some files stay.
        is_early = ids < 0.75 * self._rows
        later = make_rows(ids, text=(ids % 89 == 1) & is_early, version=(ids % 83 == 2) & is_early)
        later = later.filter(pa.array((ids % 97 != 0) | ~is_early))
        added = make_rows(np.arange(self._rows, self._rows + self._rows // 100))
        self._lakes["keyed later"] = pa.concat_tables([later, added])
        write_lake(self._lake("keyed later"), self._lakes["keyed later"], 4, number=50)

    def know(self, name: str, *, undisturbed: bool = True) -> Known:
        """Return what a mode must do; unless it is known already, by letting it.

        Parameters
        ----------
        name : str
        undisturbed : bool, default=True
            Whether to run it undisturbed, or to rely on the encoder for what must come out.
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
        before = self.know(mode.before) if mode.before else None  # others begin with what it writes
        if name == "append":
            self._grow()
        expected = embedded(self._lakes[mode.lake], self.model(mode.model)).sort_by("id")
        start = self._output(mode.before) if before is not None else None
        known = Known(mode, start, before.new if before else None, expected, Rows.of(expected))
        self._known[name] = known
        if undisturbed:
            self._run_undisturbed(known)
        return known

    def close(self) -> None:
        """Stop what was started."""
        if self.cluster is not None:
            self.cluster.stop()

    def command(self, mode: Mode, output: Path, scratch: Path, point: str, marker: str) -> list[str]:
        """Return the command line of a run."""
        words = ["--model", self.model(mode.model), "--input", str(self._lake(mode.lake)), "--text", "text"]
        words += ["--output", str(output), "--node-dir", str(self.folder / "node")]
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
            f"spark.driver.extraJavaOptions={_FAST_JVM} {archive}",
            f"spark.executor.extraJavaOptions={_FAST_JVM}",
            f"spark.executorEnv.LAKEVEC_FAULTS={marker}",
            f"spark.eventLog.dir=file://{scratch / 'events'}",
        ]
        driver = [sys.executable, "-m", "tests.faults.driver", str(scratch / "trace"), point]
        return [*driver, *words, *own, "--conf", *conf]

    def start(
        self, mode: Mode, output: Path, scratch: Path, *, point: str = "none", marker: str = ""
    ) -> subprocess.Popen[bytes]:
        """Start a run; what it says goes to ``scratch/log``, what happens to ``scratch/trace``."""
        temporary = scratch / "tmp"
        for folder in (temporary, scratch / "events"):
            folder.mkdir(parents=True, exist_ok=True)
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("SPARK_", "PYSPARK_"))
        }
        environment = {
            **kept,
            "PYSPARK_PYTHON": sys.executable,
            "SPARK_HOME": str(self.folder / "spark"),
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

    def model(self, name: str) -> str:
        return str(self.folder / "models" / name)

    def _lake(self, name: str) -> Path:
        return self.folder / "lakes" / name.replace(" ", "-")

    def _output(self, name: str) -> Path:
        return self.folder / "undisturbed" / name.replace(" ", "-").replace(",", "") / "out"

    def _grow(self) -> None:
        """Add the many rows to the lake that began with few."""
        write_lake(self._lake("grown"), self._lakes["keyed"], 8, number=50)
        self._lakes["grown"] = self._lakes["many"]

    def _run_undisturbed(self, known: Known) -> None:
        """Learn a mode's steps, and that it does what it should when nobody kills it."""
        output = self._output(known.mode.name)
        output.parent.mkdir(parents=True)
        copy_output(known.start, output)
        started = time.monotonic()
        code = self.start(known.mode, output, output.parent, point="learn").wait(LONGEST_RUN_S)
        known.seconds = time.monotonic() - started
        if code != 0:
            raise RuntimeError((output.parent / "log").read_text()[-3000:])
        result = read_output(output, is_delta=known.mode.is_delta).sort_by("id")
        if not Rows.of(result).equals(known.new):
            raise RuntimeError(f"an undisturbed run of {known.mode.name!r} does not write what it should")
        known.result = result
        known.points = [line.split("\t")[0] for line in (output.parent / "trace").read_text().splitlines()]
        had = set() if known.start is None else set(_sizes(known.start))
        known.bytes = sum(size for name, size in _sizes(output).items() if name not in had)


def _sizes(folder: Path) -> dict[str, int]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(file.relative_to(folder)): file.stat().st_size for file in files}


def copy_output(source: Path | None, target: Path) -> None:
    """Copy an output; none leaves nothing."""
    if source is not None:
        shutil.copytree(source, target)


def read_output(output: Path, *, is_delta: bool) -> pa.Table:
    """Read an output as its readers do, with their own libraries' way of finding the files."""
    if not is_delta:
        return pq.read_table(output)
    from deltalake import DeltaTable

    table = DeltaTable(str(output)).to_pyarrow_table()
    plain = {field.name: field.type for field in pq.read_schema(DeltaTable(str(output)).file_uris()[0])}
    return table.cast(pa.schema([(name, plain[name]) for name in table.column_names]))
