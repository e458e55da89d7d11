"""``lakevec count``: count exactly how often tokens and words occur in a lake.

Start it as ``lakevec count``, ``python -m lakevec.jobs.count`` or ``spark-submit jobs/count.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:
    # Started by its path: replace this folder on sys.path by the one that contains lakevec.
    sys.path[:1] = [str(path) for path in Path(__file__).resolve().parents if (path / "lakevec").is_dir()][:1]

import hashlib
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakevec import __version__
from lakevec.jobs.cli import RunContext, format_settings, run_command
from lakevec.jobs.embedding.run_record import RunTimer, new_run_id
from lakevec.jobs.spark.overlap import refuse_overlap
from lakevec.jobs.spark.session import open_session, task_properties
from lakevec.pipeline.corpus.bigrams import unpack_pairs
from lakevec.pipeline.corpus.counts_folder import (
    BIGRAMS,
    PHRASES,
    WORDS,
    begin,
    finish,
    hold,
    read_record,
    write_part,
)
from lakevec.pipeline.corpus.text_counter import warm_up
from lakevec.pipeline.corpus.tokenizer_source import CountedTokenizer, find_tokenizer
from lakevec.pipeline.errors import CommitError, DataError, OutputError
from lakevec.pipeline.redaction import redact, redact_values
from lakevec.pipeline.settings.corpus import CountSettings
from lakevec.pipeline.storage import Location, absolute_uri, locate

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from lakevec.udfs.count_task import CountTask

SETTINGS = CountSettings
# Settings that change the counts.
IDENTIFYING_SETTINGS = ("input", "text", "format", "option", "phrases", "bigrams", "on_bad_row")


def run(settings: CountSettings, context: RunContext) -> None:
    """Count a lake; raise OutputError if the output holds anything except counts of this request."""
    timer = RunTimer()
    refuse_overlap(settings.input, settings.option, {"--output": settings.output}, format=settings.format)
    tokenizer = find_tokenizer(settings.model)
    output = locate(settings.output, error=OutputError)
    done = _read_finished(output, settings, tokenizer)
    print(format_settings(settings, full=context.verbose), flush=True)
    with ExitStack() as stack:
        lease = None
        if done is None and not context.dry_run:
            # Take the lease before Spark starts, so that a concurrent run fails at once.
            lease = stack.enter_context(hold(output, new_run_id(), redact(settings.output)))
            done = _read_finished(output, settings, tokenizer)
        spark = stack.enter_context(_open_session(settings, tokenizer, context))
        from lakevec.jobs.spark.errors import spark_errors
        from lakevec.jobs.spark.input import check_text_columns, read_input

        with spark_errors():
            frame = read_input(spark, settings)
            check_text_columns(frame.schema, settings.text)
            request = _request(settings, tokenizer, _digest_files(spark, frame))
            if done is not None:
                _check_input(done, request, settings)
                print(f"already counted: {_summarize(done)}")
                return
            if lease is None:
                print("dry run: nothing was written")
                return
            begin(output)
            timer.start_embedding()
            tokens, totals = _count(spark, frame, settings, tokenizer, output)
            seconds = timer.seconds()
            record = _record(settings, tokenizer) | totals | {"request": request, "seconds": seconds}
            lease.check()
            finish(output, tokens, record)
    rate = record["rows"] / max(seconds["embed"], 1e-9)
    print(f"counted {_summarize(record)}\n  in {seconds['embed']:.1f} s ({rate:,.0f} rows/s)")


def _open_session(
    settings: CountSettings, tokenizer: CountedTokenizer, context: RunContext
) -> AbstractContextManager[SparkSession]:
    return open_session(
        "lakevec count",
        master=settings.master,
        remote=settings.remote,
        conf={**task_properties(settings), **settings.conf},
        verbose=context.verbose,
        meanwhile=partial(warm_up, tokenizer.json),
    )


def _read_finished(
    output: Location, settings: CountSettings, tokenizer: CountedTokenizer
) -> dict[str, Any] | None:
    """Read the record of finished counts; refuse counts of another request."""
    done = read_record(output)
    if done is None:
        return None
    # An earlier version may have masked fewer secrets.
    done["request"] = {name: redact_values(value) for name, value in done["request"].items()}
    done["request"].setdefault("bigrams", None)  # earlier versions counted none
    if done["request"] != _request(settings, tokenizer, done["request"]["files"]):
        raise _occupied(settings, "the counts of another request")
    return done


def _request(settings: CountSettings, tokenizer: CountedTokenizer, files: str) -> dict[str, Any]:
    """Return the identity of a request: two runs with equal requests find equal counts."""
    recorded = settings.to_record()
    chosen = {name: recorded[name] for name in IDENTIFYING_SETTINGS}
    return {**chosen, "tokenizer": tokenizer.fingerprint, "files": files}


def _digest_files(spark: SparkSession, frame: DataFrame) -> str:
    """Hash names, times and sizes of the input's files; return "" for inputs without files, such as views."""
    from lakevec.jobs.embedding.file_source import escape, facts

    names = [escape(unquote(name)) for name in frame.inputFiles()]
    if not names:
        return ""
    listed = facts(spark.read.format("binaryFile").load(names)).collect()
    lines = sorted(f"{file.path} {file.modified} {file.bytes}" for file in listed)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _check_input(done: dict[str, Any], request: dict[str, Any], settings: CountSettings) -> None:
    if not request["files"]:
        got = "an input without files, whose new rows lakevec can't recognise"
        raise _occupied(settings, "counts of this input", got=got)
    if done["request"] != request:
        got = "files that were added, removed or changed since"
        raise _occupied(settings, "the counts of other files", got=got)


