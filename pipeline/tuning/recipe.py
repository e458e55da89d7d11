"""The tuning recipe: initial rows, the teacher's vectors as targets, training, rotation, table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from lakevec.pipeline.corpus.bigrams import count_bigrams
from lakevec.pipeline.corpus.stored_bigrams import read_bigrams
from lakevec.pipeline.distillation.options import DistillOptions
from lakevec.pipeline.distillation.pca import PcaProjection, check_dimensions
from lakevec.pipeline.distillation.recipe import DistillResult, make_provenance
from lakevec.pipeline.encoding.encoder import Encoder
from lakevec.pipeline.encoding.kernels.pooling import Terms
from lakevec.pipeline.encoding.tokenization import TokenIds, make_tokenizer
from lakevec.pipeline.errors import InputError, SettingsError
from lakevec.pipeline.evaluation.fidelity import measure_fidelity
from lakevec.pipeline.local_files import texts_sha256
from lakevec.pipeline.model.table import StaticTable
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.tuning.finish import finish_rows, make_table
from lakevec.pipeline.tuning.options import TuneOptions
from lakevec.pipeline.tuning.start import Start, find_start, first_rows, tokens_of
from lakevec.pipeline.tuning.terms import cut_terms, make_terms
from lakevec.pipeline.tuning.training import TrainingResult, TrainingSet, train

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
    clusters, pool : int, default=0
        Number of clusters, and of texts that they chose from, for the record. 0 for a random sample.
    """

    texts: list[str]
    vectors: np.ndarray
    teacher: dict[str, str]
    normalizes: bool
    stratified_by: str = "length"
    max_chars: int = 1000
    clusters: int = 0
    pool: int = 0


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
    Targets are the teacher's vectors, reduced by PCA to the trained columns. The initial rows are the
    teacher's vectors of single tokens on the same axes, centred, times SIF weights. With the loss
    "correlation", training also treats each token as a text. If `options.model` is given, least squares maps
    its rows to the targets instead. Rows of bigrams start at 0. The trained rows include the weights. At the
    end, columns of the input embeddings are added, and all rows are rotated and reduced to D columns.

    Bigrams are counted in the sample, too, if `options.counts` lack tokens of the table, such as words: their
    tokenizer joined other pairs. `provenance` names the bigrams' counts only if they were used.
    """
    options = options or TuneOptions()
    held_out = count_held_out(options, len(sample.texts))
    start = find_start(teacher, options, normalize=sample.normalizes, progress=progress)
    if not options.counts_have(start.tokens):
        options = replace(options, bigram_counts=None)
    texts = pa.array(sample.texts, pa.large_string())
    tokens = make_tokenizer(start.tokenizer_json, start.unknown_token_id).tokenize(texts)
    pairs = _find_bigrams(start, tokens, options, held_out)
    terms = make_terms(tokens, position_scale=start.position_scale, pairs=pairs, first_row=len(start.tokens))
    pca = PcaProjection.fit(sample.vectors[held_out:], options.trained_width)
    first_bigram = None if pairs is None else len(start.tokens)
    training, validation = _split(terms, sample.vectors, pca, held_out, first_bigram)
    rows, token_targets = first_rows(start, training, pca, options)
    if pairs is not None:
        extra = np.zeros((len(pairs), rows.shape[1]), np.float32)
        rows, token_targets = (np.vstack([part, extra]) for part in (rows, token_targets))
    trained = train(rows, training, validation, options, token_targets=token_targets, progress=progress)
    table = make_table(finish_rows(trained.rows, start, training, options), start, pairs, options)
    recipe = _describe(sample, options, start, training, trained.best)
    if table.bigrams is not None:
        recipe |= {"bigrams": len(table.bigrams), "bigram_dropout": options.bigram_dropout}
    provenance = make_provenance(sample.teacher, recipe, start.words, _RECORDED_PACKAGES)
    quality = _measure(table, texts[:held_out], sample, pca, trained)
    return TuneResult(table, provenance, quality, trained)


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
    _check_widths(options, rows=rows, width=width)
    tokens = [*tokens, *(options.words.words if options.words else ())]
    if options.counts is not None:
        options.counts.lookup(tokens)
    known = tokens_of(options.model.table) if options.model else tokens
    if options.bigram_counts is not None and options.counts_have(known):
        read_bigrams(options.bigram_counts, known, options.bigrams)


def check_sample(options: TuneOptions, texts: Sequence[str]) -> None:
    """Refuse a sample with too few texts for the dimensions before the teacher's forward passes."""
    rows = len(texts) - count_held_out(options, len(texts))
    _check_widths(options, rows=rows, width=None)


