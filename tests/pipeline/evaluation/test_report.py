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

from lakevec.pipeline.evaluation.report import linear_axis, log_axis, render_report
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
    figures = list(root.iter("svg"))
    assert len(figures) == len(list(root.iter("figcaption"))) == 4
    assert all(figure.get("role") == "img" and figure.findtext("title") for figure in figures)
    assert "<b>&\"other'" in [cell.text for cell in root.iter("th")]
    assert "no weights of a plain transformer were given" in page


def described(name: str, mean: float, size: int) -> dict[str, Any]:
    found = {"metric": "cosine_spearman", "value": mean}
    averages = {"averages": {"sts": mean}, "mean": mean, "tasks": {"sts/mine": found}}
    sizes = {"dimensions": 256, "bytes": size, "vector_bytes": 1024}
    return {"name": name, **sizes, **averages, "averages_float_query": {}}


@pytest.fixture
def small_record() -> tuple[dict[str, Any], dict[str, Any]]:
    """Two models, four times as large and ten times as slow; records as they are read from JSON."""
    task = {"key": "sts/mine", "group": "sts", "name": "mine", "file": "mine", "averaged": True, "note": ""}
    models = [described("small", 0.5, 4_000_000), described("l" * 60, 0.6, 16_000_000)]
    record = {"tasks": [task], "models": models, "ablations": None, "fidelity": None}
    speeds = [{"texts": 7, "characters": 5.0, "texts_per_s": rate} for rate in (1000.0, 100.0)]
    timed = [{"name": model["name"], "speed": speed} for model, speed in zip(models, speeds, strict=True)]
    machine = {"processor": "A & B", "cpus": 1}
    return {**record, "versions": {"lakevec": "1", "numpy": "2"}}, {"machine": machine, "models": timed}


def test_circles_have_areas_in_proportion_to_sizes_and_names_in_a_legend(
    small_record: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    root = ElementTree.fromstring(render_report(*small_record).partition("<!DOCTYPE html>")[2])
    bars, scatter = root.iter("svg")
    large, small = scatter.iter("circle")
    assert (large.get("r"), small.get("r")) == ("34.0", "17.0")
    # 50 of 46 to 62 and 60, on an axis of three powers of ten.
    rates, scores = log_axis([1000.0, 100.0]), linear_axis([50.0, 60.0])
    assert (rates.ticks, scores.ticks[0], scores.ticks[-1]) == ([100.0, 1000.0], 48.0, 62.0)
    places = [(float(circle.get("cx", "")), float(circle.get("cy", ""))) for circle in (large, small)]
    assert places[0] == (56.0, pytest.approx(354 - 324 * 12 / 14, abs=0.05))
    assert places[1] == (680.0, pytest.approx(354 - 324 * 2 / 14, abs=0.05))
    legend = [text.text for text in scatter.iter("text")][-2:]
    assert legend == ["small", "l" * 41 + "…"]
    # A legend's colours are those of the bars, and of the circles.
    colours = [[part.get("class") for part in figure.iter("rect")] for figure in (bars, scatter)]
    assert colours == [["c0", "c1"]] * 2
    assert (small.get("class"), large.get("class")) == ("c0", "c1")


def test_everything_in_a_figure_lies_inside_it(report: Path) -> None:
    root = ElementTree.fromstring(report.read_text().partition("<!DOCTYPE html>")[2])
    for figure in root.iter("svg"):
        width, height = map(float, figure.get("viewBox", "").split()[2:])
        across = [float(part.get(key, 0)) for part in figure.iter() for key in ("x", "x1", "x2", "cx")]
        down = [float(part.get(key, 0)) for part in figure.iter() for key in ("y", "y1", "y2", "cy")]
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
