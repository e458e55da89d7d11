"""The configuration files of a Sentence Transformer's folder. Nothing that they name is imported or run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyarrow import fs as pafs

from lakevec.pipeline.errors import UsageError, rephrase
from lakevec.pipeline.model.safe_files import read_document
from lakevec.pipeline.storage import Location

MODULES_NAME = "modules.json"


@dataclass(frozen=True)
class Module:
    """One entry of ``modules.json``.

    Parameters
    ----------
    class_name : str
        Class with its package, such as "sentence_transformers.models.Pooling".
    path : str
        Folder within the model's folder, as it is written there; may be empty.
    folder : Location
        That folder.
    """

    class_name: str
    path: str
    folder: Location

    @property
    def kind(self) -> str:
        """Class without its package."""
        return self.class_name.rpartition(".")[2]

    def read_config(self, *, error: type[UsageError]) -> dict[str, Any]:
        """Read the module's own ``config.json``."""
        return read_json_object(self.folder / "config.json", error=error)


def read_modules(folder: Location, *, error: type[UsageError]) -> list[Module] | None:
    """Read which modules a model consists of; None if the folder has no ``modules.json``.

    Parameters
    ----------
    folder : Location
        The model's folder.
    error : type
        Raised if the file can't be read, or names a folder outside the model's.
    """
    file = folder / MODULES_NAME
    if file.type() == pafs.FileType.NotFound:
        return None
    try:
        entries = [(str(entry["type"]), str(entry["path"])) for entry in read_document(file)]
    except (OSError, ValueError, KeyError, TypeError):
        raise error(f"{file.path} can't be read", expected="a list of modules with path and type") from None
    for _, path in entries:
        # Control characters and lone surrogates are never part of a folder's name.
        if path.startswith("/") or ".." in path.split("/") or not path.isprintable():
            raise error(f"{file.path} names a folder outside", got=repr(path), expected="folders inside it")
    return [Module(kind, path, folder if path in ("", ".") else folder / path) for kind, path in entries]


def read_json_object(file: Location, *, error: type[UsageError]) -> dict[str, Any]:
    """Read a JSON file that holds an object."""
    with rephrase(error, f"{file.path} can't be read", on=(OSError, ValueError)):
        content = read_document(file)
    if not isinstance(content, dict):
        raise error(f"{file.path} can't be read", got=type(content).__name__, expected="a JSON object")
    return content
