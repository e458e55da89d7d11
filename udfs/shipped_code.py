"""Unpack shipped code once per node, so that Numba finds its compiled kernels again.

Spark puts a shipped archive into a new folder for every application, and Numba keeps machine code beside the
modules. So every worker of every run would compile the kernels. In a folder named by a hash of the sources,
Numba compiles at most once per node and version.
"""

from __future__ import annotations

import hashlib
import zipfile
from contextlib import suppress
from pathlib import Path

from lakevec import pipeline
from lakevec.pipeline.errors import DataError
from lakevec.pipeline.local_files import private_folder, provide_folder


def prefer_unpacked_code() -> None:
    """If the code comes from an archive, import `pipeline` from a folder on this node, if one is writable."""
    archive = getattr(pipeline.__loader__, "archive", None)
    if archive is not None:
        with suppress(OSError, DataError, zipfile.BadZipFile):
            pipeline.__path__ = [str(unpack(Path(archive)) / "lakevec" / "pipeline")]


def unpack(archive: Path) -> Path:
    """Return this node's folder with an archive's `pipeline`; unpack the archive if needed."""
    with zipfile.ZipFile(archive) as content:
        sources = [info for info in content.infolist() if info.filename.startswith("lakevec/pipeline/")]
        digest = hashlib.sha256()
        for info in sources:
            digest.update(f"{info.filename}\0{info.file_size}\0".encode() + content.read(info))
        folder = private_folder() / f"code-{digest.hexdigest()[:16]}"

        def is_whole() -> bool:
            try:
                return all((folder / info.filename).stat().st_size == info.file_size for info in sources)
            except FileNotFoundError:
                return False

        return provide_folder(folder, lambda staged: content.extractall(staged, sources), is_whole)
