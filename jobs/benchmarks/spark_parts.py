"""Parts on Spark: the job beside its peers, with more rows, on more cores and with a key; counting."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
from pyspark.sql import functions as f
from pyspark.sql.pandas import functions as pandas_functions

from lakevec import jobs, pipeline, udfs
from lakevec.jobs import embed
from lakevec.jobs.benchmarks import peers, timing
from lakevec.jobs.benchmarks.corpus import KEY, Workload, write_changed_rows
from lakevec.jobs.benchmarks.spark_tasks import CeilingTask, ColdCountTask, ColdTask, EncodeTask
from lakevec.jobs.benchmarks.timing import Comparison, Prepared, Rate
from lakevec.jobs.cli import RunContext
from lakevec.jobs.count import count_lines
from lakevec.jobs.spark.java import Java, ensure_java
from lakevec.jobs.spark.java_options import archive_options, find_spark
from lakevec.jobs.spark.session import open_session
from lakevec.pipeline.corpus.text_counter import warm_up
from lakevec.pipeline.corpus.tokenizer_source import find_tokenizer
from lakevec.pipeline.encoding.node_files import pack_table
from lakevec.pipeline.settings.benchmark import BenchmarkSettings
from lakevec.pipeline.settings.corpus import CountSettings
from lakevec.pipeline.settings.embed import EmbedSettings
from lakevec.udfs.distribution import distribute_files, is_local, ship_code
from lakevec.udfs.embed_task import EmbedTask

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# Spark's overloads don't accept a plain function.
_pandas_udf: Any = pandas_functions.pandas_udf

_LAKEVEC = "lakevec"
_CEILING = "ceiling: lakevec, constant vectors"
_MODEL2VEC = "model2vec in a pandas UDF"
_PEERS = {
    _MODEL2VEC: peers.load_model2vec,
    "StaticEmbedding in a pandas UDF": peers.load_static_embedding,
}
_NO_KEY, _NO_OUTPUT = "everything, without a key", "everything, with a key"
# The share of changed rows, and whether they lie side by side.
_CHANGES = {
    _NO_KEY: (0.0, False),
    _NO_OUTPUT: (0.0, False),
    "nothing changed": (0.0, False),
    "0.1 % changed, anywhere": (0.001, False),
    "1 % changed, anywhere": (0.01, False),
    "1 % changed, side by side": (0.01, True),
    "10 % changed, anywhere": (0.1, False),
}
_PLAIN_JOB = "plain Spark's session and first job"
# A session, and if a file is given, a job that passes its rows through Python.
_PLAIN_SPARK = """
import json, sys
from pyspark.sql import SparkSession
master, conf, *files = sys.argv[1:]
spark = SparkSession.builder.master(master).config(map=json.loads(conf)).getOrCreate()
def same(batches):
    yield from batches
for file in files:
    rows = spark.read.parquet(file)
    rows.mapInArrow(same, rows.schema).collect()
spark.stop()
"""
_ARCHIVE_S = 60
_EMBED, _COUNT = "embed, nothing written", "count"


@contextmanager
def quiet_session(settings: BenchmarkSettings, *, verbose: bool = False) -> Iterator[SparkSession]:
    """Open a session without progress bars, and ship the benchmark's tasks to its executors."""
    conf = {"spark.ui.showConsoleProgress": "false", **settings.conf}
    with open_session("lakevec benchmark", master=settings.master, conf=conf, verbose=verbose) as spark:
        if not is_local(spark):
            ship_code(spark, pipeline, udfs, jobs)
        yield spark


def embed_lake(
    settings: BenchmarkSettings,
    lake: Path,
    output: Path,
    *,
    key: str | None = None,
    task_type: type[EmbedTask] | None = None,
) -> None:
    """Run ``lakevec embed`` with its defaults on the running session."""
    job = EmbedSettings(
        model=settings.model, input=[str(lake)], text=[settings.text], output=str(output), key=key
    )
    with redirect_stdout(io.StringIO()):
        embed.run(job, RunContext(), task_type=task_type)


