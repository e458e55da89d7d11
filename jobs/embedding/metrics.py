"""Metrics of a run in Prometheus' text format, for the node exporter's textfile collector."""

from __future__ import annotations

import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from lakevec.pipeline.errors import OutputError, describe_failure, requires_extra


def check_metrics(path: str) -> None:
    """Check before the run that metrics can be written to a local file.

    Raises
    ------
    SetupError
        If ``prometheus-client`` is missing.
    OutputError
        If the folder is missing or not writable.
    """
    with requires_extra("metrics", "--metrics"):
        import prometheus_client  # noqa: F401
    folder = Path(path).absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise OutputError(
            f"metrics {path!r} can't be written",
            got=f"no writable folder {str(folder)!r}",
            remedy="create the folder, or choose another --metrics",
        )


def write_metrics(record: dict[str, Any], path: str) -> None:
    """Replace the metrics file atomically; if that fails, print a warning.

    Parameters
    ----------
    record : dict
        Content of ``run.json``.
    path : str
        Local file. The collector requires a name that ends with ``.prom``.
    """
    from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

    registry = CollectorRegistry()
    labels = {"output": record["output"]}

    def set_gauge(name: str, help_text: str, value: float) -> None:
        gauge = Gauge(f"lakevec_{name}", help_text, list(labels), registry=registry)
        gauge.labels(**labels).set(value)

    started = datetime.fromisoformat(record["started"]).timestamp()
    seconds, total = record["seconds"], record["total"]
    failed = record["status"] == "failed"
    set_gauge("last_run_success", "1 if the last run succeeded, 0 if it failed", 0 if failed else 1)
    if succeeded := record["last_success"]:
        moment = datetime.fromisoformat(succeeded).timestamp()
        set_gauge("last_success_timestamp_seconds", "end of the last run that succeeded", moment)
    set_gauge("last_run_start_timestamp_seconds", "start of the last run", started)
    duration = sum(seconds.values())
    set_gauge("last_run_duration_seconds", "seconds of the last run, start-up included", duration)
    set_gauge("last_run_rows", "rows that the last run wrote", record["rows"])
    set_gauge("last_run_rows_quarantined", "rows that the last run quarantined", record["rows_quarantined"])
    set_gauge("last_run_waves", "micro-batches that the last run committed", record["waves"])
    set_gauge("rows", "rows of the output", total["rows"])
    set_gauge("rows_quarantined", "rows in quarantine", total["rows_quarantined"])
    set_gauge("files", "files of the output", total["files"])
    set_gauge("bytes", "bytes of the output's files", total["bytes"])
    set_gauge("skipped_input_files", "input files that can't be read", len(record["skipped_files"]))
    try:
        write_to_textfile(path, registry)
    except OSError as error:
        # Only warn: the output is committed, so a scheduler must not run the job again.
        warning = f"warning: metrics {path!r} can't be written: {describe_failure(error)}"
        print(f"{warning}; this does not affect the output", file=sys.stderr)
