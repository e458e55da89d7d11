"""Shipped code is unpacked once per node, so that its compiled kernels are found again.

Spark lays a shipped archive into a new folder for every application. Numba keys its cache by path: each run
would compile the kernels anew, in every worker, and leave another folder behind. Unpacked to a place that is
named by its content, code compiles once per node and version.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import zipfile
from pathlib import Path

import pipeline
from pipeline.errors import DataError
from udfs.node_folder import private_folder

# Where numba looks for what was compiled from the modules beside it.
MACHINE_CODE_FOLDER = "pipeline/encoding/__pycache__"


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
        pipeline.__path__ = [str(_unpack(archive) / "pipeline")]
    except (OSError, DataError):
        return


def _unpack(archive: Path) -> Path:
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    base = private_folder()
    folder = base / f"code-{digest[:16]}"
    if not folder.exists():
        staged = Path(tempfile.mkdtemp(prefix="code.", dir=base))
        try:
            with zipfile.ZipFile(archive) as content:
                content.extractall(staged, [name for name in content.namelist() if _is_code(name)])
            staged.rename(folder)
        except OSError:
            if not folder.exists():  # another worker was first otherwise
                raise
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    return folder


def _is_code(name: str) -> bool:
    return name.startswith("pipeline/") and name.endswith((".py", ".nbi", ".nbc"))
