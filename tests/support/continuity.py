"""Everything that lakevec leaves on a disk, written small, and the names in it.

    python -m tests.continuity FOLDER

wrote ``tests/data/written-by-0.1`` once. Later versions must go on with it, so it is not written again.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lakevec.jobs import reference
from lakevec.jobs.cli import main as lakevec
from lakevec.pipeline.errors import InputError
from tests.support.commands import count, distill, embed, tune

TEXTS = ["ba da fa", "bu dis kan", "  ", None, "ga nova lum"]
# They stand for the folder, and for the id of the lake in it.
PLACE, INPUT = "@place@", "@input@"
_BINARY = (".parquet", ".safetensors")


def write_lake(file: Path, start: int, texts: list[str | None] = TEXTS) -> None:
    """Write a file of the lake, whose ids count on from `start`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    days = ["tue" if number % 2 else "mon" for number in range(len(texts))]
    ids = range(start, start + len(texts))
    pq.write_table(pa.table({"id": ids, "text": texts, "day": days}), file)


def call(job: Callable[[list[str]], int], *words: object) -> None:
    """Run a command, which has to end well."""
    if job([str(word) for word in words]):
        raise InputError(f"{job.__module__} failed")


OUTPUTS = {
    "plain": ["--on-bad-row", "null"],
    "partitioned": ["--partition-by", "day", "--vector-type", "int8", "--on-bad-row", "quarantine"],
    "keyed": ["--key", "id", "--vector-type", "float16", "--on-bad-row", "null"],
    "delta": ["--table-format", "delta", "--on-bad-row", "null"],
}


def embed_lake(root: Path, name: str) -> None:
    """Bring one of the outputs up to date."""
    words = ["--model", root / "model", "--input", root / "lake", "--text", "text", *OUTPUTS[name]]
    call(embed, *words, "--max-chars", 50, "--output", root / name)


def write_all(root: Path) -> None:
    """Write a lake, a teacher and what each command makes of them."""
    from tests.support.tiny_teacher import make_texts, make_tiny_teacher

    make_tiny_teacher(root / "teacher")
    write_lake(root / "lake" / "a.parquet", 0)
    write_lake(root / "lake" / "b.parquet", 5, ["ba " * 40, *TEXTS[1:]])
    words = ["--teacher", root / "teacher", "--output", root / "model", "--dimensions", 8]
    call(distill, *words)
    for name in OUTPUTS:
        embed_lake(root, name)
    of_lake = ["--input", root / "lake", "--text", "text"]
    call(count, "--model", root / "teacher", *of_lake, "--output", root / "counts")
    write_lake(root / "tuning" / "a.parquet", 0, make_texts(40))
    words = ["--teacher", root / "teacher", "--input", root / "tuning", "--text", "text"]
    words += ["--output", root / "tuned", "--vectors", root / "teacher-vectors", "--dimensions", 8]
    call(tune, *words, "--epochs", 1, "--piece-rows", 10)


def keep_small(root: Path) -> None:
    """Leave out checksums and drawings, and the name of the place and the machine."""
    for file in sorted(root.rglob("*")):
        if file.suffix in (".crc", ".svg"):
            file.unlink()
        elif file.is_file() and file.suffix not in _BINARY:
            content = file.read_text().replace(str(root), PLACE).replace(_input_id(root), INPUT)
            file.write_text(re.sub(r'"host": ?"[^"]*"', '"host": "node"', content))
    _rename_checkpoints(root, _input_id(root), INPUT)


def lay_out(kept: Path, root: Path) -> None:
    """Copy what an earlier version wrote to another place, as if it had been written there."""
    shutil.copytree(kept, root)
    for file in root.rglob("*"):
        if file.is_file() and file.suffix not in _BINARY:
            file.write_text(file.read_text().replace(PLACE, str(root)).replace(INPUT, _input_id(root)))
    _rename_checkpoints(root, INPUT, _input_id(root))


def _rename_checkpoints(root: Path, before: str, after: str) -> None:
    for folder in sorted(root.glob(f"*/_lakevec/*/checkpoint/{before}")):
        folder.rename(folder.with_name(after))


def _input_id(root: Path) -> str:
    """Return the id of the lake, by the rule that is kept for good."""
    return hashlib.sha256(f"parquet {root / 'lake'}".encode()).hexdigest()[:12]


def names_in(root: Path) -> dict[str, list[str]]:
    """Return the names in every file below a folder, by the file's kind: JSON keys, or columns and types."""
    found: dict[str, set[str]] = {}
    for file in sorted(path for path in root.rglob("*") if path.is_file()):
        names = found.setdefault(_kind(file.relative_to(root)), set())
        if file.suffix == ".json":
            lines = file.read_text().splitlines() if "_delta_log" in file.parts else [file.read_text()]
            for line in lines:
                names.update(_keys(json.loads(line), ""))
        elif file.suffix == ".parquet":
            schema = pq.read_schema(file)
            names.update(f"{field.name}: {field.type}" for field in schema)
            names.update(f"metadata {key.decode()}" for key in schema.metadata or {})
    return {kind: sorted(names) for kind, names in sorted(found.items())}


def read_commands() -> dict[str, dict[str, Any]]:
    """Return the options of every command, and its settings without their texts."""
    found: dict[str, dict[str, Any]] = {}
    for command, kind in reference.COMMANDS.items():
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
            lakevec([command, "--help"])
        usage = shown.getvalue().partition("\n\n")[0]
        fields = kind.model_json_schema()["properties"]
        found[command] = {
            "options": sorted(set(re.findall(r"--[\w-]+", usage))),
            "settings": {name: _without_texts(field) for name, field in sorted(fields.items())},
        }
    return found


_NOT_PINNED = ("title", "description", "examples", "writer", "commas")


def _without_texts(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_texts(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _without_texts(part) for key, part in schema.items() if key not in _NOT_PINNED}


def _kind(file: Path) -> str:
    """Replace what differs from run to run in a name."""
    parts = [part for part in file.parts if not part.startswith("day=")]
    return "/".join("*" if any(sign.isdigit() for sign in part) else part for part in parts)


def _keys(value: Any, place: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _keys(inner, f"{place}.{key}".lstrip("."))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for inner in value:
            yield from _keys(inner, f"{place}[]")
    else:
        yield place


if __name__ == "__main__":
    os.environ["PYSPARK_PYTHON"] = sys.executable
    root = Path(sys.argv[1]).absolute()
    write_all(root)
    keep_small(root)
    (root / "commands.json").write_text(json.dumps(read_commands(), indent=1) + "\n")
