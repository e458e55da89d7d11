"""Rows of a benchmark: real rows repeated with fresh words, other kinds of texts, and changed rows."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakevec.jobs.docstring_lake import write_docstring_lake
from lakevec.pipeline.corpus.bigrams import take_telling
from lakevec.pipeline.corpus.counts_folder import PHRASES, RECORD, WORDS
from lakevec.pipeline.corpus.text_counter import TextCounter
from lakevec.pipeline.corpus.vocabulary_mining import MineOptions, mine_words
from lakevec.pipeline.errors import InputError
from lakevec.pipeline.model.table import StaticTable
from lakevec.pipeline.settings.benchmark import BenchmarkSettings

KEY = "benchmark_key"
# Repeated texts need new words, since the token cache knows all their other words. Real lakes have 1.0 to 1.5
# unseen segments per 1,000 characters after 160,000 docstring paragraphs, and 1.7 after 150,000 sentences of
# English prose. This adds 2.
_CHARACTERS_PER_FRESH_WORD = 500
_ROWS_PER_FILE = 125_000
_CHANGED_ROWS_SEED = 2


@dataclass(frozen=True)
class Workload:
    """The settings, the table and the rows of one run of the benchmark.

    Parameters
    ----------
    settings : BenchmarkSettings
    table : StaticTable
        The model's.
    folder : Path
        Folder of rows and results.
    verbose : bool
    """

    settings: BenchmarkSettings
    table: StaticTable
    folder: Path
    verbose: bool

    @cached_property
    def source(self) -> pa.Table:
        """The real rows: the input, or else the docstrings of the installed packages."""
        if self.settings.input:
            return read_source(Path(self.settings.input), self.settings.text)
        folder = self.folder / "docstrings"
        write_docstring_lake(folder)
        return read_source(folder, self.settings.text)

    @cached_property
    def texts(self) -> pa.Array:
        """The texts of the lake."""
        return read_texts(self.lake(), self.settings.text, self.settings.rows)

    @property
    def peer_texts(self) -> pa.Array:
        """The first texts, for peers."""
        return self.texts.slice(0, self.settings.peer_rows)

    @property
    def peers_lake(self) -> Path:
        """Folder of the first rows, for peers."""
        return self.lake(min(self.settings.peer_rows, self.settings.rows))

    def lake(self, rows: int | None = None) -> Path:
        """Return a folder of rows, by default as many as the settings say; write it at first use."""
        rows = rows or self.settings.rows
        lake = self.folder / f"lake-{rows}"
        if not lake.exists():
            write_rows(self.source, self.settings.text, rows, lake)
        return lake

    def remove_rows(self) -> None:
        """Remove all rows, which can be written again, and keep the results."""
        for folder in (*self.folder.glob("lake-*"), self.folder / "docstrings"):
            shutil.rmtree(folder, ignore_errors=True)


def read_source(folder: Path, text: str) -> pa.Table:
    """Read local Parquet files that have a text column.

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
    _require_column(rows, text)
    return rows


