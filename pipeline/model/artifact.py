"""Load a model: a published one with every hash checked, or one of another library.

The folder is specified in ``docs/artifact.md``. Nothing in it is ever unpickled or executed.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import safetensors.numpy
from pyarrow import ArrowException
from pyarrow import fs as pafs
from safetensors import SafetensorError

from lakevec.pipeline.errors import ModelError
from lakevec.pipeline.model import hub
from lakevec.pipeline.model.formats import read_foreign
from lakevec.pipeline.model.safe_files import read_document, read_regular
from lakevec.pipeline.model.table import StaticTable
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.storage import Location, locate

MANIFEST_NAME = "lakevec.json"
FORMAT_NAME = "lakevec-model"
FORMAT_VERSION = "1.1"
_TABLE_FILES = ("model.safetensors", "tokenizer.json")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Artifact:
    """A published model as it was found.

    Parameters
    ----------
    table : StaticTable
        What embeds.
    uri : str
        Where it was read from, without credentials.
    provenance : dict
        Teacher, recipe and package versions, as recorded when it was published.
    quality : dict
        Figures that were measured then.
    is_checked : bool, default=False
        Whether all hashes were compared with those that were published.
    """

    table: StaticTable
    uri: str
    provenance: dict[str, Any] = field(default_factory=dict)
    quality: dict[str, Any] = field(default_factory=dict)
    is_checked: bool = False


def load(uri: str, *, revision: str | None = None) -> Artifact:
    """Read a model: one that was published, checked against what was published, or another library's.

    Parameters
    ----------
    uri : str
        Folder or URI of a model written by `publish`; or what `lakevec.pipeline.model.formats` reads; or
        ``hf://organisation/name`` for either on the Hugging Face hub.
    revision : str, optional
        Branch, tag or commit of a hub model.

    Returns
    -------
    Artifact

    Raises
    ------
    ModelError
        If there is no model, its format is unknown, or a file differs from its recorded size, sha256 or
        the model's fingerprint. The message names the file.
    """
    shown = redact(uri)
    found: hub.HubFolder | None = None
    try:
        if hub.is_hub_name(uri):
            found = hub.fetch(uri, revision=revision, error=ModelError)
            place = locate(str(found.folder), error=ModelError)
        else:
            place = locate(uri, error=ModelError)
            if place.type() == pafs.FileType.NotFound:
                raise hub.missing("model", uri, error=ModelError)
            if revision is not None:
                raise ModelError(f"revision {revision!r}", expected="none for a model in a folder")
        if (place / MANIFEST_NAME).type() != pafs.FileType.NotFound:
            artifact = _load_published(place, shown, links_within=found.cache if found else None)
        else:
            foreign = read_foreign(place, uri)
            artifact = Artifact(foreign.table, shown, foreign.to_provenance())
    except (OSError, ArrowException) as error:
        raise ModelError(f"model {shown!r} can't be read", got=redact(str(error))) from None
    if found is None:
        return artifact
    fetched = {"hub": {"name": found.name, "commit": found.commit}}
    return replace(artifact, provenance={**artifact.provenance, **fetched})


def _load_published(folder: Location, uri: str, *, links_within: Path | None) -> Artifact:
    """Read one of our own folders; its files may be links only within a folder that is given."""
    manifest = _read_manifest(folder, uri)
    content = {
        name: _read_checked(folder, name, entry, links_within) for name, entry in manifest["files"].items()
    }
    try:
        tensors = safetensors.numpy.load(content["model.safetensors"])
        table = StaticTable(
            embeddings=tensors["embeddings"],
            tokenizer_json=content["tokenizer.json"].decode(),
            normalize=manifest["normalize"],
            weights=tensors.get("weights"),
            mapping=tensors.get("mapping"),
            pools_unknown=manifest.get("pools_unknown", False) is True,
        )
    except (SafetensorError, KeyError, ValueError) as error:
        raise ModelError(f"model {uri!r}: tensors or tokenizer can't be read", got=repr(error)) from None
    if table.fingerprint != manifest["fingerprint"]:
        raise ModelError(
            f"model {uri!r}: {MANIFEST_NAME} does not describe this table",
            got=table.fingerprint,
            expected=str(manifest["fingerprint"]),
            remedy="restore the folder from where it was published",
        )
    known = manifest.get("provenance", {}), manifest.get("quality", {})
    return Artifact(table, uri, *known, is_checked=True)


def _read_manifest(folder: Location, uri: str) -> dict[str, Any]:
    """Read and check ``lakevec.json``."""
    try:
        manifest = read_document(folder / MANIFEST_NAME)
    except (OSError, ValueError) as error:
        raise ModelError(f"model {uri!r}: {MANIFEST_NAME} can't be read", got=str(error)) from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT_NAME:
        raise ModelError(f"model {uri!r}: {MANIFEST_NAME}", expected=f'"format": "{FORMAT_NAME}"')
    if "format_version" not in manifest:
        raise ModelError(
            f"model {uri!r} is not whole",
            got="a folder that is being published, or whose publishing was cut off",
            remedy="wait, or delete it and publish again",
        )
    version = str(manifest["format_version"])
    if version.split(".")[0] != FORMAT_VERSION.split(".")[0]:
        raise ModelError(
            f"model {uri!r} has another format version",
            got=version,
            expected=f"{FORMAT_VERSION.split('.')[0]}.x",
            remedy="use the lakevec that published it, or publish it again",
        )
    _check_manifest_fields(manifest, uri)
    return manifest


def _check_manifest_fields(manifest: dict[str, Any], uri: str) -> None:
    """Check types of what `load` relies on, and that every file name stays inside the folder."""
    expected_types = {"files": dict, "normalize": bool, "fingerprint": str}
    for key, kind in expected_types.items():
        if not isinstance(manifest.get(key), kind):
            raise ModelError(
                f"model {uri!r}: {MANIFEST_NAME}: {key!r}",
                got=type(manifest.get(key)).__name__,
                expected=kind.__name__,
            )
    provenance = manifest.get("provenance", {})
    told = {"provenance": provenance, "quality": manifest.get("quality", {})}
    if isinstance(provenance, dict):
        told |= {key: provenance.get(key, {}) for key in ("teacher", "source", "recipe", "vocabulary", "hub")}
    for key, value in told.items():
        if not isinstance(value, dict):
            raise ModelError(
                f"model {uri!r}: {MANIFEST_NAME}: {key!r}", got=type(value).__name__, expected="dict"
            )
    for name, entry in manifest["files"].items():
        if not _FILE_NAME.fullmatch(name):
            raise ModelError(
                f"model {uri!r}: {MANIFEST_NAME} lists a file outside the folder",
                got=repr(name),
                expected="plain file names",
            )
        if not isinstance(entry, dict) or not {"bytes", "sha256"} <= entry.keys():
            raise ModelError(f"model {uri!r}: {MANIFEST_NAME}: {name}", expected="its bytes and sha256")
    for name in _TABLE_FILES:
        if name not in manifest["files"]:
            raise ModelError(f"model {uri!r}: {MANIFEST_NAME} does not list {name}")


def _read_checked(folder: Location, name: str, entry: dict[str, Any], links_within: Path | None) -> bytes:
    """Read one file of the model and compare it with its entry."""
    file = folder / name
    remedy = "restore the folder from where it was published"
    is_link = folder.is_local and Path(file.path).is_symlink()
    if is_link and not (links_within and Path(file.path).resolve().is_relative_to(links_within.resolve())):
        raise ModelError(f"{file.path} is a link", expected="a regular file", remedy=remedy)
    try:
        size = folder.filesystem.get_file_info(file.path).size
        # Compared before reading, so that a planted giant is not read into memory.
        if size is not None and size != entry["bytes"]:
            raise ModelError(
                f"{file.path} is damaged", got=f"{size} bytes", expected=f"{entry['bytes']}", remedy=remedy
            )
        content = read_regular(file)
    except OSError as error:
        raise ModelError(f"{file.path} can't be read", got=str(error), remedy=remedy) from None
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise ModelError(f"{file.path} is damaged", got="another sha256 than recorded", remedy=remedy)
    return content
