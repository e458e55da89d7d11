"""Count pairs of token ids in a hash table."""

from __future__ import annotations

import numpy as np

from lakevec.pipeline.encoding.kernels.compilation import compile_loop
from lakevec.pipeline.encoding.kernels.packed_bytes import slot_of

PAIR, COUNT = range(2)


def make_slots(size: int) -> np.ndarray:
    """Return empty slots, int64 of shape (size, 2): pair (-1 if empty) and count; `size` is a power of 2."""
    slots = np.zeros((size, 2), dtype=np.int64)
    slots[:, PAIR] = -1
    return slots


@compile_loop
def add_pairs(
    pairs: np.ndarray, counts: np.ndarray, first: int, slots: np.ndarray, used: int, most: int
) -> tuple[int, int]:
    """Add counts of pairs, until a new pair would need more than `most` slots.

    Parameters
    ----------
    pairs : int64 ndarray of shape (P,)
        Pairs as single numbers. Negative ones are skipped.
    counts : int64 ndarray of shape (P,) or (1,)
        Count of each pair, or of all.
    first : int
        Position to begin at.
    slots : int64 ndarray of shape (S, 2)
        See `make_slots`.
    used : int
        Slots in use.
    most : int
        Slots that may be in use, below S.

    Returns
    -------
    position : int
        The first pair that was not added; P if all were.
    used : int
        Slots in use now.

    Examples
    --------
    >>> slots = make_slots(8)
    >>> add_pairs(np.array([5, -1, 7, 5, 9]), np.array([1]), 0, slots, 0, 2)
    (4, 2)
    >>> sorted(slots[slots[:, 0] >= 0].tolist())
    [[5, 2], [7, 1]]
    """
    last = len(slots) - 1
    for position in range(first, len(pairs)):
        pair = pairs[position]
        if pair < 0:
            continue
        slot = slot_of(pair, last + 1)
        while slots[slot, PAIR] != pair:
            if slots[slot, PAIR] < 0:
                if used == most:
                    return position, used
                slots[slot, PAIR] = pair
                used += 1
                break
            slot = (slot + 1) & last
        slots[slot, COUNT] += counts[position if len(counts) > 1 else 0]
    return len(pairs), used
