"""Detect the format of another library's model, and read it."""

from __future__ import annotations

from pyarrow import fs as pafs

from lakevec.pipeline.errors import ModelError
from lakevec.pipeline.model.formats.bpemb import read_bpemb
from lakevec.pipeline.model.formats.folders import read_folder
from lakevec.pipeline.model.formats.foreign_model import ForeignModel, list_files
from lakevec.pipeline.model.formats.word_vectors import SUFFIXES, read_word_model
from lakevec.pipeline.model.formats.wordllama import read_wordllama
from lakevec.pipeline.storage import Location

# `read_foreign` also looks for a single file with one of the first two suffixes in a folder.
_READERS = {".model": read_bpemb, ".safetensors": read_wordllama} | dict.fromkeys(SUFFIXES, read_word_model)
_EXPECTED = (
    "a folder of lakevec, model2vec or Sentence Transformers (StaticEmbedding), word vectors "
    "(.txt, .vec, .bin), a SentencePiece .model with its vectors, or WordLlama's .safetensors"
)


def read_foreign(place: Location, name: str) -> ForeignModel:
    """Read a model of another library: a folder or a file, called `name` in errors."""
    kind = place.type()
    if kind == pafs.FileType.NotFound:
        raise ModelError(f"model {name!r} does not exist", expected=_EXPECTED)
    if kind == pafs.FileType.File:
        for suffix, read in _READERS.items():
            if place.path.endswith(suffix):
                return read(place)
        raise ModelError(f"{name!r} is not a model", got="a file with another suffix", expected=_EXPECTED)
    if (found := read_folder(place)) is not None:
        return found
    for suffix in (".model", ".safetensors"):
        fitting = [file for file in list_files(place) if file.name.endswith(suffix)]
        if len(fitting) == 1:
            return read_foreign(fitting[0], name)
    raise ModelError(
        f"{name!r} is not a model that lakevec knows",
        got="a folder without lakevec.json and of no other known format",
        expected=_EXPECTED,
    )
