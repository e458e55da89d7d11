"""The training loop."""

from __future__ import annotations

import numpy as np
import pytest

from lakevec.pipeline.encoding.kernels.pooling import Terms
from lakevec.pipeline.errors import DataError
from lakevec.pipeline.evaluation.fidelity import measure_fidelity
from lakevec.pipeline.tuning.options import TuneOptions
from lakevec.pipeline.tuning.training import TrainingSet, train


def lesson(ids: list[list[int]], targets: list[list[float]]) -> TrainingSet:
    offsets = np.cumsum([0, *map(len, ids)]).astype(np.int64)
    flat = np.array([token for text in ids for token in text], np.int32)
    rows = np.array(targets, np.float32)
    return TrainingSet(Terms(flat, offsets), rows, rows)


def test_one_step_of_training_by_hand() -> None:
    """Adam's first step moves each number by the learning rate against its gradient's sign.

    The mean of (1, 0) and (0, 1) is to point along (1, 0): both first columns rise, both second columns fall.
    """
    texts = lesson([[0, 1]], [[1.0, 0.0]])
    held_out = lesson([[0], [1], [2]], [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    method = TuneOptions(
        epochs=1, texts_per_step=4, learning_rate=0.1, loss="correlation", relation=0, patience=1
    )
    start = np.array([[1, 0], [0, 1], [1, -1]], np.float32)
    found = train(start, texts, held_out, method, progress=False)
    assert found.best == 1
    np.testing.assert_allclose(found.rows, [[1.1, -0.1], [0.1, 0.9], [1, -1]], atol=1e-5)
    assert found.epochs[0].loss == pytest.approx(1 - np.sqrt(0.5), abs=1e-6)


def test_relation_is_a_correlation_of_cosines() -> None:
    random = np.random.default_rng(0)
    start, targets = random.normal(size=(9, 4)).astype(np.float32), random.normal(size=(9, 4))
    texts = lesson([[number] for number in range(9)], targets.tolist())
    losses = []
    for relation in (0.0, 1.0):
        method = TuneOptions(epochs=1, learning_rate=1e-9, loss="correlation", relation=relation)
        losses.append(train(start, texts, texts, method, progress=False).epochs[0].loss)
    correlation = measure_fidelity(start, targets).correlation
    assert losses[1] - losses[0] == pytest.approx(1 - correlation, abs=1e-5)


@pytest.mark.parametrize("at_once", [1, 2, 8])
def test_steps_of_few_texts_leave_finite_rows(at_once: int) -> None:
    """Nine texts leave one for the last step of two or of eight."""
    random = np.random.default_rng(0)
    start, targets = random.normal(size=(9, 4)).astype(np.float32), random.normal(size=(9, 4))
    texts = lesson([[number] for number in range(9)], targets.tolist())
    method = TuneOptions(epochs=2, texts_per_step=at_once, learning_rate=0.01)
    found = train(start, texts, texts, method, progress=False)
    assert np.isfinite(found.rows).all()
    assert all(np.isfinite(epoch.loss) for epoch in found.epochs)


def test_training_without_gain_keeps_the_start_and_stops() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(9, 4)).astype(np.float32)
    texts = lesson([[number] for number in range(9)], rows.tolist())
    method = TuneOptions(epochs=50, learning_rate=0.5, relation=0, token_dropout=0.3)
    found = train(rows, lesson([[0], [1]], (-rows[:2]).tolist()), texts, method, progress=False)
    assert (found.best, len(found.epochs)) == (0, 2)
    assert found.rows is rows


def test_texts_without_a_token_can_not_be_learned_from() -> None:
    rows = np.eye(3, dtype=np.float32)
    held_out = lesson([[0], [1], [2]], np.eye(3).tolist())
    with pytest.raises(DataError, match="no text with a known token"):
        train(rows, lesson([[], []], [[1, 0, 0]] * 2), held_out, TuneOptions())
