"""Options of training a head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lakevec.pipeline.errors import SettingsError


@dataclass(frozen=True)
class HeadOptions:
    """How to train a head.

    Parameters
    ----------
    kind : {"auto", "classification", "multi-label", "regression"}, default="auto"
        ``auto`` takes classification for strings, integers and booleans, multi-label for lists of strings,
        and regression for floats.
    class_weight : {"none", "balanced"}, default="none"
        ``balanced`` weighs the rows of a label by the inverse of its frequency.
    regularization : float, optional
        C of scikit-learn's logistic regression, or 1 / alpha of its ridge regression: smaller is stronger.
        Default: by threefold cross-validation of the training rows, from 0.0001 in steps of 10 to 10, until
        the loss rises.
    held_out : float, default=0.2
        Share of the rows that training does not see, for the figures. 0 measures nothing.
    max_tokens : int, optional
        Train on the vectors of the first `max_tokens` known tokens. Default: whole texts.
    seed : int, default=0
        Seed of the order of rows, and so of the held-out rows.

    Raises
    ------
    SettingsError
        If a number is out of range.

    Examples
    --------
    >>> HeadOptions(class_weight="balanced").held_out
    0.2
    """

    kind: Literal["auto", "classification", "multi-label", "regression"] = "auto"
    class_weight: Literal["none", "balanced"] = "none"
    regularization: float | None = None
    held_out: float = 0.2
    max_tokens: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.held_out < 1:
            raise SettingsError("held_out", got=str(self.held_out), expected="0 or more, and below 1")
        if self.regularization is not None and not self.regularization > 0:
            raise SettingsError("regularization", got=str(self.regularization), expected="above 0")
