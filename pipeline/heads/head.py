"""A head: a linear model that turns a table's vectors into labels, or into numbers."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from lakevec.pipeline.errors import DataError, ModelError

Label = str | int | bool
LABEL_TYPES: dict[str, type] = {"string": str, "long": int, "boolean": bool}
# It begins the names of columns.
NAME_PATTERN = r"[A-Za-z_][A-Za-z0-9_-]*"
_LARGEST = 1e30


class HeadKind(StrEnum):
    """What a head predicts.

    ``CLASSIFICATION`` chooses one label of a text, ``MULTI_LABEL`` any number of labels, and ``REGRESSION``
    predicts a number.

    Examples
    --------
    >>> HeadKind("multi-label")
    <HeadKind.MULTI_LABEL: 'multi-label'>
    """

    CLASSIFICATION = "classification"
    MULTI_LABEL = "multi-label"
    REGRESSION = "regression"


class Predictions(NamedTuple):
    """The predictions of a head for N vectors.

    Parameters
    ----------
    labels : ndarray of shape (N,) or list of list
        Labels of a classification (object, int64 or bool), numbers of a regression (float64), or a list of
        labels for each vector.
    probabilities : float32 ndarray of shape (N,), list of list of float, or None
        Probability of each predicted label; None for a regression.

    Examples
    --------
    >>> Predictions(np.array([True]), np.array([0.75], dtype=np.float32)).labels
    array([ True])
    """

    labels: Any
    probabilities: Any


@dataclass(frozen=True, eq=False)
class Head:
    """A linear model on a table's vectors.

    Parameters
    ----------
    name : str
        Begins the names of the columns that ``lakevec embed --head`` adds.
    kind : HeadKind
    model : str
        Fingerprint of the table whose vectors it was trained on.
    coefficients : float32 ndarray of shape (K, D)
    intercepts : float32 ndarray of shape (K,)
    labels : tuple of str, int or bool
        K labels, all of one type. Empty for a regression, whose K is 1.
    max_tokens : int, optional
        The option that the vectors were computed with. Default: whole texts.
    threshold : float, default=0.5
        Least probability of a predicted label, if there may be several.
    uri : str, default=""
        Where the head was read from, without credentials.
    provenance, quality : dict
        How it was trained, and figures measured on held-out rows.

    Raises
    ------
    ModelError
        If shapes, types or values do not fit together, or the name can't begin the name of a column.

    Notes
    -----
    With z = coefficients @ v + intercepts, a classification predicts the label of the largest z with the
    probability ``exp(z_k) / sum_j exp(z_j)``. With several labels, each has the probability
    ``1 / (1 + exp(-z_k))``. A regression predicts z. Sums are float64, in the order of the vector's elements.
    So a row gives the same bits, whatever the other rows are.

    Examples
    --------
    >>> rows = np.array([[0, 4], [4, 0]], dtype=np.float32)
    >>> head = Head("way", HeadKind.CLASSIFICATION, "sha256:0", rows, np.zeros(2, np.float32), ("n", "e"))
    >>> labels, probabilities = head.predict(np.array([[0, 1], [0.5, 0]], dtype=np.float32))
    >>> labels, probabilities.round(3)
    (array(['n', 'e'], dtype=object), array([0.982, 0.881], dtype=float32))
    """

    name: str
    kind: HeadKind
    model: str
    coefficients: np.ndarray
    intercepts: np.ndarray
    labels: tuple[Label, ...] = ()
    max_tokens: int | None = None
    threshold: float = 0.5
    uri: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)
    quality: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(NAME_PATTERN, self.name):
            expected = "a letter or _, and then letters, digits, - and _"
            raise ModelError("name of a head", got=repr(self.name), expected=expected)
        _check_arrays(self)
        _check_labels(self)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the copy in float64, since each task carries the head."""
        return {name: value for name, value in vars(self).items() if name != "_wide"}

    @property
    def dimensions(self) -> int:
        """Width of the vectors, D."""
        return int(self.coefficients.shape[1])

    @property
    def label_type(self) -> str:
        """Spark's name of the type of a label, or of a predicted number."""
        names = {kind: name for name, kind in LABEL_TYPES.items()}
        return names[type(self.labels[0])] if self.labels else "double"

    @cached_property
    def fingerprint(self) -> str:
        """``sha256:`` and 64 hexadecimal digits over everything that changes a prediction."""
        facts = {
            "scheme": 1,
            "kind": self.kind.value,
            "model": self.model,
            "shape": list(self.coefficients.shape),
            "labels": list(self.labels),
            "label_type": self.label_type,
            "max_tokens": self.max_tokens,
            "threshold": self.threshold,
        }
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        for array in (self.coefficients, self.intercepts):
            digest.update(np.ascontiguousarray(array).data)
        return f"sha256:{digest.hexdigest()}"

    def predict(self, vectors: np.ndarray) -> Predictions:
        """Predict the labels of vectors.

        Parameters
        ----------
        vectors : float32 ndarray of shape (N, D)

        Returns
        -------
        Predictions

        Raises
        ------
        DataError
            If the vectors have another type or width.
        """
        scores = self.scores(vectors)
        if self.kind is HeadKind.REGRESSION:
            return Predictions(scores[:, 0], None)
        if self.kind is HeadKind.CLASSIFICATION:
            best, probabilities = choose_label(scores)
            kind = object if self.label_type == "string" else None
            return Predictions(np.array(self.labels, dtype=kind)[best], probabilities)
        rows, columns, probabilities = choose_labels(self, scores)
        ends = np.searchsorted(rows, np.arange(1, len(scores)))
        labels = [[self.labels[column] for column in part] for part in np.split(columns, ends)]
        shares = [part.tolist() for part in np.split(probabilities, ends)]
        return Predictions(labels[: len(scores)], shares[: len(scores)])

    def probabilities(self, vectors: np.ndarray) -> np.ndarray:
        """Return the probability of every label: float64 of shape (N, K), labels in the order of `labels`.

        Raises
        ------
        DataError
            If the head is a regression, or the vectors have another type or width.
        """
        if self.kind is HeadKind.REGRESSION:
            raise DataError(f"head {self.name!r} has no probabilities", got="a regression")
        from lakevec.pipeline.encoding.kernels.linear import to_chances, to_shares

        scores = self.scores(vectors)
        (to_shares if self.kind is HeadKind.CLASSIFICATION else to_chances)(scores)
        return scores

    def scores(self, vectors: np.ndarray) -> np.ndarray:
        """Return z, float64 of shape (N, K), for vectors of shape (N, D)."""
        # Imported here, so that reading a head loads no kernels.
        from lakevec.pipeline.encoding.kernels.linear import score_rows

        if vectors.dtype != np.float32 or vectors.ndim != 2 or vectors.shape[1] != self.dimensions:
            raise DataError(
                f"vectors for head {self.name!r}",
                got=f"{vectors.dtype} of shape {vectors.shape}",
                expected=f"float32 of shape (N, {self.dimensions})",
            )
        scores = np.empty((len(vectors), len(self.intercepts)), dtype=np.float64)
        score_rows(np.ascontiguousarray(vectors), *self._wide, scores)
        return scores

    def warm_up(self) -> None:
        """Compile the kernels, or load them from disk."""
        self.predict(np.zeros((1, self.dimensions), dtype=np.float32))

    @cached_property
    def _wide(self) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients (D, K) and intercepts (K,) in float64, as the kernel takes them."""
        return np.ascontiguousarray(self.coefficients.T, np.float64), self.intercepts.astype(np.float64)


def choose_label(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each row's label as its number, int64 (N,), and its probability, float32 (N,).

    `scores` are from `Head.scores`, and replaced by probabilities.
    """
    from lakevec.pipeline.encoding.kernels.linear import to_shares

    best = scores.argmax(axis=1)
    to_shares(scores)
    return best, scores[np.arange(len(scores)), best].astype(np.float32)


