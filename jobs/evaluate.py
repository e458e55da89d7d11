"""``lakevec evaluate``: measure the quality of models on public tasks and on the user's own rows."""

from __future__ import annotations

import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from lakevec.jobs.cli import RunContext, format_settings, run_command
from lakevec.jobs.machine import describe_machine
from lakevec.pipeline.errors import OutputError, describe_failure, requires_extra
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.settings.evaluate import EvaluateSettings
from lakevec.pipeline.storage import Location, require_free

if TYPE_CHECKING:
    from lakevec.pipeline.evaluation.embedding_model import EmbeddingModel
    from lakevec.pipeline.evaluation.tasks import Task

SETTINGS = EvaluateSettings
_LOG_EVERY_S = 30.0


def run(settings: EvaluateSettings, context: RunContext) -> None:
    """Evaluate models, and write the report.

    Raises
    ------
    SetupError
        If a package of the extra ``evaluate`` is missing.
    OutputError
        If the output exists.
    """
    output = require_free(settings.output, "report output")
    with requires_extra("evaluate", "evaluating"):
        from lakevec.pipeline.evaluation.report.report import render_report
        from lakevec.pipeline.evaluation.tasks import find_tasks
    print(format_settings(settings, full=context.verbose), flush=True)
    tasks = find_tasks(settings.data, settings.only) if settings.data is not None else []
    if context.dry_run:
        for task in tasks:
            print(f"  {task.key}")
        print("dry run: nothing was evaluated")
        return
    from lakevec.pipeline.evaluation.record import to_json
    from lakevec.pipeline.evaluation.summary import format_averages

    record, timings = _Evaluation(settings, tasks).run()
    files = {
        "report.html": render_report(record, timings).encode(),
        "timings.json": to_json(timings),
        "evaluation.json": to_json(record),
    }
    _write(output, files)
    print(format_averages(record, timings))
    print(f"wrote {', '.join(files)} to {redact(settings.output)}")


def _write(output: Location, files: dict[str, bytes]) -> None:
    try:
        for name, content in files.items():
            (output / name).write_atomic(content)
    except OSError as error:
        raise OutputError(f"can't write to {output.path!r}", got=describe_failure(error)) from None


class _Evaluation:
    """A run's settings, tasks, cache and timings."""

    def __init__(self, settings: EvaluateSettings, tasks: list[Task]) -> None:
        from lakevec.pipeline.evaluation.embedding_model import VectorCache

        self._settings = settings
        self._tasks = tasks
        self._folder = Path(settings.cache).expanduser() if settings.cache else None
        self._cache = VectorCache(self._folder) if self._folder else None
        self._timings: list[dict[str, Any]] = []

    def run(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the content of ``evaluation.json`` and of ``timings.json``."""
        from lakevec.pipeline.evaluation.embedding_model import name_models, open_model
        from lakevec.pipeline.evaluation.record import FORMAT, describe_tasks, describe_versions

        uris = list(dict.fromkeys(self._settings.model))
        names = zip(uris, name_models(uris), strict=True)
        models = [open_model(uri, name, device=self._settings.device) for uri, name in names]
        # Start with the user's sample, since it is the most likely part to fail.
        fidelity = self._compare(models)
        record = {
            "format": FORMAT,
            "tasks": describe_tasks(self._tasks),
            "models": [self._measure(model) for model in models],
            "ablations": self._run_ablations(),
            "fidelity": fidelity,
            "versions": describe_versions(),
        }
        found = describe_machine()
        machine = {"processor": found["processor"], "cpus": len(found["cpus"])}
        return record, {"machine": machine, "models": self._timings}

    def _compare(self, models: list[EmbeddingModel]) -> dict[str, Any] | None:
        """Measure fidelity to the teacher on the user's own rows."""
        settings = self._settings
        if settings.sample is None or settings.teacher is None:
            return None
        from lakevec.pipeline.evaluation.embedding_model import name_teacher, open_teacher
        from lakevec.pipeline.evaluation.record import describe_fidelity
        from lakevec.pipeline.evaluation.sampling import sample_texts

        texts = sample_texts(settings.sample, settings.text, rows=settings.sample_rows)
        teacher = open_teacher(settings.teacher, name_teacher(settings.teacher), device=settings.device)
        return {"column": settings.text, **describe_fidelity(models, teacher, texts, self._cache)}

    def _measure(self, model: EmbeddingModel) -> dict[str, Any]:
        """Measure speed before quality, while the model's token cache is empty."""
        from lakevec.pipeline.evaluation.record import describe_model, describe_time
        from lakevec.pipeline.evaluation.runner import measure_speed, run_task

        speed = None
        if self._tasks:
            speed = measure_speed(model, self._speed_texts, limit_s=self._settings.speed_s)
        results = []
        # In a log, write a line every 30 seconds.
        every_s = 0.1 if sys.stderr.isatty() else _LOG_EVERY_S
        bar = tqdm(self._tasks, model.name, unit="task", mininterval=every_s, disable=not self._tasks)
        for task in bar:
            results.append(run_task(model, task, cache=self._cache))
            bar.set_postfix_str(task.key, refresh=False)
        self._timings.append(describe_time(model, speed, results))
        return describe_model(model, results)

    @cached_property
    def _speed_texts(self) -> list[str]:
        from lakevec.pipeline.evaluation.runner import choose_speed_texts

        return choose_speed_texts(str(self._settings.data), self._tasks, most=self._settings.speed_texts)

    def _run_ablations(self) -> dict[str, Any] | None:
        settings = self._settings
        if settings.ablations is None:
            return None
        with requires_extra("distill", "distilling"):
            from lakevec.pipeline.distillation.ablations import PLAIN, distill_ablations
        from lakevec.pipeline.evaluation.embedding_model import StaticEmbeddingModel, name_teacher

        teacher, plain = settings.ablations, settings.plain_teacher
        tables = distill_ablations(
            teacher, plain, counts=settings.counts, device=settings.device, cache=self._folder
        )
        return {
            "teacher": name_teacher(teacher),
            "is_counted": settings.counts is not None,
            "plain_teacher": None if plain is None else name_teacher(plain),
            "plain_name": PLAIN,
            "models": [self._measure(StaticEmbeddingModel(name, table)) for name, table in tables],
        }


if __name__ == "__main__":
    sys.exit(run_command("evaluate"))
