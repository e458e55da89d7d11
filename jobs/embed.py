"""``lakevec embed``: turn text columns of a lake into vectors in Parquet.

Start it as ``lakevec embed``, ``python -m lakevec.jobs.embed`` or ``spark-submit jobs/embed.py``, with the
same arguments.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:
    # Started by its path: replace this folder on sys.path by the one that contains lakevec.
    sys.path[:1] = [str(path) for path in Path(__file__).resolve().parents if (path / "lakevec").is_dir()][:1]

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from lakevec.jobs.cli import RunContext, format_settings, run_command
from lakevec.jobs.embedding.metrics import write_metrics
from lakevec.jobs.embedding.plan import RunPlan, plan_run
from lakevec.jobs.embedding.summary import summarize
from lakevec.jobs.embedding.unchanged import finish_unchanged
from lakevec.jobs.spark.session import open_session, runs_locally, task_properties
from lakevec.pipeline.settings.embed import EmbedSettings

if TYPE_CHECKING:
    from lakevec.udfs.embed_task import EmbedTask

SETTINGS = EmbedSettings


def run(
    settings: EmbedSettings,
    context: RunContext,
    *,
    task_type: type[EmbedTask] | None = None,
    on_step: Callable[[str], None] = lambda step: None,
) -> None:
    """Embed a lake; check settings, input and output before any task starts.

    Parameters
    ----------
    settings : EmbedSettings
    context : RunContext
    task_type : type, optional
        Replaces `EmbedTask`. The benchmark measures the same job with constant vectors.
    on_step : callable, optional
        Receives the name of each finished step of a commit.
    """
    plan = plan_run(settings, on_step)
    print(format_settings(settings, full=context.verbose), flush=True)
    with ExitStack() as stack:
        opened = None
        if plan.is_direct and plan.output is not None and not context.dry_run:
            # Take the lease before Spark starts, so that a concurrent run fails at once.
            opened = stack.enter_context(plan.output.open(grace_s=_grace_s(settings)))
        if plan.lineage is not None and not context.dry_run:
            stack.enter_context(plan.lineage.report())
        record = finish_unchanged(plan, opened) if opened is not None else None
        if record is None:
            session = open_session(
                "lakevec embed",
                master=settings.master,
                remote=settings.remote,
                conf={**task_properties(settings), **settings.conf},
                verbose=context.verbose,
                # Compile here, so that local workers and executors receive the machine code.
                meanwhile=partial(_warm_up, plan),
            )
            spark = stack.enter_context(session)
            from lakevec.jobs.embedding.execution import describe, execute  # needs PySpark

            if context.dry_run:
                describe(spark, plan)
                return
            record = execute(spark, plan, opened, task_type)
        if plan.lineage is not None:
            plan.lineage.record = record
    print(summarize(record))
    if settings.metrics is not None:
        write_metrics(record, settings.metrics)


def _warm_up(plan: RunPlan) -> None:
    # A run with nothing new need not import Numba.
    from lakevec.pipeline.encoding.encoder import warm_up

    warm_up(plan.artifact.table)
    for head in plan.heads:
        head.warm_up()


def _grace_s(settings: EmbedSettings) -> float:
    """Return how long tasks may outlive the driver: local tasks end with it."""
    is_local = settings.remote is None and runs_locally(settings.master)
    return 0.0 if is_local else 60.0 * settings.grace_minutes


if __name__ == "__main__":
    sys.exit(run_command("embed"))
