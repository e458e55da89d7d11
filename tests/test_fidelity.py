"""Fidelity of a student to its teacher: by hand, beside scipy, and as a gate."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import distill
from scipy import stats
from tiny_teacher import make_texts, make_tiny_teacher

from lakevec.pipeline.errors import DataError
from lakevec.pipeline.evaluation import fidelity
from lakevec.pipeline.evaluation.fidelity import compare_fidelity, measure_fidelity


def random_vectors(seed: int, rows: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)


def test_fidelity_of_three_rows_by_hand() -> None:
    """The teacher's cosines are 1, 0, 0, the student's 0, 0, 1: correlation (1/3 - 2/9 - 1/9 ...) = -1/2."""
    teacher = np.array([[1, 0], [2, 0], [0, 1]])
    student = np.array([[1, 0], [0, 3], [0, 1]])
    found = measure_fidelity(student, teacher)
    assert found.rows == 3
    assert found.correlation == pytest.approx(-0.5, abs=1e-6)
    assert found.rank_correlation == pytest.approx(-0.5, abs=1e-6)
    assert found.neighbours == 1  # of three rows both others are the nearest two


def test_a_teacher_keeps_to_itself_whatever_the_lengths() -> None:
    rows = random_vectors(0, 50, 8)
    found = measure_fidelity(rows * np.arange(1, 51)[:, None], rows)
    assert found.correlation == pytest.approx(1)
    assert found.rank_correlation == pytest.approx(1)
    assert found.neighbours == 1


def test_correlations_and_neighbours_are_those_of_scipy_and_of_sorting() -> None:
    teacher = random_vectors(0, 120, 16)
    student = teacher[:, :6] + random_vectors(1, 120, 6)
    found = measure_fidelity(student, teacher)
    units = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (student, teacher)]
    cosines = [unit @ unit.T for unit in units]
    mine, theirs = (matrix[np.triu_indices(120, 1)] for matrix in cosines)
    assert found.correlation == pytest.approx(stats.pearsonr(mine, theirs)[0], abs=1e-5)
    assert found.rank_correlation == pytest.approx(stats.spearmanr(mine, theirs)[0], abs=1e-4)
    nearest = [np.argsort(-(matrix - 9 * np.eye(120)), axis=1)[:, :10] for matrix in cosines]
    shared = [len(set(one) & set(other)) for one, other in zip(*nearest, strict=True)]
    assert found.neighbours == pytest.approx(sum(shared) / 1200)


def test_many_rows_are_compared_in_pairs_that_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = random_vectors(0, 400, 16)
    student = teacher[:, :6] + random_vectors(1, 400, 6)
    whole = measure_fidelity(student, teacher)
    monkeypatch.setattr(fidelity, "MOST_PAIRS", 40_000)
    drawn = measure_fidelity(student, teacher)
    assert drawn.correlation == pytest.approx(whole.correlation, abs=0.02)
    assert drawn.correlation != whole.correlation
    assert drawn == measure_fidelity(student, teacher)


def test_interval_holds_the_difference_and_tells_noise_from_more() -> None:
    teacher = random_vectors(0, 200, 16)
    good = teacher + random_vectors(1, 200, 16)
    bad = teacher + 2 * random_vectors(2, 200, 16)
    found = compare_fidelity(good, bad, teacher, resamples=200)
    exact = measure_fidelity(good, teacher).correlation - measure_fidelity(bad, teacher).correlation
    assert found.difference == pytest.approx(exact, abs=1e-5)
    assert 0 < found.low < found.difference < found.high
    same = compare_fidelity(good, good * 2, teacher, resamples=200)
    assert same.low == pytest.approx(0, abs=1e-6)
    assert same.high == pytest.approx(0, abs=1e-6)
    assert found == compare_fidelity(good, bad, teacher, resamples=200)


def test_bootstrap_is_that_of_rows_written_out() -> None:
    """Each resample by hand: rows repeated as drawn, and no pair of a row with its own copy."""
    teacher = random_vectors(0, 30, 8)
    one, other = teacher + random_vectors(1, 30, 8), teacher + 2 * random_vectors(2, 30, 8)
    found = compare_fidelity(one, other, teacher, resamples=50, seed=3)
    draws = np.random.default_rng(3).multinomial(30, np.full(30, 1 / 30), size=50)
    cosines = []
    for rows in (one, other, teacher):
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        cosines.append(unit @ unit.T)
    differences = []
    for draw in draws:
        drawn = np.repeat(np.arange(30), draw)
        pairs = [(i, j) for place, i in enumerate(drawn) for j in drawn[place + 1 :] if i != j]
        left, right = np.array(pairs).T
        mine, theirs, truth = (matrix[left, right] for matrix in cosines)
        differences.append(stats.pearsonr(mine, truth)[0] - stats.pearsonr(theirs, truth)[0])
    np.testing.assert_allclose([found.low, found.high], np.percentile(differences, [2.5, 97.5]), atol=1e-4)


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        (np.eye(2), np.eye(2), "fidelity: got 2 and 2 rows; expected the same rows, at least 3"),
        (np.eye(4), np.eye(3), "fidelity: got 4 and 3 rows; expected the same rows, at least 3"),
        (np.ones((4, 2)), np.eye(4), "fidelity: got cosines that are all alike; expected rows that differ"),
    ],
    ids=["few", "others", "alike"],
)
def test_what_can_not_be_compared_is_refused(student: np.ndarray, teacher: np.ndarray, message: str) -> None:
    with pytest.raises(DataError) as caught:
        measure_fidelity(student, teacher)
    assert str(caught.value) == message


def test_gate_of_distill_publishes_or_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    teacher = make_tiny_teacher(tmp_path / "teacher")
    pq.write_table(pa.table({"body": make_texts(200)}), tmp_path / "rows.parquet")
    words = ["--teacher", str(teacher), "--dimensions", "8", "--sample", str(tmp_path / "rows.parquet")]
    words += ["--sample-text", "body"]
    assert distill([*words, "--output", str(tmp_path / "passes"), "--min-fidelity", "-1"]) == 0
    quality = json.loads((tmp_path / "passes" / "lakevec.json").read_text())["quality"]
    assert quality["sample_texts"] == 200
    assert (
        f"| sample fidelity | {quality['sample_fidelity']:.4g} |"
        in (tmp_path / "passes" / "README.md").read_text()
    )
    capsys.readouterr()
    assert distill([*words, "--output", str(tmp_path / "fails"), "--min-fidelity", "0.9999"]) == 1
    assert capsys.readouterr().err == (
        f"lakevec distill: the table does not keep to its teacher on sample '{tmp_path}/rows.parquet': got a "
        f"correlation of {quality['sample_fidelity']:.4f}; expected at least 0.9999; nothing was published; "
        "tune on more rows of the lake, or lower --min-fidelity\n"
    )
    assert sorted(file.name for file in tmp_path.iterdir()) == ["passes", "rows.parquet", "teacher"]


def test_gate_needs_a_sample(capsys: pytest.CaptureFixture[str]) -> None:
    assert distill(["--teacher", "t", "--output", "o", "--min-fidelity", "0.5"]) == 2
    assert "min_fidelity needs a sample" in capsys.readouterr().err
