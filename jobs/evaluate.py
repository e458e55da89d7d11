"""``lakevec evaluate``: how good models are, on public tasks and on the user's own rows."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyarrow import fs as pafs
from tqdm import tqdm

from lakevec.jobs.cli import RunContext, format_settings, run_command
from lakevec.pipeline.errors import OutputError, requires_extra
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.settings.evaluate import EvaluateSettings
from lakevec.pipeline.storage import Location, locate

if TYPE_CHECKING:
    from lakevec.pipeline.evaluation.embedding_model import EmbeddingModel, VectorCache
    from lakevec.pipeline.evaluation.runner import TaskResult
    from lakevec.pipeline.evaluation.tasks import Task

SETTINGS = EvaluateSettings
_LOG_EVERY_S = 30.0


@dataclass
class _Run:
    """What all parts of an evaluation use and add to."""

    settings: EvaluateSettings
    tasks: list[Task]
    cache: VectorCache | None
    timings: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class _Comparison:
    """Rows of the user's, and the teacher that models are compared with on them."""

    texts: list[str]
    teacher: EmbeddingModel


def run(settings: EvaluateSettings, context: RunContext) -> None:
    """Evaluate as the settings say and write the report.

    Raises
    ------
    SetupError
        If a package of the extra ``evaluate`` is missing.
    OutputError
        If the output exists.
    """
    output = _refuse_existing(settings.output)
    with requires_extra("evaluate", "evaluating"):
        from lakevec.pipeline.evaluation.embedding_model import VectorCache
        from lakevec.pipeline.evaluation.tasks import find_tasks
    print(format_settings(settings, full=context.verbose), flush=True)
    tasks = find_tasks(settings.data, settings.only) if settings.data is not None else []
    if context.dry_run:
        for task in tasks:
            print(f"  {task.key}")
        print("dry run: nothing was evaluated")
        return
    cache = VectorCache(Path(settings.cache).expanduser()) if settings.cache else None
    _evaluate(_Run(settings, tasks, cache), output)


def _evaluate(run: _Run, output: Location) -> None:
    from lakevec.pipeline.evaluation.record import FORMAT, describe_tasks, describe_versions, to_json
    from lakevec.pipeline.evaluation.report.report import render_report
    from lakevec.pipeline.evaluation.summary import show_averages

    models = _open_models(run.settings)
    comparison = _open_sample(run.settings)
    # First, since a sample of one's own is what may be unfit.
    fidelity = _compare(run, models, comparison)
    record: dict[str, Any] = {
        "format": FORMAT,
        "tasks": describe_tasks(run.tasks),
        "models": [_run_model(run, model) for model in models],
        "ablations": _run_ablations(run),
        "fidelity": fidelity,
        "versions": describe_versions(),
    }
    timings = {"machine": _describe_machine(), "models": run.timings}
    files = {
        "report.html": render_report(record, timings).encode(),
        "timings.json": to_json(timings),
        "evaluation.json": to_json(record),
    }
    try:
        for name, content in files.items():
            (output / name).write_atomic(content)
    except OSError as error:
        raise OutputError(f"can't write to {redact(run.settings.output)!r}", got=str(error)) from None
    print(show_averages(record, timings))
    print(f"wrote {', '.join(files)} to {redact(run.settings.output)}")


def _refuse_existing(uri: str) -> Location:
    place = locate(uri, error=OutputError)
    try:
        taken = place.type() != pafs.FileType.NotFound
    except OSError as error:
        raise OutputError(f"can't look at {redact(uri)!r}", got=str(error)) from None
    if taken:
        raise OutputError(
            f"report output {redact(uri)!r} exists",
            remedy="choose another --output, or remove it first",
        )
    return place


def _open_models(settings: EvaluateSettings) -> list[EmbeddingModel]:
    from lakevec.jobs.evaluated_models import name_models, open_model

    uris = list(dict.fromkeys(settings.model))
    return [
        open_model(uri, name, device=settings.device)
        for uri, name in zip(uris, name_models(uris), strict=True)
    ]


