"""Training of a table: fit means of token rows to the teacher's vectors of the same texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from lakevec.pipeline.encoding.kernels.pooling import Terms, pool
from lakevec.pipeline.errors import DataError
from lakevec.pipeline.evaluation.fidelity import Fidelity, measure_fidelity
from lakevec.pipeline.tuning.losses import Batch, batch_loss
from lakevec.pipeline.tuning.options import TuneOptions
from lakevec.pipeline.tuning.terms import drop_bigrams, drop_terms, take_terms

# Single tokens that an epoch takes for texts, per text. More of them would decide over the rows.
_TOKENS_PER_TEXT = 0.2


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Texts and the teacher's vectors of them.

    Parameters
    ----------
    terms : Terms
        Rows of N texts and their weights.
    targets : float32 ndarray of shape (N, D)
        The teacher's vectors on the table's axes, for the loss over directions.
    teacher : float32 ndarray of shape (N, H)
        The teacher's vectors, for the loss over pairwise similarities.
    first_bigram : int, optional
        First row of a bigram; a bigram never begins a text. Default: there are no bigrams.
    """

    terms: Terms
    targets: np.ndarray
    teacher: np.ndarray
    first_bigram: int | None = None

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
    `lakevec.pipeline.tuning.losses.batch_loss` defines the loss. Results are bit-for-bit reproducible on one
    machine with a fixed number of threads.
    """
    texts = np.flatnonzero(np.diff(training.terms.offsets))
    if not len(texts):
        raise DataError("tuning", got="no text with a known token", expected="texts that the table can read")
    random = np.random.default_rng(config.seed)
    start = start.astype(np.float32, copy=False)
    weight = torch.nn.Parameter(torch.from_numpy(start.copy()))
    rate = config.initial_learning_rate(len(training))
    optimizer = torch.optim.Adam([weight], lr=rate, fused=True)
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
                loss = batch_loss(weight, batch, config)
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


def pool_texts(rows: np.ndarray, terms: Terms, *, normalize: bool) -> np.ndarray:
    """Average the rows of each text: float32 of shape (N, D)."""
    vectors = np.empty((len(terms.offsets) - 1, rows.shape[1]), dtype=np.float32)
    table = np.ascontiguousarray(rows).view()
    table.flags.writeable = False
    pool(table, terms, vectors, normalize=normalize, is_sum=False)
    return vectors


def _measure(rows: np.ndarray, held_out: TrainingSet) -> Fidelity:
    return measure_fidelity(pool_texts(rows, held_out.terms, normalize=True), held_out.teacher)


def _count_steps(texts: np.ndarray, config: TuneOptions) -> int:
    return -(-len(texts) // config.texts_per_step)


def _shuffle(
    texts: np.ndarray,
    training: TrainingSet,
    token_targets: np.ndarray | None,
    config: TuneOptions,
    random: np.random.Generator,
) -> Iterator[Batch]:
    """Yield the batches of an epoch: all texts in random order, each batch with its share of the tokens."""
    steps = _count_steps(texts, config)
    if token_targets is None:
        token_targets = np.empty((0, training.targets.shape[1]), dtype=np.float32)
    tokens = np.flatnonzero(token_targets.any(axis=1))
    most = len(tokens) if config.loss == "correlation" else int(_TOKENS_PER_TEXT * len(texts))
    shuffled = random.permutation(texts), random.permutation(tokens)[:most]
    parts = (np.array_split(items, steps) for items in shuffled)
    for batch_texts, batch_tokens in zip(*parts, strict=True):
        terms = take_terms(training.terms, batch_texts)
        if training.first_bigram is not None and config.bigram_dropout:
            terms = drop_bigrams(terms, training.first_bigram, config.bigram_dropout, random)
        if config.token_dropout:
            terms = drop_terms(terms, config.token_dropout, random)
        lengths = np.append(np.diff(terms.offsets), np.ones_like(batch_tokens))
        weights = terms.weights
        if weights is not None:
            weights = np.append(weights, np.ones(len(batch_tokens), np.float32))
        targets = np.concatenate([training.targets[batch_texts], token_targets[batch_tokens]])
        yield Batch(
            torch.from_numpy(np.append(terms.ids, batch_tokens).astype(np.int64)),
            torch.from_numpy(np.cumsum(lengths) - lengths),
            None if weights is None else torch.from_numpy(weights),
            torch.from_numpy(targets),
            torch.from_numpy(training.teacher[batch_texts]),
        )
