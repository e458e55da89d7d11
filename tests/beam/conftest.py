"""Models, texts and pipelines that the tests of Beam share."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lakevec
from lakevec.pipeline.model.word_tokenizer import make_word_tokenizer
from tests.support.beam_runs import run_pipeline
from tests.support.paths import ROOT

Run = Callable[..., tuple[list[Any], dict[str, int]]]


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Five thousand real lines, more than a batch."""
    pages = sorted((ROOT / "docs").glob("*.md"))
    lines = [line for page in pages for line in page.read_text().splitlines()]
    return (lines * 10)[:5000]


@pytest.fixture(scope="session")
def model(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A table of real words in 64 dimensions, whose means have bits to compare."""
    words = sorted({word.lower() for text in texts for word in re.findall(r"\w+", text)})
    tokenizer = make_word_tokenizer(words, lowercase=True)
    rows = np.random.default_rng(7).normal(size=(tokenizer.get_vocab_size(), 64)).astype(np.float32)
    folder = str(tmp_path_factory.mktemp("model") / "words")
    lakevec.publish(lakevec.StaticTable(rows, tokenizer.to_str()), folder, provenance={}, quality={})
    return folder


@pytest.fixture(autouse=True)
def node_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of this test, so that each machine's copy is written anew."""
    folder = tmp_path / "node"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a pipeline; return what its last PCollection held, and lakevec's counters."""
    numbers = count()

    def run_once(build: Callable[[Any], Any], *options: str) -> tuple[list[Any], dict[str, int]]:
        (folder := tmp_path / f"run{next(numbers)}").mkdir()
        return run_pipeline(folder, build, *options)

    return run_once
