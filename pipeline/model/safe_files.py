"""Read a model's files so that no special or planted one makes the reader wait or run out of memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyarrow import fs as pafs

from lakevec.pipeline.errors import ModelError, one_line
from lakevec.pipeline.storage import Location

_LARGEST_DOCUMENT = 64 << 20


@contextmanager
def reading(what: str, *errors: type[Exception], remedy: str = "") -> Iterator[None]:
    """Turn errors of the given types into a `ModelError`: `what` can't be read."""
    try:
        yield
    except errors as error:
        # The text of a KeyError is the key alone.
        reason = repr(error) if isinstance(error, KeyError) else error
        raise ModelError(f"{what} can't be read", got=one_line(reason), remedy=remedy) from None


def read_regular(file: Location, *, largest: int | None = None) -> bytes:
    """Read a regular file: opening a pipe waits for a writer, and reading a device may never end.

    Parameters
    ----------
    file : Location
    largest : int, optional
        Refuse a file of more bytes. Default: no limit.

    Raises
    ------
    OSError
        If the file is not regular, too large or unreadable.
    """
    info = file.filesystem.get_file_info(file.path)
    if info.type == pafs.FileType.Unknown:
        raise OSError("no regular file")
    if largest is not None and info.size is not None and info.size > largest:
        raise OSError(f"{info.size} bytes, which is too large")
    return file.read_bytes()


def read_document(file: Location) -> Any:
    """Read a JSON document of at most 64 MiB.

    Raises
    ------
    OSError
        As `read_regular`.
    ValueError
        If the content is not JSON.
    """
    content = read_regular(file, largest=_LARGEST_DOCUMENT)
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None
