"""The output folder of ``lakevec count``: its layout, and the check that it is complete.

::

    tokens/     Parquet: id, token, count, documents; a row for every token of the tokenizer
    words/      Parquet: word, count, documents; most frequent first
    phrases/    Parquet: phrase, count, documents; only with --phrases
    bigrams/    Parquet: first, second, count; most frequent first; only with --bigrams
    count.json  request, tokenizer, totals; written last, so its presence marks a complete count
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

from lakevec.pipeline.errors import InputError, OutputError, describe_failure, rephrase
from lakevec.pipeline.output.file_entry import OWN_FOLDER
from lakevec.pipeline.output.lease import Lease
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.storage import Location, locate

TOKENS, WORDS, PHRASES, BIGRAMS, RECORD = "tokens", "words", "phrases", "bigrams", "count.json"
# Keys of the record with the rows of each part.
_ROWS = {WORDS: "distinct_words", PHRASES: "distinct_phrases", BIGRAMS: "bigrams"}
# Marks an incomplete count, whose files may be deleted.
_BEGUN = "_begun"


def read_record(folder: Location) -> dict[str, Any] | None:
    """Read the record of a complete count; None if there is no complete count."""
    try:
        record = json.loads((folder / RECORD).read_bytes())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("kind") == "lakevec count" else None


@contextmanager
def hold(folder: Location, run: str, uri: str) -> Iterator[Lease]:
    """Hold the lease of a folder, which keeps other runs out.

    Parameters
    ----------
    folder : Location
    run : str
        Name of the run.
    uri : str
        Name of the folder in messages.

    Raises
    ------
    OutputError
        If the folder holds other data.
    BusyError
        If another run holds the lease.
    """
    _refuse_foreign(folder, uri)
    own = folder / OWN_FOLDER
    try:
        with Lease(own, run, uri) as lease:
            yield lease
    finally:
        # A run that fails before it writes leaves no empty folders.
        for empty in (own, folder):
            if empty.exists() and not empty.list():
                empty.delete()


def begin(folder: Location) -> None:
    """Delete the files of an incomplete count, and mark the folder as incomplete; needs the lease."""
    for name in (TOKENS, WORDS, PHRASES, BIGRAMS):
        (folder / name).delete()
    (folder / _BEGUN).write_atomic(b"")


def _refuse_foreign(folder: Location, uri: str) -> None:
    """Refuse a folder with data other than a complete or incomplete count."""
    with rephrase(OutputError, f"can't look at {uri!r}", on=OSError, describe=describe_failure):
        if (folder / RECORD).exists() or (folder / _BEGUN).exists():
            return
        is_file = folder.type() == pafs.FileType.File
        is_taken = is_file or bool({info.base_name for info in folder.list()} - {OWN_FOLDER})
    if is_taken:
        raise OutputError(
            f"output {uri!r} exists",
            expected="a new or empty folder, or the counts of the same request",
            remedy="choose another --output",
        )


def write_part(folder: Location, name: str, rows: pa.Table) -> None:
    """Write a part of one file."""
    part = folder / name
    part.filesystem.create_dir(part.path, recursive=True)
    file = part / f"{name}.parquet"
    pq.write_table(rows, file.path, filesystem=file.filesystem, compression="zstd")


def finish(folder: Location, tokens: pa.Table, record: dict[str, Any]) -> None:
    """Write the token counts, and then the record, which marks the count as complete."""
    write_part(folder, TOKENS, tokens)
    (folder / RECORD).write_atomic(json.dumps(record, indent=2, ensure_ascii=False).encode() + b"\n")
    (folder / _BEGUN).delete()


def part_of(uri: str, name: str) -> Location:
    """Return a part of a folder of `lakevec count`, or the location itself if it is no such folder.

    Parameters
    ----------
    uri : str
    name : {"tokens", "words", "phrases", "bigrams"}

    Raises
    ------
    InputError
        If the count is incomplete, the part is missing or damaged, or the folder can't be reached.
    """
    place = locate(uri, error=InputError)
    with rephrase(InputError, f"counts {uri!r} can't be read", on=OSError, describe=describe_failure):
        is_complete, is_begun = ((place / file).type() == pafs.FileType.File for file in (RECORD, _BEGUN))
    if is_complete:
        _check_part(place, name, uri)
        return place / name
    if is_begun:
        raise InputError(
            f"counts {redact(uri)!r} are incomplete",
            got="a count that was killed, or still runs",
            remedy="run the same 'lakevec count' again",
        )
    return place


def _check_part(folder: Location, name: str, uri: str) -> None:
    """Compare the number of rows with the record; the tokens need at least one row."""
    expected = (read_record(folder) or {}).get(_ROWS[name]) if name != TOKENS else None
    if name != TOKENS and not expected:
        return
    part = folder / name
    try:
        rows = pads.dataset(part.path, filesystem=part.filesystem, format="parquet").count_rows()
    except (OSError, ArrowException):
        rows = 0
    if rows == 0 or expected not in (None, rows):
        raise InputError(
            f"counts {redact(uri)!r} are incomplete",
            got=f"{rows:,} {name}",
            expected=f"{expected:,}" if expected else f"all {name} of the tokenizer",
            remedy=f"restore the folder {name}, or count again into another --output",
        )
