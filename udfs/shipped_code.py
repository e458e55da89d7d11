"""Shipped code is unpacked once per node, so that its compiled kernels are found again.

Spark lays a shipped archive into a new folder for every application. Numba keeps machine code beside the
modules: each run would compile the kernels anew, in every worker. Unpacked to a place that is named by its
sources, code compiles at most once per node and version.
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

from lakevec import pipeline
from lakevec.pipeline.errors import DataError
from lakevec.pipeline.local_files import install_folder, mark_used, private_folder, remove_unused


def prefer_unpacked_code() -> None:
    """Let modules of `pipeline` that are not imported yet come from a folder, where they are in an archive.

    Nothing changes where the code lies in a folder already, or where none can be written; the archive itself
    serves then.
    """
    archive = next(
        (path for path in Path(__file__).parents if path.suffix == ".zip" and path.is_file()), None
    )
    if archive is None:
        return
    try:
        pipeline.__path__ = [str(unpack(archive) / "lakevec" / "pipeline")]
    except (OSError, DataError, zipfile.BadZipFile):
        return


def unpack(archive: Path) -> Path:
    """Lay an archive's `pipeline` down in this node's folder for it, whole, unless it lies there already.

    Parameters
    ----------
    archive : pathlib.Path
        A zip of modules.

    Returns
    -------
    pathlib.Path
    """
    base = private_folder()
    with zipfile.ZipFile(archive) as content:
        sources = [info for info in content.infolist() if info.filename.startswith("lakevec/pipeline/")]
        digest = hashlib.sha256()
        for info in sources:
            digest.update(f"{info.filename}\0{info.file_size}\0".encode() + content.read(info))
        folder = base / f"code-{digest.hexdigest()[:16]}"
        if not _is_whole(folder, sources):
            install_folder(
                folder, lambda staged: content.extractall(staged, sources), lambda: _is_whole(folder, sources)
            )
            remove_unused(base)
    mark_used(folder)
    return folder


def _is_whole(folder: Path, sources: list[zipfile.ZipInfo]) -> bool:
    """Tell whether nobody has tidied a part of it away."""
    try:
        return all((folder / info.filename).stat().st_size == info.file_size for info in sources)
    except FileNotFoundError:
        return False
