"""Publish a table as an immutable folder, or export it as another library writes it.

``docs/artifact.md`` specifies the folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib import resources
from string import Template
from typing import Any, Literal

import safetensors.numpy

from lakevec.pipeline.model.artifact import BIGRAMS_NAME, FORMAT, MANIFEST_NAME, Artifact
from lakevec.pipeline.model.published_folder import cell, describe_files, json_bytes
from lakevec.pipeline.model.table import StaticTable
from lakevec.pipeline.storage import Location

# Figures measured on the same table without its bigrams.
_WITHOUT_BIGRAMS = "without_bigrams_"
_TEXTS = resources.files("lakevec.pipeline.model")


def refuse_existing_model(uri: str) -> Location:
    """Check, before any long work, that a model can be published at `uri`."""
    return FORMAT.refuse_existing(uri)


def publish(
    table: StaticTable,
    uri: str,
    *,
    provenance: Mapping[str, Any] | None = None,
    quality: Mapping[str, Any] | None = None,
    extra_files: Mapping[str, bytes] | None = None,
) -> None:
    """Write a model's folder, which readers see whole or not at all.

    Parameters
    ----------
    table : StaticTable
    uri : str
        Folder or URI; must not exist.
    provenance : mapping, optional
        Teacher, recipe and package versions; recorded as they are. Default: nothing.
    quality : mapping, optional
        Figures measured on the table; recorded, and shown in the model card. Default: nothing.
    extra_files : mapping of str to bytes, optional
        Other files of the model, such as a plot; hashed like the table.

    Raises
    ------
    OutputError
        If the place is taken or can't be written.

    Notes
    -----
    Local disks and HDFS can rename folders: the folder is written beside its place and renamed. On object
    stores an incomplete ``lakevec.json`` is written first and the whole one last; `load` refuses the folder
    in between.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from lakevec.pipeline.model.artifact import load
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "vectors.txt")
    ...     size = file.write_text("north 0 1")
    ...     publish(load(str(file)).table, f"{folder}/model", quality={"score": 0.5})
    ...     published = load(f"{folder}/model")
    >>> published.is_checked, published.quality
    (True, {'score': 0.5})
    """
    provenance, quality = dict(provenance or {}), dict(quality or {})
    files = {**(extra_files or {}), **_table_files(table, provenance)}
    manifest = _manifest(table, files, provenance, quality)
    files["README.md"] = _make_card(manifest).encode()
    files[MANIFEST_NAME] = json_bytes(manifest, indent=2)
    FORMAT.write(uri, files)


def export(artifact: Artifact, uri: str, *, to: Literal["model2vec", "sentence-transformers"]) -> None:
    """Write a model's folder as another library writes it, without bigrams; `uri` must not exist."""
    table, quality = replace(artifact.table, bigrams=None), artifact.quality
    left_out = 0 if artifact.table.bigrams is None else len(artifact.table.bigrams)
    if left_out:
        quality = {
            name.removeprefix(_WITHOUT_BIGRAMS): value
            for name, value in quality.items()
            if name.startswith(_WITHOUT_BIGRAMS)
        }
    files = _table_files(table, artifact.provenance)
    if to == "model2vec":
        del files["modules.json"]
    else:
        del files["config.json"]
        rows = {"embedding.weight": table.dense_rows()}
        files["model.safetensors"] = safetensors.numpy.save(rows)
        files["config_sentence_transformers.json"] = json_bytes({"similarity_fn_name": "cosine"})
    manifest = _manifest(table, files, artifact.provenance, quality)
    files["README.md"] = _make_card(manifest, left_out=left_out).encode()
    FORMAT.write(uri, files)


def _table_files(table: StaticTable, provenance: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the files that readers need; a model with bigrams has none that lead other libraries to it."""
    files = {
        "model.safetensors": safetensors.numpy.save(table.tensors()),
        "tokenizer.json": table.tokenizer_json.encode(),
    }
    if table.bigrams is not None:
        return files | {BIGRAMS_NAME: safetensors.numpy.save(table.bigrams.tensors())}
    return files | _configuration(table, provenance)


def _configuration(table: StaticTable, provenance: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the configuration that model2vec and Sentence Transformers read."""
    config = {
        "model_type": "model2vec",
        "architectures": ["StaticModel"],
        "tokenizer_name": provenance.get("teacher", {}).get("name", ""),
        "hidden_dim": table.dimensions,
        # model2vec truncates texts at 512 tokens by default; lakevec does not.
        "seq_length": 1_000_000,
        "max_length": None,
        "normalize": table.normalize,
        "embedding_dtype": table.embeddings.dtype.name,
        "apply_pca": table.dimensions,
        **provenance.get("recipe", {}),
    }
    if table.mapping is not None:
        config["vocabulary_quantization"] = len(table.embeddings)
    modules = {".": "StaticEmbedding"} | ({"1_Normalize": "Normalize"} if table.normalize else {})
    listed = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (path, kind) in enumerate(modules.items())
    ]
    return {"config.json": json_bytes(config), "modules.json": json_bytes(listed)}


