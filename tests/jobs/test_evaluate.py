"""The job: figures twice the same, the page in a browser, fidelity, ablations, and what is refused."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from lakevec.pipeline.distillation.ablations import ABLATIONS, COUNTED_ABLATIONS
from lakevec.pipeline.evaluation.embedding_model import name_models, open_model
from lakevec.pipeline.evaluation.fidelity import compare_fidelity, measure_fidelity
from lakevec.pipeline.evaluation.report.charts import linear_axis, log_axis
from lakevec.pipeline.evaluation.report.report import render_report
from lakevec.pipeline.model.publishing import publish
from lakevec.pipeline.model.table import StaticTable
from tests.support.commands import evaluate
from tests.support.paths import ROOT

WORDS = ["north", "east", "southwest", "north east", "east southwest", "nowhere"]
ROWS = [" ".join(words) for words in itertools.product(("north", "east", "southwest", "west"), repeat=3)]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# What a page could ask others for, or run.
ELSEWHERE = re.compile(r"""(?:src|href|srcset|action|data)\s*=|url\(|@import|https?:|<script|<iframe""")


def write(path: Path, **columns: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


@pytest.fixture(scope="module")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task of each group, of the words that tiny models know."""
    folder = tmp_path_factory.mktemp("data")
    left, right = [WORDS[row % 6] for row in range(12)], [WORDS[row * 5 % 6] for row in range(12)]
    scores = [float(row * 7 % 5) for row in range(12)]
    write(folder / "wordsim" / "rg-65.parquet", word1=left, word2=right, score=scores)
    for name in ("sts12", "stsb-dev"):
        write(folder / "sts" / f"{name}.parquet", text1=left, text2=right, score=scores)
    labels = [word[0] for word in left]
    for part in ("train", "test"):
        write(folder / "classification" / "imdb" / f"{part}.parquet", text=left, label=labels)
    write(folder / "clustering" / "mine.parquet", text=left, label=labels)
    write(folder / "retrieval" / "scifact" / "corpus.parquet", id=list("abcdef"), title=[""] * 6, text=WORDS)
    write(folder / "retrieval" / "scifact" / "queries.parquet", id=["1", "2"], text=["north", "southwest"])
    write(
        folder / "retrieval" / "scifact" / "qrels.parquet",
        query_id=["1", "2"],
        corpus_id=["d", "e"],
        score=[1, 1],
    )
    write(folder / "phrases" / "bird.parquet", text1=left, text2=right, score=scores)
    write(folder / "rows" / "0.parquet", body=[*ROWS, None, ROWS[0], " "])
    return folder


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory, tiny_table: StaticTable) -> str:
    """The words of the tiny table, pointing elsewhere; its name is hostile to pages."""
    rows = np.random.default_rng(3).normal(size=(4, 3)).astype(np.float32)
    folder = str(tmp_path_factory.mktemp("other") / "<b>&\"other'")
    publish(StaticTable(rows, tiny_table.tokenizer_json), folder, provenance={}, quality={})
    return folder


