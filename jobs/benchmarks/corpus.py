"""The rows that a benchmark runs over: a lake's own, repeated with fresh words mixed in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

# A word for every so many characters: repeated text must not be known text.
_CHARACTERS_PER_FRESH_WORD = 200
_ROWS_PER_FILE = 125_000


def write_rows(source: pa.Table, text: str, rows: int, folder: Path) -> None:
    """Write a lake of as many rows as are wanted.

    Parameters
    ----------
    source : pyarrow.Table
        Real rows.
    text : str
        Its text column.
    rows : int
        Rows to write. Behind the source's own, its rows come again with fresh words at their ends.
    folder : Path
        Receives Parquet files of 125,000 rows.
    """
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    place = source.schema.get_field_index(text)
    for start in range(0, rows, _ROWS_PER_FILE):
        numbers = np.arange(start, min(start + _ROWS_PER_FILE, rows))
        part = source.take(pa.array(numbers % source.num_rows))
        texts = part[text].cast(pa.large_string()).combine_chunks()
        lengths = pc.fill_null(pc.binary_length(texts), 0).to_numpy(zero_copy_only=False)
        counts = np.where(numbers < source.num_rows, 0, 1 + lengths // _CHARACTERS_PER_FRESH_WORD)
        ends = np.cumsum(counts)
        words = pa.LargeListArray.from_arrays(np.append(0, ends), random_words(random, int(ends[-1])))
        texts = pc.binary_join_element_wise(texts, pc.binary_join(words, " "), " ")
        part = part.set_column(place, text, texts)
        pq.write_table(part, folder / f"rows-{start:09d}.parquet", compression="snappy")


def random_words(random: np.random.Generator, count: int) -> pa.Array:
    """Make words of 4 to 9 random letters.

    Parameters
    ----------
    random : numpy.random.Generator
    count : int

    Returns
    -------
    pyarrow.LargeStringArray of length `count`
    """
    lengths = random.integers(4, 10, count)
    letters = random.integers(ord("a"), ord("z") + 1, int(lengths.sum()), dtype=np.uint8)
    offsets = np.append(0, np.cumsum(lengths)).astype(np.int64)
    return pa.LargeStringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(letters))


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
    words = random_words(np.random.default_rng(1), count * words_each)
    lists = pa.LargeListArray.from_arrays(np.arange(0, (count + 1) * words_each, words_each), words)
    return pc.binary_join(lists, " ")
