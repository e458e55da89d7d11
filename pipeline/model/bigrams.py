"""Rows for pairs of neighbouring tokens, which are added to the rows of the tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lakevec.pipeline.errors import ModelError


@dataclass(frozen=True, eq=False)
class Bigrams:
    """Pairs of token ids, and a row for each.

    Parameters
    ----------
    pairs : int32 ndarray of shape (B, 2)
        Ids of a token and of the one behind it, in strictly increasing order: by the first id, then by the
        second.
    embeddings : ndarray of shape (B, D)
        Rows in the type that the table of the tokens has.
    weights : float32 ndarray of shape (B,), optional
        Factor of each row, such as the scale of an int8 row.

    Examples
    --------
    >>> pairs, rows = np.array([[1, 2]], np.int32), np.array([[2, 4]], np.int8)
    >>> Bigrams(pairs, rows, weights=np.array([0.5], np.float32)).rows().tolist()
    [[1.0, 2.0]]
    """

    pairs: np.ndarray
    embeddings: np.ndarray
    weights: np.ndarray | None = None

    def __len__(self) -> int:
        """Return the number of pairs, B."""
        return len(self.pairs)

    def rows(self) -> np.ndarray:
        """Return each pair's row: float32 of shape (B, D)."""
        rows = self.embeddings.astype(np.float32, copy=False)
        return rows if self.weights is None else rows * self.weights[:, None]

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the arrays by their names in ``bigrams.safetensors``."""
        named = {"pairs": self.pairs, "embeddings": self.embeddings, "weights": self.weights}
        return {name: np.ascontiguousarray(array) for name, array in named.items() if array is not None}


def check_bigrams(bigrams: Bigrams, embeddings: np.ndarray, tokens: int) -> None:
    """Raise ModelError if shapes, types, ids or their order don't fit a table of so many tokens."""
    pairs, rows, weights = bigrams.pairs, bigrams.embeddings, bigrams.weights
    if pairs.dtype != np.int32 or pairs.ndim != 2 or pairs.shape[1] != 2 or not len(pairs):
        raise _unfit("pairs", pairs, "int32 of shape (B, 2), B at least 1")
    width = embeddings.shape[1]
    if rows.dtype != embeddings.dtype or rows.shape != (len(pairs), width):
        raise _unfit("embeddings", rows, f"{embeddings.dtype} of shape ({len(pairs)}, {width})")
    if weights is not None and (weights.dtype != np.float32 or weights.shape != (len(pairs),)):
        raise _unfit("weights", weights, f"float32 of shape ({len(pairs)},)")
    if pairs.min() < 0 or pairs.max() >= tokens:
        raise ModelError("bigrams name tokens that the table lacks", expected=f"ids from 0 to {tokens - 1}")
    if not (np.diff(pack_pairs(pairs).astype(np.int64)) > 0).all():
        raise ModelError("bigrams are not in order", expected="pairs that strictly increase, each once")


def pack_pairs(pairs: np.ndarray) -> np.ndarray:
    """Return each pair as one number, uint64 of shape (B,): the first id in the upper half."""
    packed: np.ndarray = pairs[:, 0].astype(np.uint64) << np.uint64(32) | pairs[:, 1].astype(np.uint64)
    return packed


def _unfit(name: str, array: np.ndarray, expected: str) -> ModelError:
    return ModelError(f"{name} of bigrams", got=f"{array.dtype} of shape {array.shape}", expected=expected)