def run_job(
    settings: BenchmarkSettings, lake: Path, output: Path, *, task_type: type[EmbedTask] = ColdTask
) -> dict[str, Any]:
    """Embed a lake and return the ``run.json``; the output must not exist."""
    embed_lake(settings, lake, output, task_type=task_type)
    record: dict[str, Any] = json.loads((output / "_lakevec" / "run.json").read_text())
    return record


def embed_with_peer(
    spark: SparkSession,
    load: Callable[[str], peers.Encode],
    model: str,
    lake: Path,
    output: Path,
    *,
    text: str = "text",
) -> None:
    """Embed a lake with another library in a pandas UDF, and write it with Spark's Parquet writer.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
    load : callable
        `load_model2vec` or `load_static_embedding` of `lakevec.jobs.benchmarks.peers`.
    model : str
        Folder of a published model.
    lake, output : pathlib.Path
        The output must not exist.
    text : str, default="text"
        Text column.
    """
    udf = _pandas_udf(peers.make_series_function(load, str(Path(model).absolute())), "array<float>")
    embedded = spark.read.parquet(str(lake)).withColumn("vector", udf(f.col(text)))
    embedded.write.parquet(str(output))


def alone(spark: SparkSession, way: str, run: Callable[[], int], output: Path) -> Prepared:
    """Give a way Python workers of its own, and remove the output of the run before.

    In a worker that had imported a peer's libraries, lakevec took a fifth longer.
    """

    def prepare() -> None:
        spark.sparkContext.environment["LAKEVEC_BENCHMARK"] = way
        shutil.rmtree(output, ignore_errors=True)

    return Prepared(prepare, lambda _: run())


def measure_job(workload: Workload) -> Iterator[Comparison]:
    """Embed from Parquet to Parquet in one session, beside pandas UDFs and constant vectors."""
    settings = workload.settings
    output = workload.folder / "vectors"
    job = partial(run_job, settings, workload.lake(), output)
    peers_lake = workload.peers_lake
    started = time.monotonic()
    with quiet_session(settings, verbose=workload.verbose) as spark:
        startup_s = time.monotonic() - started
        memory = job()["memory"]  # not timed, since it warms up the JVM
        ways = {
            **_peer_ways(spark, settings, peers_lake, output),
            _CEILING: lambda: int(job(task_type=CeilingTask)["rows"]),
            _LAKEVEC: lambda: int(job()["rows"]),
        }
        rates = timing.take_turns(
            {way: alone(spark, way, run, output) for way, run in ways.items()}, settings.repeats
        )
        shutil.rmtree(output)
    share = timing.rows_per_s(rates)[_LAKEVEC] / timing.rows_per_s(rates)[_CEILING]
    notes = [
        f"lakevec reaches {share:.0%} of the ceiling: the same job with constant vectors.",
        f"Spark's start of {startup_s:.1f} s is not counted.",
        "lakevec's token cache is empty at the start of every run.",
        _memory_note(memory),
    ]
    facts = {"startup_s": startup_s, "share_of_ceiling": share, "memory": memory}
    yield Comparison("Parquet to Parquet", rates, _MODEL2VEC, notes, facts)


