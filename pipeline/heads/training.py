"""Train a head on vectors and labels, and measure it on held-out rows. Needs scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from lakevec import __version__
from lakevec.pipeline.errors import DataError, requires_extra
from lakevec.pipeline.heads.head import Head, HeadKind, Label
from lakevec.pipeline.heads.options import HeadOptions

if TYPE_CHECKING:
    from lakevec.pipeline.model.artifact import Artifact

_LEAST_ROWS, _LEAST_TRAINED = 10, 5


def train_head(
    model: Artifact,
    texts: Sequence[str],
    labels: Sequence[Any] | np.ndarray,
    *,
    name: str,
    options: HeadOptions | None = None,
) -> Head:
    """Train a head on labelled texts, and measure it on a held-out part of them.

    Parameters
    ----------
    model : Artifact
    texts : sequence of str, of length N
        At least 10.
    labels : sequence or ndarray of length N
        Strings, integers or booleans; lists of strings; or floats. See `HeadOptions`.
    name : str
        Begins the names of the columns that ``lakevec embed --head`` adds.
    options : HeadOptions, optional

    Returns
    -------
    Head
        Trained on all rows but the held-out ones. `quality` holds the figures.

    Raises
    ------
    DataError
        If there are too few rows, or labels of no kind that a head can learn.
    SetupError
        If scikit-learn is not installed.

    Notes
    -----
    The same rows in the same order give the same bits on one machine. scikit-learn's logistic regression (L2,
    LBFGS, multinomial, or one-versus-rest for several labels) and ridge regression work on standardised
    columns.

    Examples
    --------
    >>> from lakevec.pipeline.model.artifact import Artifact
    >>> from lakevec.pipeline.model.table import StaticTable
    >>> from lakevec.pipeline.model.word_tokenizer import make_word_tokenizer
    >>> words = make_word_tokenizer(["north", "east"], lowercase=True).to_str()
    >>> model = Artifact(StaticTable(np.eye(3, 2, dtype=np.float32), words), "by hand")
    >>> head = train_head(model, ["north", "east"] * 20, ["cold", "warm"] * 20, name="climate")
    >>> head.predict(model.encode(["North north"])).labels.tolist(), head.quality["accuracy"]
    (['cold'], 1.0)
    """
    options = options or HeadOptions()
    vectors = model.encode(texts, max_tokens=options.max_tokens)
    values: Sequence[Any] = labels.tolist() if isinstance(labels, np.ndarray) else labels
    return train_on_vectors(model, vectors, values, name=name, options=options)


def train_on_vectors(
    model: Artifact, vectors: np.ndarray, labels: Sequence[Any], *, name: str, options: HeadOptions
) -> Head:
    """Train a head as `train_head` does, on vectors (float32 of shape (N, D)) that `model` gave."""
    with requires_extra("heads", "training a head"):
        from threadpoolctl import threadpool_limits

        from lakevec.pipeline.heads.figures import measure
        from lakevec.pipeline.heads.fitting import Fitter
    if len(vectors) != len(labels) or len(labels) < _LEAST_ROWS:
        got, expected = f"{len(labels)} labelled rows", f"at least {_LEAST_ROWS}, and a label for each text"
        raise DataError("too few rows to train a head on", got=got, expected=expected)
    kind = find_kind(labels, options.kind)
    known, targets = _number_labels(labels, kind)
    order = np.random.default_rng(options.seed).permutation(len(labels))
    is_held_out = _hold_out(targets[order], kind, options.held_out)
    rest, out = order[~is_held_out], order[is_held_out]
    if len(rest) < _LEAST_TRAINED:
        raise DataError(
            "too few rows to train a head on",
            got=f"{len(rest)} beside the {len(out)} held-out rows",
            expected=f"at least {_LEAST_TRAINED}",
            remedy="hold out fewer",
        )
    fitter = Fitter(kind, max(len(known), 1), None if options.class_weight == "none" else "balanced")
    # BLAS sums in the same order on one thread only.
    with threadpool_limits(1):
        losses: dict[str, float] = {}
        strength = options.regularization
        if strength is None:
            strength, losses = fitter.choose_strength(vectors[rest], targets[rest])
        fit = fitter.fit(vectors[rest], targets[rest], strength)
        head = Head(
            name=name,
            kind=kind,
            model=model.table.fingerprint,
            coefficients=fit.coefficients.astype(np.float32),
            intercepts=fit.intercepts.astype(np.float32),
            labels=known,
            max_tokens=options.max_tokens,
            provenance={
                **_describe_training(model, options, strength, losses),
                "rows": {"rows_trained_on": len(rest), "rows_held_out": len(out)},
            },
        )
        if len(out):
            head.quality.update(measure(head, vectors[out], targets[out], targets[rest]))
    return head


def _describe_training(
    model: Artifact, options: HeadOptions, strength: float, losses: dict[str, float]
) -> dict[str, Any]:
    """Return a head's provenance, without the numbers of rows."""
    return {
        "model": {"uri": model.uri},
        "settings": {
            "class_weight": options.class_weight,
            "regularization": strength,
            "seed": options.seed,
        },
        "versions": {"lakevec": __version__, "scikit-learn": version("scikit-learn")},
        **({"cross_validation_losses": losses} if losses else {}),
    }


