"""``lakevec tune``: fit a table to its teacher on rows of the lake, and publish it as a folder.

Start it as ``lakevec tune``, ``python -m lakevec.jobs.tune`` or ``spark-submit jobs/tune.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:
    # Started by its path: replace this folder on sys.path by the one that contains lakevec.
    sys.path[:1] = [str(path) for path in Path(__file__).resolve().parents if (path / "lakevec").is_dir()][:1]

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from lakevec.jobs.cli import RunContext, format_settings, run_command
from lakevec.jobs.distill import read_vocabulary
from lakevec.jobs.spark.overlap import refuse_overlap
from lakevec.jobs.spark.session import open_session
from lakevec.pipeline.corpus.stored_bigrams import has_bigrams
from lakevec.pipeline.distillation.options import TeacherOptions, copy_options
from lakevec.pipeline.errors import OutputError, requires_extra
from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.model.publishing import publish, refuse_existing_model
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.settings.tune import TuneSettings
from lakevec.pipeline.storage import absolute_uri
from lakevec.pipeline.tuning.options import TuneOptions
from lakevec.pipeline.tuning.teacher_shards import open_shards
from lakevec.udfs.teacher_task import DONE_SCHEMA, TeacherTask

if TYPE_CHECKING:
    import numpy as np
    from pyspark.sql import SparkSession

    from lakevec.pipeline.distillation.sentence_encoder import SentenceEncoder
    from lakevec.pipeline.tuning.clusters import Sample
    from lakevec.pipeline.tuning.recipe import TeacherSample
    from lakevec.pipeline.tuning.training import TrainingResult

SETTINGS = TuneSettings

_NO_BIGRAMS = (
    "bigrams: those of the sample, since --counts has none; "
    "count with 'lakevec count --bigrams' for those of the lake"
)
_OTHER_WORDS = (
    "bigrams: those of the sample, since --counts lacks tokens of the vocabulary; "
    "count by a model with this vocabulary for those of the lake"
)


def run(settings: TuneSettings, context: RunContext) -> None:
    """Sample the lake, compute the teacher's vectors, train, measure and publish."""
    settings = settings.model_copy(update={"vectors": absolute_uri(settings.vectors_folder)})
    places = {"--output": settings.output, "--vectors": settings.vectors}
    refuse_overlap(settings.input, settings.option, places, format=settings.format)
    refuse_existing_model(settings.output)
    print(format_settings(settings, full=context.verbose), flush=True)
    if context.dry_run:
        print("dry run: nothing was written")
        return
    with requires_extra("distill", "tuning"):
        from lakevec.pipeline.distillation.sentence_encoder import SentenceEncoder
        from lakevec.pipeline.evaluation.quality_gate import load_gate
        from lakevec.pipeline.tuning import recipe
        from lakevec.pipeline.tuning.training_plot import draw_training
    gate = load_gate(settings.sample, settings.sample_text, minimum=settings.min_fidelity)
    options = to_options(settings)
    if settings.counts and settings.bigrams and options.bigram_counts is None:
        print(_OTHER_WORDS if has_bigrams(settings.counts) else _NO_BIGRAMS, flush=True)
    encoder = SentenceEncoder(settings.teacher, options)
    sample = _sample_teacher(settings, options, encoder, verbose=context.verbose)
    started = time.monotonic()
    tuned = recipe.tune(settings.teacher, sample, options)
    if options.bigram_counts and "bigram_counts" not in tuned.provenance["recipe"]:
        print(_OTHER_WORDS, flush=True)
    _print_training(tuned.trained)
    print(f"tuned in {time.monotonic() - started:.1f} s", flush=True)
    quality = {**tuned.quality, **gate.measure(tuned.table, encoder.encode)}
    gate.decide(quality)
    plot = {"training.svg": draw_training(tuned.trained)}
    publish(tuned.table, settings.output, provenance=tuned.provenance, quality=quality, extra_files=plot)
    print(f"published {tuned.table.fingerprint} to {redact(settings.output)}")


def to_options(settings: TuneSettings) -> TuneOptions:
    """Turn settings into options; read the model, vocabulary and counts that they name."""
    counts = settings.counts if settings.bigrams else None
    options = copy_options(
        settings,
        TuneOptions,
        model=load(settings.model) if settings.model else None,
        prefixes=tuple(settings.prefixes),
        bigram_counts=counts,
        **read_vocabulary(settings),
    )
    words = options.words.words if options.words else ()
    is_of_use = counts is None or (has_bigrams(counts) and options.counts_have(words))
    return options if is_of_use else replace(options, bigram_counts=None)


