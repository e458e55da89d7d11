"""Weights that make frequent tokens count less in a mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.counting.stored_counts import TOKENS, WORDS, part_of
from pipeline.errors import InputError
from pipeline.location import Location, without_credentials
from pipeline.settings.distill import COUNTS_SHARE


def sif_weights_by_rank(tokens: int, *, coefficient: float) -> np.ndarray:
    """Return smooth-inverse-frequency weights with frequencies guessed from Zipf's law.

    Parameters
    ----------
    tokens : int
        Number of tokens V; a vocabulary is ordered by frequency, so a token's id is its rank.
    coefficient : float
        a in the formula, in (0, 1).

    Returns
    -------
    float64 ndarray of shape (V,)
        Weights in (0, 1), rising with rank.

    Notes
    -----
    ``w = a / (a + p)`` from Arora, Liang and Ma, "A Simple but Tough-to-Beat Baseline for Sentence
    Embeddings" (ICLR 2017); ``p`` is proportional to ``1 / rank``, ranks counted from 2 as model2vec does.

    Examples
    --------
    >>> sif_weights_by_rank(3, coefficient=0.1).round(3)
    array([0.178, 0.245, 0.302])
    """
    return _sif(_inverse_rank(tokens), coefficient)


def sif_weights_by_count(
    counts: np.ndarray, *, coefficient: float, share: float = COUNTS_SHARE
) -> np.ndarray:
    """Return smooth-inverse-frequency weights with measured frequencies.

    Parameters
    ----------
    counts : ndarray of shape (V,)
        How often each token was seen; not all 0.
    coefficient : float
        a in the formula, in (0, 1).
    share : float, default=0.5
        How much the counts decide about p beside Zipf's law, from 0 to 1, where they decide alone.

    Returns
    -------
    float64 ndarray of shape (V,)
        Weights in (0, 1]; 1 for a token that was never seen.

    Notes
    -----
    As `sif_weights_by_rank`, with ``p`` proportional to ``count ** share * (1 / rank) ** (1 - share)``: what
    a token's rank says of the language at large steadies what one lake says. docs/decisions.md has figures.

    Examples
    --------
    >>> sif_weights_by_count(np.array([90, 10, 0]), coefficient=0.1, share=1)
    array([0.1, 0.5, 1. ])
    """
    blended = counts**share * _inverse_rank(len(counts)) ** (1 - share)
    return _sif(blended / blended.sum(), coefficient)


def zipf_weights(tokens: int) -> np.ndarray:
    """Return the weights of the first Model2Vec.

    Parameters
    ----------
    tokens : int
        Number of tokens V; a token's id is its rank.

    Returns
    -------
    float64 ndarray of shape (V,)
        ``log(1 + i)`` for token i, so 0 for the first.
    """
    return np.log1p(np.arange(tokens))


def read_counts(uri: str, tokens: Sequence[str]) -> np.ndarray:
    """Read how often tokens were seen.

    Parameters
    ----------
    uri : str
        Parquet file or folder with the columns ``token`` (string) and ``count`` (integer); rows of one token
        add up, and tokens that are not among `tokens` are left out. Or the folder that ``lakevec count``
        wrote: its tokens, and for a token that was none then, such as an added word, its words.
    tokens : sequence of str of length V

    Returns
    -------
    float64 ndarray of shape (V,)
        0 for a token that has no row.

    Raises
    ------
    InputError
        If it can't be read, lacks a column, or has a count for none of the tokens.
    """
    shown = without_credentials(uri)
    place = part_of(uri, TOKENS)
    try:
        table = pq.read_table(place.path, filesystem=place.filesystem, columns=["token", "count"])
        if not pa.types.is_integer(table["count"].type):
            raise KeyError(f"count is {table['count'].type}")
        counts = pc.cast(table["count"], pa.float64(), safe=False)
        names = pc.cast(table["token"], pa.large_string())
    except (OSError, pa.ArrowException, KeyError) as error:
        raise InputError(
            f"counts {shown!r} can't be read",
            got=" ".join(str(error).split())[:200],
            expected="Parquet with the columns token (string) and count (integer)",
        ) from None
    if counts.null_count or names.null_count or (pc.min(counts).as_py() or 0) < 0:
        raise InputError(
            f"counts {shown!r}", got="nulls or counts below 0", expected="a count for each token"
        )
    found = pc.index_in(names.combine_chunks(), value_set=pa.array(tokens, pa.large_string()))
    result = np.zeros(len(tokens), dtype=np.float64)
    is_ours = found.is_valid()
    np.add.at(result, found.filter(is_ours).to_numpy(), counts.filter(is_ours).to_numpy())
    words = part_of(uri, WORDS)
    if place != words:
        _add_words(words, tokens, is_new=~np.isin(np.arange(len(tokens)), found.drop_null()), counts=result)
    if not result.any():
        raise InputError(
            f"counts {shown!r} have nothing to do with this vocabulary",
            got=f"{len(names)} rows, and no count for any of {len(tokens)} tokens",
            expected="counts of the teacher's own tokens",
        )
    return result


def _add_words(place: Location, tokens: Sequence[str], *, is_new: np.ndarray, counts: np.ndarray) -> None:
    """Give tokens that were none when tokens were counted the counts of their words."""
    # Byte-level and Unigram tokenizers mark that a word begins.
    new = {tokens[number].lstrip("Ġ▁"): number for number in np.flatnonzero(is_new).tolist()}
    if not new or not place.exists():
        return
    asked = pc.field("word").isin(pa.array(list(new), pa.string()))
    table = pq.read_table(place.path, filesystem=place.filesystem, columns=["word", "count"], filters=asked)
    for word, count in zip(table["word"].to_pylist(), table["count"].to_pylist(), strict=True):
        counts[new[word]] += count


def _inverse_rank(tokens: int) -> np.ndarray:
    """Return Zipf's guess of each token's share; ranks are counted from 2, as model2vec does."""
    inverse = 1.0 / np.arange(2, tokens + 2)
    guess: np.ndarray = inverse / inverse.sum()
    return guess


def _sif(probability: np.ndarray, coefficient: float) -> np.ndarray:
    weights: np.ndarray = coefficient / (coefficient + probability)
    return weights
