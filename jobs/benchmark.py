"""``lakevec benchmark``: how fast it is here, on these rows, beside what one would write without it.

Every figure is a median over runs that alternate with its peers'. For one core, give ``--master 'local[1]'
--cpus 0``: all processes are bound to that CPU then, since the JVM takes a second core otherwise and flatters
everyone.
"""

from __future__ import annotations

import contextlib
import io
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.benchmarks import kernel
from jobs.benchmarks.corpus import texts_of_new_words, write_rows
from jobs.benchmarks.kernel import Rate, take_turns
from jobs.benchmarks.report import rate_table, write_report
from jobs.command_line import Call, run_job
from jobs.docstrings import write_docstring_lake
from jobs.session import open_session
from jobs.summary import effective_settings
from pipeline.errors import InputError, OutputError, SetupError
from pipeline.model.artifact import load
from pipeline.settings import BenchmarkSettings, EmbedSettings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from pipeline.model.table import StaticTable

SUMMARY = """\
Measure lakevec and its peers on the same rows, and write JSON, a Markdown table and a plot.

example:
  lakevec benchmark --model models/minilm --output bench --master 'local[1]' --cpus 0
"""

_MODEL2VEC = "model2vec encode"
_LAKEVEC = "lakevec"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job.

    Parameters
    ----------
    argv : sequence of str, optional
        Words of the command line; by default the process's.

    Returns
    -------
    int
        0 done, 1 failed, 2 usage or configuration.
    """
    return run_job(BenchmarkSettings, benchmark, argv, name="benchmark", summary=SUMMARY)


def benchmark(call: Call[BenchmarkSettings]) -> None:
    """Measure the parts that are asked for, one after the other.

    Parameters
    ----------
    call : Call

    Raises
    ------
    OutputError
        If the output exists.
    SetupError
        If a peer is not installed.
    """
    settings = call.settings
    folder = Path(settings.output)
    if folder.exists():
        raise OutputError(f"output {settings.output!r} exists", remedy="choose another --output")
    table = load(settings.model).table
    print(effective_settings(settings), flush=True)
    if call.dry_run:
        print("dry run: nothing was measured")
        return
    if settings.cpus:
        os.sched_setaffinity(0, set(settings.cpus))
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    folder.mkdir(parents=True)
    lake = _make_lake(settings, folder)
    parts: dict[str, Any] = {"warm_up_s": kernel.warm_up(table)}
    tables = [f"Kernel ready after {parts['warm_up_s']:.2f} s (compiled, or loaded where it was before)."]
    measure: dict[str, Callable[[], tuple[dict[str, Any], list[str]]]] = {
        "kernel": lambda: _measure_kernel(settings, table, lake),
        "job": lambda: _measure_job(settings, lake, folder, verbose=call.verbose),
        "growth": lambda: _measure_growth(settings, lake, folder, verbose=call.verbose),
        "cores": lambda: _measure_cores(settings, lake, folder),
    }
    for part in settings.part:
        print(f"measuring: {part}", flush=True)
        found, shown = measure[part]()
        parts |= found
        tables += shown
        print("\n\n".join(shown), flush=True)
        write_report(folder, parts, tables)
    print(f"wrote benchmark.json, benchmark.md and benchmark.png to {settings.output}")


def _make_lake(settings: BenchmarkSettings, folder: Path) -> Path:
    """Write the rows: the given ones, or else the docstrings of the packages installed here."""
    source = Path(settings.input) if settings.input else folder / "docstrings"
    if not settings.input:
        write_docstring_lake(source)
    try:
        rows = pq.read_table(source)
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"input {str(source)!r}", got=type(error).__name__, expected="Parquet files on this machine"
        ) from None
    if settings.text not in rows.column_names:
        raise InputError(f"column {settings.text!r}", expected=f"one of {', '.join(rows.column_names)}")
    write_rows(rows, settings.text, settings.rows, folder / "lake")
    return folder / "lake"


def _read_texts(lake: Path, text: str, rows: int) -> pa.Array:
    return pq.read_table(lake, columns=[text])[text].slice(0, rows).combine_chunks().cast(pa.large_string())


def _over(run: Callable[[pa.Array], None], texts: pa.Array) -> Callable[[], int]:
    def measured() -> int:
        run(texts)
        return len(texts)

    return measured


def _measure_kernel(
    settings: BenchmarkSettings, table: StaticTable, lake: Path
) -> tuple[dict[str, Any], list[str]]:
    """Texts to vectors in this process: the lake's, then texts of other kinds."""
    texts = _read_texts(lake, settings.text, settings.rows)
    few = texts.slice(0, settings.peer_rows)
    try:
        model2vec = kernel.model2vec_way(settings.model)
        sentence_transformers = kernel.sentence_transformers_way(settings.model)
    except ImportError as error:
        raise SetupError(
            "a peer is not installed", got=str(error.name), remedy="pip install 'lakevec[benchmark]'"
        ) from None
    lakevec = kernel.lakevec_way(table)
    ways = {
        _MODEL2VEC: _over(model2vec, few),
        "tokenizers alone": _over(kernel.tokenizers_way(table), few),
        "StaticEmbedding encode": _over(sentence_transformers, few),
        _LAKEVEC: _over(lakevec, texts),
    }
    rates = take_turns(ways, settings.repeats)
    parts: dict[str, Any] = {"kernel": rates}
    tables = [rate_table("texts to vectors, one process, memo cold", rates, _MODEL2VEC)]
    others = {"every word new": texts_of_new_words(min(settings.peer_rows, 50_000))}
    for length in (20, 100, 500, 2000):
        whole = pa.compute.binary_join(pa.array([few.slice(0, 20_000).to_pylist()]), " ")[0].as_py()
        pieces = [whole[start : start + length] for start in range(0, len(whole), length)]
        others[f"{length} characters"] = pa.array(pieces, pa.large_string())
    for name, file in settings.also.items():
        others[name] = _read_texts(Path(file), "text", settings.peer_rows)
    for name, chosen in others.items():
        ways = {_MODEL2VEC: _over(model2vec, chosen), _LAKEVEC: _over(lakevec, chosen)}
        rates = take_turns(ways, settings.repeats)
        parts[f"kernel, {name}"] = rates
        tables.append(rate_table(f"{name}", rates, _MODEL2VEC))
    return parts, tables


