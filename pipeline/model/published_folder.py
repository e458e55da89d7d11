"""Folders that never change after publishing: a manifest that lists every file with its size and sha256.

Models and heads are such folders. ``docs/artifact.md`` specifies them.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lakevec.pipeline.errors import ModelError, OutputError, describe_failure, rephrase
from lakevec.pipeline.model.safe_files import read_document, read_regular
from lakevec.pipeline.storage import Location, require_free

_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
REMEDY = "restore the folder from where it was published"


@dataclass(frozen=True)
class FolderFormat:
    """A format of published folders.

    Parameters
    ----------
    what, content : str
        The folder and its content, as messages name them: "model" and "table".
    name : str
        Name in the manifest.
    major : int
        Major number of the version in the manifest. A reader accepts all versions that have it.
    manifest : str
        Name of the manifest.
    files : tuple of str
        Files that a manifest must list.
    """

    what: str
    content: str
    name: str
    major: int
    manifest: str
    files: tuple[str, ...]

    def refuse_existing(self, uri: str) -> Location:
        """Check, before any long work, that a folder can be published at `uri`."""
        expected = f"a new place, since published {self.what}s never change"
        return require_free(uri, f"{self.what} output", expected=expected)

    def read_manifest(self, folder: Location, owner: str) -> dict[str, Any]:
        """Read and check the manifest; `owner` is the subject of messages, as in "model 'models/minilm'".

        Raises
        ------
        ModelError
            If it is unreadable, incomplete or of another format, or names a file outside the folder.
        """
        with rephrase(ModelError, f"{owner}: {self.manifest} can't be read", on=(OSError, ValueError)):
            manifest = read_document(folder / self.manifest)
        if not isinstance(manifest, dict) or manifest.get("format") != self.name:
            raise ModelError(f"{owner}: {self.manifest}", expected=f'"format": "{self.name}"')
        if "format_version" not in manifest:
            raise ModelError(
                f"{owner} is incomplete",
                got="a folder whose publishing is under way or was interrupted",
                remedy="wait for the publishing to end, or delete the folder and publish again",
            )
        version = str(manifest["format_version"])
        if version.split(".")[0] != str(self.major):
            raise ModelError(
                f"{owner} has another format version",
                got=version,
                expected=f"{self.major}.x",
                remedy="use the version of lakevec that published it, or publish it again",
            )
        self._check_files(manifest, f"{owner}: {self.manifest}")
        return manifest

    def _check_files(self, manifest: dict[str, Any], where: str) -> None:
        """Check the types that all readers rely on, and that every file name stays inside the folder."""
        manifest.setdefault("provenance", {})
        manifest.setdefault("quality", {})
        kinds = {"files": dict, "fingerprint": str, "provenance": dict, "quality": dict}
        check_types(manifest, kinds, where)
        for name, entry in manifest["files"].items():
            if not _FILE_NAME.fullmatch(name):
                what = f"{where} lists a file outside the folder"
                raise ModelError(what, got=repr(name), expected="plain file names")
            if not isinstance(entry, dict) or not {"bytes", "sha256"} <= entry.keys():
                raise ModelError(f"{where}: {name}", expected="its bytes and sha256")
        if missing := [name for name in self.files if name not in manifest["files"]]:
            raise ModelError(f"{where} does not list {missing[0]}")

    def head(self, *, minor: int) -> dict[str, str]:
        """Return the first keys of a manifest of version ``major.minor``."""
        return {"format": self.name, "format_version": f"{self.major}.{minor}"}

    def check_fingerprint(self, owner: str, computed: str, manifest: Mapping[str, Any]) -> None:
        """Raise ModelError if the content has another fingerprint than its manifest says."""
        if computed != manifest["fingerprint"]:
            raise ModelError(
                f"{owner}: {self.manifest} does not describe this {self.content}",
                got=computed,
                expected=str(manifest["fingerprint"]),
                remedy=REMEDY,
            )

    def write(self, uri: str, files: Mapping[str, bytes]) -> None:
        """Write files in their order, the manifest last; show the folder in one step if storage allows.

        Raises
        ------
        OutputError
            If the place is taken or can't be written.
        """
        target = staged = self.refuse_existing(uri)
        if target.can_rename_folders:
            staged = target.parent / f".{target.name}.{uuid.uuid4().hex}"
        try:
            staged.filesystem.create_dir(staged.path, recursive=True)
            if staged is target and self.manifest in files:
                (staged / self.manifest).write_bytes(json_bytes({"format": self.name}))
            for name, content in files.items():
                (staged / name).write_bytes(content)
            if staged is not target:
                target.filesystem.move(staged.path, target.path)
        except OSError as error:
            staged.delete()
            got = describe_failure(error)
            raise OutputError(f"can't publish the {self.what} to {uri!r}", got=got) from None


def read_listed(folder: Location, manifest: Mapping[str, Any], links_within: Path | None) -> dict[str, bytes]:
    """Read the files that a manifest lists, and compare each with its entry.

    Parameters
    ----------
    folder : Location
    manifest : mapping
        From `FolderFormat.read_manifest`.
    links_within : pathlib.Path or None
        Files may be links only into this folder, the cache of a hub. None: no links.

    Raises
    ------
    ModelError
        If a file is missing, a link, or differs from its entry.
    """
    return {
        name: _read_checked(folder / name, entry, links_within) for name, entry in manifest["files"].items()
    }


def describe_files(files: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    """Return a manifest's entry for each file."""
    return {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in files.items()
    }


def check_types(values: Mapping[str, Any], kinds: Mapping[str, type], where: str) -> None:
    """Raise ModelError for the first value of another type."""
    for key, kind in kinds.items():
        if not isinstance(value := values.get(key), kind):
            raise ModelError(f"{where}: {key!r}", got=type(value).__name__, expected=kind.__name__)


def json_bytes(value: Any, *, indent: int = 4) -> bytes:
    """Return a value as indented JSON with a line end."""
    return (json.dumps(value, indent=indent, ensure_ascii=False) + "\n").encode()


def cell(value: Any) -> str:
    """Show one value in a card's Markdown table."""
    shown = f"{value:.4g}" if isinstance(value, float) else str(value)
    shown = " ".join(shown.replace("|", "\\|").split())
    return f"`{shown}`" if isinstance(value, str) else shown


def _read_checked(file: Location, entry: dict[str, Any], links_within: Path | None) -> bytes:
    """Read one file and compare it with its entry."""
    is_link = file.is_local and Path(file.path).is_symlink()
    if is_link and not (links_within and Path(file.path).resolve().is_relative_to(links_within.resolve())):
        raise ModelError(f"{file.path} is a link", expected="a regular file", remedy=REMEDY)
    damaged = partial(ModelError, f"{file.path} is damaged", remedy=REMEDY)
    with rephrase(ModelError, f"{file.path} can't be read", on=OSError, remedy=REMEDY):
        size = file.filesystem.get_file_info(file.path).size
        # Compare sizes first, so that an oversized file is not read into memory.
        if size is not None and size != entry["bytes"]:
            raise damaged(got=f"{size} bytes", expected=f"{entry['bytes']}")
        content = read_regular(file)
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise damaged(got="another sha256 than recorded")
    return content
