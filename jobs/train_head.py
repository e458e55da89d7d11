"""``lakevec train-head``: train a head on labelled rows of the lake, and publish it as a folder.

Start it as ``lakevec train-head``, ``python -m lakevec.jobs.train_head`` or
``spark-submit jobs/train_head.py``.
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
from lakevec.jobs.spark.overlap import refuse_overlap
from lakevec.jobs.spark.session import open_session
from lakevec.pipeline.errors import requires_extra
from lakevec.pipeline.heads.description import describe_head
from lakevec.pipeline.heads.head_folder import FORMAT, publish_head
from lakevec.pipeline.heads.options import HeadOptions
from lakevec.pipeline.model.artifact import Artifact, load
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.settings.train_head import TrainHeadSettings

if TYPE_CHECKING:
    from lakevec.jobs.labelled_rows import LabelledRows

SETTINGS = TrainHeadSettings


def run(settings: TrainHeadSettings, context: RunContext) -> None:
    """Read and embed labelled rows, train, measure and publish."""
    refuse_overlap(settings.input, settings.option, {"--output": settings.output}, format=settings.format)
    FORMAT.refuse_existing(settings.output)
    artifact = load(settings.model)
    print(format_settings(settings, full=context.verbose), flush=True)
    with requires_extra("heads", "training a head"):
        import sklearn  # noqa: F401  # fail before Spark starts
        import threadpoolctl  # noqa: F401

        from lakevec.pipeline.heads.training import train_on_vectors
    if context.dry_run:
        print("dry run: nothing was written")
        return
    rows = _read_rows(settings, artifact, verbose=context.verbose)
    started = time.monotonic()
    options = HeadOptions(
        kind=settings.kind,
        class_weight=settings.class_weight,
        regularization=settings.regularization,
        held_out=settings.held_out,
        max_tokens=settings.max_tokens,
        seed=settings.seed,
    )
    head = train_on_vectors(artifact, rows.vectors, rows.labels, name=settings.head_name, options=options)
    head = replace(head, provenance={**head.provenance, "rows": rows.counts | head.provenance["rows"]})
    for fact, value in describe_head(head).items():
        print(f"{fact:<12} {value}")
    print(f"trained in {time.monotonic() - started:.1f} s", flush=True)
    publish_head(head, settings.output)
    print(f"published {head.fingerprint} to {redact(settings.output)}")


def _read_rows(settings: TrainHeadSettings, artifact: Artifact, *, verbose: bool) -> LabelledRows:
    """Read labelled rows, and let executors embed them."""
    with open_session(
        "lakevec train-head",
        master=settings.master,
        remote=settings.remote,
        conf=settings.conf,
        verbose=verbose,
    ) as spark:
        from lakevec.jobs.labelled_rows import read_labelled
        from lakevec.jobs.spark.errors import spark_errors
        from lakevec.jobs.spark.progress import show_progress

        with spark_errors(), show_progress(spark, "labelled rows"):
            rows = read_labelled(spark, settings, artifact.table)
    counts = (f"{name.replace('_', ' ')} {number:,}" for name, number in rows.counts.items())
    print(", ".join(counts), flush=True)
    return rows


if __name__ == "__main__":
    sys.exit(run_command("train-head"))
