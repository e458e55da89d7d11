"""Models of the Hugging Face hub: downloaded once into its cache, and identified by their commit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lakevec.pipeline.errors import UsageError, requires_extra

_PREFIX = "hf://"
_HUB_ID = re.compile(r"(?P<id>[\w-][\w.-]*(?:/[\w.-]+)?)(?:@(?P<revision>[\w.-]+))?(?P<folder>(?:/[\w.-]+)*)")
# Tensors and text: no pickle and no code is ever downloaded.
_FILES = ["*.safetensors", "*.json", "*.txt", "*.model"]


@dataclass(frozen=True)
class HubFolder:
    """A model of the hub in its local cache.

    Parameters
    ----------
    folder : pathlib.Path
    name : str
        Id of the repository, and the folder in it.
    commit : str
    cache : pathlib.Path
        The repository's folder in the cache; the model's files may be links into it.
    """

    folder: Path
    name: str
    commit: str
    cache: Path


def is_hub_name(name: str) -> bool:
    """Return whether a name has the prefix ``hf://``; ``models/minilm`` alone could be a path or an id.

    Examples
    --------
    >>> is_hub_name("hf://BAAI/bge-base-en-v1.5"), is_hub_name("BAAI/bge-base-en-v1.5")
    (True, False)
    """
    return name.startswith(_PREFIX)


def missing(what: str, name: str, *, error: type[UsageError]) -> UsageError:
    """Make the error for a model or teacher whose path does not exist."""
    may_be_id = re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", name) is not None
    hint = f"check the path; a model of the Hugging Face hub is written {_PREFIX}{name}"
    expected = "an existing folder, file or URI"
    return error(f"{what} {name!r} does not exist", expected=expected, remedy=hint if may_be_id else "")


def fetch(name: str, *, revision: str | None = None, error: type[UsageError]) -> HubFolder:
    """Download a model unless the cache holds it.

    Parameters
    ----------
    name : str
        ``hf://organisation/name``, optionally followed by ``@revision`` and a folder.
    revision : str, optional
        Branch, tag or commit.
    error : type
        The error to raise for a bad name, a missing model or a hub that can't be reached.

    Raises
    ------
    SetupError
        If huggingface-hub is not installed.
    """
    with requires_extra("convert", f"{name!r} of the Hugging Face hub"):
        from huggingface_hub import snapshot_download
    parts = _HUB_ID.fullmatch(name.removeprefix(_PREFIX))
    if parts is None or ".." in name.split("/"):
        raise error(f"{name!r} is no name of the hub", expected=f"{_PREFIX}organisation/name")
    hub_id, named, folder = parts["id"], parts["revision"], parts["folder"].strip("/")
    if named and revision and named != revision:
        raise error(f"revision {revision!r}", got=f"{named!r} in {name}", expected="one revision")
    try:
        found = Path(snapshot_download(hub_id, revision=revision or named, allow_patterns=_FILES))
    except (OSError, ValueError) as reason:  # the hub's own errors are OSErrors
        raise error(
            f"{name!r} can't be fetched from the Hugging Face hub",
            got=type(reason).__name__,
            expected="a model of that name, and a network",
            remedy=f"check the name; offline, fetch it before with 'hf download {hub_id}' or give its folder",
        ) from None
    shown = f"{hub_id}/{folder}" if folder else hub_id
    return HubFolder(found / folder if folder else found, shown, found.name, found.parent.parent)
