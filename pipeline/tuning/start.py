"""What tuning starts from: the teacher's own tokens, or another table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from tokenizers import Tokenizer

from lakevec.pipeline.distillation.options import DistillOptions, copy_options
from lakevec.pipeline.distillation.pca import PcaProjection
from lakevec.pipeline.distillation.recipe import embed_inputs, embed_vocabulary, resolve_options
from lakevec.pipeline.distillation.teacher import load_teacher
from lakevec.pipeline.distillation.vocabulary import build_vocabulary
from lakevec.pipeline.distillation.weighting import blended_frequencies, sif_weights
from lakevec.pipeline.errors import SettingsError
from lakevec.pipeline.model.table import StaticTable
from lakevec.pipeline.tuning.options import TuneOptions
from lakevec.pipeline.tuning.training import TrainingSet, pool_texts


@dataclass(frozen=True, eq=False)
class Start:
    """A vocabulary, and the vectors of its tokens.

    Parameters
    ----------
    tokenizer_json : str
    tokens : sequence of str of length V
    unknown_token_id : int or None
    position_scale : float or None
        That of the options, else of the table.
    table : StaticTable, optional
        Default: start from `vectors`.
    vectors : float32 ndarray of shape (V, H)
        The teacher's vectors of the tokens; empty if there is a table.
    inputs : float32 ndarray of shape (V, H), optional
        The teacher's input embeddings of the tokens, if the table needs them.
    words : mapping of str to int
        Report on the words of the vocabulary, for the record.
    """

    tokenizer_json: str
    tokens: Sequence[str]
    unknown_token_id: int | None
    position_scale: float | None
    vectors: np.ndarray
    table: StaticTable | None = None
    inputs: np.ndarray | None = None
    words: Mapping[str, int] = field(default_factory=dict)


def find_start(teacher: str, options: TuneOptions, *, normalize: bool, progress: bool) -> Start:
    """Load the table to start from, or run the teacher's tokens through it.

    Raises
    ------
    SettingsError
        If the options can't be used with the table.
    """
    if options.model is not None:
        return _start_from_table(options.model.table, options)
    # Tokens are few and short, so int8 saves nothing.
    precision = "float32" if options.precision == "int8" else options.precision
    distilling = copy_options(
        options, DistillOptions, batch_size=DistillOptions.batch_size, precision=precision
    )
    loaded = load_teacher(teacher, distilling)
    vocabulary = build_vocabulary(loaded.tokenizer, loaded.model, distilling)
    resolved = resolve_options(distilling, loaded)
    vectors = embed_vocabulary(loaded, vocabulary, distilling, resolved, progress=progress)
    if normalize:
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    inputs = embed_inputs(loaded, vocabulary, distilling, resolved) if options.input_columns else None
    return Start(
        vocabulary.tokenizer_json,
        vocabulary.tokens,
        vocabulary.unknown_token_id,
        options.position_scale,
        vectors,
        inputs=inputs,
        words=vocabulary.report,
    )


def _start_from_table(table: StaticTable, options: TuneOptions) -> Start:
    if options.input_columns:
        raise SettingsError("input_columns", got="a model to start from", expected="the teacher's own tokens")
    if table.bigrams is not None:
        raise SettingsError("model", got="a model with bigrams", expected="a model without bigrams")
    scale = options.position_scale or table.position_scale
    none = np.zeros((0, 0), np.float32)
    return Start(table.tokenizer_json, tokens_of(table), table.unknown_token_id, scale, none, table)


def tokens_of(table: StaticTable) -> list[str]:
    """Return a table's tokens by id."""
    tokenizer = Tokenizer.from_str(table.tokenizer_json)
    return [tokenizer.id_to_token(number) for number in range(table.rows)]


def first_rows(
    start: Start, training: TrainingSet, pca: PcaProjection, options: TuneOptions
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows before training, and what single tokens should become: both float32 of shape (V, D).

    The second array is empty if the start is a table.
    """
    if start.table is not None:
        rows = start.table.dense_rows()
        terms = training.terms
        mapped = align_rows(pool_texts(rows, terms, normalize=False), training.targets, rows)
        return mapped, np.zeros((0, mapped.shape[1]), np.float32)
    targets = pca.project(start.vectors)
    frequencies = blended_frequencies(
        count_tokens(start, training, options), share=DistillOptions.counts_share
    )
    weights = sif_weights(frequencies, coefficient=options.initial_coefficient)
    # Centre by the mean of tokens, since their vectors lie together and far from those of texts.
    rows = np.asarray((targets - targets.mean(axis=0)) * weights[:, None], dtype=np.float32)
    if (unknown := start.unknown_token_id) is not None:
        rows[unknown] = targets[unknown] = 0
    return rows, targets


def count_tokens(start: Start, training: TrainingSet, options: TuneOptions) -> np.ndarray:
    """Return how often each token occurs, in the counts or else in the texts to train on: of shape (V,)."""
    if options.counts is not None:
        return options.counts.lookup(start.tokens)
    tokens = len(start.tokens)
    ids = training.terms.ids
    return np.bincount(ids[ids < tokens], minlength=tokens)


def align_rows(means: np.ndarray, targets: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Map another table's rows into the space of the targets, by least squares over texts.

    A small ridge penalty keeps axes that no text uses at 0. The map is linear, so it maps means of rows to
    means of mapped rows.

    Parameters
    ----------
    means : float32 ndarray of shape (N, E)
        Mean of each text's rows.
    targets : float32 ndarray of shape (N, D)
    rows : float32 ndarray of shape (V, E)

    Returns
    -------
    float32 ndarray of shape (V, D)
    """
    means, targets = means.astype(np.float64), targets.astype(np.float64)
    gram = means.T @ means
    gram[np.diag_indices_from(gram)] += 1e-6 * np.trace(gram) / len(gram) + 1e-12
    return np.asarray(rows @ np.linalg.solve(gram, means.T @ targets), dtype=np.float32)
