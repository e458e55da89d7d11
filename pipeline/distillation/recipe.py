"""Distillation from top to bottom: teacher, vocabulary, forward passes, PCA, weights, table."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from lakevec import __version__
from lakevec.pipeline.distillation.inference import TokenSequences, embed_sequences, input_embeddings
from lakevec.pipeline.distillation.pca import check_dimensions, reduce_rows
from lakevec.pipeline.distillation.sentence_transformer_config import DenseLayer
from lakevec.pipeline.distillation.teacher import Teacher, load_teacher
from lakevec.pipeline.distillation.vocabulary import Vocabulary, build_vocabulary
from lakevec.pipeline.distillation.vocabulary_quantization import check_clusters, cluster_rows
from lakevec.pipeline.distillation.weighting import (
    blended_frequencies,
    covariance_weights,
    read_counts,
    sif_weights,
    zipf_frequencies,
    zipf_weights,
)
from lakevec.pipeline.distillation.word_list import WordList, read_words
from lakevec.pipeline.errors import TeacherError
from lakevec.pipeline.model.quantization import QuantizedRows, quantize_rows
from lakevec.pipeline.model.table import StaticTable, find_unknown_token_id
from lakevec.pipeline.settings.distill import DistillSettings

_RECORDED_PACKAGES = ("torch", "transformers", "tokenizers", "scikit-learn", "skeletoken", "numpy")
_COEFFICIENT_BY_RANK, _COEFFICIENT_BY_COUNT = 1e-4, 5e-4
_WHITENING_BY_COUNT = 0.5


# Of a teacher whose modules only sentence-transformers knows.
LIBRARY = "sentence-transformers"


@dataclass(frozen=True, eq=False)
class DistillResult:
    """A table and what to record about it.

    Parameters
    ----------
    table : StaticTable
    provenance : dict
        Teacher, recipe and package versions.
    quality : dict
        Figures measured while distilling.
    """

    table: StaticTable
    provenance: dict[str, Any]
    quality: dict[str, Any]


@dataclass(frozen=True)
class Choices:
    """What the settings leave open, settled."""

    mode: str
    pooling: str
    reason: str
    prompt: str
    dense: tuple[DenseLayer, ...]
    coefficient: float | None
    axes: str
    whitening: float

    @classmethod
    def settle(cls, settings: DistillSettings, teacher: Teacher) -> Choices:
        """Settle them by the teacher's own way."""
        mode = settings.mode or ("vocabulary" if settings.vocabulary else "output")
        pooling: str = settings.pooling
        reason, prompt = "as asked for", settings.prompt or ""
        dense: tuple[DenseLayer, ...] = ()
        if mode == "input":
            pooling, reason, prompt = "none", "input embeddings need none", ""
        elif pooling == "auto":
            own = teacher.own_way
            # In a way that is not known here, the teacher's own library pools.
            pooling, reason, dense = own.pooling or LIBRARY, own.reason, own.dense
            prompt = own.prompt if settings.prompt is None else settings.prompt
        if pooling == "pooler" and not teacher.has_pooler:
            raise TeacherError(
                f"teacher {teacher.name!r} lacks the weights of its pooler",
                expected="pooler weights in its safetensors files",
                remedy="choose --pooling mean, first or last",
            )
        coefficient = None
        if settings.weighting == "sif":
            usual = _COEFFICIENT_BY_COUNT if settings.counts else _COEFFICIENT_BY_RANK
            coefficient = settings.sif_coefficient or usual
        is_counted = settings.counts is not None and settings.dimensions != "none"
        axes = settings.axes or ("texts" if is_counted else "tokens")
        whitening = settings.whitening
        if whitening is None:
            whitening = _WHITENING_BY_COUNT if is_counted else 0.0
        return cls(mode, pooling, reason, prompt, dense, coefficient, axes, whitening)


