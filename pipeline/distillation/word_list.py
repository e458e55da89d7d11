"""A user's vocabulary: a file of words, most frequent first."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from lakevec.pipeline.errors import InputError, rephrase
from lakevec.pipeline.storage import Location, locate

_MAX_CHARACTERS = 100


@dataclass(frozen=True)
class WordList:
    """Words to add to a vocabulary.

    Parameters
    ----------
    words : tuple of str
        Distinct words, most frequent first.
    report : dict of str to int
        Number of words in the file, and number that were rejected for each reason.
    """

    words: tuple[str, ...]
    report: dict[str, int] = field(default_factory=dict)


def read_words(uri: str, *, column: str) -> WordList:
    """Read a vocabulary; skip empty words, duplicates and words of more than 100 characters.

    Parameters
    ----------
    uri : str
        Text file with one word per line, Parquet (``.parquet``, or a folder) or CSV (``.csv``). If Parquet or
        CSV has an integer column ``count``, it sorts the words.
    column : str
        Column of words in Parquet or CSV.

    Raises
    ------
    InputError
        If the file is unreadable, lacks the column, or has no word.
    """
    place = locate(uri, error=InputError)
    expected = f"text of one word a line, or Parquet or CSV with a string column {column!r}"
    unreadable = (OSError, UnicodeDecodeError, pa.ArrowException, KeyError)
    with rephrase(InputError, f"vocabulary {uri!r} can't be read", on=unreadable, expected=expected):
        given = _read(place, column)
    report = {"given": len(given), "empty": 0, "too long": 0, "given before": 0}
    words: dict[str, None] = {}
    for word in given:
        word = (word or "").strip()
        if not word:
            report["empty"] += 1
        elif len(word) > _MAX_CHARACTERS:
            report["too long"] += 1
        elif word in words:
            report["given before"] += 1
        else:
            words[word] = None
    if not words:
        got = f"{len(given)} lines"
        raise InputError(f"vocabulary {uri!r} holds no word", got=got, expected="at least one")
    return WordList(tuple(words), report)


def _read(place: Location, column: str) -> list[str | None]:
    name = place.path.lower().removesuffix(".gz")  # pyarrow decompresses
    if place.type() == pa.fs.FileType.Directory or name.endswith(".parquet"):
        table = pq.read_table(place.path, filesystem=place.filesystem)
    elif name.endswith(".csv"):
        # Keep words such as 007 and NULL as strings.
        options = pa.csv.ConvertOptions(column_types={column: pa.string()}, strings_can_be_null=False)
        table = pa.csv.read_csv(pa.BufferReader(place.read_bytes()), convert_options=options)
    else:
        return list(place.read_bytes().decode("utf-8-sig").splitlines())
    if "count" in table.column_names and pa.types.is_integer(table["count"].type):
        # A stable sort keeps the file's order of equal counts.
        table = table.take(pc.sort_indices(table, sort_keys=[("count", "descending")]))
    words: list[str | None] = pc.cast(table[column], pa.string()).to_pylist()
    return words
