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
from lakevec.pipeline.tuning.options import TuneOptions


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
    config: TuneOptions,
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
    texts = np.flatnonzero(np.diff(training.tokens.offsets))
    if not len(texts):
        raise DataError("tuning", got="no text with a known token", expected="texts that the table can read")
    random = np.random.default_rng(config.seed)
    start = start.astype(np.float32, copy=False)
    weight = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = torch.optim.Adam([weight], lr=config.learning_rate, fused=True)
    steps = config.epochs * _count_steps(texts, config)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    before = _measure(start, held_out)
    epochs: list[Epoch] = []
    rows, best, best_correlation = start, 0, before.correlation
    with tqdm(total=steps, desc="tuning", unit="batch", disable=None if progress else True) as bar:
        while len(epochs) < config.epochs and len(epochs) - best < config.patience:
            losses = []
            for batch in _shuffle(texts, training, token_targets, config, random):
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


def pool_texts(
    rows: np.ndarray, tokens: TokenIds, *, normalize: bool, position_scale: float | None = None
) -> np.ndarray:
    """Average the rows of each text's tokens, by position if there is a scale: float32 of shape (N, D)."""
    vectors = np.empty((len(tokens.offsets) - 1, rows.shape[1]), dtype=np.float32)
    table = np.ascontiguousarray(rows).view()
    table.flags.writeable = False
    pool_mean(table, tokens.ids, tokens.offsets, vectors, normalize=normalize, position_scale=position_scale)
    return vectors


def _measure(rows: np.ndarray, held_out: TrainingSet) -> Fidelity:
    return measure_fidelity(pool_texts(rows, held_out.tokens, normalize=True), held_out.teacher)


class _Batch(NamedTuple):
    ids: torch.Tensor
    offsets: torch.Tensor
    targets: torch.Tensor
    teacher: torch.Tensor


def _count_steps(texts: np.ndarray, config: TuneOptions) -> int:
    return -(-len(texts) // config.texts_per_step)


def _shuffle(
    texts: np.ndarray,
    training: TrainingSet,
    token_targets: np.ndarray | None,
    config: TuneOptions,
    random: np.random.Generator,
) -> Iterator[_Batch]:
    """Yield the batches of an epoch: all texts in random order, each batch with its share of the tokens."""
    steps = _count_steps(texts, config)
    if token_targets is None:
        token_targets = np.empty((0, training.targets.shape[1]), dtype=np.float32)
    tokens = np.flatnonzero(token_targets.any(axis=1))
    shuffled = [np.array_split(random.permutation(items), steps) for items in (texts, tokens)]
    for batch_texts, batch_tokens in zip(*shuffled, strict=True):
        ids, counts = _take_tokens(training.tokens, batch_texts)
        if config.token_dropout:
            ids, counts = _drop_tokens(ids, counts, config.token_dropout, random)
        ids = np.concatenate([ids, batch_tokens]).astype(np.int64)
        lengths = np.concatenate([counts, np.ones_like(batch_tokens)])
        targets = np.concatenate([training.targets[batch_texts], token_targets[batch_tokens]])
        yield _Batch(
            torch.from_numpy(ids),
            torch.from_numpy(np.cumsum(lengths) - lengths),
            torch.from_numpy(targets),
            torch.from_numpy(training.teacher[batch_texts]),
        )


def _take_tokens(tokens: TokenIds, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the token ids of some texts, and how many each has."""
    starts = tokens.offsets[texts]
    counts = tokens.offsets[texts + 1] - starts
    ends = np.cumsum(counts)
    positions = np.arange(ends[-1]) + np.repeat(starts - (ends - counts), counts)
    return tokens.ids[positions], counts


def _drop_tokens(
    ids: np.ndarray, counts: np.ndarray, share: float, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Drop a share of the tokens at random, but keep at least one of each text."""
    starts = np.cumsum(counts) - counts
    kept = random.random(len(ids)) >= share
    kept[starts + random.integers(counts)] = True
    return ids[kept], np.add.reduceat(kept, starts, dtype=np.int64)


def _loss(weight: torch.Tensor, batch: _Batch, relation: float) -> torch.Tensor:
    means = normalize(embedding_bag(batch.ids, weight, batch.offsets, mode="mean"))
    loss = 1 - (means * normalize(batch.targets)).sum(dim=1).mean()
    # A correlation needs more than one pair, so more than two texts.
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
    return (cosines - mean) * (1 - torch.eye(texts))


def _correlation(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return (one * other).sum() / (one.square().sum() * other.square().sum()).clamp(min=1e-24).sqrt()
