"""Which format a place holds."""

from __future__ import annotations

from pyarrow import fs as pafs

from lakevec.pipeline.errors import ModelError
from lakevec.pipeline.model.formats import bpemb
from lakevec.pipeline.model.formats.folders import read_folder
from lakevec.pipeline.model.formats.foreign_model import ForeignModel
from lakevec.pipeline.model.formats.word_vectors import SUFFIXES, read_word_model
from lakevec.pipeline.model.formats.wordllama import read_wordllama
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.storage import Location

_EXPECTED = (
    "a folder of lakevec, model2vec or Sentence Transformers (StaticEmbedding), word vectors "
    "(.txt, .vec, .bin), a SentencePiece .model with its vectors, or WordLlama's .safetensors"
)


def read_foreign(place: Location, name: str) -> ForeignModel:
    """Read a model of another library.

    Parameters
    ----------
    place : Location
        A folder or a file.
    name : str
        As the user wrote it.

    Returns
    -------
    ForeignModel

    Raises
    ------
    ModelError
        If it is of no known format, or damaged.
    """
    shown = redact(name)
    kind = place.type()
    if kind == pafs.FileType.NotFound:
        raise ModelError(f"model {shown!r} does not exist", expected=_EXPECTED)
    if kind == pafs.FileType.File:
        if place.path.endswith(bpemb.SUFFIX):
            return bpemb.read_bpemb(place)
        if place.path.endswith(".safetensors"):
            return read_wordllama(place)
        if place.path.endswith(SUFFIXES):
            return read_word_model(place)
        raise ModelError(f"{shown!r} is no model", got="a file of another name", expected=_EXPECTED)
    found = read_folder(place)
    if found is not None:
        return found
    files = [entry.path for entry in place.list() if entry.type == pafs.FileType.File]
    for suffix in (bpemb.SUFFIX, ".safetensors"):
        fitting = [path for path in files if path.endswith(suffix)]
        if len(fitting) == 1:
            return read_foreign(Location(place.filesystem, fitting[0]), name)
    raise ModelError(
        f"{shown!r} is not a model that lakevec knows",
        got="a folder without lakevec.json and of no other known format",
        expected=_EXPECTED,
    )
