"""Tuning from top to bottom: a start, the teacher's vectors as targets, training, rotation, a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow as pa

from lakevec import __version__
from lakevec.pipeline.distillation.pca import check_dimensions
from lakevec.pipeline.distillation.recipe import embed_vocabulary
from lakevec.pipeline.distillation.weighting import blended_frequencies, read_counts, sif_weights
from lakevec.pipeline.distillation.word_list import read_words
from lakevec.pipeline.encoding.encoder import Encoder
from lakevec.pipeline.encoding.kernels.pooling import pool_mean
from lakevec.pipeline.encoding.tokenization import TokenIds, make_tokenizer
from lakevec.pipeline.errors import InputError
from lakevec.pipeline.evaluation.fidelity import Fidelity, measure_fidelity
from lakevec.pipeline.local_files import texts_sha256
from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.model.quantization import quantize_rows
from lakevec.pipeline.model.table import StaticTable, find_unknown_token_id
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.settings.distill import COUNTS_SHARE, DistillSettings
from lakevec.pipeline.settings.tune import TuneSettings
from lakevec.pipeline.tuning.axes import PcaProjection, align_rows, fit_pca, rotate_to_principal_axes
from lakevec.pipeline.tuning.training import TrainingConfig, TrainingResult, TrainingSet, train

_RECORDED_PACKAGES = ("torch", "transformers", "tokenizers", "skeletoken", "numpy")


@dataclass(frozen=True, eq=False)
class TeacherSample:
    """A sample of the lake and the teacher's vectors of it.

    Parameters
    ----------
    texts : list of str of length N
        In an order that is random and always the same: the first ones are held out.
    vectors : float32 ndarray of shape (N, H)
    teacher : dict
        Name and revision, to be recorded.
    normalizes : bool
        Whether the teacher scales its vectors to length 1.
    """

    texts: list[str]
    vectors: np.ndarray
    teacher: dict[str, str]
    normalizes: bool


@dataclass(frozen=True, eq=False)
class TuneResult:
    """A tuned table and what to record about it.

    Parameters
    ----------
    table : StaticTable
    provenance : dict
        Teacher, recipe, sample and package versions.
    quality : dict
        Fidelity on held-out texts, before and after.
    trained : TrainingResult
        The course of training.
    """

    table: StaticTable
    provenance: dict[str, Any]
    quality: dict[str, Any]
    trained: TrainingResult


@dataclass(frozen=True, eq=False)
class InitialTable:
    """A table before it is tuned.

    Parameters
    ----------
    tokenizer_json : str
    unknown : int or None
    tokens : TokenIds
        Of all texts.
    tokens_seen : float32 ndarray of shape (V, H) or None
        What the teacher makes of each token alone.
    table : StaticTable or None
        Where another table is the start.
    report : dict
        What became of the words of a vocabulary.
    """

    tokenizer_json: str
    unknown: int | None
    tokens: TokenIds
    tokens_seen: np.ndarray | None
    table: StaticTable | None
    report: dict[str, int]
    names: list[str]


def tune(settings: TuneSettings, taught: TeacherSample, *, progress: bool = True) -> TuneResult:
    """Fit a table to the teacher's vectors of a sample.

    Parameters
    ----------
    settings : TuneSettings
    taught : TeacherSample
    progress : bool, default=True
        Whether to draw progress bars on stderr where that is a terminal.

    Returns
    -------
    TuneResult

    Raises
    ------
    InputError
        If there are too few texts, or counts or vocabulary can't be used.
    ModelError
        If the model to begin with can't be loaded.
    SettingsError
        If the teacher is narrower than the dimensions asked for.

    Notes
    -----
    Targets are the teacher's vectors, centred and reduced by PCA to D. The start is what the teacher makes of
    each token alone, in the same space and about its own mean, times SIF weights by the sample's counts; or
    another table, mapped into that space by least squares. Every token is also trained as a text of its own,
    so those that no text holds stay in the space of the others; with another table they keep their mapped
    row. No weight comes after.
    """
    held_out = _count_held_out(settings, len(taught.texts))
    start = _make_start(settings, taught, progress=progress)
    axes = fit_pca(taught.vectors[held_out:], settings.dimensions)
    lesson, other = _make_lessons(start.tokens, taught.vectors, axes, held_out)
    counts = np.bincount(lesson.tokens.ids, minlength=len(start.names))
    rows, token_targets = _first_rows(settings, start, taught, axes, lesson, counts)
    method = TrainingConfig(
        epochs=settings.epochs,
        batch_size=settings.texts_per_step,
        learning_rate=settings.learning_rate,
        relation=settings.relation,
        token_dropout=settings.token_dropout,
        patience=settings.patience,
        seed=settings.seed,
    )
    trained = train(rows, lesson, other, method, token_targets=token_targets, progress=progress)
    rows = trained.rows.copy()
    if start.unknown is not None:
        rows[start.unknown] = 0
    stored = quantize_rows(rotate_to_principal_axes(rows), settings.dtype)
    table = StaticTable(
        stored.embeddings,
        start.tokenizer_json,
        weights=stored.weights,
        mapping=stored.mapping,
        pools_unknown=start.table is not None and start.table.pools_unknown,
    )
    # The table that is published, rounded as it is stored.
    vectors = Encoder.from_table(table).encode(pa.array(taught.texts[:held_out], pa.large_string())).vectors
    fidelity = measure_fidelity(vectors, taught.vectors[:held_out])
    return TuneResult(
        table,
        _describe(settings, taught, start, held_out, counts, trained),
        _quality(trained.start, fidelity, axes),
        trained,
    )


def check_start(settings: TuneSettings, *, width: int, tokens: Sequence[str]) -> None:
    """Refuse, before the teacher works, what can't be begun with.

    Parameters
    ----------
    settings : TuneSettings
    width : int
        The teacher's, H.
    tokens : sequence of str
        The teacher's own.

    Raises
    ------
    InputError
        If the vocabulary can't be read, or the counts can't, or these have none of the tokens and words.
    ModelError
        If the model can't be loaded.
    SettingsError
        If the teacher is narrower than the dimensions asked for.
    """
    check_dimensions(settings.dimensions, rows=settings.rows, width=width)
    if settings.model is not None:
        load(settings.model)
    words: tuple[str, ...] = ()
    if settings.vocabulary is not None:
        words = read_words(settings.vocabulary, column=settings.vocabulary_column).words
    if settings.counts is not None:
        read_counts(settings.counts, [*tokens, *words])


def check_sample(settings: TuneSettings, texts: Sequence[str]) -> None:
    """Refuse a sample that is too small, before the teacher works.

    Parameters
    ----------
    settings : TuneSettings
    texts : sequence of str

    Raises
    ------
    InputError
    SettingsError
        If there are fewer texts to learn from than dimensions.
    """
    check_dimensions(
        settings.dimensions,
        rows=len(texts) - _count_held_out(settings, len(texts)),
        width=settings.dimensions,
    )


def _count_held_out(settings: TuneSettings, texts: int) -> int:
    held_out = min(settings.held_out, texts // 5)
    if held_out < 3:
        raise InputError("the sample is too small to tune on", got=f"{texts} texts", expected="at least 15")
    return held_out


def _make_start(settings: TuneSettings, taught: TeacherSample, *, progress: bool) -> InitialTable:
    seen_rows, table, report = None, None, {}
    if settings.model is not None:
        table = load(settings.model).table
        document, unknown = table.tokenizer_json, table.unknown_token_id
        names = [""] * table.rows
    else:
        seen = embed_vocabulary(_distilling(settings), progress=progress)
        document = seen.vocabulary.tokenizer.to_str()
        unknown = find_unknown_token_id(seen.vocabulary.tokenizer)
        seen_rows, report, names = seen.rows, seen.vocabulary.report, seen.vocabulary.tokens
    tokenizer = make_tokenizer(document, unknown)
    tokens = tokenizer.tokenize(pa.array(taught.texts, pa.large_string()))
    return InitialTable(document, unknown, tokens, seen_rows, table, report, names)


def _distilling(settings: TuneSettings) -> DistillSettings:
    shared = ("teacher", "output", "revision", "name", "vocabulary", "vocabulary_column", "device")
    return DistillSettings(
        **{key: getattr(settings, key) for key in (*shared, "precision", "token_remove_pattern")},
        dimensions="none",
    )


def _make_lessons(
    tokens: TokenIds, vectors: np.ndarray, axes: PcaProjection, held_out: int
) -> tuple[TrainingSet, TrainingSet]:
    """Return what is learned from, and what is held out."""
    cut = tokens.offsets[held_out]
    first = TokenIds(tokens.ids[:cut], tokens.offsets[: held_out + 1], 0, 0)
    rest = TokenIds(tokens.ids[cut:], tokens.offsets[held_out:] - cut, 0, 0)
    targets = axes.project(vectors)
    return (
        TrainingSet(rest, targets[held_out:], vectors[held_out:]),
        TrainingSet(first, targets[:held_out], vectors[:held_out]),
    )


def _first_rows(
    settings: TuneSettings,
    start: InitialTable,
    taught: TeacherSample,
    axes: PcaProjection,
    lesson: TrainingSet,
    counts: np.ndarray,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the rows to begin with, and the targets of tokens alone."""
    if start.table is not None:
        rows = start.table.dense_rows()
        means = np.empty((len(lesson), rows.shape[1]), dtype=np.float32)
        table = rows.view()
        table.flags.writeable = False
        pool_mean(table, lesson.tokens.ids, lesson.tokens.offsets, means, normalize=False)
        return align_rows(means, lesson.targets, rows), None
    if start.tokens_seen is None:
        raise AssertionError("a start is a table or a teacher's tokens")
    targets = axes.project(_own_length(start.tokens_seen, normalizes=taught.normalizes))
    used = counts if settings.counts is None else read_counts(settings.counts, start.names)
    weights = sif_weights(blended_frequencies(used, share=COUNTS_SHARE), coefficient=settings.sif_coefficient)
    # About their own mean, since tokens alone lie together, away from texts.
    rows = ((targets - targets.mean(axis=0)) * weights[:, None]).astype(np.float32)
    if start.unknown is not None:
        rows[start.unknown] = targets[start.unknown] = 0
    return rows, targets


