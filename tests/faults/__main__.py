"""``python -m tests.faults``: the long form, with a table of lost and wrong rows."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from .faults import SmallDisk
from .harness import Harness, Outcome
from .modes import MODES, Workshop
from .plan import plan, plan_by_chance

_NUMBERS = (
    *("kills", "reruns", "lost", "doubled", "wrong", "bad views", "never done"),
    *("left", "looks", "overtaken", "copies", "s"),
)
# Times to replace faults that came too late.
_ROUNDS = 3


def main() -> int:
    given = _parse()
    started = time.monotonic()
    folder = Path(given.folder or tempfile.mkdtemp(prefix="lakevec-faults-"))
    folder.mkdir(parents=True, exist_ok=True)
    names = given.only or [name for name, mode in MODES.items() if mode.is_struck]
    workshop = Workshop(folder, given.rows)
    workshop.prepare()
    known = {}
    for name in names:
        known[name] = workshop.know(name)
        print(f"{name}: undisturbed {known[name].seconds:.0f} s, {len(known[name].new):,} rows", flush=True)
    has_disks = SmallDisk.can_mount(folder / "disk")
    if not has_disks:
        print("no disk is filled: this process may not mount a small one (mount -t tmpfs)")
    cases = plan(known, given.kills, has_disks=has_disks, seed=given.seed)
    print(f"{len(cases)} cases in {folder}", flush=True)
    harness, outcomes = Harness(workshop), []
    for seed in range(given.seed, given.seed + _ROUNDS):
        outcomes += harness.run_all(
            cases, at_once=given.at_once, tell=lambda outcome: print(outcome, flush=True)
        )
        # A run may end before its fault strikes.
        missing = given.kills - sum(outcome.kills for outcome in outcomes)
        cases = plan_by_chance(known, missing, seed=seed)
    workshop.close()
    lines = list(_table(outcomes))
    print("\n" + "\n".join(lines))
    minutes = (time.monotonic() - started) / 60
    is_good = all(outcome.is_good for outcome in outcomes)
    print(f"\n{minutes:.0f} minutes, {given.rows:,} rows; {'all exact' if is_good else f'see {folder}'}")
    if is_good and not given.folder:
        shutil.rmtree(folder)
    return 0 if is_good else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    struck = [name for name, mode in MODES.items() if mode.is_struck]
    parser.add_argument("--kills", type=int, default=150, metavar="N", help="kills (default: 150)")
    parser.add_argument("--rows", type=int, default=208_000, metavar="N", help="rows (default: 208000)")
    parser.add_argument("--only", nargs="+", choices=struck, metavar="NAME", help=f"of {', '.join(struck)}")
    parser.add_argument("--folder", metavar="DIR", help="new working folder, which stays")
    parser.add_argument("--at-once", type=int, default=2, metavar="N", help="cases at a time (default: 2)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of what is left to chance")
    return parser.parse_args()


def _table(outcomes: list[Outcome]) -> Iterable[str]:
    """Add up the outcomes by mode and first fault."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        kind = outcome.case.faults[0].kind if outcome.case.faults else "nothing"
        groups.setdefault(f"{outcome.case.mode}: {kind}", []).append(outcome)
    width = max(map(len, groups))
    yield "  ".join([f"{'fault':{width}}", *_NUMBERS])
    for name, group in sorted(groups.items()):
        yield _line(f"{name:{width}}", group)
    yield _line(f"{'all':{width}}", outcomes)
    struck = Counter(kind for outcome in outcomes for kind in outcome.struck)
    yield "\nof which, by kind: " + ", ".join(f"{kind} {number}" for kind, number in struck.most_common())


def _line(name: str, outcomes: list[Outcome]) -> str:
    numbers = [
        sum(outcome.kills for outcome in outcomes),
        sum(outcome.reruns for outcome in outcomes),
        sum(outcome.lost for outcome in outcomes),
        sum(outcome.doubled for outcome in outcomes),
        sum(outcome.wrong for outcome in outcomes),
        sum(len(outcome.bad) for outcome in outcomes),
        sum(not outcome.is_done for outcome in outcomes),
        sum(len(outcome.left) for outcome in outcomes),
        sum(outcome.views for outcome in outcomes),
        sum(outcome.overtaken for outcome in outcomes),
        sum(outcome.copies for outcome in outcomes),
        round(sum(outcome.seconds for outcome in outcomes)),
    ]
    return "  ".join(
        [name, *(f"{number:>{len(word)}}" for word, number in zip(_NUMBERS, numbers, strict=True))]
    )


if __name__ == "__main__":
    sys.exit(main())
