"""The page that ``lakevec demo`` ends with: answers, a map of the rows, and throughput."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from lakevec import __version__
from lakevec.jobs.machine import describe_machine
from lakevec.jobs.search import shorten
from lakevec.pipeline.reading.vector_reader import VectorReader
from lakevec.pipeline.reading.vector_search import Hit

_PACKAGES = 7
_ROWS_PER_PACKAGE = 300
_LONGEST_TEXT = 240
_WIDTH, _HEIGHT, _MARGIN = 1000, 640, 24
# The class of dots whose package has no colour.
_OTHER = "other"


class Answers(NamedTuple):
    """A query, its vector of shape (D,), its best rows with their values, and the search's seconds."""

    query: str
    vector: np.ndarray
    hits: list[Hit]
    rows: list[dict[str, Any]]
    seconds: float


class Dot(NamedTuple):
    """A row on the map; `kind` is its CSS class."""

    x: float
    y: float
    kind: str
    name: str
    text: str


def render_page(facts: dict[str, Any], answers: Sequence[Answers], reader: VectorReader, folder: str) -> str:
    """Render the page: HTML that needs nothing beside it.

    Parameters
    ----------
    facts : dict
        What the steps of the demo report, by ``lake``, ``model``, ``run`` (``run.json``) and ``speed``.
    answers : sequence of Answers
    reader : VectorReader
        Of the demo's output, with the columns ``package``, ``name`` and ``text``.
    folder : str
        The demo's folder, as the user named it.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("lakevec.jobs", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("demo.html.j2").render(
        facts=facts,
        answers=answers,
        map=_draw_map(reader, answers),
        folder=folder,
        version=__version__,
        machine=describe_machine(),
    )


def _draw_map(reader: VectorReader, answers: Sequence[Answers]) -> dict[str, Any]:
    """Lay out a sample of rows, the queries and their answers in two dimensions."""
    rows, vectors = _read_rows(reader)
    packages = [package for package, _ in Counter(rows["package"].to_pylist()).most_common(_PACKAGES)]
    chosen = _choose_rows(rows, packages)
    starts = np.cumsum([0, *(_count_rows(group) for group in reader.groups)])
    found = [[int(starts[hit.place.group]) + hit.place.row for hit in answer.hits] for answer in answers]
    chosen = list(dict.fromkeys([*chosen, *(row for places in found for row in places)]))
    points = _lay_out(np.concatenate([vectors[chosen], [answer.vector for answer in answers]]))
    dots = [
        Dot(
            x,
            y,
            f"c{packages.index(row['package'])}" if row["package"] in packages else _OTHER,
            row["name"],
            shorten(row["text"], _LONGEST_TEXT),
        )
        for (x, y), row in zip(points, rows.take(chosen).to_pylist(), strict=False)
    ]
    place_of = {row: number for number, row in enumerate(chosen)}
    return {
        "width": _WIDTH,
        "height": _HEIGHT,
        "packages": packages,
        "per_package": _ROWS_PER_PACKAGE,
        "dots": dots,
        "queries": points[len(chosen) :],
        "answers": [[dots[place_of[row]] for row in places] for places in found],
    }


def _read_rows(reader: VectorReader) -> tuple[pa.Table, np.ndarray]:
    """Read all rows and their vectors; no text of the demo is null."""
    tables = [reader.read_columns(group, ["package", "name", "text"]) for group in reader.groups]
    vectors = [reader.read_vectors(group)[0] for group in reader.groups]
    return pa.concat_tables(tables), np.concatenate(vectors)


def _count_rows(group: Any) -> int:
    """Return the number of rows of a row group."""
    return int(group.footer.row_group(group.number).num_rows)


def _choose_rows(rows: pa.Table, packages: Sequence[str]) -> list[int]:
    """Choose as many rows of each package at random, the same in every run."""
    random = np.random.default_rng(0)
    names = np.array(rows["package"].to_pylist())
    places = [np.flatnonzero(names == package) for package in packages]
    return [
        int(row)
        for found in places
        for row in random.choice(found, min(_ROWS_PER_PACKAGE, len(found)), replace=False)
    ]


def _lay_out(vectors: np.ndarray) -> list[tuple[float, float]]:
    """Give each vector a place on the map, near its neighbours (t-SNE)."""
    from sklearn.manifold import TSNE

    places = TSNE(init="pca", max_iter=500, random_state=0).fit_transform(vectors)
    low, high = places.min(axis=0), places.max(axis=0)
    room = np.array([_WIDTH, _HEIGHT]) - 2 * _MARGIN
    return [(float(x), float(y)) for x, y in _MARGIN + (places - low) / (high - low) * room]
