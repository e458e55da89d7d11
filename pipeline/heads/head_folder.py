"""Load and publish heads. ``docs/heads.md`` specifies the folder; nothing in it is unpickled or executed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import safetensors.numpy

from lakevec.pipeline.errors import ModelError, rephrase
from lakevec.pipeline.heads.head import LABEL_TYPES, Head, HeadKind
from lakevec.pipeline.heads.head_card import make_card
from lakevec.pipeline.model import hub
from lakevec.pipeline.model.published_folder import (
    FolderFormat,
    check_types,
    describe_files,
    json_bytes,
    read_listed,
)
from lakevec.pipeline.redaction import redact

_TENSORS = "head.safetensors"
FORMAT = FolderFormat("head", "head", "lakevec-head", 1, "head.json", (_TENSORS,))
_TYPES = {
    "name": str,
    "kind": str,
    "model": dict,
    "labels": list,
    "label_type": str,
    "threshold": float,
}


def load_head(uri: str) -> Head:
    r"""Load a head that ``lakevec train-head`` published, with every hash checked.

    Parameters
    ----------
    uri : str
        Folder or URI, or ``hf://organisation/name`` for a folder on the Hugging Face hub.

    Returns
    -------
    Head

    Raises
    ------
    ModelError
        If there is no head, or a file differs from its recorded size, sha256 or fingerprint.

    Examples
    --------
    >>> head = load_head("heads/topic")  # doctest: +SKIP
    >>> head.predict(model.encode(["The match ended in a draw"]))  # doctest: +SKIP
    Predictions(labels=array(['Sports'], dtype=object), probabilities=array([0.97], dtype=float32))
    """
    owner = f"head {uri!r}"
    with rephrase(ModelError, f"{owner} can't be read", on=(OSError, pa.ArrowException)):
        found = hub.find("head", uri, error=ModelError)
        if not (found.place / FORMAT.manifest).exists():
            raise ModelError(
                f"{owner} is no head",
                expected=f"a folder with {FORMAT.manifest}",
                remedy="train one with lakevec train-head",
            )
        manifest = FORMAT.read_manifest(found.place, owner)
        where = f"{owner}: {FORMAT.manifest}"
        check_types(manifest, _TYPES, where)
        check_types(manifest["model"], {"fingerprint": str}, where)
        parts = dict.fromkeys(("model", "settings", "rows", "versions"), dict)
        check_types({key: {} for key in parts} | manifest["provenance"], parts, where)
        if not isinstance(manifest.get("max_tokens"), int | None):
            raise ModelError(f"{where}: 'max_tokens'", expected="an integer or null")
        content = read_listed(found.place, manifest, found.cache)
    head = _to_head(manifest, content, owner, redact(uri))
    FORMAT.check_fingerprint(owner, head.fingerprint, manifest)
    return head


def is_head(uri: str) -> bool:
    """Return whether a place that may hold a model holds a head, without checking it."""
    with rephrase(ModelError, f"model {uri!r} can't be read", on=(OSError, pa.ArrowException)):
        return bool((hub.find("model", uri, error=ModelError).place / FORMAT.manifest).exists())


def _to_head(manifest: Mapping[str, Any], content: Mapping[str, bytes], owner: str, uri: str) -> Head:
    with rephrase(ModelError, f"{owner} can't be read"):
        tensors = safetensors.numpy.load(content[_TENSORS])
        kind = LABEL_TYPES.get(manifest["label_type"])
        if any(type(label) is not kind for label in manifest["labels"]):
            raise ModelError(f"{owner}: {FORMAT.manifest}", expected="labels of the type in label_type")
        return Head(
            name=manifest["name"],
            kind=HeadKind(manifest["kind"]),
            model=manifest["model"]["fingerprint"],
            coefficients=tensors["coefficients"],
            intercepts=tensors["intercepts"],
            labels=tuple(manifest["labels"]),
            max_tokens=manifest.get("max_tokens"),
            threshold=manifest["threshold"],
            uri=uri,
            provenance=manifest["provenance"],
            quality=manifest["quality"],
        )


def publish_head(head: Head, uri: str) -> None:
    """Write a head's folder, which readers see whole or not at all.

    Parameters
    ----------
    head : Head
    uri : str
        Folder or URI; must not exist.

    Raises
    ------
    OutputError
        If the place is taken or can't be written.

    Examples
    --------
    >>> import tempfile
    >>> rows, zeros = np.eye(2, dtype=np.float32), np.zeros(2, dtype=np.float32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     head = Head("way", HeadKind.CLASSIFICATION, "sha256:0", rows, zeros, (1, 2))
    ...     publish_head(head, f"{folder}/way")
    ...     load_head(f"{folder}/way").labels
    (1, 2)
    """
    tensors = {
        "coefficients": np.ascontiguousarray(head.coefficients),
        "intercepts": np.ascontiguousarray(head.intercepts),
    }
    files = {_TENSORS: safetensors.numpy.save(tensors)}
    manifest = {
        **FORMAT.head(minor=0),
        "fingerprint": head.fingerprint,
        "name": head.name,
        "kind": head.kind.value,
        "model": {"fingerprint": head.model, **head.provenance.get("model", {})},
        "dimensions": head.dimensions,
        "max_tokens": head.max_tokens,
        "labels": list(head.labels),
        "label_type": head.label_type,
        "threshold": head.threshold,
        "files": describe_files(files),
        "provenance": head.provenance,
        "quality": head.quality,
    }
    files["README.md"] = make_card(head).encode()
    files[FORMAT.manifest] = json_bytes(manifest, indent=2)
    FORMAT.write(uri, files)
