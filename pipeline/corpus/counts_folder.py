"""The folder that ``lakevec count`` writes: what lies where, and whether it is whole.

::

    tokens/     Parquet: id, token, count, documents; a row for every token of the tokenizer
    words/      Parquet: word, count, documents; most frequent first
    phrases/    the same of phrases, where they were asked for
    count.json  request, tokenizer, totals; written last, so that a folder with it is whole
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from pyarrow import ArrowException
from pyarrow import fs as pafs

from lakevec.pipeline.errors import InputError, OutputError
from lakevec.pipeline.output.file_entry import OWN_FOLDER
from lakevec.pipeline.output.lease import Lease
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.storage import Location, locate

TOKENS, WORDS, PHRASES, RECORD = "tokens", "words", "phrases", "count.json"
# Says that whatever lies beside it is a count's own, and can go.
_BEGUN = "_begun"


def read_record(folder: Location) -> dict[str, Any] | None:
    """Read what a finished count tells of itself.

    Parameters
    ----------
    folder : Location

    Returns
    -------
    dict or None
        None where there is no finished count.
    """
    try:
        record = json.loads((folder / RECORD).read_bytes())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("kind") == "lakevec count" else None


@contextmanager
def hold(folder: Location, run: str, uri: str) -> Iterator[Lease]:
    """Keep other runs away from a folder while one counts into it.

    Parameters
    ----------
    folder : Location
    run : str
        Name of the run.
    uri : str
        The folder as messages name it.

    Yields
    ------
    Lease

    Raises
    ------
    OutputError
        If something else lies there.
    BusyError
        If another run counts into the folder.
    """
    _refuse_foreign(folder, uri)
    own = folder / OWN_FOLDER
    try:
        with Lease(own, run, uri) as lease:
            yield lease
    finally:
        # An empty folder stands for a run that found nothing to write.
        for empty in (own, folder):
            if empty.exists() and not empty.list():
                empty.delete()


def begin(folder: Location) -> None:
    """Make room for a count: remove what a killed one left.

    Parameters
    ----------
    folder : Location
        This run holds its lease.
    """
    for name in (TOKENS, WORDS, PHRASES):
        (folder / name).delete()
    (folder / _BEGUN).write_atomic(b"")


def _refuse_foreign(folder: Location, uri: str) -> None:
    """Refuse a folder that holds neither counts nor the beginning of some."""
    if (folder / RECORD).exists() or (folder / _BEGUN).exists():
        return
    is_file = folder.type() == pafs.FileType.File
    if is_file or {info.base_name for info in folder.list()} - {OWN_FOLDER}:
        raise OutputError(
            f"output {uri!r} exists",
            expected="a new or empty folder, or the counts of the same request",
            remedy="choose another --output",
        )


def finish(folder: Location, tokens: pa.Table, record: dict[str, Any]) -> None:
    """Write the counts of tokens, and then the record that says that all is there.

    Parameters
    ----------
    folder : Location
    tokens : pyarrow.Table
    record : dict
    """
    (folder / TOKENS).filesystem.create_dir((folder / TOKENS).path, recursive=True)
    pq.write_table(
        tokens, (folder / TOKENS / "tokens.parquet").path, filesystem=folder.filesystem, compression="zstd"
    )
    (folder / RECORD).write_atomic(json.dumps(record, indent=2, ensure_ascii=False).encode() + b"\n")
    (folder / _BEGUN).delete()


def part_of(uri: str, name: str) -> Location:
    """Return the place of counts in a folder of `lakevec count`, or the place itself if it is none.

    Parameters
    ----------
    uri : str
    name : {"tokens", "words", "phrases"}

    Returns
    -------
    Location

    Raises
    ------
    InputError
        If the folder's count was killed, a part of it is gone, or it can't be reached.
    """
    place = locate(uri, error=InputError)
    if (place / RECORD).type() == pafs.FileType.File:
        _check_part(place, name, uri)
        return place / name
    if (place / _BEGUN).type() == pafs.FileType.File:
        raise InputError(
            f"counts {redact(uri)!r} are not whole",
            got="a count that was cut off, or is at work",
            remedy="run the same 'lakevec count' again",
        )
    return place


def _check_part(folder: Location, name: str, uri: str) -> None:
    """Compare how many words or phrases there are with what the record says."""
    expected = (read_record(folder) or {}).get(f"distinct_{name}") if name != TOKENS else None
    if name != TOKENS and not expected:
        return
    part = folder / name
    try:
        rows = pads.dataset(part.path, filesystem=part.filesystem, format="parquet").count_rows()
    except (OSError, ArrowException):
        rows = 0
    if rows == 0 or expected not in (None, rows):
        raise InputError(
            f"counts {redact(uri)!r} are not whole",
            got=f"{rows:,} {name}",
            expected=f"{expected:,}" if expected else f"every one of the tokenizer's {name}",
            remedy=f"restore the folder {name}, or count again into another --output",
        )