def _job_settings(settings: BenchmarkSettings, lake: Path, folder: Path) -> EmbedSettings:
    return EmbedSettings(
        model=settings.model,
        input=[str(lake)],
        text=[settings.text],
        output=str(folder / "vectors"),
        master=settings.master,
    )


def _measure_job(
    settings: BenchmarkSettings, lake: Path, folder: Path, *, verbose: bool
) -> tuple[dict[str, Any], list[str]]:
    """Parquet to Parquet on one session."""
    from jobs.benchmarks.lake import peer_ways, run_job

    peers_lake = _make_peers_lake(settings, lake, folder)
    job = _job_settings(settings, lake, folder)
    memory = []

    def lakevec() -> int:
        record = run_job(job)
        memory.append(record["memory"])
        return int(record["rows"])

    started = time.monotonic()
    with _session(settings, verbose=verbose) as spark:
        startup_s = time.monotonic() - started
        peers = peer_ways(
            spark, str(Path(settings.model).absolute()), str(peers_lake), settings.text, str(folder / "peer")
        )
        ways: dict[str, Callable[[], int]] = {
            **peers,
            "ceiling: lakevec, constant vectors": lambda: int(run_job(job, is_ceiling=True)["rows"]),
            _LAKEVEC: lakevec,
        }
        rates = take_turns(ways, settings.repeats)
    by_way = {rate.way: rate.rows_per_s for rate in rates}
    share = by_way[_LAKEVEC] / by_way["ceiling: lakevec, constant vectors"]
    most = max(memory, key=lambda seen: int(seen["worker_peak_bytes"]))
    parts = {"job": rates, "startup_s": startup_s, "share_of_ceiling": share, "memory": most}
    told = (
        f"lakevec reaches {share:.0%} of the ceiling. Spark was up after {startup_s:.1f} s, not counted. The"
        f" largest Python worker took {most['worker_peak_bytes'] / 1e6:,.0f} MB, the mapped table included;"
        f" all workers of a node had {most['node_own_bytes'] / 1e6:,.0f} MB for themselves."
    )
    return parts, [rate_table("Parquet to Parquet", rates, "model2vec in a pandas UDF"), told]


