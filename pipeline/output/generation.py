"""The lives of an output: each full refresh begins one, and a small file says which one counts."""

from __future__ import annotations

import json

from pyarrow.fs import FileType

from lakevec.pipeline.errors import OutputError
from lakevec.pipeline.output.file_entry import OWN_FOLDER
from lakevec.pipeline.storage import Location

CURRENT = "current.json"
CONTRACT = "output.json"
# With Delta: the one that a full refresh is building.
NEXT = "next.json"


def state_folder(output: Location, generation: str) -> Location:
    """Return the folder that holds the state of a generation."""
    return output / OWN_FOLDER / generation


def read_generation(output: Location, name: str = CURRENT) -> str:
    """Read the name of a generation.

    Parameters
    ----------
    output : Location
    name : str, default=CURRENT
        Which pointer.

    Returns
    -------
    str
        Empty where there is none.

    Raises
    ------
    OutputError
        If the pointer is damaged.
    """
    file = output / OWN_FOLDER / name
    if not file.exists():
        return ""
    try:
        generation = json.loads(file.read_bytes())["generation"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        generation = None
    if not (isinstance(generation, str) and generation.isascii() and generation.isalnum()):
        raise OutputError(
            "an output is damaged",
            got=f"no name of a generation in {OWN_FOLDER}/{name}",
            expected="what earlier runs wrote",
            remedy="restore it, or embed into another --output",
        )
    return generation


def remove_leftovers(output: Location) -> None:
    """Remove what killed runs left half-written, and generations that no pointer names.

    Parameters
    ----------
    output : Location
        Of which this run holds the lease.
    """
    named = {read_generation(output, name) for name in (CURRENT, NEXT)}
    own = output / OWN_FOLDER
    folders = [own, own / "lease", *(own / name / part for name in named - {""} for part in (".", "log"))]
    for folder in folders:
        for info in folder.list():
            is_half_written = info.base_name.startswith(".") and info.type == FileType.File
            is_old = (
                folder is own and info.base_name not in named and (own / info.base_name / CONTRACT).exists()
            )
            if is_half_written or is_old:
                (folder / info.base_name).delete()


def write_generation(output: Location, generation: str, name: str = CURRENT) -> None:
    """Say which generation counts."""
    (output / OWN_FOLDER / name).write_atomic(json.dumps({"generation": generation}).encode())
