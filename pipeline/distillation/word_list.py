"""A vocabulary as people give it: a list of words in a file, most frequent first."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from lakevec.pipeline.errors import InputError
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.storage import Location, locate

_LONGEST_WORD = 100


@dataclass(frozen=True)
class WordList:
    """Words to add, and what became of those that were given.

    Parameters
    ----------
    words : tuple of str
        Without duplicates, in the file's order, or most frequent first where it has counts.
    report : dict of str to int
        How many were given, and how many were left out and why.
    """

    words: tuple[str, ...]
    report: dict[str, int] = field(default_factory=dict)


def read_words(uri: str, *, column: str) -> WordList:
    """Read a vocabulary.

    Parameters
    ----------
    uri : str
        Text file of one word a line; or Parquet (``.parquet``, or a folder) or CSV (``.csv``) with a column
        of words and perhaps a column ``count``.
    column : str
        Name of the column.

    Returns
    -------
    WordList
        Empty words, those of more than 100 characters and those given before are left out and counted.

    Raises
    ------
    InputError
        If it can't be read, has no such column, or holds no word.
    """
    shown = redact(uri)
    place = locate(uri, error=InputError)
    try:
        given = _read(place, column)
    except (OSError, UnicodeDecodeError, pa.ArrowException, KeyError) as error:
        raise InputError(
            f"vocabulary {shown!r} can't be read",
            got=" ".join(str(error).split())[:200],
            expected=f"text of one word a line, or Parquet or CSV with a string column {column!r}",
        ) from None
    report = {"given": len(given), "empty": 0, "too long": 0, "given before": 0}
    words: dict[str, None] = {}
    for word in given:
        word = (word or "").strip()
        if not word:
            report["empty"] += 1
        elif len(word) > _LONGEST_WORD:
            report["too long"] += 1
        elif word in words:
            report["given before"] += 1
        else:
            words[word] = None
    if not words:
        raise InputError(
            f"vocabulary {shown!r} holds no word", got=f"{len(given)} lines", expected="at least one"
        )
    return WordList(tuple(words), report)


def _read(place: Location, column: str) -> list[str | None]:
    name = place.path.lower().removesuffix(".gz")  # unpacked by pyarrow
    is_folder = place.filesystem.get_file_info(place.path).type == pa.fs.FileType.Directory
    if is_folder or name.endswith(".parquet"):
        table = pq.read_table(place.path, filesystem=place.filesystem)
    elif name.endswith(".csv"):
        # A word is a word, be it 007 or NULL.
        options = pa.csv.ConvertOptions(column_types={column: pa.string()}, strings_can_be_null=False)
        table = pa.csv.read_csv(pa.BufferReader(place.read_bytes()), convert_options=options)
    else:
        return list(place.read_bytes().decode("utf-8-sig").splitlines())
    if "count" in table.column_names and pa.types.is_integer(table["count"].type):
        # Equal counts stay in the file's order.
        table = table.take(pc.sort_indices(table, sort_keys=[("count", "descending")]))
    words: list[str | None] = pc.cast(table[column], pa.string()).to_pylist()
    return words
