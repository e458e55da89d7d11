"""Run Beam pipelines; processes that the runner starts import this, too."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.metrics.metric import MetricsFilter


def run_pipeline(
    folder: Path, build: Callable[[Any], Any], *options: str
) -> tuple[list[Any], dict[str, int]]:
    """Return what the last PCollection held, and lakevec's counters."""
    pipeline = beam.Pipeline(argv=["--runner=FnApiRunner", *options])
    _ = build(pipeline) | "Keep" >> beam.Map(_keep, str(folder))
    done = pipeline.run()
    done.wait_until_finish()
    counts: dict[str, int] = {}
    for each in done.metrics().query(MetricsFilter().with_namespace("lakevec"))["counters"]:
        counts[each.key.metric.name] = counts.get(each.key.metric.name, 0) + each.committed
    return [each for file in folder.iterdir() for each in _read(file)], counts


def _keep(element: Any, folder: str) -> None:
    with (Path(folder) / str(os.getpid())).open("ab") as file:
        pickle.dump(element, file)


def _read(file: Path) -> Iterator[Any]:
    with file.open("rb") as stream:
        while stream.peek(1):
            yield pickle.load(stream)