def _run_model(run: _Run, model: EmbeddingModel) -> dict[str, Any]:
    """Measure speed first, while nothing is remembered, and then quality."""
    from lakevec.pipeline.evaluation.embedding_model import StaticEmbeddingModel
    from lakevec.pipeline.evaluation.record import describe_model, describe_time
    from lakevec.pipeline.evaluation.runner import measure_speed, run_tasks
    from lakevec.pipeline.evaluation.speed_texts import choose_speed_texts

    settings = run.settings
    speed = None
    if run.tasks:
        texts = choose_speed_texts(str(settings.data), run.tasks, most=settings.speed_texts)
        speed = measure_speed(model, texts, limit_s=settings.speed_s)
    # A table embeds faster than a disk reads.
    cache = None if isinstance(model, StaticEmbeddingModel) else run.cache
    results: list[TaskResult] = []
    with _progress(model.name, len(run.tasks)) as bar:
        for result in run_tasks(model, run.tasks, cache=cache):
            results.append(result)
            bar.set_postfix_str(result.task.key, refresh=False)
            bar.update()
    run.timings.append(describe_time(model, speed, results))
    return describe_model(model, results)


def _run_ablations(run: _Run) -> dict[str, Any] | None:
    settings = run.settings
    if settings.ablations is None:
        return None
    with requires_extra("distill", "distilling"):
        from lakevec.pipeline.distillation.ablations import PLAIN, distill_ablations
    from lakevec.pipeline.evaluation.embedding_model import StaticEmbeddingModel

    cache = Path(settings.cache).expanduser() if settings.cache else None
    tables = distill_ablations(
        settings.ablations,
        settings.plain_teacher,
        counts=settings.counts,
        device=settings.device,
        cache=cache,
    )
    return {
        "teacher": _shown_teacher(settings.ablations),
        "is_counted": settings.counts is not None,
        "plain_teacher": None if settings.plain_teacher is None else _shown_teacher(settings.plain_teacher),
        "plain_name": PLAIN.name,
        "models": [_run_model(run, StaticEmbeddingModel(name, table)) for name, table in tables],
    }


def _open_sample(settings: EvaluateSettings) -> _Comparison | None:
    if settings.sample is None or settings.teacher is None:
        return None
    from lakevec.jobs.evaluated_models import open_teacher
    from lakevec.pipeline.evaluation.sampling import sample_texts

    texts = sample_texts(settings.sample, settings.text, rows=settings.sample_rows)
    teacher = open_teacher(settings.teacher, _shown_teacher(settings.teacher), device=settings.device)
    return _Comparison(texts, teacher)


def _compare(
    run: _Run, models: list[EmbeddingModel], comparison: _Comparison | None
) -> dict[str, Any] | None:
    """Measure fidelity to the teacher on the user's own rows."""
    if comparison is None or not models:
        return None
    from lakevec.pipeline.evaluation.embedding_model import StaticEmbeddingModel, encode_distinct
    from lakevec.pipeline.evaluation.record import describe_fidelity

    truth = encode_distinct(comparison.teacher, comparison.texts, run.cache)
    vectors = [
        encode_distinct(
            model, comparison.texts, None if isinstance(model, StaticEmbeddingModel) else run.cache
        )
        for model in models
    ]
    found = describe_fidelity(models, vectors, comparison.teacher, truth)
    return {"column": run.settings.text, **found}


def _shown_teacher(uri: str) -> str:
    """Return a hub id as it is and of a folder its name, or the name of its parent for one called model."""
    path = Path(uri).expanduser()
    if not path.is_dir():
        return redact(uri)
    resolved = path.resolve()
    return resolved.parent.name if resolved.name == "model" else resolved.name


@contextmanager
def _progress(label: str, total: int) -> Iterator[tqdm[Any]]:
    """Draw a bar on a terminal; elsewhere a line now and then."""
    every_s = 0.1 if sys.stderr.isatty() else _LOG_EVERY_S
    with tqdm(
        total=total, desc=label, unit="task", mininterval=every_s, file=sys.stderr, disable=total == 0
    ) as bar:
        yield bar


def _describe_machine() -> dict[str, Any]:
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        processor = names[0].partition(":")[2].strip() if names else processor
    return {"processor": processor, "cpus": len(os.sched_getaffinity(0))}


if __name__ == "__main__":
    sys.exit(run_command("evaluate"))