def measure_start(workload: Workload) -> Iterator[Comparison]:
    """Embed one row, and run again with nothing new, beside plain Spark; each way is a new process."""
    settings, folder = workload.settings, workload.folder
    lake, output = folder / "one-row.parquet", folder / "one-row"
    pq.write_table(workload.source.slice(0, 1), lake)
    java = ensure_java()
    os.environ |= {"PYSPARK_PYTHON": sys.executable}
    master, conf = settings.master or "local[*]", json.dumps(settings.conf)
    plain = ["-c", _PLAIN_SPARK, master, conf]
    words = ["--model", settings.model, "--input", str(lake), "--text", settings.text]
    words += ["--output", str(output), "--master", master]
    words += ["--conf", *(f"{key}={value}" for key, value in settings.conf.items())] * bool(settings.conf)
    embed_row = ["-m", "lakevec.jobs.embed", *words]
    timing.run_python(embed_row)
    _await_archive(java)
    ways: dict[str, Callable[[], int] | Prepared] = {
        "plain Spark's session": partial(timing.run_python, plain),
        _PLAIN_JOB: partial(timing.run_python, [*plain, str(lake)]),
        "lakevec embed, one row": Prepared(
            partial(shutil.rmtree, output), lambda _: timing.run_python(embed_row)
        ),
        "lakevec embed, nothing new": partial(timing.run_python, embed_row),
    }
    rates = timing.take_turns(ways, settings.repeats)
    seconds = {rate.way: rate.seconds for rate in rates}
    shown = ", ".join(f"{way} {spent:.1f} s" for way, spent in seconds.items())
    shutil.rmtree(output)
    lake.unlink()
    yield Comparison("start-up", rates, _PLAIN_JOB, [f"From start to exit: {shown}."], {"seconds": seconds})


def _await_archive(java: Java) -> None:
    """Wait until an earlier run's Java, which outlives it, has written the archive of Spark's classes."""
    for _ in range(_ARCHIVE_S):
        if not any("ArchiveClassesAtExit" in option for option in archive_options(java, find_spark())):
            return
        time.sleep(1)


def measure_rows(workload: Workload) -> Iterator[Comparison]:
    """Embed lakes of several sizes, in turn."""
    settings, output = workload.settings, workload.folder / "vectors"
    memory: dict[str, Any] = {}

    def run(way: str) -> int:
        record = run_job(settings, lakes[way], output)
        memory[way] = record["memory"]
        return int(record["rows"])

    sizes = [settings.rows * times for times in settings.growth]
    lakes = {f"lakevec, {rows:,} rows": workload.lake(rows) for rows in sizes}
    with quiet_session(settings, verbose=workload.verbose) as spark:
        run_job(settings, workload.lake(), output)  # warms up
        ways = {way: alone(spark, _LAKEVEC, partial(run, way), output) for way in lakes}
        rates = timing.take_turns(ways, settings.repeats)
        shutil.rmtree(output)
    note = _memory_note(memory[rates[-1].way])
    yield Comparison("more rows", rates, rates[0].way, [note], {"memory": memory})


def measure_cores(workload: Workload) -> Iterator[Comparison]:
    """Embed on several numbers of CPUs with as many local cores, each in a new process tree, in turn."""
    settings, cpus = workload.settings, sorted(os.sched_getaffinity(0))
    most = max(settings.cores)
    if most > len(cpus):
        note = f"Not measured: --cores asks for {most} CPUs, and this process may use {len(cpus)}."
        yield Comparison("cores", [], "", [note])
        return
    ways = {
        cores: f"lakevec, local[{cores}] on {cores} CPU{'s' if cores > 1 else ''}" for cores in settings.cores
    }
    runs: dict[str, list[float]] = {way: [] for way in ways.values()}
    memory = {}
    for _ in range(settings.repeats):
        for cores, way in ways.items():
            local = settings.model_copy(update={"master": f"local[{cores}]"})
            seconds, memory[way] = timing.in_new_process(
                cpus[:cores], time_job, local, workload.lake(), workload.folder / "vectors"
            )
            runs[way].append(settings.rows / seconds)
    rates = [Rate(way, settings.rows, tuple(seen)) for way, seen in runs.items()]
    note = _memory_note(memory[ways[most]])
    yield Comparison("cores", rates, rates[0].way, [note], {"memory": memory})


def time_job(settings: BenchmarkSettings, lake: Path, output: Path) -> tuple[float, dict[str, Any]]:
    """Embed a lake twice in a new session; return seconds and memory of the second run, on a warm JVM."""
    with quiet_session(settings):
        run_job(settings, lake, output)
        shutil.rmtree(output)
        started = time.perf_counter()
        record = run_job(settings, lake, output)
        seconds = time.perf_counter() - started
        shutil.rmtree(output)
        return seconds, record["memory"]


