"""``lakevec evaluate``: what it refuses, its dry run, and a missing package."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.commands import evaluate


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "d"], "nothing to evaluate: give a model, or a teacher for ablations"),
        (["--model", "m"], "nothing to evaluate on: give data, tasks for mteb, or a sample with its teacher"),
        (["--model", "m", "--sample", "s"], "sample and teacher need each other"),
        (["--model", "m", "--sample", "s", "--teacher", "t", "--only", "sts"], "'only' needs 'data'"),
        (["--model", "m", "--data", "d", "--plain-teacher", "t"], "plain_teacher needs ablations"),
        (["--model", "m", "--data", "d", "--counts", "c"], "counts need ablations"),
        (["--ablations", "t", "--sample", "s", "--teacher", "t"], "a sample needs a model to compare"),
        (["--ablations", "t", "--model", "m", "--sample", "s", "--teacher", "t"], "ablations need data"),
    ],
    ids=["model", "data", "teacher", "only", "plain teacher", "counts", "sample", "ablations"],
)
def test_settings_that_do_not_fit_are_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(["--output", "o", *words]) == 2
    assert message in capsys.readouterr().err


def test_output_that_exists_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(["--model", "gone", "--data", "gone", "--output", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"lakevec evaluate: report output '{tmp_path}' exists: expected a place where nothing exists; choose "
        "another --output, or remove it first\n"
    )


def test_model_that_is_not_there_is_refused_and_nothing_written(
    small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", str(tmp_path / "gone"), "--data", str(small_data), "--output", str(tmp_path / "out")]
    assert evaluate(words) == 2
    assert "gone' does not exist" in capsys.readouterr().err
    words[1] = "/" + "a" * 300
    assert evaluate(words) == 2
    assert "can't be read: got OSError, File name too long" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_sample_that_can_not_be_read_is_refused_before_any_task(
    small_data: Path, tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", tiny_model, "--data", str(small_data), "--output", str(tmp_path / "out")]
    sample = ["--sample", str(small_data / "rows"), "--text", "bodi", "--teacher", "gone"]
    assert evaluate([*words, *sample]) == 2
    told = capsys.readouterr().err
    assert told == (
        f"lakevec evaluate: sample '{small_data}/rows' has no column 'bodi': expected one of 'body'; "
        "did you mean 'body'?\n"
    )


def test_cache_that_can_not_be_made_is_refused_before_any_task(
    small_data: Path, tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    words = ["--model", tiny_model, "--data", str(small_data), "--output", str(tmp_path / "out")]
    assert evaluate([*words, "--cache", str(tmp_path / "file" / "cache")]) == 2
    told = capsys.readouterr().err
    assert "cache '" in told
    assert told.endswith("can't be made: got Not a directory; choose another --cache\n")


def test_dry_run_lists_tasks_and_writes_nothing(
    small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", "m", "--data", str(small_data), "--only", "sts", "--output", str(tmp_path / "out")]
    assert evaluate([*words, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert shown.endswith("  sts/STS12\n  sts/STSBenchmark-dev\ndry run: nothing was evaluated\n")
    assert not (tmp_path / "out").exists()


def test_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    for name in ("report", "figures"):
        monkeypatch.delitem(sys.modules, f"lakevec.pipeline.evaluation.{name}", raising=False)
    assert evaluate(["--model", "m", "--data", "d", "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == (
        "lakevec evaluate: evaluating needs jinja2, which is not installed: pip install 'lakevec[evaluate]'\n"
    )
