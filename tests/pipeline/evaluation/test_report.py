"""The page: well-formed, complete, and shown by a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakevec.pipeline.encoding.stored_vectors import VectorType
from lakevec.pipeline.evaluation.figures import linear_axis, log_axis, render_quality
from lakevec.pipeline.evaluation.report import render_report
from tests.support.commands import evaluate
from tests.support.paths import ROOT

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


# What a page could ask others for, or run.
ELSEWHERE = re.compile(r"""(?:src|href|srcset|action|data)\s*=|url\(|@import|https?:|<script|<iframe""")


@pytest.fixture(scope="module")
def report(
    small_data: Path,
    tiny_model: str,
    hostile_model: str,
    tiny_teacher: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A page with all its sections."""
    folder = tmp_path_factory.mktemp("report") / "out"
    models = ["--model", tiny_model, hostile_model, str(tiny_teacher)]
    sample = ["--sample", str(small_data / "rows"), "--text", "body", "--teacher", str(tiny_teacher)]
    words = ["--data", str(small_data), *models, *sample, "--ablations", str(tiny_teacher)]
    assert evaluate([*words, "--output", str(folder)]) == 0
    return folder / "report.html"


def test_page_is_well_formed_and_asks_for_nothing(report: Path) -> None:
    page = report.read_text()
    assert not ELSEWHERE.findall(page)
    root = ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>"))
    assert root.get("lang") == "en"
    assert [heading.text for heading in root.iter("h2")] == [
        "Overview",
        "Word similarity",
        "Semantic textual similarity",
        "Classification",
        "Clustering",
        "Pair classification",
        "Reranking",
        "Retrieval",
        "Summarization",
        "Phrases (PEARL)",
        "What each step of the recipe is worth",
        "Fidelity to the teacher on your own rows",
        "How it was measured",
    ]
    assert all(table.find("caption") is not None for table in root.iter("table"))
    assert [len(list(figure.iter("svg"))) for figure in root.iter("figure")] == [1, 2, 1, 1]
    assert len(list(root.iter("figcaption"))) == 4
    for figure in root.iter("svg"):
        assert figure.get("role") == "img"
        assert figure.findtext("title")
        assert figure.findtext("desc")
    assert "<b>&\"other'" in [cell.text for cell in root.iter("th")]
    assert "no weights of a plain transformer were given" in page


Record = tuple[dict[str, Any], dict[str, Any]]
SVG = "{http://www.w3.org/2000/svg}"
# The plot of a panel, in its own coordinates.
LEFT, RIGHT, TOP, BOTTOM = 44, 326, 30, 256


def described(
    source: str, mean: float | None, *, dimensions: int = 256, kind: VectorType = VectorType.FLOAT32
) -> dict[str, Any]:
    found = {"metric": "cosine_spearman", "value": mean}
    averages = {"averages": {} if mean is None else {"sts": mean}, "mean": mean, "tasks": {"sts/mine": found}}
    sizes = {"dimensions": dimensions, "bytes": 4_000_000, "vector_bytes": kind.vector_bytes(dimensions)}
    names = {"name": f"{source} {dimensions} {kind}", "source": source, "vector_type": str(kind)}
    return {**names, **sizes, **averages, "averages_float_query": {}}


def make_record(models: list[dict[str, Any]], rates: list[float | None]) -> Record:
    task = {"key": "sts/mine", "group": "sts", "name": "mine", "file": "mine", "averaged": True, "note": ""}
    record = {"tasks": [task], "models": models, "ablations": None, "fidelity": None}
    speeds = [rate and {"texts": 7, "characters": 5.0, "texts_per_s": rate} for rate in rates]
    timed = [{"name": model["name"], "speed": speed} for model, speed in zip(models, speeds, strict=True)]
    machine = {"processor": "A & B", "cpus": 1}
    return {**record, "versions": {"lakevec": "1", "numpy": "2"}}, {"machine": machine, "models": timed}


@pytest.fixture
def small_record() -> Record:
    """A table of two widths and two types, and another table, ten times as slow."""
    sizes = [(0.6, 256, VectorType.FLOAT32), (0.56, 256, VectorType.BINARY)]
    sizes += [(0.5, 128, VectorType.FLOAT32), (0.46, 128, VectorType.BINARY)]
    models = [described("small", mean, dimensions=width, kind=kind) for mean, width, kind in sizes]
    return make_record([*models, described("l" * 60, 0.64)], [1000.0] * 4 + [100.0])


def read_file(content: Record) -> ElementTree.Element:
    drawn = render_quality(*content)
    assert drawn is not None
    return ElementTree.fromstring(drawn)


def read_page(content: Record) -> ElementTree.Element:
    return ElementTree.fromstring(render_report(*content).partition("<!DOCTYPE html>")[2])


def find_marks(panel: ElementTree.Element) -> list[tuple[float, float]]:
    found = [
        mark.get("transform", "") for mark in panel.iter() if (mark.get("class") or "").startswith("mark ")
    ]
    return [(float(x), float(y)) for x, y in (re.findall(r"-?[0-9.]+", place) for place in found)]


def find_lines(panel: ElementTree.Element) -> list[list[tuple[float, float]]]:
    found = [line.get("points", "").split() for line in panel.iter() if line.tag.endswith("polyline")]
    return [[(float(x), float(y)) for x, y in (point.split(",") for point in line)] for line in found]


def test_marks_of_quality_lie_where_the_axes_say(small_record: Record) -> None:
    speed, size = read_file(small_record).iter(f"{SVG}g")
    rates, scores = log_axis([1000.0, 100.0]), linear_axis([46.0, 64.0])
    assert (rates.ticks, scores.ticks) == ([100.0, 200.0, 500.0, 1000.0], [*range(40, 71, 5)])
    heights = [pytest.approx(BOTTOM - 226 * (mean - 40) / 30, abs=0.05) for mean in (60, 56, 50, 46, 64)]
    assert find_marks(speed) == list(zip([RIGHT] * 4 + [LEFT], heights, strict=True))
    # From 16 to 1,024 bytes: six doublings.
    across = [pytest.approx(LEFT + 282 * doublings / 6, abs=0.05) for doublings in (6, 1, 5, 0, 6)]
    assert find_marks(size) == list(zip(across, heights, strict=True))


def test_lines_join_widths_of_a_type_and_types_at_full_width(small_record: Record) -> None:
    speed, size = read_file(small_record).iter(f"{SVG}g")
    full, bits, half, half_bits, _ = find_marks(size)
    assert find_lines(size) == [[full, half], [bits, half_bits], [full, bits]]
    assert find_lines(speed) == []


def test_variants_of_a_model_have_its_colour_everywhere(small_record: Record) -> None:
    file, page = read_file(small_record), read_page(small_record)
    colours = ["c0"] * 4 + ["c1"]
    bars, *panels = page.iter("svg")
    assert [part.get("class") for part in bars.iter("rect")] == colours
    for panel in (*panels, *file.iter(f"{SVG}g")):
        marks = [mark for mark in panel.iter() if mark.get("transform") and mark is not panel]
        assert [mark.get("class") for mark in marks] == [f"mark {colour}" for colour in colours]
        # A circle begins at its left, a diamond at its top.
        assert [(mark.get("d") or "")[:4] for mark in marks] == ["M-4.", "M0-5", "M-4.", "M0-5", "M-4."]
    legend = [key.get("class") for key in file.findall(f"{SVG}rect")]
    assert legend == ["page", "c0", "c1"]
    names = [text.text for text in file.findall(f"{SVG}text")]
    assert names == ["small", "l" * 39 + "…", "circle float32, diamond binary"]
    listed = ["".join(item.itertext()) for item in page.iter("li")]
    assert listed == ["small", "l" * 60]


def test_file_of_quality_stands_alone(small_record: Record) -> None:
    drawn = render_quality(*small_record)
    assert drawn is not None
    assert not ELSEWHERE.findall(drawn.replace('xmlns="http://www.w3.org/2000/svg"', ""))
    assert "var(" not in drawn
    assert "prefers-color-scheme: dark" in drawn
    root = ElementTree.fromstring(drawn)
    assert [root.findtext(f"{SVG}{part}", "")[:12] for part in ("title", "desc")] == [
        "Mean score a",
        "small 256 fl",
    ]
    assert root.get("aria-labelledby") == "title description"


def test_without_speeds_there_is_one_panel_and_without_means_no_figure() -> None:
    models = [described("one", 0.5)]
    [panel] = read_file(make_record(models, [None])).iter(f"{SVG}g")
    # One model lies in the middle of its axes.
    assert find_marks(panel) == [((LEFT + RIGHT) / 2, (TOP + BOTTOM) / 2)]
    page = read_page(make_record(models, [None]))
    assert [len(list(figure.iter("svg"))) for figure in page.iter("figure")] == [1, 1]
    assert "texts embedded per second" not in "".join(page.itertext())
    unmeasured = make_record([described("one", None)], [10.0])
    assert render_quality(*unmeasured) is None
    assert list(read_page(unmeasured).iter("figure")) == []


MODELS = st.builds(
    described,
    st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), min_size=1),
    st.none() | st.floats(-1, 1),
    dimensions=st.integers(1, 4096),
    kind=st.sampled_from(VectorType),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(MODELS, st.none() | st.floats(0.01, 1e7)), min_size=1, max_size=12))
