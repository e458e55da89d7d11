"""Models, texts and pipelines that the tests of Beam share."""

from __future__ import annotations

import os
import pickle
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.metrics.metric import MetricsFilter

import lakevec
from lakevec.pipeline.model.word_tokenizer import make_word_tokenizer
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

    def run_pipeline(build: Callable[[Any], Any], *options: str) -> tuple[list[Any], dict[str, int]]:
        folder = tmp_path / uuid.uuid4().hex
        folder.mkdir()
        pipeline = beam.Pipeline(argv=["--runner=FnApiRunner", *options])
        _ = build(pipeline) | "Keep" >> beam.Map(_keep, str(folder))
        done = pipeline.run()
        done.wait_until_finish()
        found = done.metrics().query(MetricsFilter().with_namespace("lakevec"))["counters"]
        counts: dict[str, int] = {}
        for each in found:
            counts[each.key.metric.name] = counts.get(each.key.metric.name, 0) + each.committed
        return [each for file in folder.iterdir() for each in _read(file)], counts

    return run_pipeline


def _keep(element: Any, folder: str) -> None:
    with (Path(folder) / str(os.getpid())).open("ab") as file:
        pickle.dump(element, file)


def _read(file: Path) -> Iterator[Any]:
    with file.open("rb") as stream:
        while stream.peek(1):
            yield pickle.load(stream)
