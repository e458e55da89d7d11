"""``--sink``: who writes an output, and what Spark's own writer writes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lakevec.jobs.embedding.plan import find_output
from lakevec.jobs.embedding.spark_writer import probe_output
from lakevec.pipeline.errors import OutputError
from lakevec.pipeline.output.output_folder import OutputFolder
from lakevec.pipeline.settings.embed import EmbedSettings
from lakevec.pipeline.storage import locate
from tests.support.lakes import embed, ids, put

pytestmark = pytest.mark.usefixtures("spark")


@pytest.mark.parametrize("form", ["orc", "json", "parquet"])
def test_spark_writes_what_tasks_do_not(
    tiny_model: str, lake: Path, out: Path, spark: Any, form: str
) -> None:
    rows = spark.createDataFrame([("a", "north"), ("b", None), ("c", "")], "`k.x` string, text string")
    rows.write.mode("overwrite").parquet(str(lake))
    more = ["--sink", "spark", "--output-format", form]
    embed(tiny_model, lake, out, *more)
    rows = spark.read.format(form).load(str(out)).orderBy("`k.x`").collect()
    assert [row.text_embedding for row in rows] == [[0.0, 1.0], None, [0.0, 0.0]]
    embed(tiny_model, lake, out, *more, code=2)


def test_sink_that_can_not_write_is_refused(
    tiny_model: str, lake: Path, out: Path, told: Callable[[], str]
) -> None:
    put(lake / "a.parquet", ["a"])
    embed(tiny_model, lake, out, "--sink", "direct", "--output-format", "orc", code=2)
    assert "sink 'direct' can't write this output" in told()
    embed(tiny_model, lake, out, "--vector-type", "int8", "--output-format", "orc", code=2)
    assert "Spark's own writer stores vectors as float32" in told()


def test_auto_says_why_spark_writes(
    tiny_model: str, lake: Path, out: Path, spark: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    put(lake / "a.parquet", list("abcde"))
    embed(tiny_model, lake, out, "--output-format", "orc")
    assert "sink: Spark's own writer, since only Spark writes format orc\n" in capsys.readouterr().out
    assert spark.read.orc(str(out)).count() == 5


def test_auto_takes_sparks_writer_where_tasks_can_not_write(capsys: pytest.CaptureFixture[str]) -> None:
    """A scheme that Hadoop knows and pyarrow does not; Hadoop's viewfs would need a mount table."""
    settings = EmbedSettings(model="m", input=["i"], text=["t"], output="viewfs:/lake/out")
    assert find_output(settings, "r1", print) is None
    assert "sink: Spark's own writer, since tasks can't write there themselves (can't reach" in (
        capsys.readouterr().out
    )
    with pytest.raises(OutputError, match="sink 'direct' can't write this output"):
        find_output(settings.model_copy(update={"sink": "direct"}), "r1", print)


def test_a_task_tries_to_write_first(tmp_path: Path, spark: Any) -> None:
    with OutputFolder(str(tmp_path / "out"), "r1").open(grace_s=0.0) as output:
        assert probe_output(spark, output.staging) == ""
        output.abandon()
        assert not (tmp_path / "out").exists()
    told = probe_output(spark, locate("/proc/none", error=OutputError))
    assert re.fullmatch(r"a task can't write to the output \(\w+, .*/proc/none.*\)", told)


def test_failed_probe_does_not_append_with_sparks_writer(
    tiny_model: str, lake: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(lake / "a.parquet", ["a"])
    embed(tiny_model, lake, out)
    put(lake / "b.parquet", ["b"])
    monkeypatch.setattr("lakevec.jobs.embedding.spark_writer.is_local", lambda spark: False)
    monkeypatch.setattr(
        "lakevec.jobs.embedding.spark_writer.probe_output", lambda spark, output: "a mount is gone"
    )
    embed(tiny_model, lake, out, code=2)
    assert ids(out) == ["a"]