def distill(settings: DistillSettings, *, progress: bool = True) -> DistillResult:
    """Turn a teacher into an embedding table.

    Parameters
    ----------
    settings : DistillSettings
    progress : bool, default=True
        Whether to draw a progress bar on stderr where that is a terminal.

    Returns
    -------
    DistillResult

    Raises
    ------
    TeacherError
        If the teacher can't be loaded or has nothing to distil.
    InputError
        If the vocabulary or the counts can't be used.
    SettingsError
        If the teacher is narrower than the dimensions asked for, or the device is not there.

    Notes
    -----
    Row i is ``w_i * PCA(what is kept of the teacher's output for token_i among its special tokens)``; with
    counts the axes are those of tokens as texts hold them, and half whitened. The
    unknown token's row is zero, so that libraries which average it in agree with those which leave it out.
    """
    seen = embed_vocabulary(settings, progress=progress)
    teacher, choices, vocabulary, rows = seen.teacher, seen.choices, seen.vocabulary, seen.rows
    weights = seen.weights
    unknown = find_unknown_token_id(vocabulary.tokenizer)
    if unknown is not None:
        weights[unknown] = 0
    shares = None
    if choices.axes == "texts":
        shares = covariance_weights(seen.frequencies, weights)
    # model2vec, too, finds what tokens share before it reduces.
    mapping = None
    if settings.vocabulary_clusters is not None:
        rows, mapping = cluster_rows(rows, settings.vocabulary_clusters)
        shares = None if shares is None else np.bincount(mapping, shares, minlength=len(rows))
    reduced = reduce_rows(rows, dimensions=settings.dimensions, shares=shares, whitening=choices.whitening)
    has_one_scale = settings.int8_scale == "table"
    if mapping is None:
        stored = quantize_rows(reduced.rows * weights[:, None], settings.dtype, has_one_scale=has_one_scale)
    else:
        stored = quantize_rows(
            reduced.rows, settings.dtype, weights=weights, mapping=mapping, has_one_scale=has_one_scale
        )
    return DistillResult(
        table=_make_table(settings, vocabulary, stored),
        provenance={
            "teacher": {"name": settings.name or teacher.name, "revision": teacher.revision},
            "recipe": _describe(settings, choices),
            **({"vocabulary": vocabulary.report} if vocabulary.report else {}),
            "versions": {"lakevec": __version__, **{name: version(name) for name in _RECORDED_PACKAGES}},
        },
        quality={"explained_variance": reduced.explained_variance},
    )


@dataclass(frozen=True, eq=False)
class EmbeddedVocabulary:
    """The tokens of a table, and what the teacher makes of each alone.

    Parameters
    ----------
    teacher : Teacher
    choices : Choices
    vocabulary : Vocabulary
    frequencies : float64 ndarray of shape (V,)
        By counts, where the settings have some, or by rank.
    weights : float64 ndarray of shape (V,)
        As the settings weigh tokens.
    rows : float32 ndarray of shape (V, H)
        Neither centred, reduced nor weighted.
    """

    teacher: Teacher
    choices: Choices
    vocabulary: Vocabulary
    frequencies: np.ndarray
    weights: np.ndarray
    rows: np.ndarray


def embed_vocabulary(settings: DistillSettings, *, progress: bool = True) -> EmbeddedVocabulary:
    """Make the vocabulary and let the teacher see each of its tokens.

    Parameters
    ----------
    settings : DistillSettings
    progress : bool, default=True

    Returns
    -------
    EmbeddedVocabulary

    Raises
    ------
    TeacherError, InputError, SettingsError
        As `distill`.
    """
    words = (
        read_words(settings.vocabulary, column=settings.vocabulary_column) if settings.vocabulary else None
    )
    teacher = load_teacher(
        settings.teacher,
        revision=settings.revision,
        device=settings.device,
        trust_remote_code=settings.trust_remote_code,
    )
    choices = Choices.settle(settings, teacher)
    vocabulary = _build_vocabulary(settings, choices, teacher, words)
    frequencies = _find_frequencies(settings, vocabulary.tokens)
    weights = _weigh(settings, choices, frequencies)
    _check_sizes(settings, choices, teacher, len(vocabulary.tokens))
    rows = _see_tokens(settings, choices, teacher, vocabulary, progress=progress)
    return EmbeddedVocabulary(teacher, choices, vocabulary, frequencies, weights, rows)


def _build_vocabulary(
    settings: DistillSettings, choices: Choices, teacher: Teacher, words: WordList | None
) -> Vocabulary:
    return build_vocabulary(
        teacher.tokenizer,
        teacher.model,
        token_remove_pattern=settings.token_remove_pattern,
        words=words,
        keeps_subwords=choices.mode != "word",
        reverses_special_tokens=settings.special_tokens == "reversed",
        keeps_special_tokens=settings.keep_special_tokens,
    )


def _check_sizes(settings: DistillSettings, choices: Choices, teacher: Teacher, tokens: int) -> None:
    """Refuse, before the long work, what can't be reduced after it."""
    if settings.vocabulary_clusters is not None:
        check_clusters(settings.vocabulary_clusters, tokens)
    if choices.pooling == LIBRARY:
        width = teacher.open_library().width
    else:
        width = choices.dense[-1].weight.shape[0] if choices.dense else teacher.model.config.hidden_size
    check_dimensions(settings.dimensions, rows=settings.vocabulary_clusters or tokens, width=width)