def _sample_teacher(
    settings: TuneSettings, options: TuneOptions, encoder: SentenceEncoder, *, verbose: bool
) -> TeacherSample:
    """Sample the lake and let executors compute the teacher's vectors."""
    from lakevec.pipeline.tuning import recipe

    recipe.check_initial(options, rows=settings.rows, width=encoder.width, tokens=encoder.tokens)
    with open_session(
        "lakevec tune", master=settings.master, remote=settings.remote, conf=settings.conf, verbose=verbose
    ) as spark:
        from lakevec.jobs.spark.errors import spark_errors

        with spark_errors():
            sample = _sample_texts(spark, settings, options)
            print(f"{_format(sample, settings)}; the teacher works in {encoder.precision}", flush=True)
            texts = sample.texts
            recipe.check_sample(options, texts)
            if encoder.precision in ("bfloat16", "float16"):
                # If this precision is slow on this machine, warn here in the driver.
                encoder.encode(texts[: settings.batch_size])
            started = time.monotonic()
            vectors = _teach(spark, settings, texts, encoder)
            print(f"teacher: all vectors ready after {time.monotonic() - started:.1f} s", flush=True)
    return recipe.TeacherSample(
        texts,
        vectors,
        teacher={"name": settings.name or encoder.name, "revision": encoder.revision},
        normalizes=encoder.normalizes,
        stratified_by=settings.stratify or "length",
        max_chars=settings.max_chars,
        clusters=sample.clusters,
        pool=sample.pool,
    )


def _sample_texts(spark: SparkSession, settings: TuneSettings, options: TuneOptions) -> Sample:
    """Sample the lake at random, or draw a pool at random and let clusters choose from it."""
    from lakevec.jobs.lake_sample import sample_lake
    from lakevec.jobs.spark.progress import show_progress
    from lakevec.pipeline.tuning.clusters import Sample, choose_by_clusters, distill_for_clusters, pool_rows
    from lakevec.pipeline.tuning.recipe import count_held_out

    rows = settings.rows
    drawn = pool_rows(rows) if settings.sample_by == "clusters" else rows
    with show_progress(spark, "sample"):
        pool = sample_lake(spark, settings.model_copy(update={"rows": drawn}))
    if len(pool) <= rows:
        return Sample(pool)
    table = distill_for_clusters(settings.teacher, options)
    held_out = count_held_out(options, rows)
    return choose_by_clusters(pool, table, rows=rows, held_out=held_out, seed=options.seed)


def _format(sample: Sample, settings: TuneSettings) -> str:
    texts = f"{len(sample.texts):,}"
    if sample.clusters:
        return f"sample: {texts} of {sample.pool:,} texts, by {sample.clusters} clusters"
    if settings.sample_by == "clusters":
        return f"sample: {texts} texts, all there are, so clusters change nothing"
    return f"sample: {texts} texts"


def _teach(
    spark: SparkSession, settings: TuneSettings, texts: list[str], encoder: SentenceEncoder
) -> np.ndarray:
    """Let executors compute the vectors that are missing; return all: float32 of shape (N, H)."""
    from lakevec.jobs.spark.progress import show_progress

    folder, shard_rows = settings.vectors_folder, settings.piece_rows
    shards = open_shards(folder, texts, teacher=encoder.fingerprint, shard_rows=shard_rows)
    try:
        shards.write_texts(texts, shard_rows=shard_rows)
        missing = tuple(shards.missing())
    except OSError as error:
        got = error.strerror or type(error).__name__
        raise OutputError(f"can't write to {folder!r}", got=got, remedy="choose another --vectors") from None
    print(f"teacher: {len(missing)} of {shards.number} shards to compute", flush=True)
    if missing:
        options = copy_options(settings, TeacherOptions, precision=encoder.precision)
        task = TeacherTask(shards, missing, settings.teacher, options, encoder.fingerprint)
        rows = spark.range(0, len(missing), 1, numPartitions=len(missing))
        with show_progress(spark, "teacher"):
            rows.mapInArrow(task, DONE_SCHEMA).collect()
    return shards.read_vectors()


def _print_training(trained: TrainingResult) -> None:
    print(f"start      fidelity {trained.start.correlation:.4f}")
    for number, epoch in enumerate(trained.epochs, start=1):
        kept = "  kept" if number == trained.best else ""
        print(f"epoch {number:<4} fidelity {epoch.fidelity.correlation:.4f}  loss {epoch.loss:.4f}{kept}")


if __name__ == "__main__":
    sys.exit(run_command("tune"))
