"""Texts to token ids: segment by segment where the tokenizer has a cut rule, else text by text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from lakevec.pipeline.encoding.kernels.cache_entries import count_tokens, write_tokens
from lakevec.pipeline.encoding.split_rules import SplitRule, find_split_rule
from lakevec.pipeline.encoding.token_cache import TokenCache, not_utf8

# The library's own output takes some hundred bytes per token, so whole texts go through in slices.
_SLICE_ROWS = 1024
_SLICE_BYTES = 1 << 20
_NO_LIMIT = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class TokenIds:
    """Known token ids of N texts, one after the other.

    Parameters
    ----------
    ids : int32 ndarray of shape (T,)
        Ids in text order; the unknown token is left out.
    offsets : int64 ndarray of shape (N + 1,)
        Text n owns ``ids[offsets[n]:offsets[n + 1]]``.
    unknown : int
        How many unknown tokens were left out.
    truncated : int
        How many texts had more known tokens than `max_tokens`.
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
    """Make the fastest tokenizer that gives exactly the library's ids.

    Parameters
    ----------
    tokenizer_json : str
        The `tokenizers` serialisation.
    unknown_token_id : int or None
        Id to leave out.
    max_tokens : int, optional
        Keep only the first `max_tokens` known tokens of a text; None keeps all.

    Returns
    -------
    TextTokenizer
    """
    tokenizer = Tokenizer.from_str(tokenizer_json)
    # A tokenizer.json may carry both; a vector must depend on the whole text and on nothing else.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    rule = find_split_rule(tokenizer_json)
    if isinstance(rule, SplitRule):
        return CachedTokenizer(TokenCache(tokenizer, rule, unknown_token_id), max_tokens)
    return WholeTextTokenizer(tokenizer, unknown_token_id, max_tokens)


class CachedTokenizer:
    """Tokenize segment by segment, each distinct segment once.

    Parameters
    ----------
    cache : TokenCache
    max_tokens : int, optional
    """

    def __init__(self, cache: TokenCache, max_tokens: int | None = None) -> None:
        self._cache = cache
        self._max_tokens = max_tokens

    def tokenize(self, texts: pa.LargeStringArray) -> TokenIds:
        """Return the known token ids of each text.

        Parameters
        ----------
        texts : pyarrow.LargeStringArray of length N

        Returns
        -------
        TokenIds
        """
        data, offsets = raw_buffers(texts)
        is_null = np.asarray(texts.is_null().to_numpy(zero_copy_only=False), dtype=np.bool_)
        row_ends = self._cache.tokenize(data, offsets, is_null)
        arrays = self._cache.arrays
        token_offsets = np.empty(len(texts) + 1, dtype=np.int64)
        limit = _NO_LIMIT if self._max_tokens is None else self._max_tokens
        unknown, truncated = count_tokens(arrays.segment_refs, row_ends, arrays.entries, limit, token_offsets)
        ids = np.empty(token_offsets[-1], dtype=np.int32)
        write_tokens(arrays.segment_refs, row_ends, arrays, token_offsets, ids)
        return TokenIds(ids, token_offsets, int(unknown), int(truncated))


class WholeTextTokenizer:
    """Tokenize text by text through the library.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
        Without truncation and padding.
    unknown_token_id : int or None
    max_tokens : int, optional
    """

    def __init__(
        self, tokenizer: Tokenizer, unknown_token_id: int | None, max_tokens: int | None = None
    ) -> None:
        self._tokenizer = tokenizer
        self._unknown_token_id = unknown_token_id
        self._max_tokens = max_tokens

    def tokenize(self, texts: pa.LargeStringArray) -> TokenIds:
        """Return the known token ids of each text.

        Parameters
        ----------
        texts : pyarrow.LargeStringArray of length N

        Returns
        -------
        TokenIds
        """
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
        counts = np.fromiter(map(len, per_text), dtype=np.int64, count=len(per_text))
        ids = _flatten(per_text, int(counts.sum()))
        unknown = 0
        if self._unknown_token_id is not None:
            known = ids != self._unknown_token_id
            unknown = len(ids) - int(np.count_nonzero(known))
            if unknown:
                counts = _count_per_text(known, counts)
                ids = ids[known]
        truncated = 0
        if self._max_tokens is not None and len(counts) and counts.max() > self._max_tokens:
            truncated = int(np.count_nonzero(counts > self._max_tokens))
            position = np.arange(len(ids)) - np.repeat(np.cumsum(counts) - counts, counts)
            ids = ids[position < self._max_tokens]
            counts = np.minimum(counts, self._max_tokens)
        offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        return TokenIds(ids, offsets, unknown, truncated)


def raw_buffers(texts: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
    """Return an array's bytes and offsets, read-only, since one type means one compilation.

    Parameters
    ----------
    texts : pyarrow.LargeStringArray of length N

    Returns
    -------
    uint8 ndarray
    int64 ndarray of shape (N + 1,)
    """
    _, offsets, data = texts.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    content = np.frombuffer(data if data else b"\0", dtype=np.uint8)
    bounds.flags.writeable = content.flags.writeable = False
    return content, bounds


def slice_texts(
    texts: pa.LargeStringArray, most_rows: int, most_bytes: int
) -> Iterator[tuple[int, pa.LargeStringArray]]:
    """Cut an array into pieces of bounded rows and bytes; a text longer than that is a piece by itself.

    Parameters
    ----------
    texts : pyarrow.LargeStringArray
    most_rows : int
    most_bytes : int

    Yields
    ------
    int
        Position of the piece's first text.
    pyarrow.LargeStringArray
        The piece.
    """
    _, offsets = raw_buffers(texts)
    first = 0
    while first < len(texts):
        last = int(np.searchsorted(offsets, offsets[first] + most_bytes, side="right")) - 1
        last = min(max(last, first + 1), first + most_rows, len(texts))
        yield first, texts.slice(first, last - first)
        first = last


def _flatten(per_text: Iterable[list[int]], total: int) -> np.ndarray:
    return np.fromiter(chain.from_iterable(per_text), dtype=np.int32, count=total)


def _count_per_text(mask: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Count the true elements of `mask` in each text's stretch of `counts` elements."""
    running = np.concatenate(([0], np.cumsum(mask)))
    ends = np.cumsum(counts)
    result: np.ndarray = running[ends] - running[ends - counts]
    return result
