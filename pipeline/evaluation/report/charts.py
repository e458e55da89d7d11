"""Axes of the report's figures: round marks, and positions between them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """An axis from its first mark to its last, linear unless `transform` says otherwise."""

    ticks: list[float]
    transform: Callable[[float], float] = float

    def position(self, value: float) -> float:
        """Return where a value lies: 0 at the first mark, 1 at the last."""
        low, high, place = map(self.transform, (self.ticks[0], self.ticks[-1], value))
        return (place - low) / (high - low)


def linear_axis(values: Sequence[float]) -> Axis:
    """Make an axis around values, with about five steps of 1, 2 or 5 times a power of ten.

    Examples
    --------
    >>> linear_axis([41.0, 58.0]).ticks
    [35.0, 40.0, 45.0, 50.0, 55.0, 60.0]
    """
    rough = (max(values) - min(values) or max(abs(max(values)), 1.0)) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first, last = math.floor(min(values) / step - 0.25), math.ceil(max(values) / step + 0.25)
    return Axis([number * step for number in range(first, last + 1)])


def log_axis(values: Sequence[float]) -> Axis:
    """Make a logarithmic axis around positive values, with a mark at each power of ten.

    Examples
    --------
    >>> log_axis([400.0, 20_000.0]).ticks
    [100.0, 1000.0, 10000.0, 100000.0]
    """
    first, last = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return Axis([10.0**power for power in range(first, max(last, first + 1) + 1)], math.log10)