def _see_tokens(
    settings: DistillSettings, choices: Choices, teacher: Teacher, vocabulary: Vocabulary, *, progress: bool
) -> np.ndarray:
    """Return one vector of the teacher's for each token; where it sees nothing, the mean of all."""
    seen = [row for row, pieces in enumerate(vocabulary.pieces) if pieces]
    if choices.mode == "input":
        found = input_embeddings(vocabulary.model, [vocabulary.pieces[row] for row in seen])
    elif choices.pooling == LIBRARY:
        found = teacher.open_library().embed_sequences(
            vocabulary.model,
            _make_sequences(choices, teacher, vocabulary, seen),
            batch_size=settings.batch_size,
            progress=progress,
        )
    else:
        found = embed_sequences(
            vocabulary.model,
            _make_sequences(choices, teacher, vocabulary, seen),
            pooling=choices.pooling,
            batch_size=settings.batch_size,
            precision=settings.precision,
            progress=progress,
        )
        for layer in choices.dense:
            found = layer.apply(found)
    if len(seen) == len(vocabulary.tokens):
        return found
    # The mean, so that a row nobody reads does not turn the axes.
    rows = np.tile(found.mean(axis=0, dtype=np.float64).astype(np.float32), (len(vocabulary.tokens), 1))
    rows[seen] = found
    return rows


def _make_sequences(
    choices: Choices, teacher: Teacher, vocabulary: Vocabulary, seen: list[int]
) -> TokenSequences:
    """Put special tokens and prompt around each token's pieces."""
    prompt: list[int] = []
    if choices.prompt:
        prompt = vocabulary.teacher_tokenizer.encode(choices.prompt, add_special_tokens=False).ids
    head = [*vocabulary.before, *prompt]
    ids = [[*head, *vocabulary.pieces[row], *vocabulary.after] for row in seen]
    own = [(len(head), len(head) + len(vocabulary.pieces[row])) for row in seen]
    # As the library does it, special tokens before the prompt go with it.
    first = 0 if teacher.own_way.counts_prompt or not prompt else len(head)
    return TokenSequences(ids, own, [(first, len(sequence)) for sequence in ids], vocabulary.pad_token_id)


def _find_frequencies(settings: DistillSettings, tokens: list[str]) -> np.ndarray:
    if settings.counts is None:
        return zipf_frequencies(len(tokens))
    return blended_frequencies(read_counts(settings.counts, tokens), share=settings.counts_share)


def _weigh(settings: DistillSettings, choices: Choices, frequencies: np.ndarray) -> np.ndarray:
    if settings.weighting == "none":
        return np.ones(len(frequencies))
    if settings.weighting == "zipf":
        return zipf_weights(len(frequencies))
    if choices.coefficient is None:
        raise AssertionError("settled above")
    return sif_weights(frequencies, coefficient=choices.coefficient)


def _make_table(settings: DistillSettings, vocabulary: Vocabulary, stored: QuantizedRows) -> StaticTable:
    return StaticTable(
        stored.embeddings,
        vocabulary.tokenizer.to_str(),
        normalize=settings.normalize,
        weights=stored.weights,
        mapping=stored.mapping,
    )


def _describe(settings: DistillSettings, choices: Choices) -> dict[str, Any]:
    """Return every choice that decided about the table; what is as usual is left out."""
    by = " by counts" if settings.counts else " by rank"
    unusual = {
        "recipe": settings.recipe,
        "dense_layers": len(choices.dense) or None,
        "prompt": choices.prompt or None,
        "special_tokens": settings.special_tokens if settings.special_tokens != "teacher" else None,
        "keep_special_tokens": settings.keep_special_tokens or None,
        "sif_coefficient": choices.coefficient,
        "counts": settings.to_record()["counts"],
        "counts_share": settings.counts_share if settings.counts else None,
        "pca_axes": choices.axes if choices.axes != "tokens" else None,
        "whitening": choices.whitening or None,
        "int8_scale": settings.int8_scale if settings.dtype == "int8" else None,
        "vocabulary_clusters": settings.vocabulary_clusters,
        "precision": settings.precision if settings.precision != "auto" else None,
        "trust_remote_code": settings.trust_remote_code or None,
    }
    return {
        "mode": choices.mode,
        "pooling": choices.pooling,
        "pooling_reason": choices.reason,
        "weighting": settings.weighting + (by if settings.weighting == "sif" else ""),
        "pca_dimensions": settings.dimensions,
        "token_remove_pattern": settings.token_remove_pattern,
        **{key: value for key, value in unusual.items() if value is not None},
    }
