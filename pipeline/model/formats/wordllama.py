"""WordLlama: a safetensors file beside a Llama tokenizer."""

from __future__ import annotations

from lakevec.pipeline.errors import ModelError
from lakevec.pipeline.model.formats.foreign_model import (
    ForeignModel,
    list_files,
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
        files = list_files(folder)
        found = [each for each in files if each.name.endswith(_TOKENIZER) or each.name == "tokenizer.json"]
        # Several models may share a folder: "l2_supercat_256" belongs to "l2_supercat".
        own = [each for each in found if file.name.startswith(each.name.removesuffix(_TOKENIZER))]
        if own or len(found) == 1:
            return (own or found)[0]
    expected = f"a file NAME{_TOKENIZER} beside it or in ../tokenizers"
    raise ModelError(f"{file.path} has no tokenizer", expected=expected)
