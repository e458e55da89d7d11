"""What training adds up for each text: rows of tokens and of bigrams, and how much each counts."""

from __future__ import annotations

import numpy as np

from lakevec.pipeline.encoding.kernels.pooling import Terms
from lakevec.pipeline.encoding.kernels.position_weights import weigh_positions
from lakevec.pipeline.encoding.tokenization import TokenIds
from lakevec.pipeline.model.bigrams import pack_pairs


def make_terms(
    tokens: TokenIds,
    *,
    position_scale: float | None = None,
    pairs: np.ndarray | None = None,
    first_row: int = 0,
) -> Terms:
    """Return the rows of texts.

    Parameters
    ----------
    tokens : TokenIds
    position_scale : float, optional
        As in `StaticTable`.
    pairs : int32 ndarray of shape (B, 2), optional
        Bigrams in increasing order. Each follows its second token and has its weight.
    first_row : int
        Row of the first bigram.

    Examples
    --------
    >>> tokens = TokenIds(np.array([0, 1, 1, 0], np.int32), np.array([0, 2, 4]), unknown=0, truncated=0)
    >>> make_terms(tokens, pairs=np.array([[0, 1]], np.int32), first_row=2).ids.tolist()
    [0, 1, 2, 1, 0]
    """
    terms = Terms(tokens.ids, tokens.offsets)
    if position_scale is not None:
        terms = Terms(tokens.ids, tokens.offsets, *weigh_positions(tokens.offsets, position_scale))
    return terms if pairs is None or not len(terms.ids) else _insert_pairs(terms, pairs, first_row)


def _insert_pairs(terms: Terms, pairs: np.ndarray, first_row: int) -> Terms:
    """Insert the row of each listed pair behind its second token."""
    ids, offsets = terms.ids, terms.offsets
    packed = pack_pairs(pairs)
    own = np.append(-1, pack_pairs(np.stack([ids[:-1], ids[1:]], axis=1)))
    own[offsets[:-1][offsets[:-1] < len(ids)]] = -1  # the first token of a text ends no pair
    found = np.minimum(np.searchsorted(packed, own), len(packed) - 1)
    places = np.flatnonzero(packed[found] == own)
    inserted = np.searchsorted(places, offsets)  # pairs before each text
    weights = terms.weights
    return Terms(
        np.insert(ids, places + 1, (first_row + found[places]).astype(ids.dtype)),
        offsets + inserted,
        None if weights is None else np.insert(weights, places + 1, weights[places]),
        np.diff(offsets).astype(np.float64) if terms.divisors is None else terms.divisors,
    )


def cut_terms(terms: Terms, texts: slice) -> Terms:
    """Return the terms of neighbouring texts."""
    first, last, _ = texts.indices(len(terms.offsets) - 1)
    begin, end = terms.offsets[[first, last]]
    return Terms(
        terms.ids[begin:end],
        terms.offsets[first : last + 1] - begin,
        None if terms.weights is None else terms.weights[begin:end],
        None if terms.divisors is None else terms.divisors[first:last],
    )


def take_terms(terms: Terms, texts: np.ndarray) -> Terms:
    """Return the terms of some texts, without divisors."""
    starts = terms.offsets[texts]
    counts = terms.offsets[texts + 1] - starts
    offsets = np.append(0, np.cumsum(counts))
    places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], counts)
    return Terms(terms.ids[places], offsets, None if terms.weights is None else terms.weights[places])


def drop_bigrams(terms: Terms, first_row: int, share: float, random: np.random.Generator) -> Terms:
    """Drop a share of the rows from `first_row` on at random. Texts that begin with another row keep one."""
    kept = terms.ids < first_row
    bigrams = np.flatnonzero(~kept)
    kept[bigrams] = random.random(len(bigrams)) >= share
    return _keep(terms, kept)


def drop_terms(terms: Terms, share: float, random: np.random.Generator) -> Terms:
    """Drop a share of the rows at random, but keep at least one of each text."""
    starts, counts = terms.offsets[:-1], np.diff(terms.offsets)
    kept = random.random(len(terms.ids)) >= share
    kept[starts + random.integers(counts)] = True
    return _keep(terms, kept)


def _keep(terms: Terms, kept: np.ndarray) -> Terms:
    """Return the rows to keep. Each text has one at least."""
    offsets = np.append(0, np.cumsum(np.add.reduceat(kept, terms.offsets[:-1], dtype=np.int64)))
    return Terms(terms.ids[kept], offsets, None if terms.weights is None else terms.weights[kept])
