"""Read the files of a model that may be hostile: refuse pipes, devices and giant files."""

from __future__ import annotations

import json
from typing import Any

from pyarrow import fs as pafs

from lakevec.pipeline.storage import Location

_LARGEST_DOCUMENT = 64 << 20


def read_regular(file: Location, *, largest: int | None = None) -> bytes:
    """Read a regular file; refuse pipes and devices, whose reading may never end.

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
        raise OSError("not a regular file")
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
