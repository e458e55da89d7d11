"""README and --help say what the code does."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import embed
from conftest import ROOT

from lakevec.jobs.cli import main as lakevec
from lakevec.pipeline.settings.benchmark import BenchmarkSettings
from lakevec.pipeline.settings.corpus import CountSettings, MineSettings
from lakevec.pipeline.settings.distill import DistillSettings
from lakevec.pipeline.settings.embed import EmbedSettings
from lakevec.pipeline.settings.evaluate import EvaluateSettings
from lakevec.pipeline.settings.models import ConvertSettings, InspectSettings, VerifySettings
from lakevec.pipeline.settings.tune import TuneSettings


@pytest.mark.parametrize(
    "job",
    [
        *("benchmark", "convert", "count", "demo", "distill", "doctor"),
        *("embed", "evaluate", "inspect", "mine", "tune", "verify"),
    ],
)
def test_help_tells_every_option_and_needs_no_spark(job: str) -> None:
    code = f"import sys; from lakevec.jobs.cli import main; sys.exit(main(['{job}', '--help']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"usage: lakevec {job}" in done.stdout
    for option in ("--config", "--dry-run", "--verbose"):
        assert option in done.stdout


@pytest.mark.parametrize(
    "page", ["README.md", *(f"docs/{name}.md" for name in ("results", "counting", "evaluation", "tuning"))]
)
def test_commands_of_pages_use_options_that_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    known = {
        f"--{name.replace('_', '-')}"
        for kind in (
            *(BenchmarkSettings, ConvertSettings, CountSettings, DistillSettings, EmbedSettings),
            *(EvaluateSettings, InspectSettings, MineSettings, TuneSettings, VerifySettings),
        )
        for name in kind.model_fields
    }
    known |= {"--config", "--dry-run", "--verbose", "--py-files", "--master", "--properties-file", "--files"}
    commands = re.findall(r"^\s*(?:lakevec|spark-submit) .*?(?<!\\)$", text, re.MULTILINE | re.DOTALL)
    assert commands
    used = {option for command in commands for option in re.findall(r"(?<=\s)--[a-z-]+", command)}
    assert used <= known, f"{page} uses {sorted(used - known)}"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_readers_take_small_vectors_as_the_output_page_says(
    spark: Any, minilm_model: str, general_texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "output.md").read_text()
    texts = [*general_texts[:3000], None, ""]
    pq.write_table(pa.table({"text": texts}), tmp_path / "texts.parquet")
    for name, kind in (("full", "float32"), ("half", "float16"), ("small", "int8")):
        words = ["--model", minilm_model, "--input", "texts.parquet", "--text", "text", "--vector-type", kind]
        assert embed([*words, "--output", f"lake/{name}"]) == 0
        [file] = Path("lake", name).glob("*.parquet")
        vectors = [
            column["total_compressed_size"]
            for group in pq.read_metadata(file).to_dict()["row_groups"]
            for column in group["columns"]
            if "text_embedding" in column["path_in_schema"]
        ]
        told = re.search(rf"^\| `{kind}` \|[^|]+\| (?:some )?([\d,]+) \|", page, re.MULTILINE)
        assert told is not None
        assert sum(vectors) / len(texts) == pytest.approx(int(told[1].replace(",", "")), rel=0.06)
    full = pq.read_table("lake/full")["text_embedding"].to_pylist()
    known = np.array([vector for vector in full if vector is not None], np.float32)
    largest = np.abs(known).max(axis=1, keepdims=True)

    about_types = page.split("\n## Sums\n")[0]
    by_spark, by_pandas, by_polars = re.findall(r"```python\n(.*?)```", about_types, re.DOTALL)
    found: dict[str, Any] = {"spark": spark}
    exec(by_spark.replace("lake/", f"{tmp_path}/lake/"), found)  # Spark's folder is another
    rows = [row.vector for row in found["exact"].collect()]
    exec(by_pandas, found)
    exec(by_polars, found)
    polars = found["exact"]["text_embedding"].to_list()
    for vectors in (rows, polars):
        assert [vector is None for vector in vectors] == [text is None for text in texts]
    for matrix in (found["matrix"], *([v for v in vectors if v is not None] for vectors in (rows, polars))):
        assert (np.abs(np.array(matrix, np.float32) - known) <= largest / 254 * 1.0001).all()
    half = pq.read_table("lake/half")["text_embedding"].drop_null().to_pylist()
    assert (np.abs(np.array(half) - known) <= np.abs(known) / 2048 + 1e-7).all()


def test_readme_commands_that_go_on_run(
    spark: Any,
    tiny_model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_model, tmp_path / "models" / "minilm")
    (tmp_path / "lake" / "docs").mkdir(parents=True)
    pq.write_table(
        pa.table({"id": [1, 2], "body": ["north", None]}), tmp_path / "lake" / "docs" / "0.parquet"
    )
    text = (ROOT / "README.md").read_text().split("\n## Run it again\n")[1].split("\n## ")[0]
    [block] = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    commands = [shlex.split(line) for line in block.splitlines()]
    assert [command[1] for command in commands] == ["embed", "embed", "embed", "verify"]
    spark.conf.set("spark.sql.shuffle.partitions", "4")
    first = ["embed", "--model", "models/minilm", "--input", "lake/docs", "--text", "body"]
    for words in ([*first, "--output", "lake/vectors"], *(command[1:] for command in commands)):
        words = [str(tmp_path / word) if word.startswith("lake/") else word for word in words]
        assert lakevec(words) == 0
    assert "sound: 2 rows" in capsys.readouterr().out


def test_readme_commands_of_other_recipes_and_models_run(
    spark: Any, minilm_folder: Path, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With local models for the hub's, and few tokens, to be quick."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text().split("\n## Other recipes, other models\n")[1].split("\n## ")[0]
    blocks = "".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")
    commands = [shlex.split(line, comments=True) for line in blocks.splitlines()]
    assert [command[1] for command in commands] == ["distill"] * 3 + ["embed", "convert", "convert"]
    names = {
        "hf://BAAI/bge-base-en-v1.5": str(minilm_folder),
        "hf://sentence-transformers/all-MiniLM-L6-v2": str(minilm_folder),
        "glove.6B.100d.txt": str(shared_data / "models/glove50-4k/glove50_4k.txt"),
        "hf://minishlab/potion-base-8M": str(shared_data / "models/potion-base-4M-int8"),
        "models/minilm": "models/mine",
        "lake/docs": str(tmp_path / "lake" / "docs"),  # Spark's folder is another
        "lake/glove": str(tmp_path / "lake" / "glove"),
    }
    (tmp_path / "lake" / "docs").mkdir(parents=True)
    pq.write_table(pa.table({"body": ["the government", None]}), tmp_path / "lake" / "docs" / "0.parquet")
    (tmp_path / "words.txt").write_text("zork\n")
    for command in commands:
        words = [names.get(word, word) for word in command[1:]]
        if command[1] == "distill":
            words += ["--token-remove-pattern", r"(?!\[PAD|\[UNK|\[CLS|\[SEP|zork)\D", "--dimensions", "8"]
        assert lakevec(words) == 0
    assert (tmp_path / "models" / "minilm-st").is_dir()
    [vector, _] = pq.read_table(tmp_path / "lake" / "glove")["body_embedding"].to_pylist()
    assert len(vector) == 50


def test_delta_lines_run(
    spark: Any, tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"body": ["north"]}), tmp_path / "docs.parquet")
    words = ["--model", tiny_model, "--input", str(tmp_path / "docs.parquet"), "--text", "body"]
    assert embed([*words, "--output", str(tmp_path / "lake" / "vectors"), "--table-format", "delta"]) == 0
    page = (ROOT / "docs" / "runs.md").read_text()
    [lines] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    found: dict[str, Any] = {}
    exec(lines, found)
    assert found["before"].num_rows == 1


def test_unknown_job_is_told_with_the_nearest() -> None:
    code = "import sys; from lakevec.jobs.cli import main; sys.exit(main(['embd']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    expected = (
        "lakevec: unknown command 'embd'; expected one of benchmark, convert, count, demo, distill, doctor, "
        "embed, evaluate, inspect, mine, tune, verify; did you mean 'embed'?\n"
    )
    assert done.stderr == expected


def test_doctor_finds_nothing_missing_here(capsys: pytest.CaptureFixture[str]) -> None:
    from commands import doctor as main

    assert main([]) == 0
    out = capsys.readouterr().out
    assert "MISSING" not in out
    assert out.endswith("embedding can run here\n")


def test_doctor_names_the_remedy_of_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from commands import doctor as main

    from lakevec.jobs import doctor

    monkeypatch.setattr(doctor, "find_java", lambda: None)
    assert main([]) == 2
    captured = capsys.readouterr()
    assert "MISSING  Java" in captured.out
    assert "pip install 'lakevec[local]'" in captured.out
    assert captured.err == "lakevec doctor: missing: Java: see the remedies above\n"
