"""Training of a table: means of token rows against the teacher's vectors of the same texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import embedding_bag, normalize
from tqdm import tqdm

from lakevec.pipeline.encoding.kernels.pooling import pool_mean
from lakevec.pipeline.encoding.tokenization import TokenIds
from lakevec.pipeline.errors import DataError
from lakevec.pipeline.evaluation.fidelity import Fidelity, measure_fidelity


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Texts and what the teacher says of them.

    Parameters
    ----------
    tokens : TokenIds
        Of N texts.
    targets : float32 ndarray of shape (N, D)
        The teacher's vectors on the table's axes, which a text's mean is to point along.
    teacher : float32 ndarray of shape (N, H)
        The teacher's vectors as they are, whose similarities are to be kept.
    """

    tokens: TokenIds
    targets: np.ndarray
    teacher: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class TrainingConfig:
    """How a table is trained.

    Parameters
    ----------
    epochs : int
    batch_size : int
        Texts per step.
    learning_rate : float
        Of Adam's first step; it falls linearly to 0.
    relation : float
        Weight of the loss over similarities of pairs beside that over directions; 0 leaves it out.
    token_dropout : float
        Share of a text's tokens that a step leaves out, drawn anew each time.
    patience : int
        Epochs without a better figure on held-out rows after which training stops.
    seed : int
    """

    epochs: int
    batch_size: int
    learning_rate: float
    relation: float
    token_dropout: float
    patience: int
    seed: int


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to.

    Parameters
    ----------
    loss : float
        Mean of its steps.
    fidelity : Fidelity
        On held-out rows, after it.
    """

    loss: float
    fidelity: Fidelity


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """A trained table and how it came about.

    Parameters
    ----------
    rows : float32 ndarray of shape (V, D)
        Of the epoch that kept closest to the teacher on held-out rows.
    start : Fidelity
        Of the rows that training began with.
    epochs : list of Epoch
    best : int
        Number of the epoch that was kept, from 1; 0 if none was better than the start.
    """

    rows: np.ndarray
    start: Fidelity
    epochs: list[Epoch]
    best: int


def train(
    start: np.ndarray,
    lesson: TrainingSet,
    held_out: TrainingSet,
    method: TrainingConfig,
    *,
    token_targets: np.ndarray | None = None,
    progress: bool = True,
) -> TrainingResult:
    """Move the rows so that means of them point where the teacher's vectors do.

    Parameters
    ----------
    start : float32 ndarray of shape (V, D)
        Rows to begin with, weights included.
    lesson, held_out : TrainingSet
        Texts to train on, and others that decide when to stop.
    method : TrainingConfig
    token_targets : float32 ndarray of shape (V, D), optional
        What the teacher makes of each token alone. Each token then also counts as one short text, which keeps
        the rows of rare tokens in the space of the others.
    progress : bool, default=True
        Whether to draw a progress bar on stderr where that is a terminal.

    Returns
    -------
    TrainingResult

    Raises
    ------
    DataError
        If no text has a known token, or too few held-out rows differ.

    Notes
    -----
    The loss of a batch is ``mean(1 - cos(s_i, t_i)) + relation * (1 - corr(S, T))`` with the means ``s``, the
    targets ``t``, and the cosines ``S`` and ``T`` of all pairs of students' and teacher's vectors. The first
    part is Tokenlearn's (MinishLab, 2024), the second follows Park et al., "Relational Knowledge
    Distillation" (CVPR 2019). Lengths are free, so rows keep what weights they need. The same
    arguments give the same bits on one machine with one number of threads.
    """
    texts = _Texts(lesson, token_targets)
    if not len(texts):
        raise DataError("tuning", got="no text with a known token", expected="texts that the table can read")
    random = np.random.default_rng(method.seed)
    start = start.astype(np.float32, copy=False)
    weight = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = torch.optim.Adam([weight], lr=method.learning_rate, fused=True)
    batches = -(-len(texts) // method.batch_size)
    schedule = torch.optim.lr_scheduler.LinearLR(
        optimizer, start_factor=1.0, end_factor=0.0, total_iters=method.epochs * batches
    )
    found = _Progress(start, _measure(start, held_out))
    bar = tqdm(total=method.epochs * batches, desc="tuning", unit="batch", disable=None if progress else True)
    with bar:
        for _ in range(method.epochs):
            losses = []
            for batch in texts.batches(method, random):
                optimizer.zero_grad()
                loss = _loss(weight, batch, method.relation)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
                losses.append(loss.item())
                bar.update()
            rows = weight.detach().numpy()
            found.add(rows, Epoch(float(np.mean(losses)), _measure(rows, held_out)))
            bar.set_postfix(fidelity=f"{found.epochs[-1].fidelity.correlation:.3f}")
            if len(found.epochs) - found.best >= method.patience:
                break
    return TrainingResult(found.rows, found.start, found.epochs, found.best)


class _Progress:
    """Which epoch was best so far."""

    def __init__(self, rows: np.ndarray, start: Fidelity) -> None:
        self.rows, self.start, self.best = rows, start, 0
        self.epochs: list[Epoch] = []

    def add(self, rows: np.ndarray, epoch: Epoch) -> None:
        best = self.epochs[self.best - 1].fidelity if self.best else self.start
        self.epochs.append(epoch)
        if epoch.fidelity.correlation > best.correlation:
            self.rows, self.best = rows.copy(), len(self.epochs)


@dataclass(frozen=True, eq=False)
class _Batch:
    ids: torch.Tensor
    offsets: torch.Tensor
    targets: torch.Tensor
    teacher: torch.Tensor | None


class _Texts:
    """All that is trained on: texts with a known token, then tokens as texts of their own."""

    def __init__(self, lesson: TrainingSet, token_targets: np.ndarray | None) -> None:
        self._lesson = lesson
        self._token_targets = token_targets
        counts = np.diff(lesson.tokens.offsets)
        self._texts = np.flatnonzero(counts)
        self._tokens = np.empty(0, dtype=np.int64)
        if token_targets is not None:
            self._tokens = np.flatnonzero(token_targets.any(axis=1))

    def __len__(self) -> int:
        return len(self._texts)

    def batches(self, method: TrainingConfig, random: np.random.Generator) -> Iterator[_Batch]:
        """Yield all texts in a new order, each batch with its share of the tokens."""
        batches = -(-len(self._texts) // method.batch_size)
        texts = np.array_split(random.permutation(self._texts), batches)
        tokens = np.array_split(random.permutation(self._tokens), batches)
        for some, singles in zip(texts, tokens, strict=True):
            yield self._make(some, singles, method.token_dropout, random)

    def _make(
        self, texts: np.ndarray, singles: np.ndarray, dropout: float, random: np.random.Generator
    ) -> _Batch:
        starts = self._lesson.tokens.offsets[texts]
        counts = self._lesson.tokens.offsets[texts + 1] - starts
        ends = np.cumsum(counts)
        places = np.arange(ends[-1]) + np.repeat(starts - (ends - counts), counts)
        ids = self._lesson.tokens.ids[places]
        if dropout:
            kept = random.random(len(ids)) >= dropout
            kept[ends - counts + random.integers(counts)] = True  # one at least of each text
            running = np.concatenate(([0], np.cumsum(kept)))
            ids, counts = ids[kept], running[ends] - running[ends - counts]
            ends = np.cumsum(counts)
        targets = self._lesson.targets[texts]
        offsets = ends - counts
        if self._token_targets is not None:
            offsets = np.concatenate([offsets, len(ids) + np.arange(len(singles))])
            ids = np.concatenate([ids, singles])
            targets = np.concatenate([targets, self._token_targets[singles]])
        return _Batch(
            torch.from_numpy(ids.astype(np.int64)),
            torch.from_numpy(offsets.astype(np.int64)),
            torch.from_numpy(targets),
            torch.from_numpy(self._lesson.teacher[texts]),
        )


def _loss(weight: torch.Tensor, batch: _Batch, relation: float) -> torch.Tensor:
    means = normalize(embedding_bag(batch.ids, weight, batch.offsets, mode="mean"))
    loss = 1 - (means * normalize(batch.targets)).sum(dim=1).mean()
    # Two texts are one pair, which correlates with nothing.
    if relation and batch.teacher is not None and len(batch.teacher) > 2:
        texts = means[: len(batch.teacher)]
        loss = loss + relation * (1 - _correlate(_pairs(texts), _pairs(normalize(batch.teacher))))
    return loss


def _pairs(vectors: torch.Tensor) -> torch.Tensor:
    """Return the cosines of all pairs, less their mean; 0 for a vector's pair with itself."""
    texts = len(vectors)
    cosines = vectors @ vectors.T
    mean = (cosines.sum() - cosines.diagonal().sum()) / max(texts * (texts - 1), 1)
    centred: torch.Tensor = (cosines - mean) * (1 - torch.eye(texts))
    return centred


def _correlate(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    product: torch.Tensor = (one * other).sum()
    return product / (one.square().sum() * other.square().sum()).clamp(min=1e-24).sqrt()


def _measure(rows: np.ndarray, held_out: TrainingSet) -> Fidelity:
    vectors = np.empty((len(held_out), rows.shape[1]), dtype=np.float32)
    table = np.ascontiguousarray(rows).view()
    table.flags.writeable = False
    pool_mean(table, held_out.tokens.ids, held_out.tokens.offsets, vectors, normalize=True)
    return measure_fidelity(vectors, held_out.teacher)
