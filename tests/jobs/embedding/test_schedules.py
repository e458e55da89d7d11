"""The examples of docs/schedules.md, run as cron and Airflow run them, and the figures that they live on."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from lakevec.pipeline.errors import CommitError, OutputError
from lakevec.pipeline.output.lease import Lease
from lakevec.pipeline.output.output_folder import OpenOutput
from lakevec.pipeline.storage import locate
from tests.support import short_java
from tests.support.commands import embed as main
from tests.support.paths import ROOT

# As on the session that all in-process tests share: Spark's own warnings are not ours.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"
)
PAGE = (ROOT / "docs" / "schedules.md").read_text()
AIRFLOW = ROOT / "examples" / "airflow"
CRONTAB = ROOT / "examples" / "cron" / "lakevec.cron"
SHORT_LIVED = {"spark.ui.enabled": "false", "spark.driver.extraJavaOptions": short_java.JAVA_OPTIONS}
TEXTS = ["North east", "nowhere", "", None, "southwest southwest"]


def write_lake(folder: Path, name: str = "a", texts: list[str | None] = TEXTS) -> None:
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table({"body": texts}), folder / f"{name}.parquet")


def write_config(folder: Path, model: str, **more: Any) -> None:
    folder.mkdir(exist_ok=True)
    write_lake(folder / "lake")
    settings = {"model": model, "input": str(folder / "lake"), "text": "body", **more}
    (folder / "embed.yaml").write_text(yaml.safe_dump(settings))


def read_record(output: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((output / "_lakevec" / "run.json").read_text())
    return record


# cron


@pytest.fixture
def job() -> str:
    """The crontab's one command, behind its five fields."""
    lines = [line for line in CRONTAB.read_text().splitlines() if line and not line.startswith("#")]
    variables = dict(line.split("=", 1) for line in lines if re.match(r"\w+=", line))
    [line] = [line for line in lines if not re.match(r"\w+=", line)]
    assert variables["PATH"].split(":")[1:] == ["/usr/bin", "/bin"]
    assert line in PAGE.splitlines()
    *schedule, command = line.split(maxsplit=5)
    assert all(re.fullmatch(r"\*|\d+", field) for field in schedule)
    assert "%" not in command, "cron reads a bare % as the end of the line"
    return command


def run_as_cron(command: str, home: Path) -> str:
    """Run a command with as little around it as cron gives; return what cron would mail."""
    paths = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    environment = {"HOME": str(home), "LOGNAME": "root", "SHELL": "/bin/sh", "PATH": paths}
    done = subprocess.run(
        ["/bin/sh", "-c", command], cwd=home, env=environment, capture_output=True, text=True, timeout=300
    )
    return done.stdout + done.stderr


