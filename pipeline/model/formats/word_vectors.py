"""Word vectors as text (GloVe, word2vec, fastText's ``.vec``) and in word2vec's binary form."""

from __future__ import annotations

import codecs
import gzip
import zlib
from dataclasses import dataclass

import numpy as np

from lakevec.pipeline.errors import ModelError, rephrase
from lakevec.pipeline.model.formats.foreign_model import ForeignModel, make_table, without_limits
from lakevec.pipeline.model.word_tokenizer import UNKNOWN, make_word_tokenizer
from lakevec.pipeline.storage import Location

SUFFIXES = (".txt", ".vec", ".bin", ".txt.gz", ".vec.gz", ".bin.gz")
# Lines to split at a time, since the parts of a line take seven times its memory.
_LINES = 10_000
_LONGEST_WORD = 10_000
_UNREADABLE = (ValueError, IndexError, OSError, EOFError, zlib.error)


@dataclass(frozen=True, eq=False)
class WordVectors:
    """Words and their vectors, in the file's order.

    Parameters
    ----------
    words : list of str of length V
        Distinct.
    vectors : float32 ndarray of shape (V, D)
    skipped : dict of str to int
        Number of rows left out, by reason.
    """

    words: list[str]
    vectors: np.ndarray
    skipped: dict[str, int]


def read_word_model(file: Location) -> ForeignModel:
    """Read word vectors, with a tokenizer that finds the words in text."""
    found = read_word_vectors(file)
    lowercase = all(word == word.lower() for word in found.words)
    # Leave out a word with the name of this tokenizer's unknown token. Other unknown tokens are plain words.
    keep = [row for row, word in enumerate(found.words) if word != UNKNOWN]
    words = [found.words[row] for row in keep]
    if not words:
        raise ModelError(f"{file.path} holds no word", got=f"only {UNKNOWN}")
    if len(words) < len(found.words):
        found.skipped[UNKNOWN] = 1
    rows = np.zeros((len(words) + 1, found.vectors.shape[1]), dtype=np.float32)
    rows[:-1] = found.vectors[keep]
    tokenizer = without_limits(lambda: make_word_tokenizer(words, lowercase=lowercase), file.path)
    facts = {"skipped words": found.skipped} if found.skipped else {}
    case = "texts are lowercased, since no word has a capital" if lowercase else "unchanged"
    return ForeignModel(make_table(rows, tokenizer, normalize=False), "word vectors", facts, case=case)


def read_word_vectors(file: Location) -> WordVectors:
    """Read a file of word vectors, gzipped or not.

    Parameters
    ----------
    file : Location
        Text with one word a line, with or without word2vec's first line of V and D. If the name ends in
        ``.bin``: word2vec's binary form.
    """
    is_binary = file.path.removesuffix(".gz").endswith(".bin")
    what = f"{file.path} holds no word vectors"
    expected = "a word and its numbers on every line, or word2vec's binary form in a file named .bin"
    with rephrase(ModelError, what, on=_UNREADABLE, expected=expected):
        # pyarrow itself unpacks files named .gz.
        content = file.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        words, vectors = _read_binary(content) if is_binary else _read_text(content)
    return _clean(words, vectors)


def _read_text(content: bytes) -> tuple[list[bytes], np.ndarray]:
    numbered = enumerate(content.removeprefix(codecs.BOM_UTF8).split(b"\n"), start=1)
    # Blank lines are layout, and so is white space around words and numbers.
    lines = [(number, line) for number, line in numbered if line.strip()]
    first = lines[0][1].split() if lines else []
    if len(first) == 2 and first[0].isdigit() and first[1].isdigit():
        rows, width = int(first[0]), int(first[1])
        del lines[0]
        if rows > len(lines):  # some real files have one row more than line 1 says
            raise ValueError(f"{len(lines):,} rows, where line 1 promises {rows:,}")
    else:
        width = len(first) - 1
    widths = [len(line.split()) - 1 for _, line in lines[:100]]
    # Some words hold spaces, so a minority of lines may have more parts.
    if width < 1 or not lines or 2 * widths.count(width) < len(widths):
        raise ValueError("too few lines have a word and as many numbers as line 1")
    vectors = np.empty((len(lines), width), dtype=np.float32)
    words = []
    for start in range(0, len(lines), _LINES):
        some = [(number, line.split()) for number, line in lines[start : start + _LINES]]
        for number, parts in some:
            if len(parts) != width + 1:
                _check_width(number, parts, width)
        vectors[start : start + len(some)] = _to_floats([(number, parts[-width:]) for number, parts in some])
        words += [b" ".join(parts[:-width]) for _, parts in some]
    return words, vectors