@pytest.fixture(scope="module")
def tiny_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Sentence Transformer of one layer and sixteen tokens."""
    folder = tmp_path_factory.mktemp("teacher") / "tiny-teacher"
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "north", "east", "south", "##west", "west"]
    tokens += [f"word{number}" for number in range(6)]
    tokenizer = Tokenizer(
        models.WordPiece({token: row for row, token in enumerate(tokens)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "cls", "sep", "pad", "mask")}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.BertModel(transformers.BertConfig(vocab_size=16, **sizes)).save_pretrained(folder)
    kinds = (("", "Transformer"), ("1_Pooling", "Pooling"))
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 8, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


def run(data: Path, output: Path, *words: str) -> tuple[dict[str, Any], dict[str, Any]]:
    assert evaluate(["--data", str(data), "--output", str(output), *words]) == 0
    return (
        json.loads((output / "evaluation.json").read_text()),
        json.loads((output / "timings.json").read_text()),
    )


def test_models_have_the_same_figures_twice(
    small_data: Path,
    tiny_model: str,
    other_model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = ["--model", tiny_model, "--model", other_model]
    record, timings = run(small_data, tmp_path / "one", *names)
    run(small_data, tmp_path / "two", *names)
    one, two = ((tmp_path / folder / "evaluation.json").read_bytes() for folder in ("one", "two"))
    assert one == two
    assert [model["name"] for model in record["models"]] == ["model", "<b>&\"other'"]
    keys = ["wordsim/rg-65", "sts/STS12", "sts/STSBenchmark-dev", "classification/ImdbClassification"]
    keys += ["clustering/mine", "retrieval/SciFact", "phrases/bird"]
    for model in record["models"]:
        assert list(model["tasks"]) == keys
        assert model["averages"]["sts"] == model["tasks"]["sts/STS12"]["value"]
        assert model["mean"] == pytest.approx(np.mean(list(model["averages"].values())), abs=2e-6)
    # With no general texts beside them, the texts of the tasks.
    assert [entry["speed"]["texts"] for entry in timings["models"]] == [6, 6]
    assert list(timings["models"][0]["tasks"]) == keys
    shown = capsys.readouterr().out
    assert re.search(r"^model +wordsim +sts +class +cluster +retr +phrase +mean +texts/s +MB$", shown, re.M)
    assert f"wrote report.html, timings.json, evaluation.json to {tmp_path}/one\n" in shown


def test_only_runs_what_was_asked_for(small_data: Path, tiny_model: str, tmp_path: Path) -> None:
    record, _ = run(small_data, tmp_path / "out", "--model", tiny_model, "--only", "STS12", "phrases")
    assert [task["key"] for task in record["tasks"]] == ["sts/STS12", "phrases/bird"]


@pytest.fixture(scope="module")
def report(
    small_data: Path,
    tiny_model: str,
    other_model: str,
    tiny_teacher: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A page with all its sections."""
    folder = tmp_path_factory.mktemp("report") / "out"
    models = ["--model", tiny_model, other_model, str(tiny_teacher)]
    sample = ["--sample", str(small_data / "rows"), "--text", "body", "--teacher", str(tiny_teacher)]
    run(small_data, folder, *models, *sample, "--ablations", str(tiny_teacher))
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
        "Retrieval",
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


def test_fidelity_is_that_of_the_vectors(
    small_data: Path, tiny_model: str, other_model: str, tiny_teacher: Path, tmp_path: Path
) -> None:
    names = [tiny_model, other_model, str(tiny_teacher)]
    words = [word for name in names for word in ("--model", name)]
    sample = ["--sample", str(small_data / "rows"), "--text", "body", "--teacher", str(tiny_teacher)]
    cache = ["--cache", str(tmp_path / "cache")]
    for folder in ("one", "two"):
        assert evaluate(["--output", str(tmp_path / folder), *words, *sample, *cache]) == 0
    one, two = ((tmp_path / folder / "evaluation.json").read_bytes() for folder in ("one", "two"))
    assert one == two
    fidelity = json.loads(one)["fidelity"]
    assert (fidelity["rows"], fidelity["teacher"]["name"]) == (64, "tiny-teacher")
    vectors = [open_model(name, "any").encode(ROWS) for name in names]
    for place, entry in enumerate(fidelity["models"]):
        expected = measure_fidelity(vectors[place], vectors[2])
        assert entry["correlation"] == pytest.approx(expected.correlation, abs=1e-5)
    assert fidelity["models"][2]["correlation"] == pytest.approx(1.0, abs=1e-5)
    assert "difference" not in fidelity["models"][0]
    expected_difference = compare_fidelity(vectors[1], vectors[0], vectors[2]).difference
    assert fidelity["models"][1]["difference"]["difference"] == pytest.approx(expected_difference, abs=1e-5)
    # The teacher saw the sample once.
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_teacher_is_evaluated_as_its_own_library_embeds(tiny_teacher: Path) -> None:
    model = open_model(str(tiny_teacher), "teacher")
    teacher = transformers.BertModel.from_pretrained(tiny_teacher).eval()
    # [CLS] north southwest [SEP], in which southwest is two pieces.
    with torch.no_grad():
        states = teacher(torch.tensor([[2, 5, 7, 8, 3]])).last_hidden_state[0]
    np.testing.assert_allclose(model.encode(["North southwest"])[0], states.mean(dim=0).numpy(), atol=1e-6)
    assert (model.dimensions, model.parameters) == (8, sum(part.numel() for part in teacher.parameters()))
    assert model.size_bytes == 4 * model.parameters


