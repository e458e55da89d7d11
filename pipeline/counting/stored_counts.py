"""The folder that ``lakevec count`` writes: what lies where, and whether it is whole.

::

    tokens/     Parquet: id, token, count, documents; a row for every token of the tokenizer
    words/      Parquet: word, count, documents; most frequent first
    phrases/    the same of phrases, where they were asked for
    count.json  request, tokenizer, totals; written last, so that a folder with it is whole
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs as pafs

from pipeline.errors import InputError, OutputError
from pipeline.location import Location, locate, without_credentials

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


def begin(folder: Location) -> None:
    """Make room for a count: remove what a killed one left, and refuse anything else.

    Parameters
    ----------
    folder : Location

    Raises
    ------
    OutputError
        If something else lies there.
    """
    if (folder / _BEGUN).type() == pafs.FileType.NotFound and (
        folder.type() == pafs.FileType.File or folder.list()
    ):
        raise OutputError(
            f"output {folder.path!r} exists",
            expected="a new or empty folder, or the counts of the same request",
            remedy="choose another --output",
        )
    for name in (TOKENS, WORDS, PHRASES):
        (folder / name).delete()
    (folder / _BEGUN).write_whole(b"")


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
    (folder / RECORD).write_whole(json.dumps(record, indent=2, ensure_ascii=False).encode() + b"\n")
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
        If the folder's count was killed, or can't be reached.
    """
    place = locate(uri, error=InputError)
    if (place / RECORD).type() == pafs.FileType.File:
        return place / name
    if (place / _BEGUN).type() == pafs.FileType.File:
        raise InputError(
            f"counts {without_credentials(uri)!r} are not whole",
            got="a count that was cut off, or is at work",
            remedy="run the same 'lakevec count' again",
        )
    return place
