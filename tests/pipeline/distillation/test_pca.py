"""Principal component analysis: axes, signs, shares and whitening."""

from __future__ import annotations

import numpy as np
import pytest

from lakevec.pipeline.distillation.pca import PcaProjection, reduce_rows, rotate_to_principal_axes
from lakevec.pipeline.errors import SettingsError


def test_pca_keeps_the_longest_axis_and_its_sign() -> None:
    """Points on the line (1, 1, 0), the furthest of them in the negative direction."""
    rows = np.array([[-5, -5, 0], [1, 1, 0], [2, 2, 0], [2, 2, 0]], dtype=np.float32)
    reduced = reduce_rows(rows, dimensions=1)
    np.testing.assert_allclose(reduced.rows[:, 0], np.sqrt(2) * np.array([5, -1, -2, -2]), atol=1e-5)
    assert reduced.explained_variance == pytest.approx(1.0)


def test_pca_is_centred_unscaled_and_keeps_distances_at_full_width() -> None:
    rows = np.random.default_rng(0).normal(size=(60, 12)).astype(np.float32) + 3
    scores = reduce_rows(rows, dimensions=12).rows
    np.testing.assert_allclose(scores.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(
        np.linalg.norm(scores[0] - scores[1]), np.linalg.norm(rows[0] - rows[1]), rtol=1e-5
    )


def test_axes_of_texts_are_those_of_rows_as_often_as_they_occur() -> None:
    """Rows that count k times, once each, beside rows that stand there k times."""
    random = np.random.default_rng(0)
    rows = (random.normal(size=(40, 6)) * [9, 7, 5, 3, 2, 1]).astype(np.float32) + 4
    times = random.integers(1, 6, size=40)
    shared = reduce_rows(rows, dimensions=3, shares=times)
    repeated = reduce_rows(np.repeat(rows, times, axis=0), dimensions=3)
    np.testing.assert_allclose(np.repeat(shared.rows, times, axis=0), repeated.rows, atol=1e-4)
    assert shared.explained_variance == pytest.approx(repeated.explained_variance, abs=1e-6)
    np.testing.assert_allclose(np.average(shared.rows, axis=0, weights=times), 0, atol=1e-5)


@pytest.mark.parametrize("whitening", [0.5, 1.0])
def test_whitening_divides_by_a_power_of_the_variance(whitening: float) -> None:
    random = np.random.default_rng(0)
    rows = (random.normal(size=(400, 5)) * [9, 7, 5, 3, 0]).astype(np.float32)
    shares = random.random(400)
    plain, white = (reduce_rows(rows, dimensions=5, shares=shares, whitening=w).rows for w in (0, whitening))
    before, after = (np.average(found**2, axis=0, weights=shares) for found in (plain, white))
    np.testing.assert_allclose(after[:4] / after[0], (before[:4] / before[0]) ** (1 - whitening), rtol=1e-4)
    np.testing.assert_allclose(white[:, 0], plain[:, 0], rtol=1e-5)
    assert not white[:, 4].any()


def test_more_dimensions_than_the_teacher_has_are_refused() -> None:
    with pytest.raises(SettingsError) as caught:
        reduce_rows(np.zeros((60, 12), np.float32), dimensions=13)
    assert str(caught.value) == (
        "dimensions: got 13; expected at most 12, for a teacher of width 12 and 60 rows"
    )


def test_share_of_variance_decides_how_many_axes_stay() -> None:
    rows = np.random.default_rng(0).normal(size=(500, 6)).astype(np.float32) * [100, 10, 1, 1, 1, 1]
    kept = reduce_rows(rows.astype(np.float32), dimensions=0.999)
    assert kept.rows.shape == (500, 2)
    assert 0.999 <= kept.explained_variance < 1
    assert reduce_rows(rows.astype(np.float32), dimensions="auto").rows.shape == (500, 6)
    np.testing.assert_array_equal(reduce_rows(rows, dimensions="none").rows, rows)


def test_rotation_changes_no_cosine_and_axes_are_those_of_pca() -> None:
    from sklearn.decomposition import PCA

    random = np.random.default_rng(0)
    rows = (random.normal(size=(40, 6)) * [9, 1, 5, 2, 3, 1]).astype(np.float32)
    turned = rotate_to_principal_axes(rows)
    np.testing.assert_allclose(turned @ turned.T, rows @ rows.T, rtol=1e-4, atol=1e-3)
    assert (np.diff((turned**2).sum(axis=0)) < 0).all()
    pca = PcaProjection.fit(rows, 3)
    reference = PCA(3).fit(rows)
    np.testing.assert_allclose(np.abs(pca.project(rows)), np.abs(reference.transform(rows)), atol=1e-3)
    assert pca.explained_variance == pytest.approx(reference.explained_variance_ratio_.sum(), abs=1e-5)
