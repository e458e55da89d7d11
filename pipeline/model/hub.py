"""Models of the Hugging Face hub: fetched once into its cache, and named with the commit that was found."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import SetupError, UsageError

_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w.-]+)*")
_FILES = ("*.safetensors", "*.json", "*.txt", "*.model")


@dataclass(frozen=True)
class HubFolder:
    """A model of the hub in its local cache.

    Parameters
    ----------
    folder : pathlib.Path
        Where it lies.
    name : str
        Its id.
    commit : str
        Commit of the files.
    cache : pathlib.Path
        The cache's folder of this repository, in which its files may be links.
    """

    folder: Path
    name: str
    commit: str
    cache: Path


def may_be_hub_id(name: str) -> bool:
    """Tell whether a name could be one of the hub.

    Parameters
    ----------
    name : str
        ``organisation/name``, ``name``, or ``organisation/name/folder/in/it``.

    Returns
    -------
    bool
    """
    return bool(_HUB_ID.fullmatch(name)) and ".." not in name.split("/")


def fetch(name: str, *, revision: str | None = None, error: type[UsageError]) -> HubFolder:
    """Download a model unless it lies in the cache.

    Parameters
    ----------
    name : str
        Hub id, perhaps with a folder behind it.
    revision : str, optional
        Branch, tag or commit.
    error : type
        The error to raise, so that it names what the caller was looking for.

    Returns
    -------
    HubFolder

    Raises
    ------
    UsageError
        Of the given type, if the hub has no such model or can't be reached and the cache doesn't hold it.
    SetupError
        If huggingface-hub is not installed.

    Notes
    -----
    Only tensors in safetensors, and text: no pickle and no code is ever fetched.
    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
    except ImportError:
        raise SetupError(
            f"model {name!r} is no folder, and to ask the Hugging Face hub needs a package",
            got="no huggingface_hub",
            remedy="pip install 'lakevec[convert]'",
        ) from None
    organisation, _, rest = name.partition("/")
    repository, _, folder = rest.partition("/")
    hub_id = f"{organisation}/{repository}" if repository else organisation
    try:
        found = Path(snapshot_download(hub_id, revision=revision, allow_patterns=list(_FILES)))
    except (HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError, OSError, ValueError) as reason:
        raise error(
            f"{name!r} is neither a folder nor a hub model that can be reached",
            got=type(reason).__name__,
            expected="an existing folder, or a hub id and a network",
            remedy=f"check the name; offline, fetch it before with 'hf download {hub_id}' or give its folder",
        ) from None
    return HubFolder(found / folder if folder else found, name, found.name, found.parent.parent)