def test_ablations_are_distilled_once_where_a_cache_is_given(
    small_data: Path, tiny_teacher: Path, tmp_path: Path
) -> None:
    words = ["--ablations", str(tiny_teacher), "--plain-teacher", str(tiny_teacher), "--only", "sts"]
    cache = ["--cache", str(tmp_path / "cache")]
    record, _ = run(small_data, tmp_path / "one", *words, *cache)
    tables = sorted((tmp_path / "cache").iterdir())
    times = [table.stat().st_mtime_ns for table in tables]
    run(small_data, tmp_path / "two", *words, *cache)
    assert (tmp_path / "one" / "evaluation.json").read_bytes() == (
        tmp_path / "two" / "evaluation.json"
    ).read_bytes()
    assert sorted((tmp_path / "cache").iterdir()) == tables
    assert [table.stat().st_mtime_ns for table in tables] == times
    found = record["ablations"]["models"]
    assert [model["name"] for model in found] == [
        *ABLATIONS,
        "not a Sentence Transformer",
    ]
    # Narrower than 256, the teacher keeps its width; what is left out makes another table.
    assert len({model["fingerprint"] for model in found[:5]}) == 5
    assert {model["dimensions"] for model in found} == {8}


def test_ablations_of_the_recipe_with_counts(small_data: Path, tiny_teacher: Path, tmp_path: Path) -> None:
    counts = tmp_path / "counts.parquet"
    vocabulary = Tokenizer.from_file(str(tiny_teacher / "tokenizer.json")).get_vocab()
    names = sorted(vocabulary, key=lambda token: vocabulary[token])
    pq.write_table(pa.table({"token": names, "count": [7 * i % 40 for i in range(len(names))]}), counts)
    words = ["--ablations", str(tiny_teacher), "--counts", str(counts), "--only", "sts"]
    record, _ = run(small_data, tmp_path / "report", *words, "--cache", str(tmp_path / "cache"))
    found = record["ablations"]["models"]
    assert [model["name"] for model in found] == list(COUNTED_ABLATIONS)
    assert len({model["fingerprint"] for model in found}) == len(found)
    kept = list((tmp_path / "cache").iterdir())
    assert len(kept) == 2  # those that counts have nothing to do with
    assert "SIF weights by counts" in (tmp_path / "report" / "report.html").read_text()


def test_names_are_as_long_as_needed() -> None:
    assert name_models(["a/minilm/", "b/potion"]) == ["minilm", "potion"]
    assert name_models(["a/minilm", "b/minilm"]) == ["a/minilm", "b/minilm"]
    assert name_models(["s3://key:secret@bucket/m"]) == ["m"]
    assert name_models([]) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "d"], "nothing to evaluate: give a model, or a teacher for ablations"),
        (["--model", "m"], "nothing to evaluate on: give data, or a sample with its teacher"),
        (["--model", "m", "--sample", "s"], "sample and teacher go together"),
        (["--model", "m", "--sample", "s", "--teacher", "t", "--only", "sts"], "only needs data"),
        (["--model", "m", "--data", "d", "--plain-teacher", "t"], "plain_teacher needs ablations"),
        (["--model", "m", "--data", "d", "--counts", "c"], "counts need ablations"),
        (["--ablations", "t", "--sample", "s", "--teacher", "t"], "a sample needs a model to compare"),
        (["--ablations", "t", "--model", "m", "--sample", "s", "--teacher", "t"], "ablations need data"),
    ],
    ids=["model", "data", "teacher", "only", "plain teacher", "counts", "sample", "ablations"],
)
def test_settings_that_do_not_fit_are_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(["--output", "o", *words]) == 2
    assert message in capsys.readouterr().err