def _make_peers_lake(settings: BenchmarkSettings, lake: Path, folder: Path) -> Path:
    """Give slow peers the first rows only; their rate doesn't depend on how many there are."""
    if settings.peer_rows >= settings.rows:
        return lake
    rows = pq.read_table(lake).slice(0, settings.peer_rows)
    write_rows(rows, settings.text, settings.peer_rows, folder / "peers-lake")
    return folder / "peers-lake"


def _session(
    settings: BenchmarkSettings, *, verbose: bool
) -> contextlib.AbstractContextManager[SparkSession]:
    conf = {"spark.ui.showConsoleProgress": "false", **settings.conf}
    return open_session("lakevec benchmark", master=settings.master, conf=conf, verbose=verbose)


def _measure_growth(
    settings: BenchmarkSettings, lake: Path, folder: Path, *, verbose: bool
) -> tuple[dict[str, Any], list[str]]:
    """Run the job over more and more rows."""
    from jobs.benchmarks.lake import run_job

    source = pq.read_table(lake)
    rates = []
    with _session(settings, verbose=verbose):
        run_job(_job_settings(settings, lake, folder))  # warm
        for times in settings.growth:
            grown = folder / f"lake-x{times}"
            write_rows(source, settings.text, settings.rows * times, grown)
            repeats = settings.repeats if times == 1 else 1
            way = {f"lakevec, rows x {times}": _job_rows(_job_settings(settings, grown, folder))}
            rates += take_turns(way, repeats)
    return {"growth": rates}, [rate_table("more rows", rates, rates[0].way)]


def _job_rows(job: EmbedSettings) -> Callable[[], int]:
    from jobs.benchmarks.lake import run_job

    return lambda: int(run_job(job)["rows"])


def _measure_cores(settings: BenchmarkSettings, lake: Path, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Run the job on one CPU and on two, each in processes of its own, in turn."""
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    available = sorted(os.sched_getaffinity(0))
    job = _job_settings(settings, lake, folder)
    runs: dict[int, list[Rate]] = {1: [], 2: []}
    for cores in runs:
        code = (
            "import sys; from jobs.benchmark import time_job;"
            f" time_job({job.model!r}, {job.input[0]!r}, {settings.text!r}, {job.output!r}, {cores},"
            f" {settings.repeats + 1})"
        )
        os.sched_setaffinity(0, available[:cores])
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        # The first run warms the JVM and the worker up.
        seen = [float(word) for word in done.stdout.split()[-settings.repeats :]]
        runs[cores] = [Rate(f"lakevec, local[{cores}] on {cores} CPU", settings.rows, 0.0, tuple(seen))]
    os.sched_setaffinity(0, cpus)
    rates = [
        replace(rate, rows_per_s=statistics.median(rate.runs)) for found in runs.values() for rate in found
    ]
    return {"cores": rates}, [rate_table("cores", rates, rates[0].way)]


def time_job(model: str, lake: str, text: str, output: str, cores: int, repeats: int) -> None:
    """Print the rows per second of so many runs of the job in one session.

    Parameters
    ----------
    model, lake, text, output : str
        As for `EmbedSettings`.
    cores : int
        Of the local Spark.
    repeats : int
    """
    from jobs.benchmarks.lake import run_job

    master = f"local[{cores}]"
    job = EmbedSettings(model=model, input=[lake], text=[text], output=output, master=master)
    rates = []
    with contextlib.redirect_stderr(io.StringIO()), open_session("benchmark", master=master, conf={}):
        for _ in range(repeats):
            started = time.perf_counter()
            rows = int(run_job(job)["rows"])
            rates.append(rows / (time.perf_counter() - started))
    print(*rates)


if __name__ == "__main__":
    sys.exit(main())
