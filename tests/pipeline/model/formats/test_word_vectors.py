"""Word vectors as text and in binary form."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lakevec.pipeline.errors import ModelError
from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.model.formats.word_vectors import read_word_vectors
from lakevec.pipeline.storage import locate
from tests.support.libraries import (
    embed,
    write_word2vec,
)


def test_word_vectors_give_the_mean_of_their_words(foreign_models: Path) -> None:
    """GloVe's file read by hand: lower case, clitics as the Penn Treebank cuts them, no unknown words."""
    file = foreign_models / "glove50-4k" / "glove50_4k.txt"
    table = {}
    for line in file.read_text(encoding="utf-8").splitlines()[1:]:
        word, *numbers = line.split(" ")
        table.setdefault(word, np.array([float(number) for number in numbers if number]))
    said = {
        "The government said, of Qwxyz": ["the", "government", "said", ",", "of"],
        "isn't it the U.S. president's?": ["is", "n't", "it", "the", "u.s.", "president", "'s", "?"],
        "well-known": ["well", "-", "known"],
    }
    expected = [np.mean([table[word] for word in words], axis=0) for words in said.values()]
    np.testing.assert_allclose(embed(file, list(said)), expected, atol=1e-5)
    assert not embed(file, ["Qwxyz"]).any()


VECTORS = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)


WORDS = ["north", "south", "new_york", "c++"]


def write_text(file: Path, *, header: bool, tail: str = "", opened: Callable[..., Any] = open) -> None:
    with opened(file, "wt", encoding="utf-8") as stream:
        if header:
            stream.write("4 5\n")
        for word, row in zip(WORDS, VECTORS, strict=True):
            stream.write(" ".join([word, *map(repr, map(float, row))]) + tail + "\n")


def write_packed_word2vec(file: Path) -> None:
    write_word2vec(file, WORDS, VECTORS)
    file.write_bytes(gzip.compress(file.read_bytes()))


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("v.bin", partial(write_word2vec, words=WORDS, vectors=VECTORS)),
        ("v.bin.gz", write_packed_word2vec),
        ("glove.txt", partial(write_text, header=False)),
        ("w2v.txt", partial(write_text, header=True)),
        ("fasttext.vec", partial(write_text, header=True, tail=" ")),
        ("v.txt.gz", partial(write_text, header=True, opened=gzip.open)),
    ],
)
def test_every_form_of_word_vectors_is_read(name: str, write: Callable[[Path], None], tmp_path: Path) -> None:
    file = tmp_path / name
    write(file)
    np.testing.assert_allclose(
        embed(file, ["North", "c++ new_york"]), [VECTORS[0], VECTORS[2:].mean(axis=0)], 1e-5
    )


def test_words_that_can_not_be_rows_are_skipped_and_counted(tmp_path: Path) -> None:
    lines = ["a 1 2", "b 3 4", "a 5 6", "c nan 1", ". . . 7 8", " 1 2"]
    (tmp_path / "v.txt").write_bytes("\n".join(lines).encode() + b"\n\xff\xfe 1 2\n")
    found = read_word_vectors(locate(str(tmp_path / "v.txt"), error=ModelError))
    assert found.words == ["a", "b", ". . ."]
    assert found.skipped == {"not UTF-8": 1, "empty": 1, "seen before": 1, "not finite": 1}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("v.txt", b""),
        ("v.txt", b"word\n"),
        ("v.txt", b"a 1 2\nb 3\n"),
        ("v.bin", b"5 300\nx "),
        ("v.bin", b"zz"),
    ],
)
def test_file_without_word_vectors_is_refused(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match="holds no word vectors"):
        load(str(tmp_path / name))


def words_of(file: Path, content: bytes) -> tuple[list[str], list[list[float]]]:
    file.write_bytes(content)
    found = read_word_vectors(locate(str(file), error=ModelError))
    return found.words, found.vectors.tolist()


@pytest.mark.parametrize(
    "content",
    [
        b"the  1 2\ncat  3 4\n",
        b" the 1 2\n  cat 3 4\n",
        b"the 1  2\ncat 3\t 4\n",
        b"the\t1\t2\ncat\t3\t4",
        b"the 1 2  \r\ncat 3 4\t\r\n",
        b"\n\nthe 1 2\n\ncat 3 4\n\n",
        b"2 2\nthe 1 2\ncat 3 4\n",
        b" 2  2 \n the 1 2\n cat 3 4\n",
        b"\xef\xbb\xbfthe 1 2\ncat 3 4\n",
    ],
)
def test_blanks_around_words_are_layout(tmp_path: Path, content: bytes) -> None:
    assert words_of(tmp_path / "w.txt", content) == (["the", "cat"], [[1, 2], [3, 4]])


