"""WordLlama: a safetensors file beside a Llama tokenizer."""

from __future__ import annotations

from pyarrow import fs as pafs

from lakevec.pipeline.errors import ModelError
from lakevec.pipeline.model.formats.foreign_model import (
    AS_THEY_ARE,
    NOT_CUT,
    POOLED,
    ForeignModel,
    make_table,
    read_tensors,
    read_tokenizer,
)
from lakevec.pipeline.storage import Location

_TOKENIZER = "_tokenizer_config.json"


def read_wordllama(file: Location) -> ForeignModel:
    """Read WordLlama's weights, and the tokenizer that lies beside them or in ``../tokenizers``.

    Parameters
    ----------
    file : Location
        The ``.safetensors`` file.

    Returns
    -------
    ForeignModel

    Raises
    ------
    ModelError
        If there is no tokenizer, or another tensor than WordLlama's.
    """
    tensors = read_tensors(file)
    embeddings = tensors.get("embedding.weight")
    if embeddings is None or embeddings.ndim != 2:
        raise ModelError(f"{file.path}", got=f"tensors {', '.join(tensors)}", expected="embedding.weight")
    tokenizer = read_tokenizer(_find_tokenizer(file))
    table = make_table(embeddings, tokenizer, normalize=False, pools_unknown=True)
    behaviour = {"unknown words": POOLED, "long texts": NOT_CUT, "vectors": AS_THEY_ARE}
    return ForeignModel(table, "WordLlama", behaviour)


def _find_tokenizer(file: Location) -> Location:
    folder, _, name = file.path.rpartition("/")
    for place in (folder, f"{folder.rpartition('/')[0]}/tokenizers"):
        here = Location(file.filesystem, place)
        found = [
            entry
            for entry in here.list()
            if entry.type == pafs.FileType.File
            and (entry.base_name.endswith(_TOKENIZER) or entry.base_name == "tokenizer.json")
        ]
        # Several models may lie together: "l2_supercat_256" belongs to "l2_supercat".
        own = [entry for entry in found if name.startswith(entry.base_name.removesuffix(_TOKENIZER))]
        if own or len(found) == 1:
            return Location(file.filesystem, (own or found)[0].path)
    raise ModelError(
        f"{file.path} has no tokenizer", expected=f"a file NAME{_TOKENIZER} beside it or in ../tokenizers"
    )
