"""The demo's folder and page, without a run of the demo; tests/processes runs it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from lakevec.jobs.demo import _MARKER, _prepare
from lakevec.jobs.demo_page import Answers, render_page
from lakevec.pipeline.errors import OutputError
from lakevec.pipeline.reading.vector_reader import VectorReader
from lakevec.pipeline.reading.vector_search import find_nearest, read_hits
from tests.support.outputs import make_output

ROWS = 30
EVIL = '"><script src="https://example.com/x.js"></script>'
_PLACES = {"src", "href", "xlink:href", "srcset", "action", "data", "poster", "background"}


class Page(HTMLParser):
    """All elements of a page, and its styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.styles: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.styles += [value for name, value in attrs if name == "style" and value]

    def handle_data(self, data: str) -> None:
        if self.lasttag == "style":
            self.styles.append(data)

    def places(self) -> list[str]:
        """What the page would load or lead to."""
        found = [value for _, each in self.elements for name, value in each.items() if name in _PLACES]
        return [*map(str, found), *re.findall(r"url\(.*?\)|@import.*", "".join(self.styles))]


def facts(*, is_embedded: bool) -> dict[str, dict[str, object]]:
    return {
        "lake": {"rows": ROWS, "packages": 1, "seconds": 1.0},
        "model": {"tokens": 4, "dimensions": 4, "teacher": EVIL, "seconds": 1.0, "is_embedded": is_embedded},
        "run": {"rows": ROWS, "spark": "4", "seconds": {"embed": 1.0, "startup": 1.0}},
        "speed": {
            **{"own": 900.0, "own_s": 1.0, "peer": 90.0, "peer_s": 10.0},
            **{"ratio": 10.0, "peer_rows": ROWS, "cores": 2},
        },
    }


def render(folder: Path, *, is_embedded: bool) -> str:
    names = ("package", "name", "text")
    vectors = list(np.random.default_rng(1).standard_normal((ROWS, 4), dtype=np.float32))
    kinds = dict.fromkeys(names, "string")
    output = make_output(
        folder, {"": ({name: [EVIL] * ROWS for name in names}, vectors)}, schema_of_files=kinds
    )
    reader = VectorReader(output)
    hits = find_nearest(reader, vectors[0][None], 5)
    answers = Answers(EVIL, vectors[0], hits, read_hits(reader, hits, names), 0.1)
    return render_page(facts(is_embedded=is_embedded), [answers], reader, EVIL)


def test_page_loads_nothing_and_runs_nothing_of_the_rows(tmp_path: Path) -> None:
    page = Page(text := render(tmp_path / "out", is_embedded=True))
    assert page.places() == []
    assert [each for tag, each in page.elements if tag == "script"] == [{}]
    dots = [each for tag, each in page.elements if tag == "circle" and "data-text" in each]
    assert {(each["data-name"], each["data-text"]) for each in dots} == {(EVIL, EVIL)}
    assert len(dots) == ROWS + 5
    assert "Nothing was downloaded." in text


def test_page_of_another_teacher_does_not_say_that_nothing_was_downloaded(tmp_path: Path) -> None:
    assert "downloaded" not in render(tmp_path / "out", is_embedded=False)


def test_interrupted_demo_is_repeated_and_other_folders_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    _prepare(folder)
    for name in ("lake", "model", "vectors", "peer"):
        (folder / name).mkdir()
    for name in ("peer.parquet", "index.html"):
        (folder / name).touch()
    _prepare(folder)
    assert [path.name for path in folder.iterdir()] == [_MARKER]
    with pytest.raises(OutputError, match="expected a new folder, or an earlier demo's"):
        _prepare(tmp_path)
