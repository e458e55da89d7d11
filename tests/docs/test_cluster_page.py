"""Recipes of docs/cluster.md for systems that are not here: their names and files."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from lakevec.jobs.options import parse
from lakevec.jobs.spark.java import ensure_java
from lakevec.pipeline.settings.embed import EmbedSettings
from tests.support.paths import ROOT

PYSPARK = Path(pytest.importorskip("pyspark").__file__).parent
PAGE = (ROOT / "docs" / "cluster.md").read_text()
SHELL = "\n".join(re.findall(r"```(?:sh|text)\n(.*?)```", PAGE, re.DOTALL)).replace("\\\n", " ")
# What comes behind them is the user's.
PREFIXES = ("spark.yarn.appMasterEnv.", "spark.executorEnv.", "spark.emr-serverless.driverEnv.")
PREFIXES += tuple(f"spark.kubernetes.{who}.secretKeyRef." for who in ("driver", "executor"))
# Classes that define properties.
CONFIGURATION = re.compile(r"/(config|Config|SparkConf|package)|/yarn/Client|/k8s/(Config|KubernetesConf)")


def submissions() -> list[tuple[list[str], list[str]]]:
    """The words of each spark-submit before the script, and those behind it."""
    found = []
    for line in SHELL.splitlines():
        if line.startswith("spark-submit"):
            words = shlex.split(line)
            [script] = [place for place, word in enumerate(words) if word.endswith("embed.py")]
            found.append((words[1:script], words[script + 1 :]))
    return found


def test_lakevec_takes_the_recipes_words() -> None:
    databricks = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0])
    [command, *of_databricks] = databricks["python_wheel_task"]["parameters"]
    assert command == "embed"
    every = [words for _, words in submissions()] + [list(map(str, of_databricks))]
    assert len(every) == 5
    for words in every:
        settings, *_ = parse(EmbedSettings, words, "embed")
        assert settings.text == ["body"]
    # What --table-format delta needs is among the job's libraries.
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {"pypi": {"package": extras["delta"][0]}} in databricks["libraries"]


def test_spark_submit_knows_the_recipes_options() -> None:
    ensure_java()
    told = subprocess.run(
        [str(PYSPARK / "bin" / "spark-submit"), "--help"], capture_output=True, text=True, check=True
    )
    known = set(re.findall(r"--[\w-]+", told.stdout + told.stderr))
    used = {word for words, _ in submissions() for word in words if word.startswith("--")}
    assert "--deploy-mode" in used <= known


def test_spark_knows_the_recipes_properties() -> None:
    names = set(re.findall(r"\bspark\.[\w.-]*\w", PAGE.replace("spark.hadoop.fs.s3a", "")))
    names = {next((prefix for prefix in PREFIXES if name.startswith(prefix)), name) for name in names}
    names -= {name for name in names if name.startswith("spark.emr-serverless.")}
    code = b""
    for module in ("core", "kubernetes", "yarn", "common-utils", "launcher"):
        [jar] = (PYSPARK / "jars").glob(f"spark-{module}_*.jar")
        with zipfile.ZipFile(jar) as archive:
            classes = [name for name in archive.namelist() if CONFIGURATION.search(name)]
            code += b"".join(map(archive.read, classes))
    # Spark joins the names of service accounts from two parts.
    parts = {part for name in names for part in name.partition(".serviceAccountName") if part}
    missing = {part for part in parts if part.encode() not in code}
    assert missing == set()


def test_files_that_a_recipe_takes_are_made_and_uploaded() -> None:
    uploaded = {Path(file).name for file in re.findall(r"aws s3 cp (\S+) s3://bucket/code/", SHELL)}
    taken = set(re.findall(r"s3://bucket/code/([\w.]+)", SHELL.split("aws s3 cp", 1)[1]))
    assert taken == uploaded == {"environment.tar.gz", "embed.py"}
    assert "venv-pack -o environment.tar.gz" in SHELL


def test_image_has_the_jars_of_its_spark() -> None:
    [image] = re.findall(r"```dockerfile\n(.*?)```", PAGE, re.DOTALL)
    [version] = re.findall(r"^FROM apache/spark:(\d+\.\d+)", image)
    [row] = [line for line in PAGE.splitlines() if line.strip().startswith(f"| {version} |")]
    jars = re.findall(r"(hadoop-aws|bundle):([\d.]+\d)", row)
    assert len(jars) == 2
    for name, number in jars:
        assert f"{name}-{number}.jar" in image
