"""Tasks of ``lakevec tune``: each encodes shards of texts with the teacher and writes their vectors.

A worker imports torch and transformers at its first shard. Workers of other jobs never import them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import pyarrow as pa

from lakevec.pipeline.distillation.options import TeacherOptions
from lakevec.pipeline.errors import SetupError, TeacherError
from lakevec.pipeline.tuning.teacher_shards import TeacherShards

if TYPE_CHECKING:
    from lakevec.pipeline.distillation.sentence_encoder import SentenceEncoder

# Schema of a task's output; `piece` is the shard.
DONE_SCHEMA = "piece long, texts long"


@dataclass(frozen=True)
class TeacherTask:
    """Encode shards of texts; a function for ``DataFrame.mapInArrow``.

    Parameters
    ----------
    shards : TeacherShards
    missing : tuple of int
        Shards to write; input row i stands for shard ``missing[i]``.
    teacher : str
        Hub id, or a folder that is the same on every node.
    options : TeacherOptions
    fingerprint : str
        Fingerprint of the driver's teacher. A node with another teacher fails.
    """

    shards: TeacherShards
    missing: tuple[int, ...]
    teacher: str
    options: TeacherOptions
    fingerprint: str

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Write the shards of the rows; yield each shard with its number of texts.

        Raises
        ------
        SetupError
            If the node lacks torch or transformers.
        TeacherError
            If the node has another teacher.
        """
        for batch in batches:
            for row in batch.column(0).to_pylist():
                shard = self.missing[row]
                texts = self.shards.read_texts(shard)
                encoder = _load_encoder(self.teacher, self.options, self.fingerprint)
                self.shards.write_vectors(shard, encoder.encode(texts))
                yield pa.RecordBatch.from_pydict({"piece": [shard], "texts": [len(texts)]})


@lru_cache(maxsize=1)
def _load_encoder(teacher: str, options: TeacherOptions, fingerprint: str) -> SentenceEncoder:
    """Load the teacher once per worker; use one core."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        import torch

        from lakevec.pipeline.distillation.sentence_encoder import SentenceEncoder
    except ImportError as error:
        raise SetupError(
            "an executor lacks a package that the teacher needs",
            got=f"no package {error.name!r}",
            remedy="pip install 'lakevec[distill]' on every node, or run with --master 'local[*]'",
        ) from None
    torch.set_num_threads(1)
    encoder = SentenceEncoder(teacher, options)
    if encoder.fingerprint != fingerprint:
        raise TeacherError(
            f"teacher {teacher!r} of an executor differs from the driver's",
            got=encoder.fingerprint,
            expected=fingerprint,
            remedy="put the same folder on every node, or name a --revision",
        )
    return encoder
