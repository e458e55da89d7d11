"""Fidelity of a student to its teacher: whether both find the same rows similar."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lakevec.pipeline.errors import DataError
from lakevec.pipeline.evaluation.metrics import correlation, rank_correlation

NEIGHBOURS = 10
# All pairs of 3,000 rows. Of more rows, this many pairs are drawn with a fixed seed.
MOST_PAIRS = 4_500_000
_BLOCK_ROWS = 1024
_BLOCK_PAIRS = 1 << 16
_SEED = 0


@dataclass(frozen=True)
class Fidelity:
    """How close a student's similarities are to the teacher's.

    Parameters
    ----------
    rows : int
        Rows compared, N.
    correlation, rank_correlation : float
        Pearson's and Spearman's correlation between both sides' cosines of pairs of rows.
    neighbours : float
        Share of the teacher's 10 nearest rows that are among the student's 10 nearest; N - 1 rows if N < 11.
    """

    rows: int
    correlation: float
    rank_correlation: float
    neighbours: float


@dataclass(frozen=True)
class Interval:
    """A difference and its 95 % bootstrap interval."""

    difference: float
    low: float
    high: float


def measure_fidelity(student: np.ndarray, teacher: np.ndarray) -> Fidelity:
    """Compare the cosines and the nearest neighbours of the same rows.

    Correlations use all pairs of up to 3,000 rows. Of more rows, they use 4,500,000 pairs drawn with a fixed
    seed.

    Parameters
    ----------
    student : float ndarray of shape (N, D)
    teacher : float ndarray of shape (N, H)
        Row i of both is the vector of text i. Lengths don't matter. A zero vector has cosine 0 to all others.

    Raises
    ------
    DataError
        If there are fewer than three rows, or all cosines of one side are equal.
    """
    ours, theirs = _unit_rows(student), _unit_rows(teacher)
    _check_rows(ours, theirs)
    mine, other = _cosines(ours, theirs)
    by_value, by_rank = correlation(mine, other), rank_correlation(mine, other)
    if by_value is None or by_rank is None:
        raise _equal_cosines()
    return Fidelity(len(ours), by_value, by_rank, _shared_neighbours(ours, theirs))


def compare_fidelity(
    one: np.ndarray, other: np.ndarray, teacher: np.ndarray, *, resamples: int = 1000, seed: int = 0
) -> Interval:
    """Return the correlation of `one` minus that of `other`, with percentiles 2.5 and 97.5 of a bootstrap.

    The bootstrap draws rows with replacement (Efron, 1979), not pairs, since pairs that share a row are not
    independent. A row drawn k times gives its pairs the weight k. A row's pair with itself never counts. With
    weights w, each sum over pairs is ``w' C w`` for a matrix C of shape (N, N), so all resamples are one
    matrix product.

    Parameters
    ----------
    one, other : float ndarray of shape (N, D)
        Vectors of the two students, whose widths may differ.
    teacher : float ndarray of shape (N, H)
    resamples : int, default=1000
    seed : int, default=0

    Raises
    ------
    DataError
        As `measure_fidelity`.
    """
    ours, theirs, truth = _unit_rows(one), _unit_rows(other), _unit_rows(teacher)
    _check_rows(ours, truth)
    _check_rows(theirs, truth)
    rows = len(truth)
    draws = np.random.default_rng(seed).multinomial(rows, np.full(rows, 1 / rows), size=resamples)
    weights = np.vstack([np.ones(rows), draws]).astype(np.float32)
    differences = np.subtract(*_weighted_correlations((ours, theirs), truth, weights))
    low, high = np.percentile(differences[1:], [2.5, 97.5])
    return Interval(float(differences[0]), float(low), float(high))


def _unit_rows(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    rows: np.ndarray = (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return rows


def _check_rows(student: np.ndarray, teacher: np.ndarray) -> None:
    if len(student) != len(teacher) or len(teacher) < 3:
        raise DataError(
            "fidelity", got=f"{len(student)} and {len(teacher)} rows", expected="the same rows, at least 3"
        )


def _equal_cosines() -> DataError:
    return DataError("fidelity", got="cosines that are all equal", expected="rows that differ")


def _cosines(student: np.ndarray, teacher: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the cosines of the same pairs of rows on both sides."""
    rows = len(student)
    if rows * (rows - 1) // 2 <= MOST_PAIRS:
        pairs = np.triu_indices(rows, 1)
        return (student @ student.T)[pairs], (teacher @ teacher.T)[pairs]
    random = np.random.default_rng(_SEED)
    left = random.integers(rows, size=MOST_PAIRS)
    # A step of at least one, so that no row is paired with itself.
    right = (left + random.integers(1, rows, size=MOST_PAIRS)) % rows
    return _pair_cosines(student, left, right), _pair_cosines(teacher, left, right)


def _pair_cosines(rows: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    blocks = (slice(start, start + _BLOCK_PAIRS) for start in range(0, len(left), _BLOCK_PAIRS))
    return np.concatenate([np.einsum("ij,ij->i", rows[left[block]], rows[right[block]]) for block in blocks])


def _shared_neighbours(student: np.ndarray, teacher: np.ndarray) -> float:
    rows = len(student)
    nearest = min(NEIGHBOURS, rows - 1)
    shared = 0
    for start in range(0, rows, _BLOCK_ROWS):
        block = slice(start, min(start + _BLOCK_ROWS, rows))
        ours, theirs = _nearest(student, block, nearest), _nearest(teacher, block, nearest)
        shared += int((ours[:, :, None] == theirs[:, None, :]).sum())
    return shared / (rows * nearest)


def _nearest(rows: np.ndarray, block: slice, nearest: int) -> np.ndarray:
    """Return the nearest rows of each row in a block, without the row itself."""
    cosines = rows[block] @ rows.T
    cosines[np.arange(len(cosines)), np.arange(block.start, block.stop)] = -np.inf
    found: np.ndarray = np.argpartition(-cosines, nearest - 1, axis=1)[:, :nearest]
    return found


def _weighted_correlations(
    students: tuple[np.ndarray, np.ndarray], teacher: np.ndarray, weights: np.ndarray
) -> list[np.ndarray]:
    """Return each student's correlation for each set of row weights."""
    truth = _centred_cosines(teacher)
    pairs = _sum_pairs(np.ones_like(truth), weights)

    def mean(matrix: np.ndarray) -> np.ndarray:
        average: np.ndarray = _sum_pairs(matrix, weights) / pairs
        return average

    mean_y = mean(truth)
    variance_y = mean(truth**2) - mean_y**2
    found = []
    for student in students:
        cosines = _centred_cosines(student)
        mean_x = mean(cosines)
        covariance = mean(cosines * truth) - mean_x * mean_y
        spread = np.sqrt((mean(cosines**2) - mean_x**2) * variance_y)
        if not (spread > 0).all():
            raise _equal_cosines()
        found.append(covariance / spread)
    return found


def _centred_cosines(rows: np.ndarray) -> np.ndarray:
    """Return all cosines minus their mean, so that their squares lose no digits."""
    cosines: np.ndarray = rows @ rows.T
    cosines -= cosines.mean()
    return cosines


def _sum_pairs(matrix: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return ``sum over i != j of w_i w_j C_ij`` for each row w of `weights`."""
    whole = np.einsum("bi,bi->b", weights @ matrix, weights, dtype=np.float64)
    itself = (weights.astype(np.float64) ** 2) @ np.diagonal(matrix)
    difference: np.ndarray = whole - itself
    return difference
