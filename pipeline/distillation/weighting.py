"""Weights that reduce the influence of frequent tokens on a mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakevec.pipeline.corpus.counts_folder import TOKENS, WORDS, part_of
from lakevec.pipeline.errors import InputError, rephrase
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.storage import Location

# Part of the covariance that all tokens share evenly; docs/decisions.md has figures.
_SPREAD = 0.1


@dataclass(frozen=True)
class Sif:
    """Weights by smooth inverse frequency, with the coefficient a in (0, 1)."""

    coefficient: float


@dataclass(frozen=True)
class Zipf:
    """Weights by the logarithm of a token's rank."""


@dataclass(frozen=True)
class Uniform:
    """The weight 1 for every token."""


Weighting = Sif | Zipf | Uniform


@dataclass(frozen=True, eq=False)
class TokenCounts:
    """Counts of tokens in a lake, as `read_counts` reads them.

    Parameters
    ----------
    source : str
        Where they come from, without secrets.
    tokens : pyarrow.StringArray
        Sorted or not; rows of one token add up.
    counts : pyarrow.DoubleArray
    words : Location or None
        Parquet of the lake's words; read only for tokens without a count.
    """

    source: str
    tokens: pa.Array
    counts: pa.Array
    words: Location | None = None

    def lookup(self, tokens: Sequence[str]) -> np.ndarray:
        """Return the count of each token: float64 of shape (V,), 0 for a token without one.

        Raises
        ------
        InputError
            If no token has a count.
        """
        rows = pc.index_in(self.tokens, value_set=pa.array(tokens, pa.large_string()))
        found = np.zeros(len(tokens), dtype=np.float64)
        is_ours = rows.is_valid()
        np.add.at(found, rows.filter(is_ours).to_numpy(), self.counts.filter(is_ours).to_numpy())
        if self.words is not None:
            is_new = ~np.isin(np.arange(len(tokens)), rows.drop_null())
            _add_words(self.words, tokens, is_new=is_new, counts=found)
        if not found.any():
            raise InputError(
                f"counts {self.source!r} have nothing to do with this vocabulary",
                got=f"{len(self.tokens)} rows, and no count for any of {len(tokens)} tokens",
                expected="counts of the teacher's own tokens",
            )
        return found


def read_counts(uri: str) -> TokenCounts:
    """Read how often tokens occur.

    Parameters
    ----------
    uri : str
        Folder that ``lakevec count`` wrote, or Parquet with the columns ``token`` (string) and ``count``
        (integer). The folder also has counts of words, for tokens that are new to its tokenizer.

    Raises
    ------
    InputError
        If it can't be read or lacks a column.
    """
    place, words = part_of(uri, TOKENS), part_of(uri, WORDS)
    expected = "Parquet with the columns token (string) and count (integer)"
    unreadable = (OSError, pa.ArrowException, KeyError)
    with rephrase(InputError, f"counts {uri!r} can't be read", on=unreadable, expected=expected):
        table = pq.read_table(place.path, filesystem=place.filesystem, columns=["token", "count"])
        if not pa.types.is_integer(table["count"].type):
            raise KeyError(f"count is {table['count'].type}")
        counts = pc.cast(table["count"], pa.float64(), safe=False).combine_chunks()
        tokens = pc.cast(table["token"], pa.large_string()).combine_chunks()
    if counts.null_count or tokens.null_count or (pc.min(counts).as_py() or 0) < 0:
        raise InputError(f"counts {uri!r}", got="nulls or counts below 0", expected="a count for each token")
    has_words = place != words and words.exists()
    return TokenCounts(redact(uri), tokens, counts, words if has_words else None)


def _add_words(place: Location, tokens: Sequence[str], *, is_new: np.ndarray, counts: np.ndarray) -> None:
    """Give new tokens the counts of their words."""
    # Byte-level and Unigram tokenizers mark that a word begins.
    new: dict[str, list[int]] = {}
    for row in np.flatnonzero(is_new).tolist():
        new.setdefault(tokens[row].lstrip("Ġ▁"), []).append(row)
    if not new:
        return
    asked = pc.field("word").isin(pa.array(list(new), pa.string()))
    table = pq.read_table(place.path, filesystem=place.filesystem, columns=["word", "count"], filters=asked)
    for word, count in zip(table["word"].to_pylist(), table["count"].to_pylist(), strict=True):
        counts[new[word]] += count  # of every way to write the word


def zipf_frequencies(tokens: int) -> np.ndarray:
    """Return token frequencies by Zipf's law: float64 of shape (V,), proportional to 1 / rank, sum 1.

    A vocabulary is sorted by frequency, so a token's id is its rank. Ranks begin at 2, as in model2vec.

    Examples
    --------
    >>> zipf_frequencies(3).round(3)
    array([0.462, 0.308, 0.231])
    """
    inverse = 1.0 / np.arange(2, tokens + 2)
    frequencies: np.ndarray = inverse / inverse.sum()
    return frequencies


def blended_frequencies(counts: np.ndarray, *, share: float) -> np.ndarray:
    """Refine the Zipf prior with measured counts.

    Parameters
    ----------
    counts : ndarray of shape (V,)
        Not all 0.
    share : float
        Share of the counts, in (0, 1]; 1 ignores the prior.

    Returns
    -------
    float64 ndarray of shape (V,)
        Proportional to ``count ** share * (1 / rank) ** (1 - share)``, sum 1. docs/decisions.md has figures.

    Examples
    --------
    >>> blended_frequencies(np.array([90, 10, 0]), share=1)
    array([0.9, 0.1, 0. ])
    """
    blended = counts**share * zipf_frequencies(len(counts)) ** (1 - share)
    frequencies: np.ndarray = blended / blended.sum()
    return frequencies


def token_weights(weighting: Weighting, frequencies: np.ndarray) -> np.ndarray:
    """Return the weight of each token: float64 of shape (V,)."""
    match weighting:
        case Sif(coefficient):
            return sif_weights(frequencies, coefficient=coefficient)
        case Zipf():
            return zipf_weights(len(frequencies))
        case Uniform():
            return np.ones(len(frequencies))


def sif_weights(frequencies: np.ndarray, *, coefficient: float) -> np.ndarray:
    """Return smooth-inverse-frequency weights: float64 of shape (V,), 1 for a token without occurrence.

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


def zipf_weights(tokens: int) -> np.ndarray:
    """Return the weights of the first Model2Vec: ``log(1 + i)`` for token i, so 0 for the first."""
    return np.log1p(np.arange(tokens))


def covariance_weights(frequencies: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return each token's share in the covariance of weighted rows in texts.

    Returns
    -------
    float64 ndarray of shape (V,)
        Proportional to ``p * w ** 2``, sum 0.9. The last tenth is spread evenly, so that a lake of few words
        leaves no axis without a row.

    Examples
    --------
    >>> covariance_weights(np.array([0.9, 0.1, 0]), np.array([0.1, 0.5, 1])).round(3)
    array([0.272, 0.695, 0.033])
    """
    shares = frequencies * weights**2
    spread: np.ndarray = (1 - _SPREAD) * shares / shares.sum() + _SPREAD / len(shares)
    return spread