def test_output_that_exists_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(["--model", "gone", "--data", "gone", "--output", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"lakevec evaluate: report output '{tmp_path}' exists: expected a place where nothing exists; choose "
        "another --output, or remove it first\n"
    )


def test_model_that_is_not_there_is_refused_and_nothing_written(
    small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", str(tmp_path / "gone"), "--data", str(small_data), "--output", str(tmp_path / "out")]
    assert evaluate(words) == 2
    assert "gone' does not exist" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_sample_that_can_not_be_read_is_refused_before_any_task(
    small_data: Path, tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", tiny_model, "--data", str(small_data), "--output", str(tmp_path / "out")]
    sample = ["--sample", str(small_data / "rows"), "--text", "bodi", "--teacher", "gone"]
    assert evaluate([*words, *sample]) == 2
    told = capsys.readouterr().err
    assert told == (
        f"lakevec evaluate: sample '{small_data}/rows' has no column 'bodi': expected one of 'body'; "
        "did you mean 'body'?\n"
    )


def test_cache_that_can_not_be_made_is_refused_before_any_task(
    small_data: Path, tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    words = ["--model", tiny_model, "--data", str(small_data), "--output", str(tmp_path / "out")]
    assert evaluate([*words, "--cache", str(tmp_path / "file" / "cache")]) == 2
    told = capsys.readouterr().err
    assert "cache '" in told
    assert told.endswith("can't be made: got Not a directory; choose another --cache\n")


def test_dry_run_lists_tasks_and_writes_nothing(
    small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", "m", "--data", str(small_data), "--only", "sts", "--output", str(tmp_path / "out")]
    assert evaluate([*words, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert shown.endswith("  sts/STS12\n  sts/STSBenchmark-dev\ndry run: nothing was evaluated\n")
    assert not (tmp_path / "out").exists()


def described(name: str, mean: float, size: int) -> dict[str, Any]:
    found = {"metric": "cosine_spearman", "value": mean}
    averages = {"averages": {"sts": mean}, "mean": mean, "tasks": {"sts/mine": found}}
    return {"name": name, "dimensions": 256, "bytes": size, **averages}


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
        assert [model["name"], *averages] in [row[:8] for row in rows], place
    for task in record["tasks"]:
        found = [model["tasks"][task["key"]] for model in record["models"]]
        cells = [found[0]["metric"], *(f"{100 * entry['value']:.1f}" for entry in found)]
        assert cells in [row[1:] for row in rows if row[0].startswith(task["name"])]
    for entry in record["fidelity"]["models"]:
        cells = [f"{entry[key]:.3f}" for key in ("correlation", "rank_correlation", "neighbours")]
        assert [entry["name"], *cells] in [row[:4] for row in rows]


def test_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.delitem(sys.modules, "lakevec.pipeline.evaluation.report.report", raising=False)
    assert evaluate(["--model", "m", "--data", "d", "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == (
        "lakevec evaluate: evaluating needs jinja2, which is not installed: pip install 'lakevec[evaluate]'\n"
    )


@pytest.mark.parametrize(("name", "width", "height"), [("wide", 1200, 5400), ("narrow", 500, 5400)])
def test_page_is_shown_by_a_browser(report: Path, name: str, width: int, height: int) -> None:
    """Leaves artifacts/evaluate/report-*.png to be looked at."""
    browser = next((found for known in BROWSERS if (found := shutil.which(known))), None)
    if browser is None:
        pytest.skip("no Chromium is installed, so that no screenshot can be taken")
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
    shown = {
        tuple(colour)
        for colour in np.unique((pixels[..., :3] * 255).round().astype(int)[::2].reshape(-1, 3), axis=0)
    }
    # The first three models' colours of the light page.
    assert {(0x1B, 0x6C, 0xA8), (0xC2, 0x57, 0x1A), (0x2B, 0x8A, 0x57)} <= shown
