"""What executors run in a benchmark and nowhere else; it imports nothing that executors lack.

Peers import their libraries inside, where the libraries are.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from lakevec.pipeline.encoding.encoder import Encoded, Encoder, EncodingCounts
from lakevec.pipeline.encoding.options import EncodeOptions
from lakevec.udfs.count_task import CountTask
from lakevec.udfs.embed_task import EmbedTask
from lakevec.udfs.node_files import NodeFiles
from lakevec.udfs.worker_cache import forget_encoders, get_encoder

# Of this worker process: the run that it worked for last, and the models of peers.
_seen: dict[str, Any] = {}


class ColdTask(EmbedTask):
    """The same task, but every run begins with an empty memo, as a job of its own would."""

    def make_encoder(self) -> Encoder:
        """Return this worker's encoder, a new one in every run."""
        _forget_other_runs(self.run_id)
        return super().make_encoder()


@dataclass(frozen=True, eq=False)
class ColdCountTask(CountTask):
    """The task of ``lakevec count``, with an empty memo in every run."""

    run: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Count all rows of a partition."""
        _forget_other_runs(self.run)
        yield from super().__call__(batches)


@dataclass(frozen=True, eq=False)
class EncodeTask:
    """Embeds the first column, and writes nothing: one row with the number of rows for each batch.

    Parameters
    ----------
    table : NodeFiles
    run : str
        Every run begins with an empty memo.
    """

    table: NodeFiles
    run: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Embed all rows of a partition."""
        _forget_other_runs(self.run)
        encoder = get_encoder(self.table, EncodeOptions())
        for batch in batches:
            encoded = encoder.encode(batch.column(0))
            yield pa.RecordBatch.from_pydict({"rows": pa.array([len(encoded.vectors)], pa.int64())})


def _forget_other_runs(run: str) -> None:
    if _seen.get("run") != run:
        forget_encoders()
        _seen["run"] = run


class CeilingTask(EmbedTask):
    """The same task with vectors that cost nothing: what remains is Spark, Arrow and Parquet."""

    def make_encoder(self) -> Any:
        """Return what stands for an encoder."""
        return _Constant(super().make_encoder().dimensions)


class _Constant:
    """Gives every batch the same random vectors."""

    def __init__(self, dimensions: int) -> None:
        self._vectors = np.empty((0, dimensions), dtype=np.float32)

    def encode(self, texts: pa.Array) -> Encoded:
        if len(self._vectors) < len(texts):
            shape = (len(texts), self._vectors.shape[1])
            self._vectors = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        counts = EncodingCounts(rows=len(texts))
        return Encoded(self._vectors[: len(texts)], np.zeros(len(texts), dtype=bool), counts)


def embed_with_model2vec(model: str) -> Callable[[pd.Series], pd.Series]:
    """Make the function that one would write with model2vec.

    Parameters
    ----------
    model : str
        Folder of a published model.

    Returns
    -------
    callable
        For a pandas UDF.
    """

    def embed_texts(texts: pd.Series) -> pd.Series:
        from model2vec import StaticModel

        from lakevec.jobs.benchmarks import (
            spark_tasks,  # this very function is pickled with globals of its own
        )

        if "model2vec" not in spark_tasks._seen:
            spark_tasks._seen["model2vec"] = StaticModel.from_pretrained(model)
        strings = texts.fillna("").tolist()
        vectors = spark_tasks._seen["model2vec"].encode(strings, max_length=None, use_multiprocessing=False)
        return pd.Series(list(vectors))

    return embed_texts


def embed_with_static_embedding(model: str) -> Callable[[pd.Series], pd.Series]:
    """Make the function that one would write with Sentence Transformers' StaticEmbedding.

    Parameters
    ----------
    model : str
        Folder of a published model.

    Returns
    -------
    callable
        For a pandas UDF.
    """

    def embed_texts(texts: pd.Series) -> pd.Series:
        from sentence_transformers import SentenceTransformer

        from lakevec.jobs.benchmarks import spark_tasks

        if "static embedding" not in spark_tasks._seen:
            spark_tasks._seen["static embedding"] = SentenceTransformer(model, device="cpu")
        vectors = spark_tasks._seen["static embedding"].encode(texts.fillna("").tolist(), batch_size=1024)
        return pd.Series(list(vectors))

    return embed_texts
