"""Options of tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakevec.pipeline.distillation.options import UNUSED_TOKENS, TableType, TeacherOptions

if TYPE_CHECKING:
    from lakevec.pipeline.distillation.weighting import TokenCounts
    from lakevec.pipeline.distillation.word_list import WordList
    from lakevec.pipeline.model.artifact import Artifact


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How rows are trained.

    Parameters
    ----------
    epochs : int, default=6
        Most passes over the texts.
    texts_per_step : int, default=1024
    learning_rate : float, default=0.001
        Of Adam's first step; falls linearly to 0.
    relation : float, default=1.0
        Weight of the loss over similarities of pairs, beside the loss over directions.
    token_dropout : float, default=0.0
        Share of a text's tokens that a step leaves out, drawn anew each time.
    patience : int, default=2
        Epochs without a better fidelity on held-out texts after which training stops.
    seed : int, default=0
    """

    epochs: int = 6
    texts_per_step: int = 1024
    learning_rate: float = 0.001
    relation: float = 1.0
    token_dropout: float = 0.0
    patience: int = 2
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class TuneOptions(TrainingConfig, TeacherOptions):
    """How a table is tuned to its teacher. The defaults are those of ``lakevec tune``.

    Parameters
    ----------
    model : Artifact, optional
        Table to begin with. Default: the teacher's own tokens.
    words : WordList, optional
        Words that get a row of their own.
    counts : TokenCounts, optional
        For the weights to begin with. Default: the sample's own counts.
    sif_coefficient : float, default=0.0003
        a of the SIF weight a / (a + p) to begin with.
    dimensions : int, default=256
    held_out : int, default=3000
        Texts of the sample, at most a fifth of it, that decide when to stop.
    dtype : {"float32", "float16", "int8"}, default="float32"
    token_remove_pattern : str or None
        As in `DistillOptions`.
    """

    model: Artifact | None = None
    words: WordList | None = None
    counts: TokenCounts | None = None
    sif_coefficient: float = 0.0003
    dimensions: int = 256
    held_out: int = 3000
    dtype: TableType = "float32"
    token_remove_pattern: str | None = UNUSED_TOKENS
