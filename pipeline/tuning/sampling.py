"""Allocation of a stratified sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

Stratum = TypeVar("Stratum", str, int)


def allocate_equally(available: Mapping[Stratum, int], rows: int) -> dict[Stratum, int]:
    """Give every stratum the same number of rows, or all of its rows if it has fewer.

    The result adds up to `rows`, or to all available rows. Remainders go to the smaller strata, and among
    equal strata to the first name.

    Examples
    --------
    >>> allocate_equally({"news": 2, "reviews": 50, "manuals": 50}, 11)
    {'news': 2, 'manuals': 5, 'reviews': 4}
    """
    shares: dict[Stratum, int] = {}
    remaining = min(rows, sum(available.values()))
    # Smallest first, so that the larger strata share the rows that a small one lacks.
    by_size = sorted(available, key=lambda name: (available[name], name))
    for number, name in enumerate(by_size):
        shares[name] = min(available[name], -(-remaining // (len(by_size) - number)))
        remaining -= shares[name]
    return shares


def allocate_proportionally(available: Mapping[str, int], rows: int) -> dict[str, int]:
    """Give every stratum rows in proportion to its size.

    The result adds up to `rows`, or to all available rows. The largest remainders are rounded up.

    Examples
    --------
    >>> allocate_proportionally({"short": 30, "long": 10}, 6)
    {'long': 2, 'short': 4}
    """
    total = sum(available.values())
    rows = min(rows, total)
    shares = {name: rows * available[name] // max(total, 1) for name in sorted(available)}
    by_remainder = sorted(shares, key=lambda name: (-(rows * available[name] % max(total, 1)), name))
    for name in by_remainder[: rows - sum(shares.values())]:
        shares[name] += 1
    return shares
