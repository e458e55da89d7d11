"""Fit linear models with scikit-learn, and choose their regularization.

Columns are standardised before the fit, as in `lakevec.pipeline.evaluation.classification`, so that the scale
of the vectors doesn't matter. The standardisation then goes into the coefficients.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

from lakevec.pipeline.heads.head import HeadKind

STRENGTHS = (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0)
_ITERATIONS = 1000
_FOLDS = 3
# More rows would hardly change the choice, which takes 15 fits.
_CHOICE_ROWS = 10_000


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted linear model.

    Parameters
    ----------
    coefficients : float64 ndarray of shape (K, D)
    intercepts : float64 ndarray of shape (K,)
    """

    coefficients: np.ndarray
    intercepts: np.ndarray


@dataclass(frozen=True)
class Fitter:
    """Fits one kind of model.

    Parameters
    ----------
    kind : HeadKind
    labels : int
        Number of labels, K; 1 for a regression.
    class_weight : {"balanced"} or None
    """

    kind: HeadKind
    labels: int
    class_weight: str | None = None

    def fit(self, vectors: np.ndarray, targets: np.ndarray, strength: float) -> Fit:
        """Fit a model.

        Parameters
        ----------
        vectors : float32 ndarray of shape (N, D)
        targets : ndarray
            Number of each row's label, int64 (N,); which labels a row has, bool (N, K); or numbers, float64
            (N,).
        strength : float
            C, or 1 / alpha.
        """
        scaled = vectors.astype(np.float64)
        mean, deviation = scaled.mean(axis=0), scaled.std(axis=0)
        deviation[deviation == 0] = 1.0
        scaled -= mean
        scaled /= deviation
        if self.kind is HeadKind.REGRESSION:
            ridge = Ridge(alpha=1 / strength, solver="cholesky").fit(scaled, targets)
            rows, constants = ridge.coef_[None, :], np.array([ridge.intercept_])
        elif self.kind is HeadKind.CLASSIFICATION:
            rows, constants = self._fit_classes(scaled, targets, strength)
        else:
            parts = [self._fit_one(scaled, targets[:, label], strength) for label in range(self.labels)]
            rows, constants = np.stack([part[0] for part in parts]), np.array([part[1] for part in parts])
        rows = rows / deviation
        return Fit(rows, constants - rows @ mean)

    def _fit_classes(
        self, scaled: np.ndarray, targets: np.ndarray, strength: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Fit a multinomial model; labels without rows are never chosen."""
        rows = np.zeros((self.labels, scaled.shape[1]))
        constants = np.full(self.labels, -1e4)
        present = np.unique(targets)
        if len(present) == 1:  # the other folds may lack a rare label
            constants[present] = 0.0
            return rows, constants
        model = self._logistic(scaled, targets, strength)
        if len(model.classes_) == 2:
            # scikit-learn has one row for two labels. These two have the same difference.
            half, constant = model.coef_[0] / 2, model.intercept_[0] / 2
            rows[model.classes_], constants[model.classes_] = np.stack([-half, half]), [-constant, constant]
        else:
            rows[model.classes_], constants[model.classes_] = model.coef_, model.intercept_
        return rows, constants

    def _fit_one(self, scaled: np.ndarray, has: np.ndarray, strength: float) -> tuple[np.ndarray, float]:
        """Fit a model of one label of several; a label that all rows have, or none, needs no vector."""
        if has.all() or not has.any():
            number = np.count_nonzero(has)
            return np.zeros(scaled.shape[1]), float(np.log((number + 0.5) / (len(has) - number + 0.5)))
        model = self._logistic(scaled, has, strength)
        return model.coef_[0], float(model.intercept_[0])

    def _logistic(self, scaled: np.ndarray, targets: np.ndarray, strength: float) -> Any:
        model = LogisticRegression(C=strength, class_weight=self.class_weight, max_iter=_ITERATIONS)
        with warnings.catch_warnings():
            # The last step of a fit that has not converged is good enough to label with.
            warnings.simplefilter("ignore", ConvergenceWarning)
            return model.fit(scaled, targets)

    def choose_strength(self, vectors: np.ndarray, targets: np.ndarray) -> tuple[float, dict[str, float]]:
        """Choose the strength with the least loss in threefold cross-validation of the first 10,000 rows.

        It begins with the strongest regularization, and ends when the loss rises: weak regularization takes
        the longest to fit.

        Returns
        -------
        float
        dict of str to float
            Mean loss of each strength that was tried: log loss per row and label, or squared error.
        """
        chosen = self._choose_rows(targets)
        vectors, targets = vectors[chosen], targets[chosen]
        folds = self._number_folds(targets)
        losses: dict[float, float] = {}
        for strength in STRENGTHS:
            losses[strength] = self._cross_validate(vectors, targets, folds, strength)
            if losses[strength] > min(losses.values()):
                break
        # min keeps the first of equal losses, which is the stronger regularization.
        best = min(losses, key=losses.__getitem__)
        return best, {f"{strength:g}": loss for strength, loss in losses.items()}

    def _choose_rows(self, targets: np.ndarray) -> np.ndarray:
        """Return the first 10,000 rows; in a classification, also the first rows of labels that they lack."""
        chosen = np.arange(min(len(targets), _CHOICE_ROWS))
        if self.kind is not HeadKind.CLASSIFICATION:
            return chosen
        rows = [np.flatnonzero(targets == label)[:_FOLDS] for label in range(self.labels)]
        return np.unique(np.concatenate([chosen, *rows]))

    def _cross_validate(
        self, vectors: np.ndarray, targets: np.ndarray, folds: np.ndarray, strength: float
    ) -> float:
        """Return the mean loss of rows, each by a model that was fitted to the other folds."""
        total = 0.0
        for fold in range(_FOLDS):
            is_out = folds == fold
            fit = self.fit(vectors[~is_out], targets[~is_out], strength)
            if self.kind is HeadKind.CLASSIFICATION:  # the other folds may lack a rare label
                is_out = is_out & np.isin(targets, targets[~is_out])
            total += self._loss(fit, vectors[is_out], targets[is_out])
        return total / len(targets)

    def _number_folds(self, targets: np.ndarray) -> np.ndarray:
        """Deal the rows out to three folds; in a classification, each label's rows by themselves."""
        if self.kind is not HeadKind.CLASSIFICATION:
            return np.arange(len(targets)) % _FOLDS
        folds = np.empty(len(targets), dtype=np.int64)
        for label in range(self.labels):
            rows = np.flatnonzero(targets == label)
            # Labels of one row begin with different folds, so that no fold takes them all.
            folds[rows] = (np.arange(len(rows)) + label) % _FOLDS
        return folds

    def _loss(self, fit: Fit, vectors: np.ndarray, targets: np.ndarray) -> float:
        """Return the sum of the rows' losses."""
        scores = vectors.astype(np.float64) @ fit.coefficients.T + fit.intercepts
        if self.kind is HeadKind.REGRESSION:
            return float(np.square(scores[:, 0] - targets).sum())
        if self.kind is HeadKind.CLASSIFICATION:
            return float((_log_sum(scores) - scores[np.arange(len(scores)), targets]).sum())
        return float(np.logaddexp(0, np.where(targets, -scores, scores)).mean(axis=1).sum())


def _log_sum(scores: np.ndarray) -> np.ndarray:
    largest = scores.max(axis=1)
    total: np.ndarray = largest + np.log(np.exp(scores - largest[:, None]).sum(axis=1))
    return total
