"""Find a model in a folder, at a URI or on the Hugging Face hub, whose commit identifies it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lakevec.pipeline.errors import UsageError, requires_extra
from lakevec.pipeline.storage import Location, locate

_PREFIX = "hf://"
_HUB_ID = re.compile(r"(?P<id>[\w-][\w.-]*(?:/[\w.-]+)?)(?:@(?P<revision>[\w.-]+))?(?P<folder>(?:/[\w.-]+)*)")
# Tensors and text: no pickle and no code is ever downloaded.
_FILES = ["*.safetensors", "*.json", "*.txt", "*.model"]


@dataclass(frozen=True)
class FoundModel:
    """The place of a model, and where it is from.

    Parameters
    ----------
    place : Location
    hub_name : str, optional
        Id of the hub's repository, and the folder in it.
    commit : str, optional
        The hub's commit.
    cache : pathlib.Path, optional
        The repository's folder in the hub's cache; the model's files may be links into it.
    """

    place: Location
    hub_name: str | None = None
    commit: str | None = None
    cache: Path | None = None


def is_hub_name(name: str) -> bool:
    """Return whether a name has the prefix ``hf://``; ``models/minilm`` alone could be a path or an id.

    Examples
    --------
    >>> is_hub_name("hf://BAAI/bge-base-en-v1.5"), is_hub_name("BAAI/bge-base-en-v1.5")
    (True, False)
    """
    return name.startswith(_PREFIX)


def find(what: str, name: str, *, revision: str | None = None, error: type[UsageError]) -> FoundModel:
    """Find a model; download it if it is on the hub and not in the cache.

    Parameters
    ----------
    what : {"model", "teacher", "head"}
        Subject of messages.
    name : str
        Path, URI, or ``hf://organisation/name``, optionally followed by ``@revision`` and a folder.
    revision : str, optional
        Branch, tag or commit of a hub model.
    error : type
        The error to raise for a bad name, a missing model or a hub that can't be reached.

    Raises
    ------
    SetupError
        If huggingface-hub is not installed.
    """
    if is_hub_name(name):
        return _fetch(name, revision, error)
    place = locate(name, error=error)
    if not place.exists():
        may_be_id = re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", name) is not None
        hint = f"check the path; for a model on the Hugging Face hub, give {_PREFIX}{name}"
        expected = "an existing folder, file or URI"
        raise error(f"{what} {name!r} does not exist", expected=expected, remedy=hint if may_be_id else "")
    if revision is not None:
        raise error("revision", got=repr(revision), expected=f"none, since the {what} is not on the hub")
    return FoundModel(place)


def _fetch(name: str, revision: str | None, error: type[UsageError]) -> FoundModel:
    """Download a model unless the cache holds it."""
    with requires_extra("convert", f"{name!r} of the Hugging Face hub"):
        from huggingface_hub import snapshot_download
    parts = _HUB_ID.fullmatch(name.removeprefix(_PREFIX))
    if parts is None or ".." in name.split("/"):
        raise error(f"{name!r} is not a name on the hub", expected=f"{_PREFIX}organisation/name")
    hub_id, named, folder = parts["id"], parts["revision"], parts["folder"].strip("/")
    if named and revision and named != revision:
        raise error(f"revision {revision!r}", got=f"{named!r} in {name}", expected="one revision")
    try:
        found = Path(snapshot_download(hub_id, revision=revision or named, allow_patterns=_FILES))
    except (OSError, ValueError) as reason:  # the hub's own errors are OSErrors
        raise error(
            f"{name!r} can't be fetched from the Hugging Face hub",
            got=type(reason).__name__,
            expected="a model of that name, and a network connection",
            remedy=f"check the name; to work offline, run 'hf download {hub_id}' before, or give its folder",
        ) from None
    shown = f"{hub_id}/{folder}" if folder else hub_id
    return FoundModel(locate(str(found / folder), error=error), shown, found.name, found.parent.parent)