def test_any_record_is_drawn_inside_its_panels(measured: list[tuple[dict[str, Any], float | None]]) -> None:
    distinct = {model["name"]: (model, rate) for model, rate in measured}.values()
    shown = [(model, rate) for model, rate in distinct if model["mean"] is not None]
    content = make_record([model for model, _ in distinct], [rate for _, rate in distinct])
    drawn = render_quality(*content)
    read_page(content)
    if not shown:
        assert drawn is None
        return
    assert drawn is not None
    root = ElementTree.fromstring(drawn)
    *speeds, sizes = root.iter(f"{SVG}g")
    timed = sum(rate is not None for _, rate in shown)
    assert [len(find_marks(panel)) for panel in speeds] == ([timed] if timed else [])
    assert len(find_marks(sizes)) == len(shown)
    marks = [place for panel in (*speeds, sizes) for place in find_marks(panel)]
    assert all(LEFT <= x <= RIGHT and TOP <= y <= BOTTOM for x, y in marks)
    assert {point for line in find_lines(sizes) for point in line} <= set(find_marks(sizes))
    keys = root.findall(f"{SVG}rect")[1:]
    assert len(keys) == len({model["source"] for model, _ in shown})
    width, height = map(float, root.get("viewBox", "").split()[2:])
    assert all(float(key.get("x", 0)) < width and float(key.get("y", 0)) + 10 < height for key in keys)