def test_words_with_blanks_inside_are_found_in_text(tmp_path: Path) -> None:
    (tmp_path / "w.txt").write_text("the 1 2\n. . . 3 4\nnew  york 5 6\n\u00a0cat 7 8\n")
    found = read_word_vectors(locate(str(tmp_path / "w.txt"), error=ModelError))
    assert found.words == ["the", ". . .", "new york", "cat"]
    rows = embed(tmp_path / "w.txt", found.words)
    np.testing.assert_array_equal(rows, [[1, 2], [3, 4], [5, 6], [7, 8]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"the 1 2\ncat 3\n", "1 numbers in line 2, and 2 in others"),
        (b"the 1 2\n\ncat 3 4 5\n", "3 numbers in line 3, and 2 in others"),
        (b"2 2\nthe 1 2\ncat 3 x\n", "something other than numbers after the word in line 3"),
        (b"3 2\nthe 1 2\ncat 3 4\n", "2 rows, where line 1 promises 3"),
    ],
)
def test_odd_line_of_word_vectors_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        words_of(tmp_path / "w.txt", content)


def record(word: bytes, *numbers: float, end: bytes = b"\n") -> bytes:
    return word + b" " + np.array(numbers, "<f4").tobytes() + end


@pytest.mark.parametrize("end", [b"\n", b""], ids=["line ends", "none"])
def test_both_binary_layouts_of_word2vec_are_read(tmp_path: Path, end: bytes) -> None:
    body = record(b"the", 1, 2, end=end) + record(b"cat", 3, 4, end=end)
    assert words_of(tmp_path / "w.bin", b"2 2\n" + body) == (["the", "cat"], [[1, 2], [3, 4]])
    assert words_of(tmp_path / "w.bin", b"2 2\n" + body.rstrip(b"\n"))[0] == ["the", "cat"]


@pytest.mark.parametrize("end", [b"\n", b""], ids=["line ends", "none"])
def test_words_of_any_sign_are_read_from_a_binary_file(tmp_path: Path, end: bytes) -> None:
    words = ["x\u200cy", "क्\u200dष", "a\xadb", "10\xa0000"]
    body = b"".join(record(word.encode(), 1, 2, end=end) for word in words)
    assert words_of(tmp_path / "w.bin", b"5 2\n" + body + record(b"caf\xe9", 1, 2, end=end))[0] == words


@pytest.mark.parametrize("end", [b"\n", b""], ids=["line ends", "none"])
@pytest.mark.parametrize(
    ("rows", "words", "message"),
    [
        (1, [b"the", b"cat"], "more bytes after the 1 records"),
        (3, [b"the", b"cat"], "no word and 2 numbers in record 3 of 3|3 rows of 2 numbers in"),
        (3, [b"the", b"new york", b"cat"], "inside the word of record 2|more bytes|record"),
        (2, [b"new york", b"cat"], "inside the word of record|more bytes|of record"),
        (3, [b"the", b" cat", b"dog"], "inside the word of record 2|more bytes|record"),
    ],
)
def test_binary_file_that_is_not_what_it_says_is_refused(
    tmp_path: Path, rows: int, words: list[bytes], message: str, end: bytes
) -> None:
    body = b"".join(record(word, 1, 2, end=end) for word in words)
    with pytest.raises(ModelError, match=message):
        words_of(tmp_path / "w.bin", f"{rows} 2\n".encode() + body)


def test_byte_order_mark_is_no_part_of_a_word(tmp_path: Path) -> None:
    for name, content in (
        ("a.txt", "\ufeff2 2\nhello 1 2\nworld 3 4\n"),
        ("b.txt", "\ufeffhello 1 2\nworld 3 4\r\n"),
    ):
        (tmp_path / name).write_text(content)
        found = read_word_vectors(locate(str(tmp_path / name), error=ModelError))
        assert found.words == ["hello", "world"]
        assert found.vectors.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cut.txt", b"5 2\nhello 1 2\nworld 3 4\n"),
        ("cut.txt.gz", gzip.compress(b"hello 1 2\n")[:-6]),
        ("cut.txt", gzip.compress(b"hello 1 2\n")[:-6]),
        ("no.txt.gz", b"plain"),
    ],
    ids=["rows", "gzip", "gzip of another name", "no gzip"],
)
def test_cut_off_file_is_refused(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError):
        load(str(tmp_path / name))
