"""``make airflow``: the DAG of examples/airflow to its end, by Airflow itself in an environment of its own.

Airflow and its Spark provider take minutes to install, so this is no part of ``make test``. The DAG runs
three times under ``airflow dags test``: on a new lake, with nothing new, and with a setting that is wrong.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from lakevec.jobs.spark.java import ensure_java
from tests.support.paths import ROOT

PACKAGES = ("apache-airflow>=3,<4", "apache-airflow-providers-apache-spark>=6,<7")
ENVIRONMENT = ROOT / ".venv-airflow"
PYSPARK = ROOT / ".venv" / "bin"
DATE = "2025-01-02"
_SHOWN = 6000


def make_environment() -> Path:
    """Install Airflow, unless a former call did; return its program."""
    done = ENVIRONMENT / ".done"
    if not done.exists():
        print("installing Airflow, some minutes", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", ENVIRONMENT], check=True)
        pip = [ENVIRONMENT / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-compile"]
        subprocess.run([*pip, *PACKAGES], check=True)
        done.touch()
    return ENVIRONMENT / "bin" / "airflow"


def write_lake(folder: Path, model: Path) -> None:
    """A lake of three rows, and the settings of the job."""
    (folder / "lake").mkdir()
    pq.write_table(pa.table({"body": ["parse a date", None, "retry"]}), folder / "lake" / "0.parquet")
    settings = {"model": str(model), "input": str(folder / "lake"), "text": "body"}
    (folder / "embed.yaml").write_text(yaml.safe_dump(settings))


def environment(folder: Path) -> dict[str, str]:
    """What the page says a worker of Airflow needs."""
    ensure_java()
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("SPARK_", "PYSPARK_", "AIRFLOW"))
    }
    dags = folder / "dags"
    shutil.copytree(ROOT / "examples" / "airflow", dags)
    path = os.pathsep.join([str(ENVIRONMENT / "bin"), str(PYSPARK), kept["PATH"]])
    return {
        **kept,
        "PATH": path,
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": "local[1]"}),
        "LAKEVEC_CODE": str(ROOT),
        "LAKEVEC_DATA": str(folder),
    }


def run_dag(airflow: Path, env: dict[str, str]) -> tuple[bool, str]:
    """Run the DAG to its end; return whether it succeeded, and what it printed."""
    command = [airflow, "dags", "test", "lakevec_embed", DATE]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=900)
    told = done.stdout + done.stderr
    return done.returncode == 0 and bool(re.search(r"state=success|state:success", told)), told


def main() -> int:
    model = ROOT / "demo" / "model"
    if not model.exists():
        print("no demo/model; run make demo first", file=sys.stderr)
        return 2
    airflow = make_environment()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_lake(folder, model)
        env = environment(folder)
        subprocess.run([airflow, "db", "migrate"], env=env, check=True, capture_output=True)
        for expected in ("done: 3 rows, 3 in all", "nothing new: 0 rows, 3 in all"):
            succeeded, told = run_dag(airflow, env)
            if not succeeded or expected not in told:
                print(told[-_SHOWN:], file=sys.stderr)
                print(f"expected {expected!r}", file=sys.stderr)
                return 1
            print(f"airflow dags test: {expected}", flush=True)
        (folder / "embed.yaml").write_text("nonsense: 1\n")
        succeeded, told = run_dag(airflow, env)
        if succeeded or "Error code is: 2" not in told or "AirflowFailException" not in told:
            print(told[-_SHOWN:], file=sys.stderr)
            return 1
        print("airflow dags test: a wrong setting fails, and is not retried", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