def _check_width(number: int, parts: list[bytes], width: int) -> None:
    """Refuse a line of too few or too many numbers; a word may hold spaces."""
    if len(parts) == width and all(map(_is_number, parts)):
        return  # a row without a word, which is left out later
    extra = parts[1:-width]
    if len(parts) <= width or (extra and all(map(_is_number, extra))):
        found = sum(map(_is_number, parts[1:]))
        raise ValueError(f"{found} numbers in line {number}, and {width} in others")


def _to_floats(numbered: list[tuple[int, list[bytes]]]) -> np.ndarray:
    """Convert the numbers of each line; each comes with the line's number."""
    try:
        return np.array([parts for _, parts in numbered], dtype=np.bytes_).astype(np.float32)
    except ValueError:
        odd = next(number for number, parts in numbered if not all(map(_is_number, parts)))
        raise ValueError(f"something other than numbers after the word in line {odd}") from None


def _is_number(part: bytes) -> bool:
    try:
        float(part)
    except ValueError:
        return False
    return True


def _read_binary(content: bytes) -> tuple[list[bytes], np.ndarray]:
    end = content.index(b"\n")
    rows, width = (int(number) for number in content[:end].split())
    size = 4 * width
    if rows < 1 or width < 1 or rows * size > len(content):
        raise ValueError(f"{rows} rows of {width} numbers in {len(content)} bytes")
    vectors = np.empty((rows, width), dtype=np.float32)
    words = []
    place = end + 1
    # Some writers end each record with a line end, others don't.
    has_ends = content[place + content[place:].index(b" ") + 1 + size :][:1] == b"\n"
    for row in range(rows):
        space = content.find(b" ", place, place + _LONGEST_WORD)
        if space < 0 or space + 1 + size > len(content):
            raise ValueError(f"no word and {width} numbers in record {row + 1} of {rows}")
        words.append(content[place:space].lstrip(b"\r\n"))
        vectors[row] = np.frombuffer(content, dtype="<f4", count=width, offset=space + 1)
        place = space + 1 + size
        # Words may hold joiners, soft hyphens and other encodings. Control characters are bytes of numbers.
        if not has_ends and any(sign < 0x20 or sign == 0x7F for sign in words[-1]):
            raise ValueError(f"no word at the start of record {row + 1}; the word before may hold a space")
        is_last = row == rows - 1
        if (has_ends and not is_last and content[place : place + 1] != b"\n") or b"\n" in words[-1]:
            raise ValueError(f"a space or a line end inside the word of record {row + 1}, or another width")
    if rest := content[place:].strip(b"\r\n"):
        raise ValueError(f"{len(rest)} more bytes after the {rows} records that its first line promises")
    return words, vectors


def _clean(raw: list[bytes], vectors: np.ndarray) -> WordVectors:
    """Leave out rows whose word is no text, empty or a duplicate, or whose numbers are not finite."""
    words: dict[str, int] = {}
    skipped = {"not UTF-8": 0, "empty": 0, "seen before": 0, "not finite": 0}
    finite = np.isfinite(vectors).all(axis=1)
    for row, encoded in enumerate(raw):
        try:
            word = encoded.decode().strip()
        except UnicodeDecodeError:
            skipped["not UTF-8"] += 1
            continue
        if not word:
            skipped["empty"] += 1
        elif word in words:
            skipped["seen before"] += 1
        elif not finite[row]:
            skipped["not finite"] += 1
        else:
            words[word] = row
    if not words:
        raise ModelError("the file holds no word with finite numbers", got=f"{len(raw)} rows")
    rows = vectors if len(words) == len(raw) else vectors[list(words.values())]
    return WordVectors(list(words), rows, {why: count for why, count in skipped.items() if count})
