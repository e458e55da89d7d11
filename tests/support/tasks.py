"""Tasks of few words, which the tiny models know, and vectors for these words."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs as pafs

from lakevec.pipeline.encoding.stored_vectors import VectorType
from lakevec.pipeline.storage import Location

if TYPE_CHECKING:
    from lakevec.pipeline.evaluation.metrics import TaskData, TaskScores

# Where the words of the tiny table point, and one that it does not know.
WHERE = {"north": (0.0, 1.0), "east": (1.0, 0.0), "southwest": (-1.0, -1.0), "nowhere": (0.0, 0.0)}
WORDS = ["north", "east", "southwest", "north east", "east southwest", "nowhere"]
ROWS = [" ".join(words) for words in itertools.product(("north", "east", "southwest", "west"), repeat=3)]


def point(texts: Sequence[str]) -> np.ndarray:
    return np.array([WHERE.get(text, (0.0, 0.0)) for text in texts], np.float32)


class Counting:
    """A model that remembers what it was asked for."""

    name, fingerprint, dimensions, parameters, size_bytes = "counting", "sha256:0", 2, 0, 0
    vector_type, query_model = VectorType.FLOAT32, None

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def prepare(self) -> None:
        self.asked.append(["prepared"])

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.asked.append(list(texts))
        return point(texts)


def score(data: TaskData, encode: Callable[[Sequence[str]], np.ndarray]) -> TaskScores:
    return data.score(encode(data.texts))


def place(path: Path) -> Location:
    return Location(pafs.LocalFileSystem(), str(path))


def read(file: Path) -> pd.DataFrame:
    return pq.read_table(file).to_pandas()


def write(path: Path, **columns: list[Any]) -> Location:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return place(path)


def write_tasks(folder: Path) -> None:
    """Write a task of each group, and rows for a sample."""
    left, right = [WORDS[row % 6] for row in range(12)], [WORDS[row * 5 % 6] for row in range(12)]
    scores = [float(row * 7 % 5) for row in range(12)]
    write(folder / "wordsim" / "rg-65.parquet", word1=left, word2=right, score=scores)
    for name in ("sts12", "stsb-dev"):
        write(folder / "sts" / f"{name}.parquet", text1=left, text2=right, score=scores)
    labels = [word[0] for word in left]
    for part in ("train", "test"):
        write(folder / "classification" / "imdb" / f"{part}.parquet", text=left, label=labels)
    write(folder / "clustering" / "mine.parquet", text=left, label=labels)
    write(
        folder / "pair_classification" / "mine.parquet",
        text1=left,
        text2=right,
        label=[row % 2 for row in range(12)],
    )
    lists = [WORDS[:2], WORDS[2:5]]
    write(
        folder / "reranking" / "mine.parquet", query=["north", "east"], positive=lists, negative=lists[::-1]
    )
    write(
        folder / "summarization" / "summeval.parquet",
        human_summaries=lists,
        machine_summaries=[WORDS[:3], WORDS[1:4]],
        relevance=[[3.0, 1.0, 2.0], [1.0, 2.0, 4.0]],
    )
    retrieval = folder / "retrieval" / "scifact"
    write(retrieval / "corpus.parquet", id=list("abcdef"), title=[""] * 6, text=WORDS)
    write(retrieval / "queries.parquet", id=["1", "2"], text=["north", "southwest"])
    write(retrieval / "qrels.parquet", query_id=["1", "2"], corpus_id=["d", "e"], score=[1, 1])
    write(folder / "phrases" / "bird.parquet", text1=left, text2=right, score=scores)
    write(folder / "rows" / "0.parquet", body=[*ROWS, None, ROWS[0], " "])