def _occupied(settings: CountSettings, content: str, *, got: str = "") -> OutputError:
    return OutputError(
        f"output {redact(settings.output)!r} holds {content}", got=got, remedy="choose another --output"
    )


def count_lines(
    spark: SparkSession,
    frame: DataFrame,
    settings: CountSettings,
    tokenizer: CountedTokenizer,
    *,
    task_type: type[CountTask] | None = None,
) -> DataFrame:
    """Return a DataFrame of sums over all tasks: one row for each term and fact.

    `task_type` replaces `CountTask`. The columns are those of `lakevec.udfs.count_task.COUNTS_SCHEMA`.
    """
    from pyspark.sql import functions as f

    from lakevec.jobs.spark.column_types import quoted
    from lakevec.pipeline.corpus.tokenizer_files import pack_tokenizer
    from lakevec.udfs.count_task import COUNTS_SCHEMA, CountTask
    from lakevec.udfs.distribution import distribute_files

    packed = pack_tokenizer(tokenizer.json, node_dir=settings.node_dir)
    task = (task_type or CountTask)(
        tokenizer=distribute_files(spark, packed),
        longest_phrase=settings.phrases,
        counts_bigrams=settings.bigrams is not None,
        skips_bad_rows=settings.on_bad_row == "skip",
    )
    # Number the columns, since mapInArrow fails at dots in names.
    texts = frame.select(*(quoted(name).alias(f"c{number}") for number, name in enumerate(settings.text)))
    lines = texts.mapInArrow(task, COUNTS_SCHEMA)
    sums = f.sum("count").alias("count"), f.sum("documents").alias("documents")
    return lines.groupBy("kind", "id", "name").agg(*sums)


