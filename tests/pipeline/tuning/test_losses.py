"""Losses, against their formulas in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lakevec.pipeline.tuning.losses import Batch, batch_loss
from lakevec.pipeline.tuning.options import TuneOptions


def make_batch(texts: int = 7, width: int = 6) -> tuple[np.ndarray, Batch]:
    """A batch of texts of one row each, with random targets and teacher's vectors."""
    random = np.random.default_rng(0)
    rows, targets = random.normal(size=(2, texts, width)).astype(np.float32)
    teacher = random.normal(size=(texts, 9)).astype(np.float32)
    batch = Batch(
        torch.arange(texts), torch.arange(texts), None, torch.from_numpy(targets), torch.from_numpy(teacher)
    )
    return rows, batch


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def expected(rows: np.ndarray, batch: Batch, *, relation: float, divergence: bool) -> float:
    """The loss of one width, pair by pair."""
    means, targets, teacher = (unit(part) for part in (rows, batch.targets.numpy(), batch.teacher.numpy()))
    ours, theirs = means @ means.T, teacher @ teacher.T
    off = ~np.eye(len(rows), dtype=bool)
    loss = 1 - (means * targets).sum(axis=1).mean()
    loss += relation * (1 - np.corrcoef(ours[off], theirs[off])[0, 1])
    if divergence:
        shares = [np.exp(cosines / 0.1) * off for cosines in (theirs, ours)]
        p, q = (share / share.sum(axis=1, keepdims=True) for share in shares)
        loss += (p[off] * np.log(p[off] / q[off])).sum() / len(rows)
    return float(loss)


@pytest.mark.parametrize("name", ["divergence", "correlation"])
@pytest.mark.parametrize("relation", [0.0, 2.0])
def test_loss_is_its_formula(name: str, relation: float) -> None:
    rows, batch = make_batch()
    options = TuneOptions(loss=name, relation=relation)  # type: ignore[arg-type]
    found = batch_loss(torch.from_numpy(rows), batch, options).item()
    assert found == pytest.approx(
        expected(rows, batch, relation=relation, divergence=name == "divergence"), abs=1e-5
    )


def test_prefixes_count_like_all_columns() -> None:
    rows, batch = make_batch()
    found = batch_loss(torch.from_numpy(rows), batch, TuneOptions(prefixes=(2, 4), relation=1)).item()
    parts = [
        expected(
            rows[:, :width], batch._replace(targets=batch.targets[:, :width]), relation=1, divergence=True
        )
        for width in (2, 4, 6)
    ]
    assert found == pytest.approx(np.mean(parts), abs=1e-5)


def test_gradient_is_finite_where_the_diagonal_is_masked() -> None:
    rows, batch = make_batch()
    weight = torch.nn.Parameter(torch.from_numpy(rows))
    batch_loss(weight, batch, TuneOptions()).backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert torch.isfinite(weight.grad).all()


def test_weights_change_how_much_a_row_counts() -> None:
    rows, batch = make_batch()
    two = batch._replace(
        ids=torch.arange(7).repeat_interleave(2) % 7,
        offsets=torch.arange(0, 14, 2),
        weights=torch.tensor([1.0, 0.0] * 7),
    )
    options = TuneOptions()
    alone = batch_loss(torch.from_numpy(rows), batch, options).item()
    assert batch_loss(torch.from_numpy(rows), two, options).item() == pytest.approx(alone, abs=1e-6)
