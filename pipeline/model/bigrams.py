"""Rows for pairs of neighbouring tokens, which count in place of the second token's row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lakevec.pipeline.errors import ModelError

# Sums of eight products of int8 numbers and multipliers fit into int16.
LARGEST_MULTIPLIER = 32
_LARGEST_INT8 = 127
_REMEDY = "tune the model again"


@dataclass(frozen=True, eq=False)
class Bigrams:
    """Pairs of token ids, and a row for each.

    Parameters
    ----------
    pairs : int32 ndarray of shape (B, 2)
        Ids of a token and of the one behind it, in strictly increasing order: by the first id, then by the
        second.
    embeddings : int8 ndarray of shape (B, D)
    multipliers : uint8 ndarray of shape (B,)
        1 to 32.
    scale : float
        Above 0; rounded to float32. Pair b has the row ``scale * multipliers[b] * embeddings[b]``.

    Examples
    --------
    >>> pairs, rows = np.array([[1, 2]], np.int32), np.array([[2, 4]], np.int8)
    >>> Bigrams(pairs, rows, np.array([3], np.uint8), 0.5).rows().tolist()
    [[3.0, 6.0]]
    """

    pairs: np.ndarray
    embeddings: np.ndarray
    multipliers: np.ndarray
    scale: float

    def __len__(self) -> int:
        """Return the number of pairs, B."""
        return len(self.pairs)

    def rows(self) -> np.ndarray:
        """Return each pair's row: float32 of shape (B, D)."""
        products = self.embeddings.astype(np.float32) * self.multipliers[:, None].astype(np.float32)
        return products * np.float32(self.scale)

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the arrays by their names in ``bigrams.safetensors``."""
        named = {"pairs": self.pairs, "embeddings": self.embeddings, "multipliers": self.multipliers}
        named["scale"] = np.array([self.scale], np.float32)
        return {name: np.ascontiguousarray(array) for name, array in named.items()}


def quantize_bigrams(pairs: np.ndarray, rows: np.ndarray) -> Bigrams:
    """Round rows to int8.

    Parameters
    ----------
    pairs : int32 ndarray of shape (B, 2)
    rows : float ndarray of shape (B, D)
        Finite rows, which count in place of the second tokens' rows.

    Notes
    -----
    The scale is the largest value, divided by 127 and by 32. Each row has the least multiplier with which
    its values fit into -127 to 127. So values below 1/8,000 of the largest value of all rows become 0.

    Examples
    --------
    >>> found = quantize_bigrams(np.array([[0, 1], [0, 2]], np.int32), np.array([[4.0, -2.0], [0.1, 0.2]]))
    >>> found.multipliers.tolist(), found.embeddings.tolist()
    ([32, 2], [[127, -64], [51, 102]])
    """
    largest = np.abs(rows).max(axis=1)
    scale = max(np.float32(largest.max() / _LARGEST_INT8 / LARGEST_MULTIPLIER), np.finfo(np.float32).tiny)
    multipliers = np.clip(np.ceil(largest / (scale * _LARGEST_INT8)), 1, LARGEST_MULTIPLIER)
    numbers = np.rint(rows / (scale * multipliers)[:, None]).clip(-_LARGEST_INT8, _LARGEST_INT8)
    return Bigrams(pairs, numbers.astype(np.int8), multipliers.astype(np.uint8), float(scale))


def check_bigrams(bigrams: Bigrams, width: int, tokens: int) -> None:
    """Raise ModelError if shapes, types, values or their order don't fit a table of so many tokens."""
    pairs = bigrams.pairs
    if pairs.dtype != np.int32 or pairs.ndim != 2 or pairs.shape[1] != 2 or not len(pairs):
        raise _unfit("pairs", pairs, "int32 of shape (B, 2), B at least 1")
    if bigrams.embeddings.dtype != np.int8 or bigrams.embeddings.shape != (len(pairs), width):
        raise _unfit("embeddings", bigrams.embeddings, f"int8 of shape ({len(pairs)}, {width})")
    multipliers = bigrams.multipliers
    if multipliers.dtype != np.uint8 or multipliers.shape != (len(pairs),):
        raise _unfit("multipliers", multipliers, f"uint8 of shape ({len(pairs)},)")
    if multipliers.min() < 1 or multipliers.max() > LARGEST_MULTIPLIER:
        got = f"{multipliers.min()} to {multipliers.max()}"
        raise ModelError("multipliers of bigrams", got=got, expected=f"1 to {LARGEST_MULTIPLIER}")
    if pairs.min() < 0 or pairs.max() >= tokens:
        raise ModelError("bigrams name tokens that the table lacks", expected=f"ids from 0 to {tokens - 1}")
    if not (np.diff(pack_pairs(pairs)) > 0).all():
        raise ModelError("bigrams are not in order", expected="pairs that strictly increase, each once")


def pack_pairs(pairs: np.ndarray) -> np.ndarray:
    """Turn pairs of ids into single numbers of the same order: int64 of shape (B,)."""
    return np.asarray(pairs[:, 0].astype(np.int64) << 32 | pairs[:, 1])


def _unfit(name: str, array: np.ndarray, expected: str) -> ModelError:
    got = f"{array.dtype} of shape {array.shape}"
    return ModelError(f"{name} of bigrams", got=got, expected=expected, remedy=_REMEDY)
