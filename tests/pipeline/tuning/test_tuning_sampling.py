"""How many texts each stratum gives."""

from __future__ import annotations

from lakevec.pipeline.tuning.sampling import allocate_equally, allocate_proportionally


def test_shares_add_up() -> None:
    available = {"a": 3, "b": 1000, "c": 77, "d": 0}
    for rows in (0, 1, 7, 100, 1080, 5000):
        for share in (allocate_equally, allocate_proportionally):
            found = share(available, rows)
            assert sum(found.values()) == min(rows, 1080)
            assert all(found[name] <= available[name] for name in available)
