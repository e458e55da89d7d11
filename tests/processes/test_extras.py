"""Each extra brings the packages that lakevec imports in its name."""

from __future__ import annotations

import ast
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.paths import ROOT

PARTS = ("lakevec/beam", "pipeline", "udfs", "jobs")
# Doors that have an environment of their own in make test.
ELSEWHERE = {"beam"}


def imports_by_extra() -> dict[str, set[str]]:
    """Return what is imported inside `with requires_extra(extra, ...)`, by extra."""
    found: dict[str, set[str]] = {}
    for path in (path for part in PARTS for path in (ROOT / part).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.With) and (extra := extra_of(node)):
                for each in (each for line in node.body for each in ast.walk(line)):
                    if isinstance(each, ast.Import):
                        found.setdefault(extra, set()).update(name.name for name in each.names)
                    elif isinstance(each, ast.ImportFrom):
                        found.setdefault(extra, set()).add(each.module or "")
    return found


def extra_of(node: ast.With) -> str | None:
    call = node.items[0].context_expr
    is_guard = isinstance(call, ast.Call) and ast.unparse(call.func) == "requires_extra"
    return ast.literal_eval(call.args[0]) if is_guard and isinstance(call, ast.Call) else None


def distributions_of(name: str, extras: frozenset[str], seen: dict[str, frozenset[str]]) -> None:
    """Collect the distributions that `name[extras]` installs into `seen`."""
    if extras <= seen.get(name, frozenset()) and name in seen:
        return
    extras = seen.setdefault(name, frozenset()) | extras
    seen[name] = extras
    try:
        lines = requires(name) or []
    except PackageNotFoundError:
        return
    for each in map(Requirement, lines):
        if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in {"", *extras}):
            distributions_of(canonicalize_name(each.name), frozenset(each.extras), seen)


IMPORTS = imports_by_extra()
OWNERS = packages_distributions()


@pytest.mark.parametrize("extra", sorted(IMPORTS.keys() - ELSEWHERE))
def test_extra_brings_what_its_commands_import(extra: str) -> None:
    installed: dict[str, frozenset[str]] = {}
    distributions_of("lakevec", frozenset({extra}), installed)
    for module in IMPORTS[extra]:
        top = module.partition(".")[0]
        if top == "lakevec":
            continue
        assert any(canonicalize_name(owner) in installed for owner in OWNERS[top]), (extra, module)


def test_every_extra_with_a_guard_is_looked_at() -> None:
    assert {"demo", "delta", "iceberg", "mteb"} <= IMPORTS.keys()
