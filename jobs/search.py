"""``lakevec search``: the rows of an output that are nearest to a text or to another row, without Spark."""

from __future__ import annotations

import base64
import json
import math
import shutil
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from lakevec.jobs.cli import RunContext, run_command
from lakevec.jobs.output_model import load_model_of, open_vectors
from lakevec.pipeline.errors import DataError, SettingsError
from lakevec.pipeline.output.stored_output import StoredOutput
from lakevec.pipeline.reading.vector_reader import VectorReader
from lakevec.pipeline.reading.vector_search import Place, find_nearest, find_rows, read_hits, vectors_at
from lakevec.pipeline.settings.models import SearchSettings

SETTINGS = SearchSettings
_WIDEST_COLUMN = 40
_LINE_WIDTH = 120
_GAP = "  "


def run(settings: SearchSettings, context: RunContext) -> None:
    """Print the rows that are nearest to the query, best first."""
    output, reader, columns = open_vectors(settings)
    if context.dry_run:
        print(f"would search {output.state.rows:,} rows; dry run: no vector was read")
        return
    without: list[Place] = []
    if settings.query is not None:
        queries = embed_query(output, settings.query, settings.model)
    else:
        without = find_rows(reader, _choose_key(settings, output, reader), str(settings.key_of))
        queries = vectors_at(reader, without)
    hits = find_nearest(reader, queries, settings.top, without=without)
    rows = read_hits(reader, hits, columns)
    scores = [hit.score for hit in hits]
    if settings.format == "json":
        for score, row in zip(scores, rows, strict=True):
            print(format_json(score, row))
    else:
        print(format_rows(scores, rows, columns, shutil.get_terminal_size((_LINE_WIDTH, 0)).columns))


def embed_query(output: StoredOutput, query: str, model: str | None) -> np.ndarray:
    """Embed a query with an output's model: float32 of shape (1, D).

    Raises
    ------
    DataError
        If the query has no known token, so that its vector is zero.
    """
    artifact = load_model_of(output, model)
    metadata = output.metadata
    vectors = artifact.encode([query], max_tokens=metadata.max_tokens, dimensions=metadata.dimensions)
    if not vectors.any():
        raise DataError(
            "the query can't be compared",
            got="no token that the model knows",
            expected="a text like those of the output",
        )
    return vectors


def format_json(score: float, row: dict[str, Any]) -> str:
    r"""Format a row as one line of JSON: its score, and its values by column.

    Examples
    --------
    >>> format_json(0.5, {"score": float("nan"), "image": b"\x00\xff"})
    '{"score": 0.5, "row": {"score": null, "image": "AP8="}}'
    """
    found = {"score": round(score, 6), "row": _as_json(row)}
    return json.dumps(found, ensure_ascii=False, allow_nan=False)


def _as_json(value: Any) -> Any:
    """Return a value as JSON has it: null for numbers that are not finite, base64 for bytes, else text."""
    if isinstance(value, dict):
        return {str(name): _as_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def format_rows(
    scores: Sequence[float], rows: Sequence[dict[str, Any]], columns: Sequence[str], width: int
) -> str:
    """Format rows as a table whose lines have at most `width` characters; the last column gets the rest."""
    table = [["score", *map(_on_one_line, columns)]]
    table += [
        [f"{score:.3f}", *(_on_one_line(row[name]) for name in columns)]
        for score, row in zip(scores, rows, strict=True)
    ]
    widths = [min(_WIDEST_COLUMN, max(map(len, cells))) for cells in zip(*table, strict=True)]
    widths[-1] = max(8, width - sum(widths[:-1]) - len(_GAP) * len(columns))
    return "\n".join(
        _GAP.join(shorten(cell, room).ljust(room) for cell, room in zip(line, widths, strict=True)).rstrip()
        for line in table
    )


def shorten(text: str, width: int) -> str:
    """Cut a text to `width` characters."""
    return text if len(text) <= width else text[: width - 1] + "…"


def _on_one_line(value: Any) -> str:
    """Return a value as text on one line, without a terminal's control characters."""
    text = " ".join(("" if value is None else str(value)).split())
    return "".join(character for character in text if character.isprintable())


def _choose_key(settings: SearchSettings, output: StoredOutput, reader: VectorReader) -> str:
    key = settings.key or output.metadata.key
    if key is None:
        raise SettingsError("--key-of", expected="the name of the key column", remedy="give --key")
    reader.check_columns([key])
    return key


if __name__ == "__main__":
    sys.exit(run_command("search"))
