"""Rows as numbers to compare: an id, and a hash of everything else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from .lakes import DIMENSIONS

_WEIGHTS = np.random.default_rng(0).integers(1, 2**63, DIMENSIONS, dtype=np.uint64) | np.uint64(1)
COLUMNS = ["id", "text", "version", "text_embedding"]


@dataclass(frozen=True)
class Rows:
    """Rows sorted by id."""

    ids: np.ndarray
    hashes: np.ndarray

    @classmethod
    def of(cls, table: pa.Table) -> Rows:
        ids = table["id"].to_numpy()
        hashes = _hash_vectors(table["text_embedding"].combine_chunks())
        texts = table["text"].to_numpy()
        hashes += pd.util.hash_array(np.where(pd.isna(texts), "\0", texts).astype(object), categorize=False)
        hashes += table["version"].to_numpy().astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        return cls.sorted(ids, hashes)

    @classmethod
    def sorted(cls, ids: np.ndarray, hashes: np.ndarray) -> Rows:
        order = np.argsort(ids, kind="stable")
        return cls(ids[order], hashes[order])

    @classmethod
    def union(cls, parts: list[Rows]) -> Rows:
        nothing = cls(np.empty(0, np.int64), np.empty(0, np.uint64))
        parts = [nothing, *parts]
        return cls.sorted(np.concatenate([p.ids for p in parts]), np.concatenate([p.hashes for p in parts]))

    def __len__(self) -> int:
        return len(self.ids)

    def equals(self, other: Rows) -> bool:
        return np.array_equal(self.ids, other.ids) and np.array_equal(self.hashes, other.hashes)

    @property
    def doubled(self) -> int:
        """Number of rows beyond the first of each id."""
        return int((self.ids[1:] == self.ids[:-1]).sum())

    def lost(self, expected: Rows) -> int:
        """Return the number of expected rows that are missing."""
        return int((~np.isin(expected.ids, self.ids)).sum())

    def wrong(self, expected: Rows) -> int:
        """Return the number of rows that are not expected, or have another content."""
        places = np.minimum(np.searchsorted(expected.ids, self.ids), max(len(expected) - 1, 0))
        if not len(expected):
            return len(self)
        is_right = (expected.ids[places] == self.ids) & (expected.hashes[places] == self.hashes)
        return int((~is_right).sum())


def _hash_vectors(vectors: pa.Array) -> np.ndarray:
    """Hash the bytes of vectors; a null has the hash 0."""
    words = vectors.flatten().to_numpy().view(np.uint32).reshape(-1, DIMENSIONS)
    hashes = np.zeros(len(vectors), dtype=np.uint64)
    is_there = vectors.is_valid().to_numpy(zero_copy_only=False)
    for column in range(DIMENSIONS):  # 64 passes over columns are faster than one product of integers
        words_here = words[:, column].astype(np.uint64)
        hashes[is_there] += (words_here ^ (words_here >> np.uint64(7))) * _WEIGHTS[column]
    return hashes
