"""Texts to token ids: by segments if the tokenizer has a split rule, else by whole texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from lakevec.pipeline.encoding.kernels.cache_entries import count_tokens, write_tokens
from lakevec.pipeline.encoding.split_rules import SplitRule, find_split_rule
from lakevec.pipeline.encoding.token_cache import TokenCache, not_utf8

# The library's output takes about a hundred bytes per token, so whole texts go through in slices.
_SLICE_ROWS = 1024
_SLICE_BYTES = 1 << 20
_NO_LIMIT = int(np.iinfo(np.int64).max)


@dataclass(frozen=True, eq=False)
class TokenIds:
    """Known token ids of N texts, one after the other.

    Parameters
    ----------
    ids : int32 ndarray of shape (T,)
        Ids in text order; the unknown token is left out.
    offsets : int64 ndarray of shape (N + 1,)
        Text n has ``ids[offsets[n]:offsets[n + 1]]``.
    unknown : int
        Unknown tokens, which are left out.
    truncated : int
        Texts with more known tokens than `max_tokens`.
    """

    ids: np.ndarray
    offsets: np.ndarray
    unknown: int
    truncated: int


class TextTokenizer(Protocol):
    """Tokenize texts without special tokens, truncation or padding."""

    def tokenize(self, texts: pa.LargeStringArray) -> TokenIds:
        """Return the known token ids of each text; a null text has none."""


def make_tokenizer(
    tokenizer_json: str, unknown_token_id: int | None, *, max_tokens: int | None = None
) -> TextTokenizer:
    """Return the fastest tokenizer that gives exactly the library's ids.

    `unknown_token_id` is left out. Only the first `max_tokens` known tokens of a text are kept, by default
    all.
    """
    tokenizer = parse_tokenizer(tokenizer_json)
    rule = find_split_rule(tokenizer_json)
    if isinstance(rule, SplitRule):
        return CachedTokenizer(TokenCache(tokenizer, rule, unknown_token_id), max_tokens)
    return WholeTextTokenizer(tokenizer, unknown_token_id, max_tokens)


def parse_tokenizer(tokenizer_json: str) -> Tokenizer:
    """Return the library's tokenizer, without truncation and padding."""
    tokenizer = Tokenizer.from_str(tokenizer_json)
    # A tokenizer.json may have both, but a vector must depend on the whole text and nothing else.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


class CachedTokenizer:
    """Tokenize by segments, each distinct segment once."""

    def __init__(self, cache: TokenCache, max_tokens: int | None = None) -> None:
        self._cache = cache
        self._limit = _NO_LIMIT if max_tokens is None else max_tokens

    def tokenize(self, texts: pa.LargeStringArray) -> TokenIds:
        """Return the known token ids of each text."""
        data, offsets = raw_buffers(texts)
        is_null = np.asarray(texts.is_null().to_numpy(zero_copy_only=False), dtype=np.bool_)
        row_ends = self._cache.tokenize(data, offsets, is_null)
        arrays = self._cache.arrays
        token_offsets = np.empty(len(texts) + 1, dtype=np.int64)
        unknown, truncated = count_tokens(row_ends, arrays, self._limit, token_offsets)
        ids = np.empty(token_offsets[-1], dtype=np.int32)
        write_tokens(row_ends, arrays, token_offsets, ids)
        return TokenIds(ids, token_offsets, int(unknown), int(truncated))


class WholeTextTokenizer:
    """Tokenize whole texts by the library; the tokenizer has no truncation and no padding."""

    def __init__(
        self, tokenizer: Tokenizer, unknown_token_id: int | None, max_tokens: int | None = None
    ) -> None:
        self._tokenizer = tokenizer
        self._unknown = -1 if unknown_token_id is None else unknown_token_id
        self._limit = _NO_LIMIT if max_tokens is None else max_tokens

    def tokenize(self, texts: pa.LargeStringArray) -> TokenIds:
        """Return the known token ids of each text."""
        parts = [self._tokenize_slice(part) for _, part in slice_texts(texts, _SLICE_ROWS, _SLICE_BYTES)]
        if not parts:
            return TokenIds(np.empty(0, np.int32), np.zeros(1, np.int64), 0, 0)
        counts = np.concatenate([np.diff(part.offsets) for part in parts])
        return TokenIds(
            np.concatenate([part.ids for part in parts]),
            np.concatenate(([0], np.cumsum(counts))),
            sum(part.unknown for part in parts),
            sum(part.truncated for part in parts),
        )

    def _tokenize_slice(self, texts: pa.LargeStringArray) -> TokenIds:
        try:
            strings = [text or "" for text in texts.to_pylist()]
        except UnicodeDecodeError:
            # The original error quotes the text's bytes, so it is not chained.
            raise not_utf8() from None
        encodings = self._tokenizer.encode_batch_fast(strings, add_special_tokens=False)
        per_text = [encoding.ids for encoding in encodings]
        rows = np.repeat(np.arange(len(per_text)), list(map(len, per_text)))
        ids = np.fromiter(chain.from_iterable(per_text), dtype=np.int32, count=len(rows))
        known = ids != self._unknown
        ids, rows = ids[known], rows[known]
        counts = np.bincount(rows, minlength=len(per_text))
        starts = np.cumsum(counts) - counts
        is_kept = np.arange(len(ids)) - starts[rows] < self._limit
        return TokenIds(
            ids[is_kept],
            np.concatenate(([0], np.cumsum(np.minimum(counts, self._limit)))),
            int(np.count_nonzero(~known)),
            int(np.count_nonzero(counts > self._limit)),
        )


def raw_buffers(texts: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
    """Return an array's bytes (uint8) and offsets (int64, N + 1).

    Both are read-only: one type means one compilation.
    """
    _, offsets, data = texts.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    content = np.frombuffer(data if data else b"\0", dtype=np.uint8)
    bounds.flags.writeable = content.flags.writeable = False
    return content, bounds


def slice_texts(
    texts: pa.LargeStringArray, most_rows: int, most_bytes: int
) -> Iterator[tuple[int, pa.LargeStringArray]]:
    """Yield slices of bounded rows and bytes with the position of their first text.

    A text over the bound is a slice by itself.
    """
    _, offsets = raw_buffers(texts)
    first = 0
    while first < len(texts):
        last = int(np.searchsorted(offsets, offsets[first] + most_bytes, side="right")) - 1
        last = min(max(last, first + 1), first + most_rows, len(texts))
        yield first, texts.slice(first, last - first)
        first = last