@settings(deadline=None)
@given(
    st.lists(st.floats(1e-3, 1e9), min_size=1, max_size=5),
    st.sampled_from([(10, (2, 5), 6), (4, (2,), 8)]),
)
def test_a_log_axis_holds_its_values_with_few_ticks(
    values: list[float], scale: tuple[float, tuple[float, ...], int]
) -> None:
    base, between, most = scale
    ticks = log_axis(values, base=base, between=between, most=most).ticks
    assert ticks == sorted(set(ticks))
    assert 2 <= len(ticks) <= most
    assert ticks[0] <= min(values) <= max(values) <= ticks[-1]


def test_everything_in_a_figure_lies_inside_it(report: Path) -> None:
    root = ElementTree.fromstring(report.read_text().partition("<!DOCTYPE html>")[2])
    for figure in root.iter("svg"):
        width, height = map(float, figure.get("viewBox", "").split()[2:])
        across = [float(part.get(key, 0)) for part in figure.iter() for key in ("x", "x1", "x2", "cx")]
        down = [float(part.get(key, 0)) for part in figure.iter() for key in ("y", "y1", "y2", "cy")]
        across += [x for x, _ in find_marks(figure)]
        down += [y for _, y in find_marks(figure)]
        ends = [float(bar.get("x", 0)) + float(bar.get("width", 0)) for bar in figure.iter("rect")]
        assert min(across) >= 0
        assert max([*across, *ends]) <= width
        assert min(down) >= 0
        assert max(down) <= height


def test_page_shows_every_figure_of_the_record(report: Path) -> None:
    record = json.loads((report.parent / "evaluation.json").read_text())
    root = ElementTree.fromstring(report.read_text().partition("<!DOCTYPE html>")[2])
    rows = [["".join(cell.itertext()) for cell in row] for row in root.iter("tr")]
    for place, model in enumerate([*record["models"], *record["ablations"]["models"]]):
        averages = [f"{100 * value:.1f}" for value in [*model["averages"].values(), model["mean"]]]
        assert [model["name"], *averages] in [row[: 2 + len(model["averages"])] for row in rows], place
    for task in record["tasks"]:
        found = [model["tasks"][task["key"]] for model in record["models"]]
        cells = [found[0]["metric"], *(f"{100 * entry['value']:.1f}" for entry in found)]
        assert cells in [row[1:] for row in rows if row[0].startswith(task["name"])]
    for entry in record["fidelity"]["models"]:
        cells = [f"{entry[key]:.3f}" for key in ("correlation", "rank_correlation", "neighbours")]
        assert [entry["name"], *cells] in [row[:4] for row in rows]


@pytest.fixture
def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no Chromium is installed, so that no screenshot can be taken")
    return found


@pytest.mark.parametrize(("name", "width", "height"), [("wide", 1200, 7200), ("narrow", 500, 7400)])
def test_page_is_shown_by_a_browser(report: Path, browser: str, name: str, width: int, height: int) -> None:
    """Leaves artifacts/evaluate/report-*.png to be looked at."""
    folder = ROOT / "artifacts" / "evaluate"
    folder.mkdir(parents=True, exist_ok=True)
    picture = folder / f"report-{name}.png"
    picture.unlink(missing_ok=True)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    size = f"--window-size={width},{height}"
    command = [browser, *options, size, f"--screenshot={picture}", report.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    from matplotlib.image import imread

    pixels = imread(picture)
    assert pixels.shape[:2] == (height, width)
    red, green, blue = np.moveaxis((pixels[::2, :, :3] * 255).round().astype(int), -1, 0)
    shown = set(np.unique((red << 16) + (green << 8) + blue).tolist())
    # The first three models' colours of the light page.
    assert {0x1B6CA8, 0xC2571A, 0x2B8A57} <= shown
