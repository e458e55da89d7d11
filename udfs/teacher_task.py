"""Tasks of ``lakevec tune``: each runs the texts of a shard through the teacher and writes their vectors.

A worker imports torch and transformers with its first shard. Workers of other jobs never do.
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

# The batches that a task yields; `piece` is the shard.
DONE_SCHEMA = "piece long, texts long"


@dataclass(frozen=True)
class TeacherTask:
    """A function for ``DataFrame.mapInArrow``.

    Parameters
    ----------
    shards : TeacherShards
    missing : tuple of int
        Shards to make; row i asks for ``missing[i]``.
    teacher : str
        Folder, the same on every node, or hub id.
    options : TeacherOptions
    fingerprint : str
        The teacher's on the driver; a node with another one is refused.
    """

    shards: TeacherShards
    missing: tuple[int, ...]
    teacher: str
    options: TeacherOptions
    fingerprint: str

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Make the shards that one column of integers asks for; yield each with its number of texts.

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
    """Load the teacher once for all shards of a worker, which uses one core."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        import torch

        from lakevec.pipeline.distillation.sentence_encoder import SentenceEncoder
    except ImportError as error:
        raise SetupError(
            "an executor lacks a package that the teacher needs",
            got=str(error.name),
            remedy="pip install 'lakevec[distill]' on every node, or run with --master local[*]",
        ) from None
    torch.set_num_threads(1)
    encoder = SentenceEncoder(teacher, options)
    if encoder.fingerprint != fingerprint:
        raise TeacherError(
            f"an executor has another teacher {teacher!r}",
            got=encoder.fingerprint,
            expected=fingerprint,
            remedy="put the same folder on every node, or name a --revision",
        )
    return encoder