def _own_length(rows: np.ndarray, *, normalizes: bool) -> np.ndarray:
    """Scale vectors as the teacher scales those of texts."""
    if not normalizes:
        return rows
    scaled: np.ndarray = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return scaled


def _quality(start: Fidelity, end: Fidelity, axes: PcaProjection) -> dict[str, Any]:
    return {
        "explained_variance": axes.explained_variance,
        "held_out_texts": end.rows,
        "fidelity_before_tuning": start.correlation,
        "fidelity": end.correlation,
        "fidelity_of_ranks": end.rank_correlation,
        "neighbours_kept": end.neighbours,
    }


def _describe(
    settings: TuneSettings,
    taught: TeacherSample,
    start: InitialTable,
    held_out: int,
    counts: np.ndarray,
    trained: TrainingResult,
) -> dict[str, Any]:
    recorded = settings.to_record()
    return {
        "teacher": taught.teacher,
        "recipe": {
            "tuned_on_texts": len(taught.texts) - held_out,
            "sample_sha256": texts_sha256(taught.texts),
            "stratified_by": settings.stratify or "length",
            "tokens_seen": int(np.count_nonzero(counts)),
            "begun_with": "the teacher's tokens" if settings.model is None else recorded["model"],
            **({} if settings.counts is None else {"counts": redact(settings.counts)}),
            **(
                {}
                if settings.model is not None
                else {"sif_coefficient": settings.sif_coefficient, "counts_share": COUNTS_SHARE}
            ),
            "pca_dimensions": settings.dimensions,
            "epochs": trained.best,
            **{key: recorded[key] for key in ("learning_rate", "texts_per_step", "relation")},
            **{key: recorded[key] for key in ("token_dropout", "max_chars", "seed")},
        },
        **({"vocabulary": start.report} if start.report else {}),
        "versions": {"lakevec": __version__, **{name: version(name) for name in _RECORDED_PACKAGES}},
    }
