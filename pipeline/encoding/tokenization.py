"""Texts to token ids: whole-text tokenization through the `tokenizers` library, flat arrays out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import numpy as np
from tokenizers import Tokenizer


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


class TextTokenizer:
    """Tokenize whole texts, without special tokens, truncation or padding.

    Parameters
    ----------
    tokenizer_json : str
        The `tokenizers` serialisation.
    unknown_token_id : int or None
        Id to leave out.
    max_tokens : int, optional
        Keep only the first `max_tokens` known tokens of a text; None keeps all.
    """

    def __init__(
        self, tokenizer_json: str, unknown_token_id: int | None, max_tokens: int | None = None
    ) -> None:
        self._tokenizer = Tokenizer.from_str(tokenizer_json)
        # A tokenizer.json may carry both; a vector must depend on the whole text and on nothing else.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._unknown_token_id = unknown_token_id
        self._max_tokens = max_tokens

    def tokenize(self, texts: list[str]) -> TokenIds:
        """Return the known token ids of each text.

        Parameters
        ----------
        texts : list of str

        Returns
        -------
        TokenIds
        """
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
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


def _flatten(per_text: Iterable[list[int]], total: int) -> np.ndarray:
    return np.fromiter(chain.from_iterable(per_text), dtype=np.int32, count=total)


def _count_per_text(mask: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Count the true elements of `mask` in each text's stretch of `counts` elements."""
    running = np.concatenate(([0], np.cumsum(mask)))
    ends = np.cumsum(counts)
    result: np.ndarray = running[ends] - running[ends - counts]
    return result