def choose_labels(head: Head, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return row and number (int64) and probability (float32) of each label, by row and label.

    `scores` are from `Head.scores`, and replaced by probabilities.
    """
    from lakevec.pipeline.encoding.kernels.linear import to_chances

    to_chances(scores)
    rows, columns = np.nonzero(scores >= head.threshold)
    return rows, columns, scores[rows, columns].astype(np.float32)


def _check_arrays(head: Head) -> None:
    for name, array, dimensions in (
        ("coefficients", head.coefficients, 2),
        ("intercepts", head.intercepts, 1),
    ):
        if array.dtype != np.float32 or array.ndim != dimensions or 0 in array.shape:
            got = f"{array.dtype} of shape {array.shape}"
            raise ModelError(
                f"{name} of a head", got=got, expected="float32 of shape (K, D), and intercepts (K,)"
            )
        # max propagates NaN, so this finds NaN, infinities and values that are too large.
        if not float(np.abs(array).max()) <= _LARGEST:
            raise ModelError(f"{name} of a head", got="NaN, infinity or values beyond 1e30")
    if len(head.coefficients) != len(head.intercepts):
        raise ModelError("a head", got="coefficients and intercepts of different lengths")


def _check_labels(head: Head) -> None:
    outputs = 1 if head.kind is HeadKind.REGRESSION else len(head.labels)
    least = 2 if head.kind is HeadKind.CLASSIFICATION else 1
    if len(head.coefficients) != outputs or outputs < least:
        raise ModelError(
            "a head", got=f"{len(head.labels)} labels and {len(head.coefficients)} rows of coefficients"
        )
    kinds = {type(label) for label in head.labels}
    if len(kinds) > 1 or not kinds <= {*LABEL_TYPES.values()} or len(set(head.labels)) != len(head.labels):
        raise ModelError("labels of a head", expected="different strings, integers or booleans")
    if head.kind is HeadKind.REGRESSION and head.labels:
        raise ModelError("a head for numbers", got="labels")
    if head.kind is HeadKind.MULTI_LABEL and kinds != {str}:
        raise ModelError("labels of a head", expected="strings, since a text may have several")
    if not 0 < head.threshold < 1:
        raise ModelError("threshold of a head", got=str(head.threshold), expected="between 0 and 1")
