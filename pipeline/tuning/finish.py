"""From trained rows to a table: columns of input embeddings, principal axes, and the type of the rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lakevec.pipeline.distillation.input_columns import make_input_columns, scale_beside
from lakevec.pipeline.distillation.pca import rotate_to_principal_axes
from lakevec.pipeline.model.bigrams import quantize_bigrams
from lakevec.pipeline.model.quantization import quantize_rows
from lakevec.pipeline.model.table import StaticTable
from lakevec.pipeline.tuning.options import TuneOptions
from lakevec.pipeline.tuning.start import Start, count_tokens
from lakevec.pipeline.tuning.terms import cut_terms
from lakevec.pipeline.tuning.training import TrainingSet, pool_texts

# Texts that determine axes and lengths; more change neither noticeably.
_TEXTS = 20_000
# How long the part of the input columns is beside the others; docs/decisions.md has figures.
_INPUT_SHARE = 0.35
# A bigram that occurs as often as this in the texts keeps half of its row; docs/decisions.md has figures.
_RARE = 2


def finish_rows(rows: np.ndarray, start: Start, training: TrainingSet, options: TuneOptions) -> np.ndarray:
    """Add the input columns, and rotate the rows onto the principal axes of the texts' vectors.

    Parameters
    ----------
    rows : float32 ndarray of shape (V + B, T)
        Trained rows of tokens, then of bigrams.

    Returns
    -------
    float32 ndarray of shape (V + B, D)
        Greatest variance first. The unknown token's row is 0.
    """
    rows = rows.copy()
    _shrink_bigrams(rows, len(start.tokens), training)
    if start.unknown_token_id is not None:
        rows[start.unknown_token_id] = 0
    if start.inputs is not None:
        counts = count_tokens(start, training, options)
        columns = make_input_columns(start.inputs, counts / counts.sum(), options.input_columns)
        rows = _put_beside(columns, rows, start, training)
    elif options.loss == "correlation":
        return rotate_to_principal_axes(rows, dimensions=options.dimensions)
    if options.prefixes:
        return rows[:, : options.dimensions]  # trained in this order
    vectors = _pool_some(rows, training, normalize=True)
    return rotate_to_principal_axes(rows, by=vectors, dimensions=options.dimensions)


def _shrink_bigrams(rows: np.ndarray, tokens: int, training: TrainingSet) -> None:
    """Shrink the rows of rare bigrams, which have learned from few texts."""
    ids = training.terms.ids
    counts = np.bincount(ids[ids >= tokens] - tokens, minlength=len(rows) - tokens)
    rows[tokens:] *= (counts / (counts + _RARE))[:, None].astype(np.float32)


def _put_beside(columns: np.ndarray, rows: np.ndarray, start: Start, training: TrainingSet) -> np.ndarray:
    """Put input columns (V, K) beside trained rows: float32 of shape (V + B, T + K). Bigrams have zeros."""
    padding = np.zeros((len(rows) - len(columns), columns.shape[1]), np.float32)
    columns = np.vstack([columns, padding])
    if start.unknown_token_id is not None:
        columns[start.unknown_token_id] = 0
    length, other = (
        float(np.linalg.norm(_pool_some(part, training, normalize=False), axis=1).mean())
        for part in (columns, rows)
    )
    return np.hstack([rows, scale_beside(columns, length, other, share=_INPUT_SHARE)])


def _pool_some(rows: np.ndarray, training: TrainingSet, *, normalize: bool) -> np.ndarray:
    """Average the rows of the first texts."""
    return pool_texts(rows, cut_terms(training.terms, slice(min(len(training), _TEXTS))), normalize=normalize)


def make_table(rows: np.ndarray, start: Start, pairs: np.ndarray | None, options: TuneOptions) -> StaticTable:
    """Make a table of float32 rows of tokens and of bigrams, in the type that the options name."""
    own, weights = quantize_rows(rows[: len(start.tokens)], options.dtype)
    table = StaticTable(
        own,
        start.tokenizer_json,
        weights=weights,
        pools_unknown=start.table is not None and start.table.pools_unknown,
        position_scale=start.position_scale,
    )
    if pairs is None:
        return table
    # A bigram's row counts in place of its second token's, so it includes that.
    return replace(table, bigrams=quantize_bigrams(pairs, rows[len(start.tokens) :] + rows[pairs[:, 1]]))
