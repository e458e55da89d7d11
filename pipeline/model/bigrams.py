"""Rows for pairs of neighbouring tokens, which count in place of the second token's row."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lakevec.pipeline.errors import ModelError
from lakevec.pipeline.model.quantization import LARGEST_INT8

# Below this, sums of float32 rows stay finite up to 1e8 tokens; no embedding comes near it.
LARGEST_VALUE = 1e30
_LARGEST_SCALE = LARGEST_VALUE / LARGEST_INT8
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
    scales : float32 ndarray of shape (D,)
        Above 0, at most 1e30 / 127. Pair b has the row ``scales * embeddings[b]``.

    Examples
    --------
    >>> pairs, rows = np.array([[1, 2]], np.int32), np.array([[2, 4]], np.int8)
    >>> Bigrams(pairs, rows, np.array([1.5, 0.5], np.float32)).rows().tolist()
    [[3.0, 2.0]]
    """

    pairs: np.ndarray
    embeddings: np.ndarray
    scales: np.ndarray

    def __len__(self) -> int:
        """Return the number of pairs, B."""
        return len(self.pairs)

    def rows(self) -> np.ndarray:
        """Return each pair's row: float32 of shape (B, D)."""
        rows: np.ndarray = self.embeddings * self.scales
        return rows

    def shorten(self, dimensions: int) -> Bigrams:
        """Return the first columns."""
        rows, scales = self.embeddings[:, :dimensions], self.scales[:dimensions]
        return replace(self, embeddings=np.ascontiguousarray(rows), scales=scales)

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the arrays by their names in ``bigrams.safetensors``."""
        named = {"pairs": self.pairs, "embeddings": self.embeddings, "scales": self.scales}
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
    A column's scale is its largest value divided by 127, so that no value is cut. Values below 1/254 of the
    largest of their column become 0.

    Examples
    --------
    >>> found = quantize_bigrams(np.array([[0, 1], [0, 2]], np.int32), np.array([[4.0, -2.0], [0.1, 0.2]]))
    >>> found.embeddings.tolist()
    [[127, -127], [3, 13]]
    """
    largest = np.abs(rows).max(axis=0).astype(np.float32)
    scales = np.maximum(largest / np.float32(LARGEST_INT8), np.finfo(np.float32).tiny)
    numbers = np.rint(rows / scales).clip(-LARGEST_INT8, LARGEST_INT8)
    return Bigrams(pairs, numbers.astype(np.int8), scales)


def check_bigrams(bigrams: Bigrams, width: int, tokens: int) -> None:
    """Raise ModelError if shapes, types, values or their order don't fit a table of so many tokens."""
    pairs = bigrams.pairs
    if pairs.dtype != np.int32 or pairs.ndim != 2 or pairs.shape[1] != 2 or not len(pairs):
        raise _unfit("pairs", pairs, "int32 of shape (B, 2), B at least 1")
    if bigrams.embeddings.dtype != np.int8 or bigrams.embeddings.shape != (len(pairs), width):
        raise _unfit("embeddings", bigrams.embeddings, f"int8 of shape ({len(pairs)}, {width})")
    if bigrams.scales.dtype != np.float32 or bigrams.scales.shape != (width,):
        raise _unfit("scales", bigrams.scales, f"float32 of shape ({width},)")
    # NaN compares as false.
    is_unfit = ~((bigrams.scales > 0) & (bigrams.scales <= np.float32(_LARGEST_SCALE)))
    if is_unfit.any():
        column = int(np.argmax(is_unfit))
        raise ModelError(
            "scales of bigrams",
            got=f"{bigrams.scales[column]:g} for column {column}",
            expected=f"above 0, at most {_LARGEST_SCALE:.4g}",
            remedy=_REMEDY,
        )
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
