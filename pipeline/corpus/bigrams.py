"""Counts of bigrams: pairs of neighbouring known tokens of a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakevec.pipeline.corpus.counts_folder import BIGRAMS, part_of
from lakevec.pipeline.encoding.kernels.pair_kernels import COUNT, PAIR, add_pairs, make_slots
from lakevec.pipeline.encoding.tokenization import TokenIds
from lakevec.pipeline.errors import InputError, rephrase
from lakevec.pipeline.redaction import redact

_FIRST_SLOTS = 1 << 12
_ONCE = np.ones(1, dtype=np.int64)
_SECOND = (1 << 32) - 1


class Bigrams(NamedTuple):
    """Bigrams and their counts.

    Parameters
    ----------
    pairs : int32 ndarray of shape (B, 2)
        Ids of first and second token, each pair once, in increasing order.
    counts : int64 ndarray of shape (B,)
    """

    pairs: np.ndarray
    counts: np.ndarray


class BigramCounter:
    """Exact counts of bigrams; a pair takes 32 to 64 bytes."""

    def __init__(self) -> None:
        self._slots = make_slots(_FIRST_SLOTS)
        self._used = 0

    def __len__(self) -> int:
        """Return the number of distinct pairs."""
        return self._used

    def add(self, ids: np.ndarray, offsets: np.ndarray) -> None:
        """Count the bigrams of texts; text n has the token ids ``ids[offsets[n]:offsets[n + 1]]``."""
        if len(ids) < 2:
            return
        pairs = ids[:-1].astype(np.int64) << 32 | ids[1:]
        ends = offsets[(offsets > 0) & (offsets < len(ids))]
        pairs[ends - 1] = -1  # the last token of a text has no neighbour
        self._add(pairs, _ONCE)

    def take(self) -> Bigrams:
        """Return the counts so far and reset them."""
        found = self._slots[self._slots[:, PAIR] >= 0]
        self._slots, self._used = make_slots(_FIRST_SLOTS), 0
        found = found[np.argsort(found[:, PAIR])]
        return Bigrams(unpack_pairs(found[:, PAIR]), found[:, COUNT].copy())

    def _add(self, pairs: np.ndarray, counts: np.ndarray) -> None:
        position = 0
        while True:
            most = len(self._slots) // 2
            position, self._used = add_pairs(pairs, counts, position, self._slots, self._used, most)
            if position == len(pairs):
                return
            old = self._slots[self._slots[:, PAIR] >= 0].T.copy()
            self._slots, self._used = make_slots(2 * len(self._slots)), 0
            _, self._used = add_pairs(old[PAIR], old[COUNT], 0, self._slots, 0, len(self._slots) // 2)


def count_bigrams(tokens: TokenIds, most: int) -> Bigrams:
    """Count the bigrams of texts.

    Parameters
    ----------
    tokens : TokenIds
    most : int
        Maximum number of bigrams B. The most frequent are kept; of equal counts, those of the lowest ids.

    Examples
    --------
    >>> tokens = TokenIds(np.array([3, 1, 2, 3, 1], np.int32), np.array([0, 3, 5]), unknown=0, truncated=0)
    >>> pairs, counts = count_bigrams(tokens, most=1)
    >>> pairs.tolist(), counts.tolist()
    ([[3, 1]], [2])
    """
    counter = BigramCounter()
    counter.add(tokens.ids, tokens.offsets)
    return _take_most(counter.take(), most)


def read_bigrams(uri: str, tokens: Sequence[str], most: int) -> Bigrams:
    """Read the bigrams of a lake as pairs of a tokenizer's ids.

    Parameters
    ----------
    uri : str
        Folder of ``lakevec count --bigrams``, or Parquet with the columns ``first``, ``second`` (string) and
        ``count`` (integer).
    tokens : sequence of str
        The tokenizer's tokens by id. Bigrams with other tokens are left out.
    most : int
        Maximum number of bigrams B. The most frequent are kept; of equal counts, those of the lowest ids.

    Raises
    ------
    InputError
        If the folder has no bigrams, they can't be read, or none has tokens of the tokenizer.
    """
    shown = f"counts {redact(uri)!r}"
    place = part_of(uri, BIGRAMS)
    if place.name == BIGRAMS and not place.exists():
        remedy = "count again with --bigrams, into another --output"
        raise InputError(f"{shown} have no bigrams", got="counts without --bigrams", remedy=remedy)
    unreadable = (OSError, pa.ArrowException, KeyError)
    expected = "Parquet with the columns first, second (string) and count (integer)"
    with rephrase(InputError, f"bigrams {redact(uri)!r} can't be read", on=unreadable, expected=expected):
        columns = ["first", "second", "count"]
        table = pq.read_table(place.path, filesystem=place.filesystem, columns=columns)
        if not pa.types.is_integer(table["count"].type):
            raise KeyError(f"count is {table['count'].type}")
        known = pa.array(tokens, pa.large_string())
        ids = [pc.index_in(pc.cast(table[name], known.type), value_set=known) for name in columns[:2]]
    is_known = pc.and_(ids[0].is_valid(), pc.and_(ids[1].is_valid(), table["count"].is_valid()))
    first, second = (column.filter(is_known).to_numpy() for column in ids)
    if len(table) and not len(first):
        got = f"{len(table):,} bigrams, and none of {len(tokens):,} tokens"
        remedy = "count with --bigrams by this model's tokenizer"
        raise InputError(f"{shown} have no bigrams of the vocabulary", got=got, remedy=remedy)
    packed, rows = np.unique(first.astype(np.int64) << 32 | second, return_inverse=True)
    counts = np.zeros(len(packed), dtype=np.int64)
    np.add.at(counts, rows, table["count"].filter(is_known).to_numpy())
    return _take_most(Bigrams(unpack_pairs(packed), counts), most)


def pack_pairs(pairs: np.ndarray) -> np.ndarray:
    """Turn pairs of ids into single numbers of the same order: int64 of shape (B,)."""
    return np.asarray(pairs[:, 0].astype(np.int64) << 32 | pairs[:, 1])


def unpack_pairs(packed: np.ndarray) -> np.ndarray:
    """Return the pairs that `pack_pairs` packed: int32 of shape (B, 2)."""
    return np.stack([packed >> 32, packed & _SECOND], axis=1).astype(np.int32)


def _take_most(bigrams: Bigrams, most: int) -> Bigrams:
    """Return the most frequent bigrams, still in increasing order."""
    # Stable: of equal counts, the lowest ids come first.
    kept = np.sort(np.argsort(-bigrams.counts, kind="stable")[:most])
    return Bigrams(bigrams.pairs[kept], bigrams.counts[kept])
