"""Vocabularies that users give."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakevec.pipeline.distillation.word_list import read_words
from lakevec.pipeline.errors import InputError


@pytest.mark.parametrize(
    ("name", "content", "column", "expected"),
    [
        ("words.txt", "b\na\n\nb\n c \n", "word", ["b", "a", "c"]),
        ("words.csv", "name,count\nx,1\ny,3\nz,3\n", "name", ["y", "z", "x"]),
        ("words.csv", "word\nx\ny\n", "word", ["x", "y"]),
    ],
    ids=["text", "counts", "no counts"],
)
def test_vocabulary_is_read_in_order(
    name: str, content: str, column: str, expected: list[str], tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    assert list(read_words(str(tmp_path / name), column=column).words) == expected


def test_vocabulary_is_read_from_a_lake(tmp_path: Path) -> None:
    table = pa.table({"word": ["rare", "often", None], "count": [1, 5, 2]})
    pq.write_table(table, tmp_path / "part-0.parquet")
    assert read_words(str(tmp_path), column="word").words == ("often", "rare")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("words.txt", "\n \n", r"holds no word: got 2 lines; expected at least one"),
        (
            "words.csv",
            "other\nx\n",
            "expected text of one word a line, or Parquet or CSV with a string column 'word'",
        ),
        ("words.parquet", "no parquet", "can't be read"),
        ("words.txt", b"\xff\xfe", "can't be read"),
    ],
    ids=["empty", "column", "damaged", "not text"],
)
def test_vocabulary_of_nothing_is_refused(
    name: str, content: str | bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        read_words(str(tmp_path / name), column="word")
    with pytest.raises(InputError, match="can't be read"):
        read_words("/nowhere/words.txt", column="word")


def test_words_of_a_csv_are_words_whatever_they_look_like(tmp_path: Path) -> None:
    (tmp_path / "words.csv").write_text("word,count\n007,3\nNULL,2\nTRUE,1\n")
    assert read_words(str(tmp_path / "words.csv"), column="word").words == ("007", "NULL", "TRUE")
