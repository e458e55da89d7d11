"""The rows that a benchmark runs over: a lake's own, repeated with fresh words, and texts of other kinds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakevec.pipeline.errors import InputError

# Repeated text must not be known text. After 160,000 docstring paragraphs a lake still brings 1.0 to 1.5
# chunks that were never seen per 1,000 characters, English prose 1.7 after 150,000 sentences; this is 2.
_CHARACTERS_PER_FRESH_WORD = 500
_ROWS_PER_FILE = 125_000


def read_source(folder: Path, text: str) -> pa.Table:
    """Read the real rows.

    Parameters
    ----------
    folder : Path
        Parquet files on this machine.
    text : str
        Their text column.

    Returns
    -------
    pyarrow.Table

    Raises
    ------
    InputError
        If there are no Parquet files or no such column.
    """
    try:
        rows = pq.read_table(folder)
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"input {str(folder)!r}", got=type(error).__name__, expected="Parquet files on this machine"
        ) from None
    if text not in rows.column_names:
        raise InputError(f"column {text!r}", expected=f"one of {', '.join(rows.column_names)}")
    return rows


def write_rows(source: pa.Table, text: str, rows: int, folder: Path) -> None:
    """Write a lake of as many rows as are wanted.

    Parameters
    ----------
    source : pyarrow.Table
        Real rows.
    text : str
        Its text column.
    rows : int
        Rows to write. Behind the source's own, its rows come again, with a fresh word at the end of some.
    folder : Path
        Receives Parquet files of 125,000 rows.
    """
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    place = source.schema.get_field_index(text)
    for start in range(0, rows, _ROWS_PER_FILE):
        numbers = np.arange(start, min(start + _ROWS_PER_FILE, rows))
        part = source.take(pa.array(numbers % source.num_rows))
        texts = part[text].combine_chunks()
        lengths = pc.fill_null(pc.utf8_length(texts), 0).to_numpy(zero_copy_only=False)
        steps = np.append(0, np.cumsum(np.where(numbers < source.num_rows, 0, lengths)))
        counts = np.diff(steps // _CHARACTERS_PER_FRESH_WORD)
        fresh = pc.binary_join(_lists_of_words(random, counts), " ").cast(texts.type)
        longer = pc.binary_join_element_wise(texts, fresh, " ")
        part = part.set_column(place, text, pc.if_else(pa.array(counts > 0), longer, texts))
        pq.write_table(part, folder / f"rows-{start:09d}.parquet", compression="snappy")


def read_texts(folder: Path, text: str, rows: int) -> pa.Array:
    """Read the first texts of a lake.

    Parameters
    ----------
    folder : Path
    text : str
    rows : int

    Returns
    -------
    pyarrow.LargeStringArray of length `rows` or less
    """
    return _without_nulls(pq.read_table(folder, columns=[text])[text].slice(0, rows))


def read_kind(place: str, text: str, rows: int) -> pa.Array:
    """Read texts of another kind.

    Parameters
    ----------
    place : str
        A Parquet file or folder, with ``?COLUMN=VALUE`` where only such rows are meant.
    text : str
        Its text column.
    rows : int
        The most rows to take.

    Returns
    -------
    pyarrow.LargeStringArray

    Raises
    ------
    InputError
        If there is no such file, column or row.
    """
    file, _, condition = place.partition("?")
    found = read_source(Path(file), text)
    if condition:
        column, _, value = condition.partition("=")
        if column not in found.column_names:
            raise InputError(f"column {column!r}", expected=f"one of {', '.join(found.column_names)}")
        found = found.filter(pc.equal(found[column].cast(pa.string()), value))
    if not found.num_rows:
        raise InputError(f"no rows in {place!r}", expected="FILE, or FILE?COLUMN=VALUE")
    return _without_nulls(found[text].slice(0, rows))


def texts_of_new_words(count: int, *, words_each: int = 25) -> pa.Array:
    """Make texts in which no word comes twice but by chance.

    Parameters
    ----------
    count : int
    words_each : int, default=25

    Returns
    -------
    pyarrow.LargeStringArray of length `count`
    """
    lists = _lists_of_words(np.random.default_rng(1), np.full(count, words_each))
    return pc.binary_join(lists, " ").cast(pa.large_string())


def texts_of_length(texts: pa.Array, characters: int) -> pa.Array:
    """Cut the same words into texts of another length.

    Parameters
    ----------
    texts : pyarrow string array
    characters : int
        Of each text but the last.

    Returns
    -------
    pyarrow.LargeStringArray
    """
    whole = " ".join(filter(None, texts.to_pylist()))
    pieces = [whole[start : start + characters] for start in range(0, len(whole), characters)]
    return pa.array(pieces, pa.large_string())


def _without_nulls(texts: pa.ChunkedArray) -> pa.Array:
    """Return one array; nulls become empty, since most peers take no nulls."""
    # Cast first: offsets of 32 bits end at 2 GB.
    return pc.fill_null(texts.cast(pa.large_string()).combine_chunks(), "")


def _lists_of_words(random: np.random.Generator, counts: np.ndarray) -> pa.ListArray:
    """Make lists of so many words of 4 to 9 random letters."""
    ends = np.cumsum(counts)
    lengths = random.integers(4, 10, int(ends[-1]))
    letters = random.integers(ord("a"), ord("z") + 1, int(lengths.sum()), dtype=np.uint8)
    bounds = np.append(0, np.cumsum(lengths)).astype(np.int32)
    words = pa.StringArray.from_buffers(len(lengths), pa.py_buffer(bounds), pa.py_buffer(letters))
    return pa.ListArray.from_arrays(pa.array(np.append(0, ends), pa.int32()), words)
