"""Tokenize texts: by segments if the tokenizer has a split rule, otherwise as whole texts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from lakevec.pipeline.encoding.kernels.cache_entries import count_tokens, write_tokens
from lakevec.pipeline.encoding.split_rules import SplitRule, find_split_rule
from lakevec.pipeline.encoding.text_validation import is_string
from lakevec.pipeline.encoding.token_cache import (
    TokenCache,
    encode_texts,
    raw_buffers,
    refuse_invalid_utf8,
)
from lakevec.pipeline.errors import DataError

# The library's output takes about a hundred bytes per token, so a call gets few whole texts.
_CALL_ROWS = 1024
NO_LIMIT = int(np.iinfo(np.int64).max)


@dataclass(frozen=True, eq=False)
class TokenIds:
    """Concatenated token ids of N texts.

    Parameters
    ----------
    ids : int32 ndarray of shape (T,)
        Ids in text order, without unknown tokens.
    offsets : int64 ndarray of shape (N + 1,)
        Text n has ``ids[offsets[n]:offsets[n + 1]]``.
    unknown : int
        Number of unknown tokens.
    truncated : int
        Number of texts with more known tokens than `max_tokens`.
    """

    ids: np.ndarray
    offsets: np.ndarray
    unknown: int
    truncated: int


class TextTokenizer(Protocol):
    """Tokenize texts without special tokens, truncation or padding.

    `joins_words` tells whether the tokens of a text may be others than those of its words, each tokenized
    alone without the white space around it.
    """

    joins_words: bool

    def tokenize(self, texts: pa.LargeStringArray) -> TokenIds:
        """Return the known token ids of each text; a null text has none."""


def make_tokenizer(
    tokenizer_json: str, unknown_token_id: int | None, *, max_tokens: int | None = None
) -> TextTokenizer:
    """Return the fastest tokenizer that gives exactly the library's ids.

    It leaves out `unknown_token_id`, and keeps the first `max_tokens` known tokens of a text. Default: all.
    """
    tokenizer = parse_tokenizer(tokenizer_json)
    rule = find_split_rule(tokenizer_json)
    if isinstance(rule, SplitRule):
        return CachedTokenizer(TokenCache(tokenizer, rule, unknown_token_id), max_tokens)
    return WholeTextTokenizer(tokenizer, unknown_token_id, max_tokens)


def parse_tokenizer(tokenizer_json: str) -> Tokenizer:
    """Return the library's tokenizer, without truncation and padding."""
    tokenizer = Tokenizer.from_str(tokenizer_json)
    # A vector must depend on the whole text and on nothing else, whatever tokenizer.json says.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


class CachedTokenizer:
    """Tokenize by segments, with a cache."""

    def __init__(self, cache: TokenCache, max_tokens: int | None = None) -> None:
        self._cache = cache
        self._limit = NO_LIMIT if max_tokens is None else max_tokens
        self.joins_words = cache.joins_words
        self._lock = threading.Lock()

    def tokenize(self, texts: pa.LargeStringArray) -> TokenIds:
        """Return the known token ids of each text; other threads wait."""
        with self._lock:
            return self._tokenize(texts)

    def _tokenize(self, texts: pa.LargeStringArray) -> TokenIds:
        self._cache.tokenize(texts)
        row_ends, arrays = self._cache.row_ends, self._cache.arrays
        unknown = int(arrays.state["unknown"][0])
        if self._limit == NO_LIMIT and not self._cache.had_pending:
            return TokenIds(arrays.output[: row_ends[-1]].copy(), row_ends, unknown, 0)
        token_offsets = np.empty(len(texts) + 1, dtype=np.int64)
        more_unknown, truncated = count_tokens(row_ends, arrays, self._limit, token_offsets)
        ids = np.empty(token_offsets[-1], dtype=np.int32)
        write_tokens(row_ends, arrays, token_offsets, ids)
        return TokenIds(ids, token_offsets, unknown + int(more_unknown), int(truncated))


class WholeTextTokenizer:
    """Tokenize whole texts with the library; the tokenizer has no truncation and no padding."""

    joins_words = True

    def __init__(
        self, tokenizer: Tokenizer, unknown_token_id: int | None, max_tokens: int | None = None
    ) -> None:
        self._tokenizer = tokenizer
        self._unknown = -1 if unknown_token_id is None else unknown_token_id
        self._limit = NO_LIMIT if max_tokens is None else max_tokens

    def tokenize(self, texts: pa.LargeStringArray) -> TokenIds:
        """Return the known token ids of each text."""
        parts = [(np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int64))]
        for first, part in slices(texts, most_rows=_CALL_ROWS):
            with refuse_invalid_utf8():
                strings = [text or "" for text in part.to_pylist()]
            ids, rows = encode_texts(self._tokenizer, strings)
            parts.append((ids, rows + first))
        ids, rows = map(np.concatenate, zip(*parts, strict=True))
        known = ids != self._unknown
        ids, rows = ids[known], rows[known]
        counts = np.bincount(rows, minlength=len(texts))
        starts = np.cumsum(counts) - counts
        is_kept = np.arange(len(ids)) - starts[rows] < self._limit
        return TokenIds(
            ids[is_kept],
            np.append(0, np.cumsum(np.minimum(counts, self._limit))),
            int(np.count_nonzero(~known)),
            int(np.count_nonzero(counts > self._limit)),
        )


def slices(
    texts: pa.Array | pa.ChunkedArray, *, most_rows: int = 1 << 14, most_bytes: int = 1 << 21
) -> Iterator[tuple[int, pa.LargeStringArray]]:
    """Split strings into slices of bounded rows and bytes; yield each with the position of its first text.

    Slices keep all data between tokens and vectors in the processor's cache. A longer text is a slice by
    itself.

    Raises
    ------
    DataError
        If the values are no strings.
    """
    start = 0
    for chunk in texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]:
        if not is_string(chunk.type):
            raise DataError("can't embed this column", got=str(chunk.type), expected="strings")
        # One type from here on; not every Arrow function takes string_view.
        strings = chunk.cast(pa.large_string())
        _, offsets = raw_buffers(strings)
        first = 0
        while first < len(strings):
            last = int(np.searchsorted(offsets, offsets[first] + most_bytes, side="right")) - 1
            last = min(max(last, first + 1), first + most_rows, len(strings))
            yield start + first, strings.slice(first, last - first)
            first = last
        start += len(strings)
