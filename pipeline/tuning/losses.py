"""Losses of tuning, over a batch of texts and the teacher's vectors of them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn.functional import embedding_bag, normalize

from lakevec.pipeline.tuning.options import TuneOptions

# Teacher and student turn similarities into shares of neighbours at this temperature.
_TEMPERATURE = 0.1


class Batch(NamedTuple):
    """Texts, and tokens that count as texts behind them.

    Parameters
    ----------
    ids : int64 tensor of shape (T,)
        Rows to add up.
    offsets : int64 tensor of shape (N,)
        First id of each text.
    weights : float32 tensor of shape (T,) or None
        How much each row counts. None: 1.
    targets : float32 tensor of shape (N, D)
    teacher : float32 tensor of shape (M, H)
        The teacher's vectors of the first M texts; the others are single tokens.
    """

    ids: torch.Tensor
    offsets: torch.Tensor
    weights: torch.Tensor | None
    targets: torch.Tensor
    teacher: torch.Tensor


def batch_loss(rows: torch.Tensor, batch: Batch, options: TuneOptions) -> torch.Tensor:
    """Return the loss of a batch, averaged over the prefixes of the columns.

    Parameters
    ----------
    rows : float32 tensor of shape (R, D)
        The rows to train.
    batch : Batch
    options : TuneOptions
        Names the losses and the prefixes.

    Notes
    -----
    With the texts' means ``s``, the targets ``t``, and the cosines ``S`` of all pairs of means and ``T`` of
    all pairs of the teacher's vectors, the loss is
    ``mean(1 - cos(s_i, t_i)) + relation * (1 - corr(S, T)) + KL(softmax(T / 0.1), softmax(S / 0.1))``.
    The last term is the mean over the rows of S and T, both without their diagonals. The loss "correlation"
    leaves it out.

    The first term is that of Tokenlearn (MinishLab, 2024). The second follows Park et al., "Relational
    Knowledge Distillation" (CVPR 2019), and the third Fang et al., "SEED" (ICLR 2021), with the batch in
    place of a queue. Losses over prefixes of the columns are those of Kusupati et al., "Matryoshka
    Representation Learning" (NeurIPS 2022). No term depends on lengths, so a row's length can act as its
    weight.
    """
    # Lengths don't matter. Without weights, means keep the bits of earlier versions.
    mode = "mean" if batch.weights is None else "sum"
    sums = embedding_bag(batch.ids, rows, batch.offsets, mode=mode, per_sample_weights=batch.weights)
    # A correlation needs more than one pair, so more than two texts.
    texts = len(batch.teacher) if len(batch.teacher) > 2 else 0
    teacher = normalize(batch.teacher[:texts])
    similarities = teacher @ teacher.T
    widths = sorted({*options.prefixes, sums.shape[1]})
    losses = []
    for width in widths:
        means = normalize(sums[:, :width])
        loss = 1 - (means * normalize(batch.targets[:, :width])).sum(dim=1).mean()
        if texts:
            loss = loss + _pairs_loss(means[:texts] @ means[:texts].T, similarities, options)
        losses.append(loss)
    return torch.stack(losses).mean()


def _pairs_loss(student: torch.Tensor, teacher: torch.Tensor, options: TuneOptions) -> torch.Tensor:
    """Compare similarities of shape (M, M)."""
    is_same = torch.eye(len(student), dtype=torch.bool, device=student.device)
    loss = 1 - _correlation(_centre(student, is_same), _centre(teacher, is_same))
    loss = options.correlation_weight * loss
    return loss if options.loss == "correlation" else loss + _divergence(student, teacher, is_same)


def _divergence(student: torch.Tensor, teacher: torch.Tensor, is_same: torch.Tensor) -> torch.Tensor:
    """Return the mean divergence of the student's shares of neighbours from the teacher's."""
    ours, theirs = (
        (cosines / _TEMPERATURE).masked_fill(is_same, -torch.inf).log_softmax(dim=1)
        for cosines in (student, teacher)
    )
    # On the diagonal both are -inf, and count as 0.
    terms = theirs.exp() * (theirs - ours).masked_fill(is_same, 0)
    return terms.sum(dim=1).mean()


def _centre(cosines: torch.Tensor, is_same: torch.Tensor) -> torch.Tensor:
    """Subtract the mean of all pairs, and set the diagonal to 0."""
    texts = len(cosines)
    mean = (cosines.sum() - cosines.diagonal().sum()) / max(texts * (texts - 1), 1)
    return (cosines - mean).masked_fill(is_same, 0)


def _correlation(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return (one * other).sum() / (one.square().sum() * other.square().sum()).clamp(min=1e-24).sqrt()