def _manifest(
    table: StaticTable, files: Mapping[str, bytes], provenance: Mapping[str, Any], quality: Mapping[str, Any]
) -> dict[str, Any]:
    abilities: dict[str, Any] = {}
    if table.position_scale is not None:
        abilities["position_scale"] = table.position_scale
    if table.bigrams is not None:
        abilities["bigrams"] = len(table.bigrams)
    return {
        # The lowest version that can hold the table, so that earlier readers can read it.
        **FORMAT.head(minor=2 if abilities else 1),
        "fingerprint": table.fingerprint,
        "rows": table.rows,
        "dimensions": table.dimensions,
        "dtype": table.embeddings.dtype.name,
        "normalize": table.normalize,
        "pools_unknown": table.pools_unknown,
        **abilities,
        "unknown_token_id": table.unknown_token_id,
        "files": describe_files(files),
        "provenance": provenance,
        "quality": quality,
    }


def _make_card(manifest: dict[str, Any], *, left_out: int = 0) -> str:
    """Return the card of a model, given its ``lakevec.json``: Markdown with the metadata that hubs read.

    `left_out` is the number of bigrams that an export lacks.
    """
    provenance = manifest["provenance"]
    teacher, source = provenance.get("teacher", {}), provenance.get("source", {})
    facts: dict[str, Any] = {}
    if teacher:
        facts["teacher"] = f"{teacher['name']}, revision {teacher.get('revision', 'unknown')}"
    facts |= {name: value for name, value in source.items() if name != "format"}
    for part in (provenance.get("recipe", {}), manifest["quality"], provenance.get("versions", {})):
        facts |= part
    pools_unknown, normalize = manifest["pools_unknown"], manifest["normalize"]
    return Template(_read_text("model_card.template") + "\n").substitute(
        title=f"{teacher.get('name', 'static model')}, {manifest['dimensions']} dimensions",
        made="converted" if source else "distilled",
        origin=f"a model of {source['format']}" if source else teacher.get("name", "an unnamed teacher"),
        tokens="tokens'" if pools_unknown else "known tokens'",
        rows=f"{manifest['rows']:,}",
        dimensions=manifest["dimensions"],
        dtype=manifest["dtype"],
        scaled=", scaled to length 1" if normalize else "",
        fingerprint=manifest["fingerprint"],
        facts="\n".join(f"| {name.replace('_', ' ')} | {cell(value)} |" for name, value in facts.items()),
        mean="weighted mean" if "position_scale" in manifest else "mean",
        tag="" if "bigrams" in manifest else "- sentence-transformers\n",
        library="lakevec" if "bigrams" in manifest else "model2vec",
        use=_read_text(
            "model_card_lakevec.template" if "bigrams" in manifest else "model_card_others.template"
        ),
        agreement="\n- ".join(_tell_agreement(manifest, left_out)),
    )


def _read_text(name: str) -> str:
    return (_TEXTS / name).read_text(encoding="utf-8").rstrip("\n")


def _tell_agreement(manifest: Mapping[str, Any], left_out: int) -> Iterator[str]:
    """Say how vectors of other libraries differ."""
    sentences = json.loads(_read_text("model_card_agreement.json"))
    if left_out:
        yield Template(sentences["lacks bigrams"]).substitute(bigrams=f"{left_out:,}")
    if "bigrams" in manifest:
        yield Template(sentences["has bigrams"]).substitute(bigrams=f"{manifest['bigrams']:,}")
        return
    has_weights = "position_scale" in manifest
    if has_weights:
        yield Template(sentences["weighs positions"]).substitute(scale=f"{manifest['position_scale']:g}")
    if manifest["pools_unknown"]:
        yield sentences["pools unknown"]
    elif not has_weights:
        yield sentences["normalizes" if manifest["normalize"] else "does not normalize"]