def find_kind(labels: Sequence[Any], wanted: str) -> HeadKind:
    """Find the kind of head that labels are for; raise DataError if they don't fit the `wanted` kind."""
    kinds = {type(label) for label in labels}
    if kinds <= {list, tuple} and all(type(part) is str for label in labels for part in label):
        natural = HeadKind.MULTI_LABEL
    elif len(kinds) == 1 and kinds <= {str, int, bool}:
        natural = HeadKind.CLASSIFICATION
    elif kinds <= {int, float}:
        natural = HeadKind.REGRESSION
    else:
        raise DataError(
            "labels",
            got=", ".join(sorted(kind.__name__ for kind in kinds)),
            expected="strings, integers, booleans or floats, all of one type, or lists of strings",
        )
    kind = natural if wanted == "auto" else HeadKind(wanted)
    is_number = kind is HeadKind.REGRESSION and kinds <= {int, float}
    if kind is not natural and not is_number:
        raise DataError(f"labels for kind {kind.value}", got=f"labels for {natural.value}")
    return kind


def _number_labels(labels: Sequence[Any], kind: HeadKind) -> tuple[tuple[Label, ...], np.ndarray]:
    """Return the different labels in order, and the targets as `Fitter.fit` takes them."""
    if kind is HeadKind.REGRESSION:
        numbers = np.array(labels, dtype=np.float64)
        bad = int((~np.isfinite(numbers)).sum())
        if bad or (numbers == numbers[0]).all():
            got = f"{bad:,} that are NaN or infinite" if bad else "equal ones only"
            raise DataError("numbers to learn", got=got, expected="finite numbers that are not all equal")
        return (), numbers
    is_single = kind is HeadKind.CLASSIFICATION
    known = tuple(sorted(set(labels) if is_single else {part for label in labels for part in label}))
    if len(known) < 2 or len(known) > len(labels) // 2:
        raise DataError(
            "labels to learn",
            got=f"{len(known):,} different labels in {len(labels):,} rows",
            expected="at least two, and two rows for each on average",
        )
    number = {label: index for index, label in enumerate(known)}
    if is_single:
        return known, np.array([number[label] for label in labels], dtype=np.int64)
    targets = np.zeros((len(labels), len(known)), dtype=bool)
    for row, label in enumerate(labels):
        targets[row, [number[part] for part in label]] = True
    return known, targets


def _hold_out(targets: np.ndarray, kind: HeadKind, share: float) -> np.ndarray:
    """Return which rows to hold out: the first `share` of the rows, or of each label's rows."""
    if kind is not HeadKind.CLASSIFICATION:
        return np.arange(len(targets)) < round(share * len(targets))
    is_held_out = np.zeros(len(targets), dtype=bool)
    for label in np.unique(targets):
        rows = np.flatnonzero(targets == label)
        # Training needs a row of each label.
        is_held_out[rows[: min(round(share * len(rows)), len(rows) - 1)]] = True
    return is_held_out