def write_rows(source: pa.Table, text: str, rows: int, folder: Path) -> None:
    """Write a lake: repeat the source's rows, and append fresh words to some repeated texts.

    Parameters
    ----------
    source : pyarrow.Table
    text : str
        Its text column.
    rows : int
        Rows to write.
    folder : Path
        Receives Parquet files of 125,000 rows.
    """
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for start in range(0, rows, _ROWS_PER_FILE):
        numbers = np.arange(start, min(start + _ROWS_PER_FILE, rows))
        part = source.take(pa.array(numbers % source.num_rows))
        lengths = pc.fill_null(pc.utf8_length(part[text]), 0).to_numpy()
        steps = np.append(0, np.cumsum(np.where(numbers < source.num_rows, 0, lengths)))
        counts = np.diff(steps // _CHARACTERS_PER_FRESH_WORD)
        fresh = pc.binary_join(_random_words(random, counts), " ")
        part = _append_to_texts(part, text, fresh, counts > 0)
        pq.write_table(part, folder / f"rows-{start:09d}.parquet", compression="snappy")


def write_changed_rows(lake: Path, text: str, folder: Path, share: float, is_adjacent: bool) -> None:
    """Write the rows of a lake with a key, and append a word to a share of the texts.

    Parameters
    ----------
    lake : Path
        Written by `write_rows`.
    text : str
        Its text column.
    folder : Path
        Receives the same number of files.
    share : float
        Share of changed texts.
    is_adjacent : bool
        Change the first texts, or else texts anywhere.
    """
    folder.mkdir()
    files = sorted(lake.glob("*.parquet"))
    rows = sum(pq.read_metadata(file).num_rows for file in files)
    order = np.arange(rows) if is_adjacent else np.random.default_rng(_CHANGED_ROWS_SEED).permutation(rows)
    is_changed = np.zeros(rows, dtype=bool)
    is_changed[order[: int(rows * share)]] = True
    start = 0
    for file in files:
        part = pq.read_table(file)
        keys = np.arange(start, start + part.num_rows)
        part = _append_to_texts(part, text, pa.scalar("edited"), is_changed[keys])
        pq.write_table(part.append_column(KEY, pa.array(keys)), folder / file.name, compression="snappy")
        start += part.num_rows


def read_texts(folder: Path, text: str, rows: int) -> pa.Array:
    """Read the first texts of a lake, at most `rows`, as a LargeStringArray without nulls."""
    return _without_nulls(pq.read_table(folder, columns=[text])[text].slice(0, rows))


def read_kind(place: str, text: str, rows: int) -> pa.Array:
    """Read the first texts of a file, at most `rows`, as a LargeStringArray without nulls.

    Parameters
    ----------
    place : str
        A Parquet file or folder; ``?COLUMN=VALUE`` after it selects rows.
    text : str
        Its text column.
    rows : int

    Raises
    ------
    InputError
        If there is no such file, column or row.
    """
    file, _, condition = place.partition("?")
    found = read_source(Path(file), text)
    if condition:
        column, _, value = condition.partition("=")
        _require_column(found, column)
        found = found.filter(pc.equal(found[column].cast(pa.string()), value))
    if not found.num_rows:
        raise InputError(f"no rows in {place!r}", expected="FILE, or FILE?COLUMN=VALUE")
    return _without_nulls(found[text].slice(0, rows))


def mine_phrases(texts: pa.Array, tokenizer_json: str, count: int) -> list[str]:
    """Return the phrases that ``lakevec mine --phrases`` puts first, best first."""
    counter = TextCounter(tokenizer_json, longest_phrase=2)
    counter.count(texts)
    taken = counter.take()
    with tempfile.TemporaryDirectory(prefix="lakevec-") as folder:
        for part, column, terms in (
            (WORDS, "word", taken.words),
            (PHRASES, "phrase", taken.phrases),
        ):
            (Path(folder) / part).mkdir()
            names, counts, documents = terms
            table = pa.table({column: names, "count": counts, "documents": documents})
            pq.write_table(table, Path(folder, part, "part.parquet"))
        Path(folder, RECORD).write_text(json.dumps({"kind": "lakevec count"}))
        options = MineOptions(top=len(taken.phrases.names), phrases=True)
        words = mine_words(folder, tokenizer_json, options).table["word"].to_pylist()
    return [word for word in words if " " in word][:count]


def find_bigrams(texts: pa.Array, tokenizer_json: str, count: int) -> np.ndarray:
    """Return the pairs of tokens that ``lakevec tune --bigrams`` takes: int32 of shape (B, 2)."""
    counter = TextCounter(tokenizer_json, counts_bigrams=True)
    counter.count(texts)
    return take_telling(counter.take().bigrams, count).pairs


def texts_of_new_words(count: int, *, words_each: int = 25) -> pa.Array:
    """Make texts of random words, which repeat only by chance, as a LargeStringArray."""
    words = _random_words(np.random.default_rng(1), np.full(count, words_each))
    return pc.binary_join(words, " ").cast(pa.large_string())


def texts_of_length(texts: pa.Array, characters: int) -> pa.Array:
    """Join texts and cut them into pieces of a length, the last one shorter, as a LargeStringArray."""
    whole = " ".join(filter(None, texts.to_pylist()))
    pieces = [whole[start : start + characters] for start in range(0, len(whole), characters)]
    return pa.array(pieces, pa.large_string())


def _require_column(rows: pa.Table, name: str) -> None:
    if name not in rows.column_names:
        raise InputError(f"column {name!r}", expected=f"one of {', '.join(rows.column_names)}")


def _append_to_texts(rows: pa.Table, text: str, words: pa.Array | pa.Scalar, where: np.ndarray) -> pa.Table:
    """Append words to the texts where a mask is True; nulls stay null."""
    texts = rows[text].combine_chunks()
    longer = pc.binary_join_element_wise(texts, words.cast(texts.type), " ")
    place = rows.schema.get_field_index(text)
    return rows.set_column(place, text, pc.if_else(pa.array(where), longer, texts))


def _without_nulls(texts: pa.ChunkedArray) -> pa.Array:
    """Return one array, with "" for nulls, since most peers refuse nulls."""
    # Cast first, since offsets of 32 bits end at 2 GB.
    return pc.fill_null(texts.cast(pa.large_string()).combine_chunks(), "")


def _random_words(random: np.random.Generator, counts: np.ndarray) -> pa.ListArray:
    """Make a list of words of 4 to 9 random letters for each count."""
    ends = np.cumsum(counts)
    lengths = random.integers(4, 10, int(ends[-1]))
    letters = random.integers(ord("a"), ord("z") + 1, int(lengths.sum()), dtype=np.uint8)
    bounds = np.append(0, np.cumsum(lengths)).astype(np.int32)
    words = pa.StringArray.from_buffers(len(lengths), pa.py_buffer(bounds), pa.py_buffer(letters))
    return pa.ListArray.from_arrays(pa.array(np.append(0, ends), pa.int32()), words)
