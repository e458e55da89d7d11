"""Small lakes, runs over them, and what they leave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.commands import embed as main


def put(file: Path, ids: list[str], text: str = "north") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"id": ids, "text": [text] * len(ids)}), file)


def embed(model: str, source: Any, out: Path, *more: str, code: int = 0) -> dict[str, Any]:
    sources = source if isinstance(source, list) else [source]
    words = ["--model", model, "--text", "text", "--output", str(out), "--input", *map(str, sources)]
    assert main([*words, *more]) == code
    return record(out)


def record(out: Path) -> dict[str, Any]:
    """The last run's ``run.json``; empty if there is none."""
    file = out / "_lakevec" / "run.json"
    content: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return content


def ids(out: Path) -> list[str]:
    return sorted(pq.read_table(out, columns=["id"])["id"].to_pylist())
