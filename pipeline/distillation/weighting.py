"""Weights that make frequent tokens count less in a mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakevec.pipeline.corpus.counts_folder import TOKENS, WORDS, part_of
from lakevec.pipeline.errors import InputError
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.settings.distill import COUNTS_SHARE
from lakevec.pipeline.storage import Location

# Part of the shares that every token has alike; docs/decisions.md has figures.
_SPREAD = 0.1


def zipf_frequencies(tokens: int) -> np.ndarray:
    """Guess token frequencies from Zipf's law.

    Parameters
    ----------
    tokens : int
        Number of tokens V; a vocabulary is ordered by frequency, so a token's id is its rank.

    Returns
    -------
    float64 ndarray of shape (V,)
        Frequencies p, proportional to ``1 / rank``, ranks counted from 2 as model2vec does; their sum is 1.

    Examples
    --------
    >>> zipf_frequencies(3).round(3)
    array([0.462, 0.308, 0.231])
    """
    inverse = 1.0 / np.arange(2, tokens + 2)
    guess: np.ndarray = inverse / inverse.sum()
    return guess


def blended_frequencies(counts: np.ndarray, *, share: float = COUNTS_SHARE) -> np.ndarray:
    """Return measured token frequencies, steadied by Zipf's law.

    Parameters
    ----------
    counts : ndarray of shape (V,)
        How often each token was seen; not all 0.
    share : float, default=0.5
        How much the counts decide beside Zipf's law, from 0 to 1, where they decide alone.

    Returns
    -------
    float64 ndarray of shape (V,)
        Frequencies p, proportional to ``count ** share * (1 / rank) ** (1 - share)``; their sum is 1. 0 for a
        token that was never seen.

    Notes
    -----
    What a token's rank says of the language at large steadies what one lake says. docs/decisions.md has
    figures.

    Examples
    --------
    >>> blended_frequencies(np.array([90, 10, 0]), share=1)
    array([0.9, 0.1, 0. ])
    """
    blended = counts**share * zipf_frequencies(len(counts)) ** (1 - share)
    frequencies: np.ndarray = blended / blended.sum()
    return frequencies


def sif_weights(frequencies: np.ndarray, *, coefficient: float) -> np.ndarray:
    """Return smooth-inverse-frequency weights.

    Parameters
    ----------
    frequencies : ndarray of shape (V,)
        p of each token.
    coefficient : float
        a in the formula, in (0, 1).

    Returns
    -------
    float64 ndarray of shape (V,)
        Weights in (0, 1]; 1 for a token that was never seen.

    Notes
    -----
    ``w = a / (a + p)`` from Arora, Liang and Ma, "A Simple but Tough-to-Beat Baseline for Sentence
    Embeddings" (ICLR 2017).

    Examples
    --------
    >>> sif_weights(np.array([0.9, 0.1, 0]), coefficient=0.1)
    array([0.1, 0.5, 1. ])
    """
    weights: np.ndarray = coefficient / (coefficient + frequencies)
    return weights


def covariance_weights(frequencies: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return how much each token counts in the covariance of what texts are made of.

    Parameters
    ----------
    frequencies : ndarray of shape (V,)
        p of each token.
    weights : ndarray of shape (V,)
        w of each token.

    Returns
    -------
    float64 ndarray of shape (V,)
        ``p * w ** 2``, as the rows of a text are weighted rows and their squares add up in a covariance; its
        sum is 0.9, and the tenth that is left is spread evenly over all tokens, so that a lake of few words
        leaves no axis without a row.

    Examples
    --------
    >>> covariance_weights(np.array([0.9, 0.1, 0]), np.array([0.1, 0.5, 1])).round(3)
    array([0.272, 0.695, 0.033])
    """
    shares = frequencies * weights**2
    spread: np.ndarray = (1 - _SPREAD) * shares / shares.sum() + _SPREAD / len(shares)
    return spread


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
    shown = redact(uri)
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
    new: dict[str, list[int]] = {}
    for number in np.flatnonzero(is_new).tolist():
        new.setdefault(tokens[number].lstrip("Ġ▁"), []).append(number)
    if not new or not place.exists():
        return
    asked = pc.field("word").isin(pa.array(list(new), pa.string()))
    table = pq.read_table(place.path, filesystem=place.filesystem, columns=["word", "count"], filters=asked)
    for word, count in zip(table["word"].to_pylist(), table["count"].to_pylist(), strict=True):
        counts[new[word]] += count  # of every way to write the word
