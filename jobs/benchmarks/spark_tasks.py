"""Tasks that executors run in a benchmark only. This module imports nothing that executors lack."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from lakevec.pipeline.encoding.encoder import Encoded, Encoder, EncodingCounts
from lakevec.pipeline.encoding.node_files import NodeFiles
from lakevec.pipeline.encoding.options import EncodeOptions
from lakevec.udfs.count_task import CountTask
from lakevec.udfs.embed_task import EmbedTask
from lakevec.udfs.worker_cache import forget_encoders, get_encoder

# The last run that this worker served.
_served = {"run": ""}


def _new_run() -> str:
    return uuid.uuid4().hex


def _forget_other_runs(run: str) -> None:
    """Empty the token caches if they belong to another run."""
    if _served["run"] != run:
        forget_encoders()
        _served["run"] = run


class ColdTask(EmbedTask):
    """The task of ``lakevec embed`` with an empty token cache in every run, as in a job of its own."""

    def make_encoder(self) -> Encoder:
        """Return this worker's encoder, a new one in every run."""
        _forget_other_runs(self.run_id)
        return super().make_encoder()


class CeilingTask(EmbedTask):
    """The task of ``lakevec embed`` with constant vectors: the cost of Spark, Arrow and Parquet."""

    def make_encoder(self) -> Any:
        """Return an encoder that computes nothing."""
        return _ConstantEncoder(super().make_encoder().dimensions)


class _ConstantEncoder:
    """An encoder that returns the same random vectors for every batch."""

    def __init__(self, dimensions: int) -> None:
        self._vectors = np.empty((0, dimensions), dtype=np.float32)

    def encode(self, texts: pa.Array) -> Encoded:
        if len(self._vectors) < len(texts):
            shape = (len(texts), self._vectors.shape[1])
            self._vectors = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        counts = EncodingCounts(rows=len(texts))
        return Encoded(self._vectors[: len(texts)], np.zeros(len(texts), dtype=bool), counts)


@dataclass(frozen=True, eq=False)
class ColdCountTask(CountTask):
    """The task of ``lakevec count`` with an empty token cache in every run."""

    run: str = field(default_factory=_new_run)

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Count all rows of a partition."""
        _forget_other_runs(self.run)
        yield from super().__call__(batches)


@dataclass(frozen=True, eq=False)
class EncodeTask:
    """Embed the first column with an empty token cache in every run; return only the batches' row counts."""

    table: NodeFiles
    run: str = field(default_factory=_new_run)

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Embed all rows of a partition."""
        _forget_other_runs(self.run)
        encoder = get_encoder(self.table, EncodeOptions())
        for batch in batches:
            encoded = encoder.encode(batch.column(0))
            yield pa.RecordBatch.from_pydict({"rows": pa.array([len(encoded.vectors)], pa.int64())})
