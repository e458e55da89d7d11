"""Options of tuning."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lakevec.pipeline.distillation.input_columns import WIDTH_BESIDE_INPUTS
from lakevec.pipeline.distillation.options import UNUSED_TOKENS, TableType, TeacherOptions

if TYPE_CHECKING:
    from lakevec.pipeline.distillation.weighting import TokenCounts
    from lakevec.pipeline.distillation.word_list import WordList
    from lakevec.pipeline.model.artifact import Artifact


# Learning rate for this many texts and more.
_LEARNING_RATE, _MANY_TEXTS = 0.001, 150_000


@dataclass(frozen=True, kw_only=True)
class TuneOptions(TeacherOptions):
    """How to tune a table to its teacher. The defaults are those of ``lakevec tune``.

    Parameters
    ----------
    epochs : int, default=6
        Maximum number of passes over the texts.
    texts_per_step : int, default=1024
        Batch size.
    learning_rate : float, optional
        Initial learning rate of Adam; decays linearly to 0. Default: 0.001 for 150,000 texts and more, and up
        to 0.003 for fewer; always 0.001 for the loss "correlation".
    loss : {"divergence", "correlation"}, default="divergence"
        Loss over similarities of pairs of texts: their correlation and the divergence of neighbours, or the
        correlation alone, as in earlier versions.
    relation : float, optional
        Weight of the correlation, relative to the loss over directions. Default: 3, or 1 for the loss
        "correlation".
    prefixes : tuple of int, default=()
        Numbers of first columns whose loss counts like that of all columns.
    token_dropout : float, default=0.0
        Share of each text's tokens that a step drops at random.
    bigram_dropout : float, default=0.25
        Share of each text's bigrams that a step drops at random, so that tokens also learn to do without.
    patience : int, default=2
        Stop after this many epochs without a better fidelity on held-out texts.
    seed : int, default=0
    model : Artifact, optional
        Initial table. Default: the teacher's vectors of its tokens.
    words : WordList, optional
        Words to give a row each.
    counts : TokenCounts, optional
        Counts for the initial weights. Default: counts of the sample.
    sif_coefficient : float, optional
        a of the initial SIF weight a / (a + p). Default: 0.003, or 0.0003 for the loss "correlation".
    dimensions : int, default=256
        Width D of the table.
    input_columns : int, default=0
        Number of columns of the teacher's input embeddings to put beside the trained ones.
    trained_dimensions : int, optional
        Number of columns to train. Default: `dimensions` without input columns, else 256.
    position_scale : float, optional
        Position whose token counts half; see `StaticTable`. Default: all tokens count alike.
    bigrams : int, default=0
        Number of telling pairs of neighbouring tokens to give a row each; see `take_telling`.
    bigram_counts : str, optional
        Counts of bigrams, as for `read_bigrams`. Default, and if `counts` lack tokens of the table: counts of
        the sample.
    held_out : int, default=3000
        Number of held-out texts that decide when to stop; at most a fifth of the sample.
    dtype : {"float32", "float16", "int8"}, default="float32"
    token_remove_pattern : str or None
        As in `DistillOptions`.
    """

    epochs: int = 6
    texts_per_step: int = 1024
    learning_rate: float | None = None
    loss: Literal["divergence", "correlation"] = "divergence"
    relation: float | None = None
    prefixes: tuple[int, ...] = ()
    token_dropout: float = 0.0
    bigram_dropout: float = 0.25
    patience: int = 2
    seed: int = 0
    model: Artifact | None = None
    words: WordList | None = None
    counts: TokenCounts | None = None
    sif_coefficient: float | None = None
    dimensions: int = 256
    input_columns: int = 0
    trained_dimensions: int | None = None
    position_scale: float | None = None
    bigrams: int = 0
    bigram_counts: str | None = None
    held_out: int = 3000
    dtype: TableType = "float32"
    token_remove_pattern: str | None = UNUSED_TOKENS

    def initial_learning_rate(self, texts: int) -> float:
        """`learning_rate`, or its default: fewer texts make fewer steps, which need to be longer.

        Examples
        --------
        >>> [round(TuneOptions().initial_learning_rate(texts), 4) for texts in (1_000, 60_000, 1_000_000)]
        [0.003, 0.002, 0.001]
        """
        if self.learning_rate is not None:
            return self.learning_rate
        growth = 1.0 if self.loss == "correlation" else (_MANY_TEXTS / texts) ** 0.75
        return _LEARNING_RATE * min(max(growth, 1.0), 3.0)

    def counts_have(self, tokens: Iterable[str]) -> bool:
        """Return whether the tokenizer of `counts` has all of these tokens; there may be no counts."""
        return self.counts is None or set(tokens) <= set(self.counts.tokens.to_pylist())

    @property
    def correlation_weight(self) -> float:
        """`relation`, or the default of the loss."""
        default = 1.0 if self.loss == "correlation" else 3.0
        return default if self.relation is None else self.relation

    @property
    def initial_coefficient(self) -> float:
        """`sif_coefficient`, or the default of the loss."""
        return self.sif_coefficient or (0.0003 if self.loss == "correlation" else 0.003)

    @property
    def trained_width(self) -> int:
        """`trained_dimensions`, or its default."""
        return self.trained_dimensions or (WIDTH_BESIDE_INPUTS if self.input_columns else self.dimensions)
