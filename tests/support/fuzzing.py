"""What the tests of hostile input share: how examples are drawn, what a run may tell, how content is damaged.

Examples are drawn the same way in every run. What a model, an input or an output holds was written by others:
it may be damaged or planted, but it must never end in a traceback, a wrong vector, or a file elsewhere.
"""

from __future__ import annotations

import copy
import hashlib
import resource
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st


def fuzz(examples: int) -> Callable[[Any], Any]:
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def outcome(run: Callable[[], int]) -> tuple[int, str]:
    """Run a job; return its exit code and what it told of an error, which is one line or nothing."""
    told = StringIO()
    with redirect_stderr(told), redirect_stdout(StringIO()):
        code = run()
    error = told.getvalue()
    assert code in (0, 1, 2, 3)
    assert error.count("\n") == (code != 0), error
    assert error.removesuffix("\n").isprintable(), error
    assert len(error) < 5_000
    return code, error


def tree(folder: Path, *, but: str = "") -> dict[str, str]:
    """Everything below a folder and its content, without a folder and the hidden ones beside it."""
    found = {}
    for file in sorted(folder.rglob("*")):
        name = str(file.relative_to(folder))
        top = name.split("/")[0]
        if but and (top == but or top.startswith(f".{but}.lakevec-")):
            continue
        is_file = file.is_file() and not file.is_symlink()
        found[name] = hashlib.sha256(file.read_bytes()).hexdigest() if is_file else ""
    return found


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


DOCUMENTS = {
    "deep list": "[" * 100_000,
    "deep object": '{"a":' * 100_000,
    "list": "[]",
    "null": "null",
    "number of 5000 digits": "9" * 5000,
    "half a character": '{"format": "lakevec-model", "format_version": "\\ud800", "path": "\\ud800"}',
    "line's end": '{"format": "lakevec-model", "format_version": "2\\n0", "normalize": "a\\nb"}',
    "terminal code": '{"format": "lakevec-model", "format_version": "\\u001b[31m"}',
    "infinite": '{"normalize": Infinity, "format": NaN}',
}


def spoil(file: Path, data: st.DataObject) -> None:
    """Truncate, flip, prolong, replace or remove a file."""
    content = bytearray(file.read_bytes())
    how = data.draw(st.sampled_from(["truncate", "flip", "prolong", "replace", "remove"]))
    if how == "remove":
        file.unlink()
        return
    place = data.draw(st.integers(0, len(content) - 1))
    if how == "truncate":
        del content[place:]
    elif how == "flip":
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    elif how == "prolong":
        content += data.draw(st.binary(min_size=1, max_size=9))
    else:
        content[:] = data.draw(st.binary(max_size=40))
    file.write_bytes(content)


_json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


def places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner: Any = ()
    if isinstance(document, dict):
        inner = document.items()
    elif isinstance(document, list):
        inner = enumerate(document)
    return [path, *(place for key, value in inner for place in places(value, (*path, key)))]


def change(document: Any, data: st.DataObject) -> Any:
    """Put something else somewhere into a JSON document."""
    path = data.draw(st.sampled_from(places(document)))
    value = data.draw(_json_values)
    if not path:
        return value
    document = copy.deepcopy(document)
    holder = document
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    return document
