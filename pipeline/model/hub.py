"""Models of the Hugging Face hub: fetched once into its cache, and named with the commit that was found."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lakevec.pipeline.errors import SetupError, UsageError
from lakevec.pipeline.redaction import redact

_PREFIX = "hf://"
_HUB_ID = re.compile(r"(?P<id>[\w-][\w.-]*(?:/[\w.-]+)?)(?:@(?P<revision>[\w.-]+))?(?P<folder>(?:/[\w.-]+)*)")
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


def is_hub_name(name: str) -> bool:
    """Tell a name of the hub from a path: only the prefix does, since ``models/minilm`` could be either.

    Parameters
    ----------
    name : str

    Returns
    -------
    bool

    Examples
    --------
    >>> is_hub_name("hf://BAAI/bge-base-en-v1.5"), is_hub_name("BAAI/bge-base-en-v1.5")
    (True, False)
    """
    return name.startswith(_PREFIX)


def missing(what: str, name: str, *, error: type[UsageError]) -> UsageError:
    """Make the error for a path where nothing is.

    Parameters
    ----------
    what : str
        What should be there, such as "model".
    name : str
    error : type

    Returns
    -------
    UsageError
    """
    may_be_id = re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+){0,1}", name) is not None
    return error(
        f"{what} {redact(name)!r} does not exist",
        expected="an existing folder, file or URI",
        remedy=f"check the path; a model of the Hugging Face hub is written {_PREFIX}{name}"
        if may_be_id
        else "",
    )


def fetch(name: str, *, revision: str | None = None, error: type[UsageError]) -> HubFolder:
    """Download a model unless it lies in the cache.

    Parameters
    ----------
    name : str
        ``hf://organisation/name``, perhaps with ``@revision`` and a folder behind it.
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
            f"to fetch {name!r} from the Hugging Face hub needs a package",
            got="no huggingface_hub",
            remedy="pip install 'lakevec[convert]'",
        ) from None
    hub_id, named, folder = _parse(name, error=error)
    if named and revision and named != revision:
        raise error(f"revision {revision!r}", got=f"{named!r} in {name}", expected="one revision")
    try:
        found = Path(snapshot_download(hub_id, revision=revision or named, allow_patterns=list(_FILES)))
    except (HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError, OSError, ValueError) as reason:
        raise error(
            f"{name!r} can't be fetched from the Hugging Face hub",
            got=type(reason).__name__,
            expected="a model of that name, and a network",
            remedy=f"check the name; offline, fetch it before with 'hf download {hub_id}' or give its folder",
        ) from None
    shown = f"{hub_id}/{folder}" if folder else hub_id
    return HubFolder(found / folder if folder else found, shown, found.name, found.parent.parent)


def _parse(name: str, *, error: type[UsageError]) -> tuple[str, str | None, str]:
    """Split a name into repository, revision and folder."""
    found = _HUB_ID.fullmatch(name.removeprefix(_PREFIX))
    if found is None or ".." in name.split("/"):
        raise error(f"{name!r} is no name of the hub", expected=f"{_PREFIX}organisation/name")
    return found["id"], found["revision"], found["folder"].strip("/")
