"""Folders of model2vec, of all its versions, and of Sentence Transformers with a StaticEmbedding."""

from __future__ import annotations

from typing import Any

import numpy as np
from pyarrow import fs as pafs

from lakevec.pipeline.errors import ModelError
from lakevec.pipeline.model.formats.foreign_model import (
    ForeignModel,
    make_table,
    read_tensors,
    read_tokenizer,
)
from lakevec.pipeline.model.sentence_transformer_files import read_json_object, read_modules
from lakevec.pipeline.storage import Location

_TENSOR_FILES = ("model.safetensors", "embeddings.safetensors")  # the second is that of model2vec until 0.1.2
_SENTENCE_TRANSFORMERS = "config_sentence_transformers.json"
_OWN_FOLDER = "0_StaticEmbedding"
_RECIPE = ("apply_pca", "apply_zipf", "sif_coefficient", "pooling")


def read_folder(folder: Location) -> ForeignModel | None:
    """Read a folder of model2vec or Sentence Transformers; return None if it is neither.

    Raises
    ------
    ModelError
        If the folder is of one of them and can't be read.

    Notes
    -----
    The tensor's name identifies the library: ``embeddings`` is from model2vec, ``embedding.weight`` from
    Sentence Transformers. Sentence Transformers counts unknown tokens in the mean.
    """
    modules = read_modules(folder, error=ModelError) or []
    kinds = [module.kind for module in modules]
    if modules and "StaticEmbedding" not in kinds:
        raise ModelError(
            f"{folder.path} is not a static model",
            got=f"a Sentence Transformer of {', '.join(kinds)}",
            expected="a StaticEmbedding",
            remedy="distil it with 'lakevec distill --teacher'",
        )
    named = modules[kinds.index("StaticEmbedding")].folder if modules else folder
    # Some modules.json name the wrong folder for the files beside them.
    roots = (named, folder / _OWN_FOLDER)
    root = next((place for place in roots if _has_file(place, "tokenizer.json")), folder)
    tensor_file = next((root / name for name in _TENSOR_FILES if _has_file(root, name)), None)
    is_marked = any(_has_file(folder, name) for name in ("config.json", _SENTENCE_TRANSFORMERS))
    if tensor_file is None or not (modules or is_marked):
        return None
    tensors = read_tensors(tensor_file)
    tokenizer = read_tokenizer(root / "tokenizer.json")
    if "embedding.weight" in tensors:
        return _sentence_transformers(folder, tensors["embedding.weight"], tokenizer, set(kinds))
    if "embeddings" in tensors:
        return _model2vec(folder, tensors, tokenizer)
    raise ModelError(
        tensor_file.path,
        got=f"tensors {', '.join(sorted(tensors))}",
        expected="embeddings (model2vec) or embedding.weight (Sentence Transformers)",
    )


def _model2vec(folder: Location, tensors: dict[str, np.ndarray], tokenizer: str) -> ForeignModel:
    file = folder / "config.json"
    config = read_json_object(file, error=ModelError) if _has_file(folder, "config.json") else {}
    normalize = config.get("normalize", False)
    if not isinstance(normalize, bool):
        raise ModelError(f"{file.path}: normalize", got=repr(normalize), expected="true or false")
    table = make_table(
        tensors["embeddings"],
        tokenizer,
        normalize=normalize,
        weights=tensors.get("weights"),
        mapping=tensors.get("mapping"),
    )
    facts: dict[str, Any] = {"recipe": {key: config[key] for key in _RECIPE if config.get(key) is not None}}
    if config.get("tokenizer_name"):
        facts["teacher"] = {"name": str(config["tokenizer_name"])}
    long_texts = "not truncated"
    if (length := config.get("max_length", 512)) is not None:
        long_texts += f"; model2vec itself truncates at {length} tokens by default"
    return ForeignModel(table, "model2vec", facts, long_texts)


def _sentence_transformers(
    folder: Location, embeddings: np.ndarray, tokenizer: str, kinds: set[str]
) -> ForeignModel:
    if unknown := kinds - {"StaticEmbedding", "Normalize"}:
        raise ModelError(
            f"{folder.path} has modules that are not static",
            got=", ".join(sorted(unknown)),
            expected="StaticEmbedding and perhaps Normalize",
        )
    # Without modules.json, only model2vec's key in the configuration says whether vectors are normalised.
    has_config = _has_file(folder, _SENTENCE_TRANSFORMERS)
    config = read_json_object(folder / _SENTENCE_TRANSFORMERS, error=ModelError) if has_config else {}
    normalize = "Normalize" in kinds or config.get("normalize") is True
    table = make_table(embeddings, tokenizer, normalize=normalize, pools_unknown=True)
    return ForeignModel(table, "Sentence Transformers")


def _has_file(folder: Location, name: str) -> bool:
    return bool((folder / name).type() == pafs.FileType.File)
