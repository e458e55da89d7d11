"""Training of a table: fit means of token rows to the teacher's vectors of the same texts."""

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
        Token ids of N texts.
    targets : float32 ndarray of shape (N, D)
        The teacher's vectors on the table's axes, for the loss over directions.
    teacher : float32 ndarray of shape (N, H)
        The teacher's vectors, for the loss over pairwise similarities.
    """

    tokens: TokenIds
    targets: np.ndarray
    teacher: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Epoch:
    """Mean training loss of an epoch, and fidelity on held-out texts after the epoch."""

    loss: float
    fidelity: Fidelity


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """A trained table and its training history.

    Parameters
    ----------
    rows : float32 ndarray of shape (V, D)
        Rows after the best epoch.
    start : Fidelity
        Fidelity before training.
    epochs : list of Epoch
    best : int
        Number of the epoch with the best fidelity, from 1; 0 if no epoch improved on the start.
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
    """Fit the rows so that their means have the directions of the teacher's vectors.

    Parameters
    ----------
    start : float32 ndarray of shape (V, D)
        Initial rows, including weights.
    training, held_out : TrainingSet
        Texts to train on, and texts that decide when to stop.
    token_targets : float32 ndarray of shape (V, D), optional
        The teacher's vector of each token. If given, training also treats each token as a text, which keeps
        rows of rare tokens in the space of the others.

    Raises
    ------
    DataError
        If no text has a known token, or too few held-out rows differ.

    Notes
    -----
    The loss of a batch is ``mean(1 - cos(s_i, t_i)) + relation * (1 - corr(S, T))`` with the means ``s``, the
    targets ``t``, and the cosines ``S`` of all pairs of means and ``T`` of all pairs of teacher's vectors.
    The first term is that of Tokenlearn (MinishLab, 2024). The second follows Park et al., "Relational
    Knowledge Distillation" (CVPR 2019). Neither term depends on lengths, so a row's length can act as its
    weight. Results are bit-for-bit reproducible on one machine with a fixed number of threads.
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
                rows, best = weight.detach().numpy().copy(), len(epochs)
                best_correlation = fidelity.correlation
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
    """Texts with a known token, and tokens as texts, in a new random order for each epoch."""

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
        """Yield batches of all texts in a new random order, each with its share of the tokens."""
        texts = np.array_split(self._random.permutation(self._texts), self.steps)
        tokens = np.array_split(self._random.permutation(self._tokens), self.steps)
        for batch_texts, batch_tokens in zip(texts, tokens, strict=True):
            yield self._make(batch_texts, batch_tokens)

    def _make(self, texts: np.ndarray, tokens: np.ndarray) -> _Batch:
        starts = self._training.tokens.offsets[texts]
        counts = self._training.tokens.offsets[texts + 1] - starts
        ends = np.cumsum(counts)
        positions = np.arange(ends[-1]) + np.repeat(starts - (ends - counts), counts)
        ids = self._training.tokens.ids[positions]
        if self._dropout:
            kept = self._random.random(len(ids)) >= self._dropout
            kept[ends - counts + self._random.integers(counts)] = True  # keep a token of each text
            running = np.concatenate(([0], np.cumsum(kept)))
            ids, counts = ids[kept], running[ends] - running[ends - counts]
            ends = np.cumsum(counts)
        targets = self._training.targets[texts]
        offsets = ends - counts
        if self._token_targets is not None:
            offsets = np.concatenate([offsets, len(ids) + np.arange(len(tokens))])
            ids = np.concatenate([ids, tokens])
            targets = np.concatenate([targets, self._token_targets[tokens]])
        return _Batch(
            torch.from_numpy(ids.astype(np.int64)),
            torch.from_numpy(offsets.astype(np.int64)),
            torch.from_numpy(targets),
            torch.from_numpy(self._training.teacher[texts]),
        )


def _loss(weight: torch.Tensor, batch: _Batch, relation: float) -> torch.Tensor:
    means = normalize(embedding_bag(batch.ids, weight, batch.offsets, mode="mean"))
    loss = 1 - (means * normalize(batch.targets)).sum(dim=1).mean()
    # A correlation needs more than the one pair of two texts.
    if relation and len(batch.teacher) > 2:
        students = _centred_cosines(means[: len(batch.teacher)])
        teachers = _centred_cosines(normalize(batch.teacher))
        loss = loss + relation * (1 - _correlation(students, teachers))
    return loss


def _centred_cosines(vectors: torch.Tensor) -> torch.Tensor:
    """Return the cosines of all pairs minus their mean, with a diagonal of 0."""
    texts = len(vectors)
    cosines = vectors @ vectors.T
    mean = (cosines.sum() - cosines.diagonal().sum()) / max(texts * (texts - 1), 1)
    centred: torch.Tensor = (cosines - mean) * (1 - torch.eye(texts))
    return centred


def _correlation(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    product: torch.Tensor = (one * other).sum()
    return product / (one.square().sum() * other.square().sum()).clamp(min=1e-24).sqrt()
