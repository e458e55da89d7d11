"""Part of the teacher: vectors of whole texts on one core, beside sentence-transformers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from lakevec.jobs.benchmarks import timing
from lakevec.jobs.benchmarks.corpus import Workload
from lakevec.jobs.benchmarks.timing import Comparison
from lakevec.jobs.demo import embedded_teacher
from lakevec.pipeline.distillation.options import TeacherOptions
from lakevec.pipeline.errors import requires_extra

_PEER = "sentence-transformers, batches of 64"
# One shard of `lakevec tune`.
_SHARD_ROWS = 1000


def measure_teacher(workload: Workload) -> Iterator[Comparison]:
    """Embed one shard of texts with the teacher on one thread. A rate is texts per second of CPU time."""
    with requires_extra("benchmark", "the comparison"):
        import torch
        from sentence_transformers import SentenceTransformer

        from lakevec.pipeline.distillation.int8_layers import has_exact_int8
        from lakevec.pipeline.distillation.sentence_encoder import SentenceEncoder
    teacher = workload.settings.teacher or embedded_teacher()[0]
    texts = workload.peer_texts.slice(0, _SHARD_ROWS).to_pylist()
    peer = SentenceTransformer(teacher, device="cpu")
    ways: dict[str, Any] = {_PEER: partial(peer.encode, batch_size=64, show_progress_bar=False)}
    all_options = [TeacherOptions(device="cpu", precision=name) for name in ("float32", "bfloat16", "int8")]
    for options in all_options if has_exact_int8() else all_options[:-1]:
        ways[f"lakevec, {options.precision}"] = SentenceEncoder(teacher, options).encode
    vectors: dict[str, np.ndarray] = {}

    def run(way: str) -> int:
        vectors[way] = ways[way](texts)
        return len(texts)

    # Like a task.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        runs = {way: partial(run, way) for way in ways}
        rates = timing.take_turns(runs, workload.settings.repeats, clock=time.process_time)
    finally:
        torch.set_num_threads(threads)
    same = {way: _mean_cosine(vectors[_PEER], each) for way, each in vectors.items() if way != _PEER}
    shown = ", ".join(f"{cosine:.5f} ({way})" for way, cosine in same.items())
    note = f"Mean cosine with the vectors of sentence-transformers: {shown}."
    yield Comparison(
        "the teacher's vectors, texts per second of CPU time", rates, _PEER, [note], {"cosines": same}
    )


def _mean_cosine(some: np.ndarray, others: np.ndarray) -> float:
    lengths = np.linalg.norm(some, axis=1) * np.linalg.norm(others, axis=1)
    return float(((some * others).sum(axis=1) / lengths).mean())