def _check_widths(options: TuneOptions, *, rows: int, width: int | None) -> None:
    """Refuse more columns than texts or the teacher give; no width is checked if it is None."""
    widths = {"trained_dimensions": options.trained_width, "input_columns": options.input_columns}
    if not options.input_columns and options.trained_dimensions is None:
        widths = {"dimensions": options.dimensions}
    for name, columns in widths.items():
        check_dimensions(columns, rows=rows, width=columns if width is None else width, name=name)
    total = options.trained_width + options.input_columns
    if options.dimensions > total:
        expected = f"at most {total}, the trained and the input columns"
        raise SettingsError("dimensions", got=str(options.dimensions), expected=expected)
    if options.prefixes and max(options.prefixes) > options.trained_width:
        expected = f"at most {options.trained_width}, the columns to train"
        raise SettingsError("prefixes", got=str(max(options.prefixes)), expected=expected)


def count_held_out(options: TuneOptions, texts: int) -> int:
    """Return how many texts of a sample are held out; refuse a sample that is too small."""
    held_out = min(options.held_out, texts // 5)
    if held_out < 3:
        raise InputError("the sample is too small to tune on", got=f"{texts} texts", expected="at least 15")
    return held_out


def _find_bigrams(start: Start, tokens: TokenIds, options: TuneOptions, held_out: int) -> np.ndarray | None:
    """Return the most telling pairs of the counts, or of the texts to train on: int32 of shape (B, 2)."""
    if not options.bigrams:
        return None
    if options.bigram_counts is not None:
        found = read_bigrams(options.bigram_counts, start.tokens, options.bigrams)
    else:
        found = count_bigrams(_cut(tokens, held_out, len(tokens.offsets) - 1), options.bigrams)
    # Texts of one token have no pairs.
    return found.pairs if len(found.pairs) else None


def _cut(tokens: TokenIds, first: int, last: int) -> TokenIds:
    """Return the tokens of some texts."""
    begin, end = tokens.offsets[[first, last]]
    return TokenIds(tokens.ids[begin:end], tokens.offsets[first : last + 1] - begin, 0, 0)


def _split(
    terms: Terms, vectors: np.ndarray, pca: PcaProjection, held_out: int, first_bigram: int | None
) -> tuple[TrainingSet, TrainingSet]:
    """Return the training set, and the first `held_out` texts as validation set."""
    targets = pca.project(vectors)
    rest, first = slice(held_out, len(vectors)), slice(held_out)
    return (
        TrainingSet(cut_terms(terms, rest), targets[rest], vectors[rest], first_bigram),
        TrainingSet(cut_terms(terms, first), targets[first], vectors[first]),
    )


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
    sample: TeacherSample, options: TuneOptions, start: Start, training: TrainingSet, epochs: int
) -> dict[str, Any]:
    """Return the options that change the table; omit optional ones that are unset."""
    ids = np.unique(training.terms.ids)
    trained = ("texts_per_step", "loss", "token_dropout")
    optional = {
        "sample_clusters": sample.clusters or None,
        "sample_pool": sample.pool or None,
        "counts": options.counts.source if options.counts else None,
        "sif_coefficient": None if options.model else options.initial_coefficient,
        "counts_share": None if options.model else DistillOptions.counts_share,
        "prefixes": list(options.prefixes) or None,
        "trained_dimensions": options.trained_width if options.trained_width != options.dimensions else None,
        "input_columns": options.input_columns or None,
        "position_scale": start.position_scale,
        "bigram_counts": redact(options.bigram_counts) if options.bigram_counts else None,
    }
    return {
        "tuned_on_texts": len(training),
        "sample_sha256": texts_sha256(sample.texts),
        "stratified_by": sample.stratified_by,
        "tokens_seen": int((ids < len(start.tokens)).sum()),
        "begun_with": options.model.uri if options.model else "the teacher's tokens",
        "pca_dimensions": options.dimensions,
        "epochs": epochs,
        **{name: getattr(options, name) for name in trained},
        "relation": options.correlation_weight,
        "learning_rate": options.initial_learning_rate(len(training)),
        **{key: value for key, value in optional.items() if value is not None},
        "max_chars": sample.max_chars,
        "seed": options.seed,
    }
