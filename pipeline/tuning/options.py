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
class TuneOptions(TeacherOptions):
    """How to tune a table to its teacher. The defaults are those of ``lakevec tune``.

    Parameters
    ----------
    epochs : int, default=6
        Maximum number of passes over the texts.
    texts_per_step : int, default=1024
        Batch size.
    learning_rate : float, default=0.001
        Initial learning rate of Adam; decays linearly to 0.
    relation : float, default=1.0
        Weight of the loss over pairwise similarities, relative to the loss over directions.
    token_dropout : float, default=0.0
        Share of each text's tokens that a step drops at random.
    patience : int, default=2
        Stop after this many epochs without a better fidelity on held-out texts.
    seed : int, default=0
    model : Artifact, optional
        Initial table. Default: the teacher's vectors of its tokens.
    words : WordList, optional
        Words to give a row each.
    counts : TokenCounts, optional
        Counts for the initial weights. Default: counts of the sample.
    sif_coefficient : float, default=0.0003
        a of the initial SIF weight a / (a + p).
    dimensions : int, default=256
        Width D of the table.
    held_out : int, default=3000
        Number of held-out texts that decide when to stop; at most a fifth of the sample.
    dtype : {"float32", "float16", "int8"}, default="float32"
    token_remove_pattern : str or None
        As in `DistillOptions`.
    """

    epochs: int = 6
    texts_per_step: int = 1024
    learning_rate: float = 0.001
    relation: float = 1.0
    token_dropout: float = 0.0
    patience: int = 2
    seed: int = 0
    model: Artifact | None = None
    words: WordList | None = None
    counts: TokenCounts | None = None
    sif_coefficient: float = 0.0003
    dimensions: int = 256
    held_out: int = 3000
    dtype: TableType = "float32"
    token_remove_pattern: str | None = UNUSED_TOKENS
