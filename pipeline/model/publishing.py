"""Publish a table as an immutable folder, or write it as another library does.

The folder is specified in ``docs/artifact.md``.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import Any, Literal

import safetensors.numpy
from pyarrow import fs as pafs

from lakevec.pipeline.errors import OutputError
from lakevec.pipeline.model.artifact import FORMAT_NAME, FORMAT_VERSION, MANIFEST_NAME, Artifact
from lakevec.pipeline.model.model_card import make_card
from lakevec.pipeline.model.table import StaticTable
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.storage import Location, locate


def refuse_existing_model(uri: str) -> Location:
    """Check, before any long work, that a model can be published at `uri`.

    Parameters
    ----------
    uri : str
        Folder or URI of the model to be.

    Returns
    -------
    Location

    Raises
    ------
    OutputError
        If something is there already, or the place can't be reached.
    """
    location = locate(uri, error=OutputError)
    uri = redact(uri)
    try:
        taken = location.type() != pafs.FileType.NotFound
    except OSError as error:
        raise OutputError(f"can't look at {uri!r}", got=str(error)) from None
    if taken:
        raise OutputError(
            f"model output {uri!r} exists",
            expected="a new place, since published models never change",
            remedy="choose another --output or delete the old one yourself",
        )
    return location


def publish(
    table: StaticTable,
    uri: str,
    *,
    provenance: dict[str, Any],
    quality: dict[str, Any],
    extra_files: dict[str, bytes] | None = None,
) -> None:
    """Write the model's folder in one step that other readers see whole or not at all.

    Parameters
    ----------
    table : StaticTable
        The table to publish.
    uri : str
        Folder or URI; must not exist.
    provenance : dict
        Where the table comes from; recorded as it is.
    quality : dict
        Figures measured on the table; recorded and shown in the card.
    extra_files : dict of str to bytes, optional
        Files that go with the model, such as a plot; hashed like the others.

    Raises
    ------
    OutputError
        If the place is taken or can't be written.

    Notes
    -----
    Where folders can be renamed (local disk, HDFS) the folder is written beside and renamed. On object
    stores a ``lakevec.json`` that names nothing is written first and the true one last: `load` refuses the
    folder in between.
    """
    files = {**(extra_files or {}), **_table_files(table, provenance)}
    manifest = _manifest(table, files, provenance, quality)
    files["README.md"] = make_card(manifest).encode()
    files[MANIFEST_NAME] = (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode()
    write_folder(uri, files)


def export(artifact: Artifact, uri: str, *, to: Literal["model2vec", "sentence-transformers"]) -> None:
    """Write a model's folder as another library writes it.

    Parameters
    ----------
    artifact : Artifact
    uri : str
        Folder or URI; must not exist.
    to : {"model2vec", "sentence-transformers"}

    Raises
    ------
    OutputError
        If the place is taken or can't be written.
    """
    table = artifact.table
    files = _table_files(table, artifact.provenance)
    if to == "model2vec":
        del files["modules.json"]
    else:
        del files["config.json"]
        rows = {"embedding.weight": table.dense_rows()}
        files["model.safetensors"] = safetensors.numpy.save(rows)
        files["config_sentence_transformers.json"] = _json_bytes({"similarity_fn_name": "cosine"})
    files["README.md"] = make_card(_manifest(table, files, artifact.provenance, artifact.quality)).encode()
    write_folder(uri, files)


def write_folder(uri: str, files: dict[str, bytes]) -> None:
    """Write a folder in one step, or, where folders can't be renamed, with its manifest last.

    Parameters
    ----------
    uri : str
        Folder or URI; must not exist.
    files : dict of str to bytes
        Name and content, in the order to write them.

    Raises
    ------
    OutputError
        If the place is taken or can't be written.
    """
    target = refuse_existing_model(uri)
    uri = redact(uri)
    staged = target
    if target.can_rename_folders:
        parent, _, name = target.path.rstrip("/").rpartition("/")
        staged = Location(target.filesystem, f"{parent}/.{name}.{uuid.uuid4().hex}")
    try:
        staged.filesystem.create_dir(staged.path, recursive=True)
        if staged is target and MANIFEST_NAME in files:
            (staged / MANIFEST_NAME).write_bytes(_json_bytes({"format": FORMAT_NAME}))
        for name, content in files.items():
            (staged / name).write_bytes(content)
        if staged is not target:
            target.filesystem.move(staged.path, target.path)
    except OSError as error:
        if staged.type() == pafs.FileType.Directory:
            staged.filesystem.delete_dir(staged.path)
        raise OutputError(f"can't publish the model to {uri!r}", got=str(error)) from None


def _table_files(table: StaticTable, provenance: dict[str, Any]) -> dict[str, bytes]:
    """Return the files that model2vec and Sentence Transformers read."""
    config = {
        "model_type": "model2vec",
        "architectures": ["StaticModel"],
        "tokenizer_name": provenance.get("teacher", {}).get("name", ""),
        "hidden_dim": table.dimensions,
        # model2vec cuts texts at 512 tokens unless told otherwise; lakevec does not cut.
        "seq_length": 1_000_000,
        "max_length": None,
        "normalize": table.normalize,
        "embedding_dtype": table.embeddings.dtype.name,
        "apply_pca": table.dimensions,
        **provenance.get("recipe", {}),
    }
    if table.mapping is not None:
        config["vocabulary_quantization"] = len(table.embeddings)
    modules = [("0", ".", "StaticEmbedding")] + (
        [("1", "1_Normalize", "Normalize")] if table.normalize else []
    )
    return {
        "model.safetensors": safetensors.numpy.save(table.tensors()),
        "tokenizer.json": table.tokenizer_json.encode(),
        "config.json": _json_bytes(config),
        "modules.json": _json_bytes(
            [
                {"idx": index, "name": name, "path": path, "type": f"sentence_transformers.models.{kind}"}
                for index, (name, path, kind) in enumerate(modules)
            ]
        ),
    }


def _manifest(
    table: StaticTable, files: dict[str, bytes], provenance: dict[str, Any], quality: dict[str, Any]
) -> dict[str, Any]:
    return {
        "format": FORMAT_NAME,
        "format_version": FORMAT_VERSION,
        "fingerprint": table.fingerprint,
        "rows": table.rows,
        "dimensions": table.dimensions,
        "dtype": table.embeddings.dtype.name,
        "normalize": table.normalize,
        "pools_unknown": table.pools_unknown,
        "unknown_token_id": table.unknown_token_id,
        "files": {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in files.items()
        },
        "provenance": provenance,
        "quality": quality,
    }


def _json_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=4, ensure_ascii=False) + "\n").encode()
