"""The command of the DAG beside this file, and the check of its record. Nothing here needs Airflow."""

from __future__ import annotations

import os
import re
from typing import Any

# A checkout of lakevec with its environment, and a folder with embed.yaml. Airflow runs tasks in a folder of
# its own, so paths in that file must be absolute, or URIs.
CODE = os.environ.get("LAKEVEC_CODE", "/opt/lakevec")
DATA = os.environ.get("LAKEVEC_DATA", "/srv/embed")

JOB = f"{CODE}/jobs/embed.py"
PYTHON = f"{CODE}/.venv/bin/python"
OUTPUT = os.environ.get("LAKEVEC_OUTPUT", f"{DATA}/vectors")
ARGUMENTS = ["--config", f"{DATA}/embed.yaml", "--output", OUTPUT]
RUN_RECORD = f"{OUTPUT}/_lakevec/run.json"
MOST_QUARANTINED = 0

_USAGE = 2
_EXIT_CODE = re.compile(r"Error code is: (\d+)")


def is_hopeless(error: BaseException) -> bool:
    """Return whether spark-submit ended with lakevec's code 2, which a retry can't change.

    `SparkSubmitOperator` puts the exit code only into its error's message. If the driver runs in the cluster,
    the message has another form, and the answer is False.
    """
    found = _EXIT_CODE.search(str(error))
    return found is not None and int(found[1]) == _USAGE


def check_record(record: dict[str, Any], *, most_quarantined: int = MOST_QUARANTINED) -> str:
    """Return a summary of ``run.json``; raise ValueError if the run failed or quarantined too many rows."""
    if record["status"] == "failed":
        raise ValueError(f"run {record['run']} failed: {record['error']}")
    if record["rows_quarantined"] > most_quarantined:
        raise ValueError(
            f"run {record['run']} quarantined {record['rows_quarantined']:,} rows; "
            f"at most {most_quarantined:,} may be"
        )
    return f"{record['status']}: {record['rows']:,} rows, {record['total']['rows']:,} in all"
