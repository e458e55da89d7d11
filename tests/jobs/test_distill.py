"""``lakevec distill`` as a command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lakevec.jobs.distill import to_options
from lakevec.pipeline.distillation.options import DistillOptions
from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.settings.distill import DistillSettings
from tests.support.commands import distill as main


def test_provenance_says_what_made_the_table(minilm_model: str) -> None:
    manifest = json.loads((Path(minilm_model) / "lakevec.json").read_text())
    assert manifest["provenance"]["teacher"]["revision"].startswith("sha256:")
    assert manifest["provenance"]["recipe"]["pca_dimensions"] == 256
    assert manifest["provenance"]["versions"].keys() >= {"lakevec", "torch", "transformers"}
    assert 0.9 < manifest["quality"]["explained_variance"] < 1


def test_job_publishes_float16_without_normalisation_when_asked(
    minilm_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only digits are kept as tokens, to be quick: the pattern leaves out all that begin otherwise."""
    output = tmp_path / "model"
    words = [
        "--teacher",
        str(minilm_folder),
        "--output",
        str(output),
        "--dimensions",
        "8",
        "--dtype",
        "float16",
    ]
    assert main([*words, "--no-normalize", "--token-remove-pattern", r"(?!\[PAD|\[UNK)\D"]) == 0
    table = load(str(output)).table
    assert (table.embeddings.dtype, table.dimensions, table.normalize) == (np.float16, 8, False)
    assert 100 < table.rows < 2000
    assert f"published {table.fingerprint} to {output}" in capsys.readouterr().out


def test_defaults_of_library_and_command_line_are_the_same() -> None:
    assert DistillOptions() == to_options(DistillSettings(teacher="t", output="o"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--teacher", "/nowhere"], "teacher '/nowhere' does not exist: expected an existing folder"),
        (["--token-remove-pattern", ""], "the vocabulary is empty: got token_remove_pattern ''"),
        (["--dimensions", "385"], "dimensions: got 385; expected at most 384"),
        (["--device", "teapot"], "device 'teapot' can't be used"),
        (["--revision", "main"], "revision: got 'main'; expected none, since the teacher is not on the hub"),
    ],
    ids=["missing", "no tokens", "too wide", "no device", "revision of a folder"],
)
def test_job_refuses_in_one_line(
    words: list[str],
    message: str,
    minilm_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "model"
    assert main(["--teacher", str(minilm_folder), "--output", str(output), *words]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"lakevec distill: {message}")
    assert not output.exists()


def test_output_that_exists_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--teacher", "/nowhere", "--output", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"lakevec distill: model output '{tmp_path}' exists")
