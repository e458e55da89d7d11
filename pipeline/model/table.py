"""The embedding table as a frozen value: rows, tokenizer and the flags that change a vector."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

import numpy as np
from tokenizers import Tokenizer

from pipeline.errors import ModelError

# Sums of float32 rows stay finite up to 1e8 tokens below this; no embedding comes near it.
LARGEST_VALUE = 1e30


@dataclass(frozen=True, eq=False)
class StaticTable:
    """One row per token of a tokenizer, and how rows become a text's vector.

    Parameters
    ----------
    embeddings : float32 or float16 ndarray of shape (V, D)
        Row i belongs to token id i. C-contiguous, finite.
    tokenizer_json : str
        The `tokenizers` serialisation, without truncation, padding or post-processor.
    normalize : bool, default=True
        Whether text vectors are scaled to length 1.
    unknown_token_id : int or None
        The id that stands for text the tokenizer has no token for; its row is never pooled.
        Read from the tokenizer.
    fingerprint : str
        ``sha256:`` and 64 hexadecimal digits over everything that changes a vector. Computed.

    Raises
    ------
    ModelError
        If shapes, types or values can't be an embedding table of this tokenizer.
    """

    embeddings: np.ndarray
    tokenizer_json: str
    normalize: bool = True
    unknown_token_id: int | None = field(init=False)
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        _check_embeddings(self.embeddings)
        try:
            tokenizer = Tokenizer.from_str(self.tokenizer_json)
        # tokenizers raises bare Exception for a bad document
        except Exception as error:
            raise ModelError("tokenizer.json can't be read", got=str(error)) from None
        size = tokenizer.get_vocab_size(with_added_tokens=True)
        if size != len(self.embeddings):
            raise ModelError(
                "tokenizer and table do not belong together",
                got=f"{size} tokens and {len(self.embeddings)} rows",
                expected="one row per token",
            )
        last = max(tokenizer.get_vocab(with_added_tokens=True).values())
        if last >= size:
            raise ModelError(
                "tokenizer has token ids beyond the table's rows",
                got=str(last),
                expected=f"ids from 0 to {size - 1}, without a gap",
            )
        object.__setattr__(self, "unknown_token_id", find_unknown_token_id(tokenizer))
        object.__setattr__(self, "fingerprint", self._compute_fingerprint())

    @property
    def rows(self) -> int:
        """Number of tokens, V."""
        return int(self.embeddings.shape[0])

    @property
    def dimensions(self) -> int:
        """Output width, D."""
        return int(self.embeddings.shape[1])

    def _compute_fingerprint(self) -> str:
        head = {
            "scheme": 1,
            "shape": list(self.embeddings.shape),
            "dtype": self.embeddings.dtype.name,
            "normalize": self.normalize,
            "tokenizer": hashlib.sha256(self.tokenizer_json.encode()).hexdigest(),
        }
        digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
        digest.update(np.ascontiguousarray(self.embeddings).data)
        return f"sha256:{digest.hexdigest()}"


def find_unknown_token_id(tokenizer: Tokenizer) -> int | None:
    """Return the id of the tokenizer's unknown token, or None where it has none.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer

    Returns
    -------
    int or None
    """
    model = json.loads(tokenizer.to_str())["model"]
    if "unk_id" in model:  # Unigram names an id, all others a token
        unknown: int | None = model["unk_id"]
        return unknown
    token = model.get("unk_token")
    return tokenizer.token_to_id(token) if token is not None else None


def _check_embeddings(embeddings: np.ndarray) -> None:
    """Refuse what can't be pooled without surprises."""
    if embeddings.ndim != 2 or 0 in embeddings.shape:
        raise ModelError("embeddings", got=f"shape {embeddings.shape}", expected="(V, D), both at least 1")
    if embeddings.dtype not in (np.float32, np.float16):
        raise ModelError("embeddings", got=f"dtype {embeddings.dtype}", expected="float32 or float16")
    # max and min carry NaN along, so that one pass over the table finds NaN, infinities and giants.
    if not (float(embeddings.max()) <= LARGEST_VALUE and float(embeddings.min()) >= -LARGEST_VALUE):
        raise ModelError(
            "embeddings hold NaN, infinity or values beyond 1e30",
            expected="finite values",
            remedy="distil the model again",
        )
