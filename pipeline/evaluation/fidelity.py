"""Whether a student keeps to its teacher: similarities of the same rows, seen by both.

Takes vectors alone; whose they are, and of what texts, is the caller's business.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from lakevec.pipeline.errors import DataError

NEIGHBOURS = 10
# All pairs of 3,000 rows; more rows are compared in as many pairs, drawn with one seed.
MOST_PAIRS = 4_500_000
_BLOCK_ROWS = 1024
_SEED = 0


@dataclass(frozen=True)
class Fidelity:
    """How far a student's similarities are the teacher's.

    Parameters
    ----------
    rows : int
        Rows that both have a vector of, N.
    correlation : float
        Pearson correlation of the cosines of pairs of rows.
    rank_correlation : float
        Spearman correlation of the same.
    neighbours : float
        Share of the teacher's 10 nearest rows (N - 1, where that is less) that are among the student's.
    """

    rows: int
    correlation: float
    rank_correlation: float
    neighbours: float


@dataclass(frozen=True)
class Interval:
    """A difference and where it lies in 95 of 100 samples of the rows.

    Parameters
    ----------
    difference, low, high : float
    """

    difference: float
    low: float
    high: float


def measure_fidelity(student: np.ndarray, teacher: np.ndarray) -> Fidelity:
    """Compare the cosines and the neighbours of the same rows.

    Parameters
    ----------
    student : float ndarray of shape (N, D)
    teacher : float ndarray of shape (N, H)
        Row i of both is the vector of text i. Lengths don't matter; the zero vector is at cosine 0 to all.

    Returns
    -------
    Fidelity

    Raises
    ------
    DataError
        If there are fewer than three rows, or one side's cosines are all alike.

    Notes
    -----
    Correlations are over all pairs of up to 3,000 rows, above over 4,500,000 pairs drawn with a fixed seed.
    """
    ours, theirs = _unit_rows(student), _unit_rows(teacher)
    _check_rows(ours, theirs)
    mine, other = _cosines(ours, theirs)
    return Fidelity(
        rows=len(ours),
        correlation=_correlate(mine, other),
        rank_correlation=_correlate(rankdata(mine), rankdata(other)),
        neighbours=_shared_neighbours(ours, theirs),
    )


def compare_fidelity(
    one: np.ndarray, other: np.ndarray, teacher: np.ndarray, *, resamples: int = 1000, seed: int = 0
) -> Interval:
    """Tell by how much one student keeps closer to the teacher than another, with a bootstrap interval.

    Parameters
    ----------
    one, other : float ndarray of shape (N, D)
        Two students' vectors; their widths may differ.
    teacher : float ndarray of shape (N, H)
    resamples : int, default=1000
    seed : int, default=0

    Returns
    -------
    Interval
        Of the correlation of `one` minus that of `other`, over all pairs of rows; percentiles 2.5 and 97.5.

    Raises
    ------
    DataError
        As `measure_fidelity`.

    Notes
    -----
    Rows are drawn with replacement (Efron, 1979), not pairs: those that share a row are not independent.
    A row drawn k times weighs its pairs by k; a row's pair with itself never counts. With the weights w, each
    sum over pairs is ``w' C w`` of a matrix C of shape (N, N), so all resamples are one matrix product.
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


def _cosines(student: np.ndarray, teacher: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both sides' cosines of the same pairs."""
    rows = len(student)
    if rows * (rows - 1) // 2 <= MOST_PAIRS:
        pairs = np.triu_indices(rows, 1)
        return (student @ student.T)[pairs], (teacher @ teacher.T)[pairs]
    random = np.random.default_rng(_SEED)
    left = random.integers(rows, size=MOST_PAIRS)
    # A step of at least one, so that no row meets itself.
    right = (left + random.integers(1, rows, size=MOST_PAIRS)) % rows
    return _pair_cosines(student, left, right), _pair_cosines(teacher, left, right)


def _pair_cosines(rows: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    step = 1 << 16
    return np.concatenate(
        [
            np.einsum("ij,ij->i", rows[left[start : start + step]], rows[right[start : start + step]])
            for start in range(0, len(left), step)
        ]
    )


def _correlate(one: np.ndarray, other: np.ndarray) -> float:
    x = one.astype(np.float64) - one.mean(dtype=np.float64)
    y = other.astype(np.float64) - other.mean(dtype=np.float64)
    spread = float(np.sqrt((x @ x) * (y @ y)))
    if not spread > 0:
        raise DataError("fidelity", got="cosines that are all alike", expected="rows that differ")
    return float(x @ y) / spread


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
    """Return the nearest rows of each row of a block, itself left out."""
    cosines = rows[block] @ rows.T
    cosines[np.arange(len(cosines)), np.arange(block.start, block.stop)] = -np.inf
    found: np.ndarray = np.argpartition(-cosines, nearest - 1, axis=1)[:, :nearest]
    return found


def _weighted_correlations(
    students: tuple[np.ndarray, np.ndarray], teacher: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the correlation of each student for each set of row weights."""
    truth = _centred_cosines(teacher)
    pairs = _sum_pairs(np.ones_like(truth), weights)
    mean_y, mean_yy = _sum_pairs(truth, weights) / pairs, _sum_pairs(truth**2, weights) / pairs
    found = []
    for student in students:
        cosines = _centred_cosines(student)
        mean_x, mean_xx = _sum_pairs(cosines, weights) / pairs, _sum_pairs(cosines**2, weights) / pairs
        covariance = _sum_pairs(cosines * truth, weights) / pairs - mean_x * mean_y
        spread = np.sqrt((mean_xx - mean_x**2) * (mean_yy - mean_y**2))
        if not (spread > 0).all():
            raise DataError("fidelity", got="cosines that are all alike", expected="rows that differ")
        found.append(covariance / spread)
    return found[0], found[1]


def _centred_cosines(rows: np.ndarray) -> np.ndarray:
    """Return all cosines less their mean, so that squares don't lose digits."""
    cosines: np.ndarray = rows @ rows.T
    cosines -= cosines.mean()
    return cosines


def _sum_pairs(matrix: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return ``sum over i != j of w_i w_j C_ij`` for each row w of `weights`."""
    whole = np.einsum("bi,bi->b", weights @ matrix, weights, dtype=np.float64)
    itself = (weights.astype(np.float64) ** 2) @ np.diagonal(matrix)
    difference: np.ndarray = whole - itself
    return difference
