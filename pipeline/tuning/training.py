"""Training of a table: means of token rows against the teacher's vectors of the same texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import embedding_bag, normalize
from tqdm import tqdm

from lakevec.pipeline.encoding.kernels.pooling import pool_mean
from lakevec.pipeline.encoding.tokenization import TokenIds
from lakevec.pipeline.errors import DataError
from lakevec.pipeline.evaluation.fidelity import Fidelity, measure_fidelity
from lakevec.pipeline.tuning.options import TrainingConfig


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Texts and the teacher's vectors of them.

    Parameters
    ----------
    tokens : TokenIds
        Of N texts.
    targets : float32 ndarray of shape (N, D)
        The teacher's vectors on the table's axes: directions for the means of rows.
    teacher : float32 ndarray of shape (N, H)
        The teacher's own vectors: similarities to keep.
    """

    tokens: TokenIds
    targets: np.ndarray
    teacher: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Epoch:
    """Mean loss of an epoch's steps, and the fidelity on held-out texts after it."""

    loss: float
    fidelity: Fidelity


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """A trained table and the course of training.

    Parameters
    ----------
    rows : float32 ndarray of shape (V, D)
        Of the best epoch.
    start : Fidelity
        Before training.
    epochs : list of Epoch
    best : int
        Number of the epoch with the best fidelity, from 1; 0 if none was better than the start.
    """

    rows: np.ndarray
    start: Fidelity
    epochs: list[Epoch]
    best: int


def train(
    start: np.ndarray,
    training: TrainingSet,
    held_out: TrainingSet,
    config: TrainingConfig,
    *,
    token_targets: np.ndarray | None = None,
    progress: bool = True,
) -> TrainingResult:
    """Move the rows until their means point where the teacher's vectors do.

    Parameters
    ----------
    start : float32 ndarray of shape (V, D)
        Initial rows, weights included.
    training, held_out : TrainingSet
        Texts to train on, and others that decide when to stop.
    config : TrainingConfig
    token_targets : float32 ndarray of shape (V, D), optional
        The teacher's vector of each token alone. Each token then also counts as a short text, which keeps the
        rows of rare tokens in the space of the others.
    progress : bool, default=True

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
    texts = _Batches(training, token_targets, config)
    if not texts.steps:
        raise DataError("tuning", got="no text with a known token", expected="texts that the table can read")
    start = start.astype(np.float32, copy=False)
    weight = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = torch.optim.Adam([weight], lr=config.learning_rate, fused=True)
    steps = config.epochs * texts.steps
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    before = _measure(start, held_out)
    epochs: list[Epoch] = []
    rows, best, best_correlation = start, 0, before.correlation
    with tqdm(total=steps, desc="tuning", unit="batch", disable=None if progress else True) as bar:
        while len(epochs) < config.epochs and len(epochs) - best < config.patience:
            losses = []
            for batch in texts.shuffle():
                optimizer.zero_grad()
                loss = _loss(weight, batch, config.relation)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
                losses.append(loss.item())
                bar.update()
            fidelity = _measure(weight.detach().numpy(), held_out)
            epochs.append(Epoch(float(np.mean(losses)), fidelity))
            bar.set_postfix(fidelity=f"{fidelity.correlation:.3f}")
            if fidelity.correlation > best_correlation:
                rows, best, best_correlation = (
                    weight.detach().numpy().copy(),
                    len(epochs),
                    fidelity.correlation,
                )
    return TrainingResult(rows, before, epochs, best)


def pool_texts(rows: np.ndarray, tokens: TokenIds, *, normalize: bool) -> np.ndarray:
    """Average the rows of each text's tokens: float32 of shape (N, D)."""
    vectors = np.empty((len(tokens.offsets) - 1, rows.shape[1]), dtype=np.float32)
    table = np.ascontiguousarray(rows).view()
    table.flags.writeable = False
    pool_mean(table, tokens.ids, tokens.offsets, vectors, normalize=normalize)
    return vectors


def _measure(rows: np.ndarray, held_out: TrainingSet) -> Fidelity:
    return measure_fidelity(pool_texts(rows, held_out.tokens, normalize=True), held_out.teacher)


class _Batch(NamedTuple):
    ids: torch.Tensor
    offsets: torch.Tensor
    targets: torch.Tensor
    teacher: torch.Tensor


class _Batches:
    """Texts with a known token, and tokens as texts of their own, in a new order for each epoch."""

    def __init__(
        self, training: TrainingSet, token_targets: np.ndarray | None, config: TrainingConfig
    ) -> None:
        self._training = training
        self._token_targets = token_targets
        self._dropout = config.token_dropout
        self._random = np.random.default_rng(config.seed)
        self._texts = np.flatnonzero(np.diff(training.tokens.offsets))
        self._tokens = np.empty(0, dtype=np.int64)
        if token_targets is not None:
            self._tokens = np.flatnonzero(token_targets.any(axis=1))
        self.steps = -(-len(self._texts) // config.texts_per_step)

    def shuffle(self) -> Iterator[_Batch]:
        """Yield all texts in a new order, each batch with its share of the tokens."""
        texts = np.array_split(self._random.permutation(self._texts), self.steps)
        tokens = np.array_split(self._random.permutation(self._tokens), self.steps)
        for some, singles in zip(texts, tokens, strict=True):
            yield self._make(some, singles)

    def _make(self, texts: np.ndarray, singles: np.ndarray) -> _Batch:
        starts = self._training.tokens.offsets[texts]
        counts = self._training.tokens.offsets[texts + 1] - starts
        ends = np.cumsum(counts)
        positions = np.arange(ends[-1]) + np.repeat(starts - (ends - counts), counts)
        ids = self._training.tokens.ids[positions]
        if self._dropout:
            kept = self._random.random(len(ids)) >= self._dropout
            kept[ends - counts + self._random.integers(counts)] = True  # at least one of each text
            running = np.concatenate(([0], np.cumsum(kept)))
            ids, counts = ids[kept], running[ends] - running[ends - counts]
            ends = np.cumsum(counts)
        targets = self._training.targets[texts]
        offsets = ends - counts
        if self._token_targets is not None:
            offsets = np.concatenate([offsets, len(ids) + np.arange(len(singles))])
            ids = np.concatenate([ids, singles])
            targets = np.concatenate([targets, self._token_targets[singles]])
        return _Batch(
            torch.from_numpy(ids.astype(np.int64)),
            torch.from_numpy(offsets.astype(np.int64)),
            torch.from_numpy(targets),
            torch.from_numpy(self._training.teacher[texts]),
        )


def _loss(weight: torch.Tensor, batch: _Batch, relation: float) -> torch.Tensor:
    means = normalize(embedding_bag(batch.ids, weight, batch.offsets, mode="mean"))
    loss = 1 - (means * normalize(batch.targets)).sum(dim=1).mean()
    # Two texts are one pair, which correlates with nothing.
    if relation and len(batch.teacher) > 2:
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