def measure_changes(workload: Workload) -> Iterator[Comparison]:
    """Embed with a key, after several shares of the rows have changed since the output was written."""
    settings, folder = workload.settings, workload.folder
    lakes = {way: folder / f"keyed-{number}" for number, way in enumerate(_CHANGES)}
    for way, lake in lakes.items():
        write_changed_rows(workload.lake(), settings.text, lake, *_CHANGES[way])
    output, before = folder / "keyed-output", folder / "keyed-before"

    def prepare(way: str) -> str:
        shutil.rmtree(output, ignore_errors=True)
        if way not in (_NO_KEY, _NO_OUTPUT):
            if not before.exists():
                embed_lake(settings, lakes[_NO_OUTPUT], before, key=KEY)
            shutil.copytree(before, output, copy_function=os.link)
        return way

    def run(way: str) -> int:
        embed_lake(settings, lakes[way], output, key=None if way == _NO_KEY else KEY)
        return settings.rows

    with quiet_session(settings, verbose=workload.verbose):
        ways = {way: Prepared(partial(prepare, way), run) for way in lakes}
        rates = timing.take_turns(ways, settings.repeats)
    seconds = {rate.way: rate.seconds for rate in rates}
    shown = ", ".join(f"{way} {spent:.1f} s" for way, spent in seconds.items())
    note = f"Rates count all rows of the lake, changed or not. In seconds: {shown}."
    for written in folder.glob("keyed-*"):
        shutil.rmtree(written)
    yield Comparison("rows that changed", rates, _NO_KEY, [note], {"seconds": seconds})


def measure_count(workload: Workload) -> Iterator[Comparison]:
    """Count the texts in one session, and embed them without writing, in turn."""
    settings, lake = workload.settings, str(workload.lake())
    tokenizer = find_tokenizer(settings.model)
    warm_up(tokenizer.json)
    with quiet_session(settings, verbose=workload.verbose) as spark:
        frame = spark.read.parquet(lake)
        rows = frame.count()
        table = distribute_files(spark, pack_table(workload.table))

        def embed_only() -> int:
            lines = frame.select(settings.text).mapInArrow(EncodeTask(table), "rows long").collect()
            return sum(line.rows for line in lines)

        def count(phrases: int) -> int:
            request = CountSettings(
                model=settings.model, input=[lake], text=[settings.text], output="unused", phrases=phrases
            )
            lines = count_lines(spark, frame, request, tokenizer, task_type=ColdCountTask)
            # Spark would skip sums that a filter or a selection doesn't need.
            lines.write.format("noop").mode("overwrite").save()
            return rows

        count(1)  # warms up
        ways: dict[str, Callable[[], int]] = {
            _EMBED: embed_only,
            _COUNT: partial(count, 1),
            "count, with pairs of words": partial(count, 2),
        }
        rates = timing.take_turns(ways, settings.repeats)
    share = timing.rows_per_s(rates)[_COUNT] / timing.rows_per_s(rates)[_EMBED]
    note = f"Counting tokens and words runs at {share:.0%} of the rate of embedding without a write."
    yield Comparison("counting", rates, _EMBED, [note], {"share_of_embedding": share})


def _peer_ways(
    spark: SparkSession, settings: BenchmarkSettings, lake: Path, output: Path
) -> dict[str, Callable[[], int]]:
    """Return the pipelines of other libraries: a pandas UDF, and Spark's Parquet writer."""
    rows = spark.read.parquet(str(lake)).count()

    def run(load: Callable[[str], peers.Encode]) -> int:
        embed_with_peer(spark, load, settings.model, lake, output, text=settings.text)
        return rows

    return {way: partial(run, load) for way, load in _PEERS.items()}


def _memory_note(memory: dict[str, Any]) -> str:
    return (
        f"The largest Python worker peaked at {memory['worker_peak_bytes'] / 1e6:,.0f} MB, the mapped table"
        f" included. At the end, all workers of a node had {memory['node_own_bytes'] / 1e6:,.0f} MB of"
        " their own."
    )
