"""Folders of model2vec, of every era, and of Sentence Transformers with a StaticEmbedding."""

from __future__ import annotations

from typing import Any

import numpy as np
from pyarrow import fs as pafs

from lakevec.pipeline.errors import ModelError
from lakevec.pipeline.model.formats.foreign_model import (
    LEFT_OUT,
    NOT_CUT,
    POOLED,
    ForeignModel,
    make_table,
    normalisation,
    read_json,
    read_tensors,
    read_tokenizer,
)
from lakevec.pipeline.model.safe_files import read_document
from lakevec.pipeline.storage import Location

_TENSOR_FILES = ("model.safetensors", "embeddings.safetensors")  # the second until model2vec 0.1.2
_MODULES = "modules.json"
_SENTENCE_TRANSFORMERS = "config_sentence_transformers.json"
_OWN_FOLDER = "0_StaticEmbedding"
_MODEL2VEC_CUTS = "no text is cut; model2vec itself cuts at {length} tokens unless told otherwise"


def has_file(folder: Location, name: str) -> bool:
    """Tell whether a file lies in a folder."""
    return bool((folder / name).type() == pafs.FileType.File)


def read_folder(folder: Location) -> ForeignModel | None:
    """Read a folder of model2vec or Sentence Transformers.

    Parameters
    ----------
    folder : Location

    Returns
    -------
    ForeignModel or None
        None where it is neither.

    Raises
    ------
    ModelError
        If it looks like one and can't be read.

    Notes
    -----
    The tensor's name decides who wrote it: ``embeddings`` is model2vec's, ``embedding.weight`` that of
    Sentence Transformers, which counts unknown tokens in the mean.
    """
    modules = _read_modules(folder) if has_file(folder, _MODULES) else []
    inner = next((path for path, kind in modules if kind == "StaticEmbedding"), None)
    if modules and inner is None:
        raise ModelError(
            f"{folder.path} is no static model",
            got=f"a Sentence Transformer of {', '.join(kind for _, kind in modules)}",
            expected="a StaticEmbedding",
            remedy="distil it with 'lakevec distill --teacher'",
        )
    # Not every list of modules is right about where its own files are.
    roots = [folder if path in ("", ".") else folder / path for path in (inner or "", _OWN_FOLDER)]
    root = next((place for place in roots if has_file(place, "tokenizer.json")), folder)
    tensors = next((name for name in _TENSOR_FILES if has_file(root, name)), None)
    is_marked = bool(modules) or any(
        has_file(folder, name) for name in ("config.json", _SENTENCE_TRANSFORMERS)
    )
    if tensors is None or not is_marked:
        return None
    found = read_tensors(root / tensors)
    tokenizer = read_tokenizer(root / "tokenizer.json")
    if "embedding.weight" in found:
        return _sentence_transformers(folder, found["embedding.weight"], tokenizer, modules)
    if "embeddings" in found:
        return _model2vec(folder, found, tokenizer)
    raise ModelError(
        f"{(root / tensors).path}",
        got=f"tensors {', '.join(sorted(found))}",
        expected="embeddings (model2vec) or embedding.weight (Sentence Transformers)",
    )


def _model2vec(folder: Location, tensors: dict[str, np.ndarray], tokenizer: str) -> ForeignModel:
    config = read_json(folder / "config.json") if has_file(folder, "config.json") else {}
    normalize = config.get("normalize", False)
    if not isinstance(normalize, bool):
        raise ModelError(
            f"{(folder / 'config.json').path}: normalize", got=repr(normalize), expected="true or false"
        )
    table = make_table(
        tensors["embeddings"],
        tokenizer,
        normalize=normalize,
        weights=tensors.get("weights"),
        mapping=tensors.get("mapping"),
    )
    length = config.get("max_length", 512)
    behaviour = {
        "unknown words": LEFT_OUT,
        "long texts": NOT_CUT if length is None else _MODEL2VEC_CUTS.format(length=length),
        "vectors": normalisation(normalize=normalize),
    }
    known = ("apply_pca", "apply_zipf", "sif_coefficient", "pooling")
    facts: dict[str, Any] = {"recipe": {key: config[key] for key in known if config.get(key) is not None}}
    if config.get("tokenizer_name"):
        facts["teacher"] = {"name": str(config["tokenizer_name"])}
    return ForeignModel(table, "model2vec", behaviour, facts)


def _sentence_transformers(
    folder: Location, embeddings: np.ndarray, tokenizer: str, modules: list[tuple[str, str]]
) -> ForeignModel:
    kinds = {kind for _, kind in modules}
    unknown = kinds - {"StaticEmbedding", "Normalize"}
    if unknown:
        raise ModelError(
            f"{folder.path} has modules that are not static",
            got=", ".join(sorted(unknown)),
            expected="StaticEmbedding and perhaps Normalize",
        )
    # Without a list of modules model2vec's own key in the configuration is all there is.
    configs = [read_json(folder / name) for name in (_SENTENCE_TRANSFORMERS,) if has_file(folder, name)]
    normalize = "Normalize" in kinds or any(config.get("normalize") is True for config in configs)
    table = make_table(embeddings, tokenizer, normalize=normalize, pools_unknown=True)
    behaviour = {
        "unknown words": POOLED,
        "long texts": NOT_CUT,
        "vectors": normalisation(normalize=normalize),
    }
    return ForeignModel(table, "Sentence Transformers", behaviour)


def _read_modules(folder: Location) -> list[tuple[str, str]]:
    """Return the folder and kind of each module."""
    file = folder / _MODULES
    try:
        modules = read_document(file)
        found = [(str(module["path"]), str(module["type"]).rpartition(".")[2]) for module in modules]
    except (OSError, ValueError, KeyError, TypeError):
        raise ModelError(
            f"{file.path} can't be read", expected="a list of modules with path and type"
        ) from None
    # What can't be printed is no name of a folder: a null, a line's end, half a character.
    if any(".." in path.split("/") or path.startswith("/") or not path.isprintable() for path, _ in found):
        raise ModelError(f"{file.path} names a folder outside", expected="folders in it")
    return found
