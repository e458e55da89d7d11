"""README, documentation and --help say what the code does."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import lakevec as facade
from lakevec.jobs.cli import COMMANDS, load_command
from lakevec.jobs.cli import main as lakevec
from lakevec.jobs.options import parse
from lakevec.pipeline.settings.base import Settings
from tests.support.commands import embed
from tests.support.paths import ROOT

DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
KINDS: dict[str, type[Settings]] = {command.name: load_command(command.name).SETTINGS for command in COMMANDS}
COMMON_OPTIONS = {"--config", "--dry-run", "--verbose", "--version", "--help"}
# Options of the tools that documents name beside lakevec's own.
OTHER_OPTIONS = {"--add-modules", "--key-name", "--kills", "--no-compile", "--py-files"}
OTHER_OPTIONS |= {"--no-vectors"}  # a switch turned off
OTHER_OPTIONS |= {  # of Beam
    *(
        "--direct",
        "--environment",
        "--extra",
        "--flink",
        "--project",
        "--region",
        "--requirements",
        "--runner",
    ),
    *("--save", "--sdk", "--temp"),
}
each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def without_blocks(document: Path) -> str:
    return re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)


def inline_code(document: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", without_blocks(document))


def shell_commands(text: str) -> list[list[str]]:
    """The commands of a text's shell blocks that start lakevec, as words."""
    blocks = "".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")
    lines = re.findall(r"^(?:lakevec|spark-submit) .*$", blocks, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def lakevec_words(command: list[str]) -> list[str]:
    """A command's name and options, whether it is started by its script or by spark-submit."""
    [start] = [place for place, word in enumerate(command) if re.fullmatch(r"jobs/\w+\.py", word)] or [1]
    return [Path(command[start]).stem, *command[start + 1 :]]


def options_of(kind: type[Settings]) -> set[str]:
    return {f"--{name.replace('_', '-')}" for name in kind.model_fields} | COMMON_OPTIONS


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives a document's headings."""
    headings = re.findall(r"^#+ (.*)$", without_blocks(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def listed_modules() -> Iterator[str]:
    """The modules in the tree of docs/architecture.md."""
    [tree] = re.findall(r"```text\n(.*?)```", (ROOT / "docs" / "architecture.md").read_text(), re.DOTALL)
    folder = ""
    for line in tree.splitlines():
        name = line.split()[0]
        folder = folder if line.startswith(" ") else name
        yield from [f"{folder}{name}"] * line.startswith(" ")


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


@each_document
def test_lines_of_prose_fit_an_editor(document: Path) -> None:
    """Tables and pictures take one line each."""
    lines = re.sub(r"^ *(\||!\[).*$", "", without_blocks(document), flags=re.MULTILINE).splitlines()
    assert [line for line in lines if len(line) > 120] == []


@each_document
def test_links_lead_to_files_and_headings(document: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", without_blocks(document))
    inside = [link.partition("#") for link in links if not re.match(r"https?://", link)]
    targets = [
        ((document.parent / path if path else document).resolve(), anchor) for path, _, anchor in inside
    ]
    assert [str(path) for path, _ in targets if not path.exists()] == []
    assert [anchor for path, anchor in targets if anchor and anchor not in anchors(path)] == []


@each_document
def test_paths_in_documents_exist(document: Path) -> None:
    folders = "pipeline|udfs|jobs|lakevec|conf|docs|tests|examples"
    paths = [code for code in inline_code(document) if re.match(rf"(?:{folders})/[\w*./-]*$", code)]
    assert [path for path in paths if not list(ROOT.glob(path))] == []


def test_architecture_lists_every_module() -> None:
    folders = ("pipeline", "udfs", "jobs", "lakevec/beam")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    modules = {str(file.relative_to(ROOT)) for file in files if file.name != "__init__.py"}
    listed = list(listed_modules())
    doors = {str(file.relative_to(ROOT)) for file in (ROOT / "lakevec").glob("*.py")}
    assert sorted(listed) == sorted(modules | doors)


@each_document
def test_commands_of_documents_parse(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("embed.yaml").write_text("model: models/minilm\ninput: lake/docs\ntext: body\noutput: lake/cut\n")
    for command in shell_commands(document.read_text()):
        name, *words = lakevec_words(command)
        parse(KINDS[name], words, name)


@each_document
def test_options_in_text_exist(document: Path) -> None:
    every = set().union(*(options_of(kind) for kind in KINDS.values())) | OTHER_OPTIONS
    for code in inline_code(document):
        command = re.match(r"lakevec ([a-z][a-z-]*)", code)
        known = options_of(KINDS[command[1]]) if command else every
        used = set(re.findall(r"(?:^|\s)(--[a-z][a-z0-9-]*)", code))
        assert used <= known, f"{document.name}: {code}"


def test_reference_shows_every_public_name() -> None:
    page = (ROOT / "docs" / "reference.md").read_text()
    shown = set(re.findall(r"heading: lakevec\.(\w+)$", page, re.MULTILINE))
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (\d) \|", page, re.MULTILINE)
    assert shown | {name for name, _, _ in rows} == {*facade.__all__} - {"__version__"}
    errors: dict[str, Any] = {name: getattr(facade, name) for name, _, _ in rows}
    told = {(name, base, int(code)) for name, base, code in rows}
    assert told == {(name, kind.__base__.__name__, kind.exit_code) for name, kind in errors.items()}


def test_site_builds_and_loads_nothing_from_other_servers(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    pages = list(tmp_path.rglob("*.html"))
    assert tmp_path / "reference" / "index.html" in pages
    for page in pages:
        text = page.read_text()
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*\bsrc=\"?([^\"\s>]+)", text)
        loaded += re.findall(r"<link[^>]*\bhref=\"?([^\"\s>]+)", text)
        assert [url for url in loaded if re.match(r"(?:https?:)?//", url)] == []


def test_help_tells_every_option_and_needs_no_spark() -> None:
    """In a process of its own, since this one has imported Spark."""
    code = f"""
import contextlib, sys
from lakevec.jobs.cli import main
for name in {list(KINDS)}:
    with contextlib.suppress(SystemExit):
        main([name, "--help"])
print("imported:", sorted({{"pyspark", "torch", "transformers"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    pages = done.stdout.split("usage: lakevec ")[1:]
    assert [page.split()[0] for page in pages] == list(KINDS)
    assert pages[-1].endswith("imported: []\n")
    for page, kind in zip(pages, KINDS.values(), strict=True):
        shown = set(re.findall(r"^  (?:-h, )?(?:--)?([A-Za-z][\w-]*)", page, re.MULTILINE))
        assert {option.removeprefix("--") for option in options_of(kind)} <= {name.lower() for name in shown}


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

    about_types = page.split("\n## Binary vectors\n")[0]
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
    commands = [command for command in shell_commands(text) if command[1] not in ("search", "export")]
    assert [command[1] for command in commands] == ["embed", "embed", "embed", "verify"]
    spark.conf.set("spark.sql.shuffle.partitions", "4")
    first = ["embed", "--model", "models/minilm", "--input", "lake/docs", "--text", "body"]
    for words in ([*first, "--output", "lake/vectors"], *(command[1:] for command in commands)):
        words = [str(tmp_path / word) if word.startswith("lake/") else word for word in words]
        assert lakevec(words) == 0
    assert "sound: 2 rows" in capsys.readouterr().out


def test_commands_of_the_pages_of_recipes_and_formats_run(
    spark: Any, minilm_folder: Path, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With local models for the hub's, and few tokens, to be quick."""
    monkeypatch.chdir(tmp_path)
    first_sections = [
        (ROOT / "docs" / page).read_text().split("\n## ")[0] for page in ("distillation.md", "formats.md")
    ]
    commands = [command for text in first_sections for command in shell_commands(text)]
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
    quick = ["--token-remove-pattern", r"(?!\[PAD|\[UNK|\[CLS|\[SEP|zork)\D", "--dimensions", "8"]
    extra = {"distill": quick}
    for command in commands:
        words = [names.get(word, word) for word in command[1:]]
        assert lakevec([*words, *extra.get(command[1], [])]) == 0
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


@pytest.mark.usefixtures("spark")
def test_iceberg_lines_run(tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyiceberg import catalog
    from pyiceberg.utils.config import Config

    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"body": ["north"]}), tmp_path / "docs.parquet")
    page = (ROOT / "docs" / "output.md").read_text().split("\n## Iceberg\n")[1].split("\n## ")[0]
    [shell], [lines] = (re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL) for kind in ("sh", "python"))
    export, command = shell.replace("\\\n", "").splitlines()
    name, value = export.removeprefix("export ").split("=")
    monkeypatch.setenv(name, value.replace("$PWD", str(tmp_path)))
    monkeypatch.setattr(catalog, "_ENV_CONFIG", Config())  # which another process reads when it starts
    words = command.replace("models/minilm", tiny_model).replace("lake/docs", "docs.parquet").split()
    assert embed(words[2:]) == 0
    found: dict[str, Any] = {}
    exec(lines, found)
    assert found["rows"].num_rows == 1
    assert found["batches"] == ["0"]


def test_unknown_job_is_told_with_the_nearest() -> None:
    code = "import sys; from lakevec.jobs.cli import main; sys.exit(main(['embd']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    expected = (
        "lakevec: unknown command 'embd': expected one of benchmark, convert, count, demo, distill, doctor, "
        "embed, evaluate, export, inspect, mine, search, train-head, tune, verify; did you mean 'embed'?\n"
    )
    assert done.stderr == expected
