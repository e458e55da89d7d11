"""Token weights, which reduce the influence of frequent tokens on a mean."""

from __future__ import annotations

from collections import Counter
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

# Share of the covariance that is spread evenly over all tokens; docs/decisions.md has figures.
_SPREAD = 0.1


@dataclass(frozen=True, eq=False)
class TokenCounts:
    """Token counts of a lake.

    Parameters
    ----------
    source : str
        URI of the counts, without secrets.
    tokens : pyarrow.StringArray
        In any order; counts of a repeated token add up.
    counts : pyarrow.DoubleArray
    words : Location or None
        Parquet of word counts, for tokens without a count of their own.
    """

    source: str
    tokens: pa.Array
    counts: pa.Array
    words: Location | None = None

    def lookup(self, tokens: Sequence[str]) -> np.ndarray:
        """Return the count of each token: float64 of shape (V,), 0 for an uncounted token.

        Raises
        ------
        InputError
            If no token has a count.
        """
        rows = pc.index_in(self.tokens, value_set=pa.array(tokens, pa.large_string()))
        counts = np.zeros(len(tokens), dtype=np.float64)
        is_token = rows.is_valid()
        np.add.at(counts, rows.filter(is_token).to_numpy(), self.counts.filter(is_token).to_numpy())
        uncounted = np.setdiff1d(np.arange(len(tokens)), rows.drop_null())
        if self.words is not None and len(uncounted):
            _add_word_counts(self.words, tokens, uncounted, counts)
        if not counts.any():
            raise InputError(
                f"counts {self.source!r} have none of the vocabulary's tokens",
                got=f"{len(self.tokens)} rows, and none for {len(tokens)} tokens",
                expected="counts of the teacher's own tokens",
            )
        return counts


def read_counts(uri: str) -> TokenCounts:
    """Read token counts.

    Parameters
    ----------
    uri : str
        Folder of ``lakevec count``, or Parquet with the columns ``token`` (string) and ``count`` (integer).
        The folder also has word counts, for tokens that its tokenizer lacks.

    Raises
    ------
    InputError
        If the counts are unreadable or lack a column.
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


def _add_word_counts(place: Location, tokens: Sequence[str], rows: np.ndarray, counts: np.ndarray) -> None:
    """Add to the counts of `rows` the counts of their tokens as words."""
    # Byte-level and Unigram tokenizers mark the start of a word, so several tokens may be one word.
    words = [tokens[row].lstrip("Ġ▁") for row in rows]
    wanted = pc.field("word").isin(pa.array(words, pa.string()))
    table = pq.read_table(place.path, filesystem=place.filesystem, columns=["word", "count"], filters=wanted)
    found = Counter[str]()
    for word, count in zip(table["word"].to_pylist(), table["count"].to_pylist(), strict=True):
        found[word] += count
    counts[rows] += [found[word] for word in words]


def zipf_frequencies(tokens: int) -> np.ndarray:
    """Return token frequencies by Zipf's law: float64 of shape (V,), proportional to 1 / rank, sum 1.

    A vocabulary is sorted by frequency, so ids are ranks. Ranks begin at 2, as in model2vec.

    Examples
    --------
    >>> zipf_frequencies(3).round(3)
    array([0.462, 0.308, 0.231])
    """
    inverse = 1.0 / np.arange(2, tokens + 2)
    return np.asarray(inverse / inverse.sum())


def blended_frequencies(counts: np.ndarray, *, share: float) -> np.ndarray:
    """Return the weighted geometric mean of measured counts and the Zipf prior, normalized to sum 1.

    Parameters
    ----------
    counts : ndarray of shape (V,)
        Not all 0.
    share : float
        Exponent of the counts, in (0, 1]; 1 ignores the prior.

    Returns
    -------
    float64 ndarray of shape (V,)
        Proportional to ``count ** share * (1 / rank) ** (1 - share)``. docs/decisions.md has figures.

    Examples
    --------
    >>> blended_frequencies(np.array([90, 10, 0]), share=1)
    array([0.9, 0.1, 0. ])
    """
    blended = counts**share * zipf_frequencies(len(counts)) ** (1 - share)
    return np.asarray(blended / blended.sum())


def token_weights(weighting: str, frequencies: np.ndarray, *, sif_coefficient: float) -> np.ndarray:
    """Return the weight of each token by ``sif``, ``zipf`` or ``none``: float64 of shape (V,)."""
    if weighting == "sif":
        return sif_weights(frequencies, coefficient=sif_coefficient)
    return zipf_weights(len(frequencies)) if weighting == "zipf" else np.ones(len(frequencies))


def sif_weights(frequencies: np.ndarray, *, coefficient: float) -> np.ndarray:
    """Return smooth-inverse-frequency weights: float64 of shape (V,), 1 for a token that never occurs.

    Notes
    -----
    ``w = a / (a + p)`` from Arora, Liang and Ma, "A Simple but Tough-to-Beat Baseline for Sentence
    Embeddings" (ICLR 2017).

    Examples
    --------
    >>> sif_weights(np.array([0.9, 0.1, 0]), coefficient=0.1)
    array([0.1, 0.5, 1. ])
    """
    return np.asarray(coefficient / (coefficient + frequencies))


def zipf_weights(tokens: int) -> np.ndarray:
    """Return the weights of the original Model2Vec: ``log(1 + i)`` for token i, so 0 for the first."""
    return np.log1p(np.arange(tokens))


def covariance_weights(frequencies: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return each token's share in the covariance of weighted rows in texts.

    Returns
    -------
    float64 ndarray of shape (V,)
        0.9 of the sum is proportional to ``p * w ** 2``. The remaining 0.1 is spread evenly, so that even in
        a lake of few words every axis has rows.

    Examples
    --------
    >>> covariance_weights(np.array([0.9, 0.1, 0]), np.array([0.1, 0.5, 1])).round(3)
    array([0.272, 0.695, 0.033])
    """
    shares = frequencies * weights**2
    return np.asarray((1 - _SPREAD) * shares / shares.sum() + _SPREAD / len(shares))
