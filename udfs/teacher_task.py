"""One task of ``lakevec tune``: texts of a piece through the teacher, its vectors into a file.

torch and transformers are imported in a worker when the first piece comes, and by no other job's workers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from lakevec.pipeline.errors import SetupError, TeacherError
from lakevec.pipeline.tuning.teacher_shards import TeacherShards

if TYPE_CHECKING:
    from lakevec.pipeline.distillation.sentence_encoder import SentenceEncoder

DONE_SCHEMA = "piece long, texts long"
# A worker is one core's, and lives for one job's pieces of one teacher.
_loaded: dict[str, SentenceEncoder] = {}


@dataclass(frozen=True)
class TeacherTask:
    """A function for ``DataFrame.mapInArrow``: places in a list of pieces in, what was done out.

    Parameters
    ----------
    pieces : TeacherShards
    missing : tuple of int
        Numbers of the pieces to make; row i asks for ``missing[i]``.
    teacher : str
        Folder, the same on every node, or hub id.
    revision : str or None
        Commit of a hub teacher.
    fingerprint : str
        The teacher's as the driver found it; another one is refused.
    device, precision : str
    batch_size : int
    trust_remote_code : bool, default=False
        As in `lakevec.pipeline.distillation.sentence_encoder.SentenceEncoder`.
    """

    pieces: TeacherShards
    missing: tuple[int, ...]
    teacher: str
    revision: str | None
    fingerprint: str
    device: str
    precision: str
    batch_size: int
    trust_remote_code: bool = False

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Make the pieces that are asked for.

        Parameters
        ----------
        batches : iterator of pyarrow.RecordBatch
            One column of integers.

        Yields
        ------
        pyarrow.RecordBatch
            The piece's number and how many texts it holds.

        Raises
        ------
        SetupError
            If the node has no torch or transformers.
        TeacherError
            If the node's teacher is another one.
        """
        for batch in batches:
            for place in batch.column(0).to_pylist():
                piece = self.missing[place]
                texts = self.pieces.read_texts(piece)
                self.pieces.write_vectors(piece, self._encoder().encode(texts))
                yield pa.RecordBatch.from_pydict({"piece": [piece], "texts": [len(texts)]})

    def _encoder(self) -> SentenceEncoder:
        if self.fingerprint not in _loaded:
            _loaded.clear()
            _loaded[self.fingerprint] = self._load()
        return _loaded[self.fingerprint]

    def _load(self) -> SentenceEncoder:
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
        encoder = SentenceEncoder(
            self.teacher,
            revision=self.revision,
            device=self.device,
            precision=self.precision,
            batch_size=self.batch_size,
            trust_remote_code=self.trust_remote_code,
        )
        if encoder.fingerprint != self.fingerprint:
            raise TeacherError(
                f"an executor has another teacher {self.teacher!r}",
                got=encoder.fingerprint,
                expected=self.fingerprint,
                remedy="put the same folder on every node, or name a --revision",
            )
        return encoder
