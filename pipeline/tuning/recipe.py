"""The tuning recipe: initial rows, the teacher's vectors as targets, training, rotation, table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from lakevec.pipeline.distillation.options import DistillOptions, copy_options
from lakevec.pipeline.distillation.pca import PcaProjection, check_dimensions, rotate_to_principal_axes
from lakevec.pipeline.distillation.recipe import (
    DistillResult,
    embed_vocabulary,
    make_provenance,
    resolve_options,
)
from lakevec.pipeline.distillation.teacher import load_teacher
from lakevec.pipeline.distillation.vocabulary import Vocabulary, build_vocabulary
from lakevec.pipeline.distillation.weighting import blended_frequencies, sif_weights
from lakevec.pipeline.encoding.encoder import Encoder
from lakevec.pipeline.encoding.tokenization import TokenIds, make_tokenizer
from lakevec.pipeline.errors import InputError
from lakevec.pipeline.evaluation.fidelity import measure_fidelity
from lakevec.pipeline.local_files import texts_sha256
from lakevec.pipeline.model.quantization import quantize_rows
from lakevec.pipeline.model.table import StaticTable
from lakevec.pipeline.tuning.options import TuneOptions
from lakevec.pipeline.tuning.training import TrainingResult, TrainingSet, pool_texts, train

_RECORDED_PACKAGES = ("torch", "transformers", "tokenizers", "skeletoken", "numpy")


@dataclass(frozen=True, eq=False)
class TeacherSample:
    """Sampled texts of the lake and the teacher's vectors of them.

    Parameters
    ----------
    texts : list of str of length N
        In a reproducible random order; the first texts are held out.
    vectors : float32 ndarray of shape (N, H)
    teacher : dict
        Name and revision, for the record.
    normalizes : bool
        Whether the teacher scales its vectors to length 1.
    stratified_by : str, default="length"
        Column of the strata, for the record.
    max_chars : int, default=1000
        Maximum length of a text, for the record.
    """

    texts: list[str]
    vectors: np.ndarray
    teacher: dict[str, str]
    normalizes: bool
    stratified_by: str = "length"
    max_chars: int = 1000


@dataclass(frozen=True, eq=False)
class TuneResult(DistillResult):
    """A tuned table, the metadata to publish with it, and how it was trained."""

    trained: TrainingResult


def tune(
    teacher: str, sample: TeacherSample, options: TuneOptions | None = None, *, progress: bool = True
) -> TuneResult:
    """Fit a table to the teacher's vectors of a sample.

    Parameters
    ----------
    teacher : str
        Folder of a Sentence Transformer, or a hub id.
    options : TuneOptions, optional
        Default: the defaults of ``lakevec tune``.
    progress : bool, default=True
        Draw progress bars on stderr if that is a terminal.

    Raises
    ------
    InputError
        If there are too few texts, or the counts have none of the tokens.
    SettingsError
        If `options.dimensions` exceeds the teacher's width.

    Notes
    -----
    Targets are the teacher's vectors, reduced by PCA to D. The initial rows are the teacher's vectors of
    single tokens on the same axes, centred, times SIF weights. Training also treats each token as a text, so
    that rows of unseen tokens stay in the space of the others. If `options.model` is given, least squares
    maps its rows to the targets instead. The trained rows include the weights.
    """
    options = options or TuneOptions()
    held_out = _count_held_out(options, len(sample.texts))
    source: StaticTable | Vocabulary
    if options.model:
        source, vectors, words = options.model.table, sample.vectors[:0], {}
    else:
        source, vectors = _embed_tokens(teacher, options, normalize=sample.normalizes, progress=progress)
        words = source.report
    unknown = source.unknown_token_id
    texts = pa.array(sample.texts, pa.large_string())
    tokens = make_tokenizer(source.tokenizer_json, unknown).tokenize(texts)
    pca = PcaProjection.fit(sample.vectors[held_out:], options.dimensions)
    training, validation = _split(tokens, sample.vectors, pca, held_out)
    token_targets = pca.project(vectors)
    if isinstance(source, StaticTable):
        start = _map_table(source, training)
    else:
        start = _weigh_tokens(source.tokens, token_targets, options, training)
        if unknown is not None:
            start[unknown] = token_targets[unknown] = 0
    trained = train(start, training, validation, options, token_targets=token_targets, progress=progress)
    rows = trained.rows.copy()
    if unknown is not None:
        rows[unknown] = 0
    rows, weights = quantize_rows(rotate_to_principal_axes(rows), options.dtype)
    pools_unknown = isinstance(source, StaticTable) and source.pools_unknown
    table = StaticTable(rows, source.tokenizer_json, weights=weights, pools_unknown=pools_unknown)
    recipe = _describe(sample, options, training, trained.best)
    provenance = make_provenance(sample.teacher, recipe, words, _RECORDED_PACKAGES)
    return TuneResult(table, provenance, _measure(table, texts[:held_out], sample, pca, trained), trained)


def check_initial(options: TuneOptions, *, rows: int, width: int, tokens: Sequence[str]) -> None:
    """Refuse invalid dimensions and counts before the teacher's forward passes.

    Parameters
    ----------
    rows : int
        Maximum number of texts in the sample.
    width : int
        Width H of the teacher.
    tokens : sequence of str
        The teacher's tokens.
    """
    check_dimensions(options.dimensions, rows=rows, width=width)
    if options.counts is not None:
        options.counts.lookup([*tokens, *(options.words.words if options.words else ())])


def check_sample(options: TuneOptions, texts: Sequence[str]) -> None:
    """Refuse a sample with too few texts for the dimensions before the teacher's forward passes."""
    rows = len(texts) - _count_held_out(options, len(texts))
    check_dimensions(options.dimensions, rows=rows, width=options.dimensions)


