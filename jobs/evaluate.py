"""``lakevec evaluate``: measure the quality of models on public tasks and on the user's own rows."""

from __future__ import annotations

import sys

from lakevec.jobs.cli import RunContext, format_settings, run_command
from lakevec.jobs.machine import describe_machine
from lakevec.pipeline.errors import OutputError, describe_failure, requires_extra
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.settings.evaluate import EvaluateSettings
from lakevec.pipeline.storage import require_free

SETTINGS = EvaluateSettings


def run(settings: EvaluateSettings, context: RunContext) -> None:
    """Evaluate models, and write the report.

    Raises
    ------
    SetupError
        If a package of the extra ``evaluate`` or ``mteb`` is missing.
    OutputError
        If the output exists or can't be written.
    """
    output = require_free(settings.output, "report output")
    with requires_extra("evaluate", "evaluating"):
        from lakevec.pipeline.evaluation.evaluation import evaluate, to_json
        from lakevec.pipeline.evaluation.figures import render_quality
        from lakevec.pipeline.evaluation.mteb_tasks import MtebTask, find_mteb_tasks
        from lakevec.pipeline.evaluation.report import render_report
        from lakevec.pipeline.evaluation.summary import format_averages
        from lakevec.pipeline.evaluation.tasks import Task, find_tasks
    print(format_settings(settings, full=context.verbose), flush=True)
    local = find_tasks(settings.data, settings.only) if settings.data is not None else []
    # Those of mteb first, since their data may be missing.
    tasks: list[Task | MtebTask] = [*find_mteb_tasks(settings.mteb, local), *local]
    if context.dry_run:
        for task in tasks:
            print(f"  {task.key}")
        print("dry run: nothing was evaluated")
        return
    record, model_timings = evaluate(settings, tasks)
    machine = describe_machine()
    timings = {
        "machine": {"processor": machine["processor"], "cpus": len(machine["cpus"])},
        "models": model_timings,
    }
    figure = render_quality(record, timings)
    files = {
        "report.html": render_report(record, timings).encode(),
        **({} if figure is None else {"quality.svg": figure.encode()}),
        "timings.json": to_json(timings),
        "evaluation.json": to_json(record),
    }
    try:
        for name, content in files.items():
            (output / name).write_atomic(content)
    except OSError as error:
        raise OutputError(f"can't write to {output.path!r}", got=describe_failure(error)) from None
    print(format_averages(record, timings))
    print(f"wrote {', '.join(files)} to {redact(settings.output)}")


if __name__ == "__main__":
    sys.exit(run_command("evaluate"))
