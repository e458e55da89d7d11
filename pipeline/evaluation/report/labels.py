"""Where the names of circles go, so that they cover little."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Width of a bold letter in the mean.
_LETTER = 7.5


@dataclass(frozen=True)
class Circle:
    """A circle of a figure.

    Parameters
    ----------
    x, y, radius : float
    """

    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class _Box:
    """What a label or a circle covers."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        return max(0.0, self.right - self.left) * max(0.0, self.bottom - self.top)

    def shared(self, other: _Box) -> float:
        """Return the area that both cover."""
        return _Box(
            max(self.left, other.left),
            max(self.top, other.top),
            min(self.right, other.right),
            min(self.bottom, other.bottom),
        ).area


def place_labels(
    names: Sequence[str], circles: Sequence[Circle], *, width: float, height: float
) -> list[tuple[float, float]]:
    """Put each label right, left, above or below of its circle, where it covers least.

    Parameters
    ----------
    names : sequence of str
    circles : sequence of Circle
        One for each name.
    width, height : float
        Of the figure; what sticks out of it is as bad as what is covered.

    Returns
    -------
    list of (float, float)
        Where each label's text begins, on its base line.

    Examples
    --------
    >>> place_labels(["a", "b"], [Circle(50, 50, 5), Circle(64, 50, 5)], width=100, height=100)
    [(33.5, 54.0), (73.0, 54.0)]
    """
    taken = [_Box(c.x - c.radius, c.y - c.radius, c.x + c.radius, c.y + c.radius) for c in circles]
    placed = []
    for name, circle in zip(names, circles, strict=True):
        wide, apart = _LETTER * len(name), circle.radius + 4
        beside = [
            (circle.x + apart, circle.y + 4),
            (circle.x - apart - wide, circle.y + 4),
            (circle.x - wide / 2, circle.y - apart),
            (circle.x - wide / 2, circle.y + apart + 9),
        ]
        boxes = [_Box(x, y - 11, x + wide, y + 3) for x, y in beside]
        whole = _Box(0, 0, width, height)
        costs = [sum(box.shared(other) for other in taken) + box.area - box.shared(whole) for box in boxes]
        best = costs.index(min(costs))
        taken.append(boxes[best])
        placed.append((float(beside[best][0]), float(beside[best][1])))
    return placed