def _count_held_out(options: TuneOptions, texts: int) -> int:
    held_out = min(options.held_out, texts // 5)
    if held_out < 3:
        raise InputError("the sample is too small to tune on", got=f"{texts} texts", expected="at least 15")
    return held_out


def _embed_tokens(
    teacher: str, options: TuneOptions, *, normalize: bool, progress: bool
) -> tuple[Vocabulary, np.ndarray]:
    """Return the teacher's tokens, and their vectors: float32 of shape (V, H)."""
    # Tokens are few and short, so int8 saves nothing.
    precision = "float32" if options.precision == "int8" else options.precision
    distilling = copy_options(
        options, DistillOptions, batch_size=DistillOptions.batch_size, precision=precision
    )
    loaded = load_teacher(teacher, distilling)
    vocabulary = build_vocabulary(loaded.tokenizer, loaded.model, distilling)
    resolved = resolve_options(distilling, loaded)
    rows = embed_vocabulary(loaded, vocabulary, distilling, resolved, progress=progress)
    if normalize:
        rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return vocabulary, rows


def _split(
    tokens: TokenIds, vectors: np.ndarray, pca: PcaProjection, held_out: int
) -> tuple[TrainingSet, TrainingSet]:
    """Return the training set, and the first `held_out` texts as validation set."""
    cut = tokens.offsets[held_out]
    first = TokenIds(tokens.ids[:cut], tokens.offsets[: held_out + 1], 0, 0)
    rest = TokenIds(tokens.ids[cut:], tokens.offsets[held_out:] - cut, 0, 0)
    targets = pca.project(vectors)
    return (
        TrainingSet(rest, targets[held_out:], vectors[held_out:]),
        TrainingSet(first, targets[:held_out], vectors[:held_out]),
    )


def _map_table(table: StaticTable, training: TrainingSet) -> np.ndarray:
    """Map the rows of a table into the space of the targets."""
    rows = table.dense_rows()
    return align_rows(pool_texts(rows, training.tokens, normalize=False), training.targets, rows)


def _weigh_tokens(
    tokens: Sequence[str], targets: np.ndarray, options: TuneOptions, training: TrainingSet
) -> np.ndarray:
    """Centre the targets of single tokens, and multiply them by SIF weights: float32 of shape (V, D)."""
    if options.counts is None:
        counts = np.bincount(training.tokens.ids, minlength=len(tokens))
    else:
        counts = options.counts.lookup(tokens)
    frequencies = blended_frequencies(counts, share=DistillOptions.counts_share)
    weights = sif_weights(frequencies, coefficient=options.sif_coefficient)
    # Centre by the mean of tokens, since their vectors lie together and far from those of texts.
    return np.asarray((targets - targets.mean(axis=0)) * weights[:, None], dtype=np.float32)


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


def _measure(
    table: StaticTable, texts: pa.Array, sample: TeacherSample, pca: PcaProjection, trained: TrainingResult
) -> dict[str, Any]:
    """Measure the fidelity of the quantized table on held-out texts."""
    fidelity = measure_fidelity(Encoder(table).encode(texts).vectors, sample.vectors[: len(texts)])
    return {
        "explained_variance": pca.explained_variance,
        "held_out_texts": fidelity.rows,
        "fidelity_before_tuning": trained.start.correlation,
        "fidelity": fidelity.correlation,
        "fidelity_of_ranks": fidelity.rank_correlation,
        "neighbours_kept": fidelity.neighbours,
    }


def _describe(
    sample: TeacherSample, options: TuneOptions, training: TrainingSet, epochs: int
) -> dict[str, Any]:
    """Return the options that change the table."""
    weights = {"sif_coefficient": options.sif_coefficient, "counts_share": DistillOptions.counts_share}
    trained = ("learning_rate", "texts_per_step", "relation", "token_dropout")
    return {
        "tuned_on_texts": len(training),
        "sample_sha256": texts_sha256(sample.texts),
        "stratified_by": sample.stratified_by,
        "tokens_seen": len(np.unique(training.tokens.ids)),
        "begun_with": options.model.uri if options.model else "the teacher's tokens",
        **({"counts": options.counts.source} if options.counts else {}),
        **({} if options.model else weights),
        "pca_dimensions": options.dimensions,
        "epochs": epochs,
        **{name: getattr(options, name) for name in trained},
        "max_chars": sample.max_chars,
        "seed": options.seed,
    }
