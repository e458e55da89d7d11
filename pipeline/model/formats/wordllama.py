"""WordLlama: a safetensors file beside a Llama tokenizer."""

from __future__ import annotations

from pyarrow import fs as pafs

from lakevec.pipeline.errors import ModelError
from lakevec.pipeline.model.formats.foreign_model import (
    ForeignModel,
    make_table,
    read_tensors,
    read_tokenizer,
)
from lakevec.pipeline.storage import Location

_TOKENIZER = "_tokenizer_config.json"


def read_wordllama(file: Location) -> ForeignModel:
    """Read WordLlama's ``.safetensors``, and its tokenizer beside it or in ``../tokenizers``."""
    tensors = read_tensors(file)
    embeddings = tensors.get("embedding.weight")
    if embeddings is None or embeddings.ndim != 2:
        raise ModelError(f"{file.path}", got=f"tensors {', '.join(tensors)}", expected="embedding.weight")
    tokenizer = read_tokenizer(_find_tokenizer(file))
    table = make_table(embeddings, tokenizer, normalize=False, pools_unknown=True)
    return ForeignModel(table, "WordLlama")


def _find_tokenizer(file: Location) -> Location:
    for folder in (file.parent, file.parent.parent / "tokenizers"):
        found = [
            entry
            for entry in folder.list()
            if entry.type == pafs.FileType.File
            and (entry.base_name.endswith(_TOKENIZER) or entry.base_name == "tokenizer.json")
        ]
        # Several models may share a folder: "l2_supercat_256" belongs to "l2_supercat".
        own = [entry for entry in found if file.name.startswith(entry.base_name.removesuffix(_TOKENIZER))]
        if own or len(found) == 1:
            return Location(file.filesystem, (own or found)[0].path)
    expected = f"a file NAME{_TOKENIZER} beside it or in ../tokenizers"
    raise ModelError(f"{file.path} has no tokenizer", expected=expected)