@pytest.mark.usefixtures("spark")
def test_cron_line_goes_on_with_an_output_and_its_log(
    job: str, tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run before and the run after are on the session of the tests: each start of a JVM takes long."""
    folder = tmp_path / "embed"
    write_config(folder, tiny_model, output="vectors", master="local[1]", conf=SHORT_LIVED)
    words = ["--model", tiny_model, "--input", str(folder / "lake"), "--text", "body"]
    words += ["--output", str(folder / "vectors")]
    assert main(words) == 0
    write_lake(folder / "lake", "b", ["east", "north"])
    log = folder / "embed.log"
    log.write_text("of the last run\n")
    assert run_as_cron(job, tmp_path) == ""
    record = read_record(folder / "vectors")
    assert (record["status"], record["total"]["rows"]) == ("done", 7)
    assert log.read_text().startswith("of the last run\n")
    assert "embedded 2 rows" in log.read_text()
    capsys.readouterr()
    assert main(words) == 0
    assert "nothing new, after" in capsys.readouterr().out


def test_cron_mails_code_and_message_of_a_failure(job: str, tiny_model: str, tmp_path: Path) -> None:
    write_config(tmp_path / "embed", tiny_model, output="vectors", batch_row=1)
    mail = run_as_cron(job, tmp_path)
    assert mail.startswith("exit code 2\n")
    assert "unknown key 'batch_row'" in mail.splitlines()[-1]


def test_cron_mails_nothing_while_another_run_is_at_work(job: str, tiny_model: str, tmp_path: Path) -> None:
    folder = tmp_path / "embed"
    write_config(folder, tiny_model, output="vectors")
    own = locate(str(folder / "vectors"), error=OutputError) / "_lakevec"
    with Lease(own, "another", "vectors"):
        assert run_as_cron(job, tmp_path) == ""
    assert "another run is writing to output" in (folder / "embed.log").read_text().splitlines()[-1]


# run.json and metrics


def read_metrics(file: Path, output: Path) -> dict[str, float]:
    samples = {}
    for family in text_string_to_metric_families(file.read_text()):
        [sample] = family.samples
        assert family.type == "gauge"
        assert family.documentation
        assert sample.labels == {"output": str(output)}
        samples[sample.name] = sample.value
    return samples


def expected_metrics(record: dict[str, Any]) -> dict[str, float]:
    total = record["total"]
    return {
        "lakevec_last_run_success": float(record["status"] != "failed"),
        "lakevec_last_run_rows": record["rows"],
        "lakevec_last_run_rows_quarantined": record["rows_quarantined"],
        "lakevec_last_run_waves": record["waves"],
        "lakevec_rows": total["rows"],
        "lakevec_rows_quarantined": total["rows_quarantined"],
        "lakevec_files": total["files"],
        "lakevec_bytes": total["bytes"],
        "lakevec_skipped_input_files": len(record["skipped_files"]),
    }


@pytest.mark.usefixtures("spark")
def test_metrics_and_page_say_what_run_json_says(tiny_model: str, tmp_path: Path) -> None:
    output, metrics = tmp_path / "vectors", tmp_path / "embed.prom"
    write_config(
        *(tmp_path, tiny_model),
        **{"output": str(output), "metrics": str(metrics), "on_bad_file": "skip"},
        **{"on_bad_row": "quarantine", "max_chars": 1000},
    )
    write_lake(tmp_path / "lake", "b", ["east", "southwest " * 200, "north"])
    (tmp_path / "lake" / "c.parquet").write_text("cut off")
    assert main(["--config", str(tmp_path / "embed.yaml")]) == 0
    record, samples = read_record(output), read_metrics(metrics, output)
    counted = {name: record[name] for name in ("status", "rows_read", "rows", "rows_quarantined")}
    assert counted == {"status": "done", "rows_read": 8, "rows": 7, "rows_quarantined": 1}
    assert [Path(file["path"]).name for file in record["skipped_files"]] == ["c.parquet"]
    assert expected_metrics(record).items() <= samples.items()

    shown = re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert shown is not None
    example = json.loads(shown[1])
    assert set(example) == set(record)
    for name in ("model", "seconds", "memory", "total"):
        assert set(example[name]) == set(record[name])
    assert set(example["columns"]["body"]) == set(record["columns"]["body"])
    assert set(example["skipped_files"][0]) == set(record["skipped_files"][0])

    table = re.search(r"\| metric \|.*?\n\n", PAGE, re.DOTALL)
    assert table is not None
    told = {
        f"lakevec_{name}"
        for row in table[0].strip().splitlines()[2:]
        for name in re.findall(r"`(\w+)`", row.split("|")[1])
    }
    assert told == set(samples)
    rules = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert rules is not None
    [group] = yaml.safe_load(rules[1])["groups"]
    for rule in group["rules"]:
        assert {*re.findall(r"lakevec_\w+", rule["expr"])} <= set(samples), rule["alert"]


@pytest.mark.usefixtures("spark")
def test_failed_run_is_told_and_the_next_one_goes_on(
    tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output, metrics = tmp_path / "vectors", tmp_path / "embed.prom"
    write_config(tmp_path, tiny_model, output=str(output), metrics=str(metrics))
    words = ["--config", str(tmp_path / "embed.yaml")]
    assert main(words) == 0
    assert read_metrics(metrics, output)["lakevec_last_run_success"] == 1

    broken = tmp_path / "lake" / "b.parquet"
    broken.write_text("cut off")
    capsys.readouterr()
    assert main(words) == 1
    record = read_record(output)
    assert record["status"] == "failed"
    assert capsys.readouterr().err == f"lakevec embed: {record['error']}\n"
    assert str(broken) in record["error"]
    samples = read_metrics(metrics, output)
    assert expected_metrics(record).items() <= samples.items()
    assert (samples["lakevec_last_run_success"], samples["lakevec_rows"]) == (0, 5)

    before = (metrics.read_text(), record)
    assert main([*words, "--text", "nobody"]) == 2
    assert (metrics.read_text(), read_record(output)) == before

    broken.unlink()
    write_lake(tmp_path / "lake", "b")
    assert main(words) == 0
    record = read_record(output)
    assert (record["status"], record["rows"], record["total"]["rows"]) == ("done", 5, 10)
    assert expected_metrics(record).items() <= read_metrics(metrics, output).items()

    # What can't be written once the rows are there does not fail the run.
    metrics.unlink()
    metrics.mkdir()
    write_lake(tmp_path / "lake", "c")
    capsys.readouterr()
    assert main(words) == 0
    [warning] = capsys.readouterr().err.splitlines()
    assert warning.startswith(f"warning: metrics '{metrics}' can't be written: IsADirectoryError")
    assert read_record(output)["total"]["rows"] == 15

    # Nor does it hide why a run failed.
    def fail(output: OpenOutput, record: dict[str, Any]) -> None:
        raise CommitError("can't read or write output")

    monkeypatch.setattr(OpenOutput, "write_record", fail)
    broken = tmp_path / "lake" / "d.parquet"
    broken.write_text("cut off")
    assert main(words) == 1
    assert str(broken) in capsys.readouterr().err


# Airflow


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the DAG runs, with its folders set as its users set them."""
    monkeypatch.setenv("LAKEVEC_CODE", str(ROOT))
    monkeypatch.setenv("LAKEVEC_DATA", str(tmp_path))
    monkeypatch.delenv("LAKEVEC_OUTPUT", raising=False)
    return runpy.run_path(str(AIRFLOW / "embed_command.py"))


@pytest.mark.usefixtures("spark")
def test_dag_arguments_embed_and_its_check_reads_the_record(
    command: dict[str, Any], tiny_model: str, tmp_path: Path
) -> None:
    assert command["JOB"] == str(ROOT / "jobs" / "embed.py")
    write_config(tmp_path, tiny_model, output="elsewhere")
    assert main(command["ARGUMENTS"]) == 0
    told = command["check_record"](json.loads(Path(command["RUN_RECORD"]).read_text()))
    assert told == "done: 5 rows, 5 in all"


def test_check_of_the_dag_refuses_failure_and_quarantine(command: dict[str, Any]) -> None:
    check = command["check_record"]
    record = {"run": "r", "status": "nothing new", "rows": 0, "rows_quarantined": 0, "total": {"rows": 7}}
    assert check(record) == "nothing new: 0 rows, 7 in all"
    with pytest.raises(ValueError, match=r"^run r failed: no space left$"):
        check({**record, "status": "failed", "error": "no space left"})
    quarantined = {**record, "status": "done", "rows_quarantined": 2}
    with pytest.raises(ValueError, match=r"^run r quarantined 2 rows; at most 1 may be$"):
        check(quarantined, most_quarantined=1)
    assert check(quarantined, most_quarantined=2).startswith("done")


@pytest.mark.parametrize(("code", "is_hopeless"), [(1, False), (2, True), (3, False), (20, False)])
def test_dag_gives_up_on_usage_errors_alone(command: dict[str, Any], code: int, is_hopeless: bool) -> None:
    message = f"Cannot execute: spark-submit --name lakevec job.py. Error code is: {code}.\nLast output: 2"
    assert command["is_hopeless"](RuntimeError(message)) is is_hopeless
    assert command["is_hopeless"](RuntimeError("driver_2 exited with status FAILED")) is False


@pytest.mark.parametrize("file", sorted(AIRFLOW.glob("*.py")), ids=lambda file: file.name)
def test_dag_files_compile(file: Path) -> None:
    compile(file.read_text(), str(file), "exec")


@pytest.mark.filterwarnings("ignore")
def test_dag_loads_and_submits_the_job(
    command: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "airflow"))
    monkeypatch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", '{"conn_type": "spark", "host": "local[1]"}')
    pytest.importorskip("airflow.providers.apache.spark", reason="Airflow and its Spark provider are large")
    from airflow.models import DagBag
    from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

    monkeypatch.syspath_prepend(str(AIRFLOW))  # as Airflow does with its DAG folder
    bag = DagBag(str(AIRFLOW))
    assert bag.import_errors == {}
    dag = bag.dags["lakevec_embed"]
    assert (dag.max_active_runs, dag.catchup) == (1, False)
    embed = dag.get_task("embed")
    assert (embed.retries, embed.downstream_task_ids) == (2, {"check_run"})
    # spark-submit's place is taken by a program that ends with the code of lakevec's.
    folder, seen = tmp_path / "bin", tmp_path / "seen.txt"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    for code, kind in ((1, AirflowException), (2, AirflowFailException), (3, AirflowException)):
        script = f"printf '%s\\n' \"$PYSPARK_PYTHON\" \"$@\" > '{seen}'\nexit {code}\n"
        (folder / "spark-submit").write_text(f"#!/bin/sh\n{script}")
        (folder / "spark-submit").chmod(0o755)
        with pytest.raises(AirflowException) as raised:
            embed.execute({})
        assert type(raised.value) is kind
    python, *words = seen.read_text().splitlines()
    assert python == command["PYTHON"]
    assert words[words.index(command["JOB"]) + 1 :] == command["ARGUMENTS"]