def _count(
    spark: SparkSession,
    frame: DataFrame,
    settings: CountSettings,
    tokenizer: CountedTokenizer,
    output: Location,
) -> tuple[pa.Table, dict[str, int]]:
    """Count the lake and write words, phrases and bigrams; return the tokens' counts, and the totals."""
    from pyspark import StorageLevel

    from lakevec.jobs.spark.progress import show_progress
    from lakevec.udfs.count_task import FACT, PHRASE, TOKEN, WORD

    # Several actions below use the lines. Without persist, each would read the lake again.
    lines = count_lines(spark, frame, settings, tokenizer).persist(StorageLevel.MEMORY_AND_DISK)
    try:
        with show_progress(spark, "counting"):
            facts = {line.name: int(line["count"]) for line in lines.filter(lines.kind == FACT).collect()}
            if not facts.get("rows"):
                raise DataError("the input has no rows", remedy="check --input")
            tokens = _tokens_table(lines.filter(lines.kind == TOKEN).collect(), tokenizer)
            words = _write_terms(lines, WORD, settings, WORDS)
            phrases = _write_terms(lines, PHRASE, settings, PHRASES) if settings.phrases > 1 else 0
            bigrams = _collect_bigrams(lines, settings.bigrams, tokenizer) if settings.bigrams else None
    finally:
        lines.unpersist()
    if words and not (output / WORDS).exists():
        raise CommitError(
            "the driver can't see what Spark writes to the output",
            expected="storage that all executors reach by the same path or URI",
            remedy="choose another --output",
        )
    if bigrams is not None:
        write_part(output, BIGRAMS, bigrams)
    totals = {
        **{name: facts.get(name, 0) for name in ("rows", "texts", "nulls", "bad")},
        "tokens": int(pc.sum(tokens["count"]).as_py() or 0),
        "distinct_tokens": int(np.count_nonzero(tokens["count"].to_numpy())),
        "distinct_words": words,
        "distinct_phrases": phrases,
        "bigrams": bigrams.num_rows if bigrams else 0,
    }
    return tokens, totals


def _record(settings: CountSettings, tokenizer: CountedTokenizer) -> dict[str, Any]:
    """Return the first part of ``count.json``."""
    return {
        "kind": "lakevec count",
        "lakevec": __version__,
        "model": {"uri": tokenizer.uri, "tokenizer": tokenizer.fingerprint},
        "settings": settings.to_record(),
    }


def _tokens_table(lines: list[Any], tokenizer: CountedTokenizer) -> pa.Table:
    """Return a row for every token of the vocabulary, also with a count of 0."""
    sums = np.zeros((2, len(tokenizer.tokens)), dtype=np.int64)
    for line in lines:
        sums[:, line.id] = line["count"], line.documents
    table = pa.table(
        {
            "id": np.arange(len(tokenizer.tokens), dtype=np.int32),
            "token": pa.array(tokenizer.tokens, pa.string()),
            "count": sums[0],
            "documents": sums[1],
        }
    )
    return table.filter(pc.not_equal(table["token"], ""))


def _collect_bigrams(lines: DataFrame, most: int, tokenizer: CountedTokenizer) -> pa.Table:
    """Return the most frequent bigrams; of equal counts, those of the lowest ids come first."""
    from pyspark.sql import functions as f

    from lakevec.udfs.count_task import BIGRAM

    ordered = lines.filter(lines.kind == BIGRAM).orderBy(f.desc("count"), "id").limit(most)
    # Two numbers per bigram, so that millions fit on the driver.
    rows = ordered.select("id", "count").toArrow()
    names = pa.array(tokenizer.tokens, pa.string())
    first, second = unpack_pairs(rows["id"].to_numpy()).T
    columns = {"first": names.take(pa.array(first)), "second": names.take(pa.array(second))}
    return pa.table({**columns, "count": rows["count"]})


def _write_terms(lines: DataFrame, kind: str, settings: CountSettings, folder: str) -> int:
    """Let Spark write words or phrases, most frequent first; return their number."""
    from pyspark.sql import functions as f

    counts = lines.filter(lines.kind == kind).select(f.col("name").alias(kind), "count", "documents")
    ordered = counts.orderBy(f.desc("count"), f.desc("documents"), kind)
    uri = f"{absolute_uri(settings.output).rstrip('/')}/{folder}"
    ordered.write.mode("overwrite").option("compression", "zstd").parquet(uri)
    return int(counts.count())


def _summarize(record: dict[str, Any]) -> str:
    summary = (
        f"{record['rows']:,} rows: {record['texts']:,} texts, {record['nulls']:,} nulls,"
        f" {record['tokens']:,} tokens ({record['distinct_tokens']:,} of the vocabulary's),"
        f" {record['distinct_words']:,} distinct words"
    )
    if record["settings"]["phrases"] > 1:
        summary += f", {record['distinct_phrases']:,} phrases"
    if record["settings"].get("bigrams"):
        summary += f", {record['bigrams']:,} bigrams"
    if record["bad"]:
        summary += f", {record['bad']:,} texts left out, which are not valid UTF-8"
    return f"{summary}; in {record['settings']['output']}"


if __name__ == "__main__":
    sys.exit(run_command("count"))
