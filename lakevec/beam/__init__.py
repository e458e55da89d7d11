"""lakevec in Apache Beam: a transform for texts, and embeddings for ``MLTransform``.

It needs Beam 2.77 or later: ``pip install 'lakevec[beam]'``.
"""

from lakevec.pipeline.errors import requires_extra

with requires_extra("beam", "lakevec.beam"):
    import apache_beam  # noqa: F401

from lakevec.beam.chunk_text import ChunkText
from lakevec.beam.embed_text import EmbedText
from lakevec.beam.embeddings import LakevecEmbeddings
from lakevec.beam.shared_model import WorkerModel, prepare

__all__ = ["ChunkText", "EmbedText", "LakevecEmbeddings", "WorkerModel", "prepare"]
