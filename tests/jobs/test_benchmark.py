"""``lakevec benchmark`` on few rows: every part runs, and what it reports is what it measured."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from lakevec.jobs.benchmark import find_measure
from lakevec.jobs.benchmarks.corpus import (
    find_bigrams,
    mine_phrases,
    read_kind,
    read_texts,
    texts_of_length,
    texts_of_new_words,
    write_rows,
)
from lakevec.jobs.benchmarks.report import show_comparison
from lakevec.jobs.benchmarks.timing import Comparison, Rate, in_new_process, take_turns
from lakevec.pipeline.errors import InputError
from lakevec.pipeline.settings.benchmark import BenchmarkPart
from tests.support.commands import benchmark as main
from tests.support.models import make_word_tokenizer
from tests.support.paths import IS_WHOLE, ROOT

KERNEL_PARTS = [
    "kernel",
    "texts",
    "tokenizers",
    "phrases",
    "bigrams",
    "lengths",
    "dimensions",
    "vocabulary",
    "vectors",
    "extremes",
    "teacher",
]
# The parts between are the job again, on more rows and on more cores.
SPARK_PARTS = ["start", "job", "rows", "shapes", "cores", "count"] if IS_WHOLE else ["job", "count"]
# Fewer and smaller measurements, by the same code.
FEW = """from lakevec.jobs.benchmarks import kernel_parts as parts, teacher_parts
teacher_parts._SHARD_ROWS = 50
parts._EXTREMES = (("one text of 1 MB", 10**6, False), ("one word of 100 kB", 10**5, True))
parts._LENGTHS, parts._WIDTHS, parts._VOCABULARIES = (20, 500), (64, 256), (1_000, 4_000)
parts._VECTORS = 4096"""


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    texts = [f"number {row} of the rows that are read" for row in range(300)]
    table = pa.table({"id": range(301), "body": [*texts, None]})
    (tmp_path / "source").mkdir()
    pq.write_table(table, tmp_path / "source" / "0.parquet")
    return tmp_path / "source"


def test_repeated_rows_are_real_rows_first_and_then_bring_fresh_words(lake: Path, tmp_path: Path) -> None:
    source = pq.read_table(lake)
    write_rows(source, "body", 250_000, tmp_path / "lake")
    rows = pq.read_table(tmp_path / "lake")
    assert rows.slice(0, 301).equals(source)
    again = rows.slice(301)
    assert again["id"].to_pylist() == [number % 301 for number in range(301, 250_000)]
    assert again["body"].null_count == again.num_rows // 301
    characters = pc.sum(pc.utf8_length(pc.fill_null(source["body"].take(again["id"]), "")))
    added = pc.subtract(pc.sum(pc.utf8_length(pc.fill_null(again["body"], ""))), characters).as_py()
    fresh = characters.as_py() // 500
    assert 4.9 * fresh < added < 10.1 * fresh
    same = tmp_path / "same"
    write_rows(source, "body", 250_000, same)
    assert pq.read_table(same).equals(rows)
    assert len(read_texts(same, "body", 1000)) == 1000


def test_texts_of_other_kinds() -> None:
    words = " ".join(texts_of_new_words(500).to_pylist()).split()
    assert len(words) == 500 * 25
    assert len(set(words)) > 0.99 * len(words)
    pieces = texts_of_length(pa.array(["ab", None, "cde"]), 4)
    assert pieces.to_pylist() == ["ab c", "de"]


def test_phrases_are_those_of_mined_vocabularies() -> None:
    names = ["New York"] * 30 + ["Los Angeles"] * 40
    others = ["it is", "is it", "it it", "is is"] * 50
    tokenizer = make_word_tokenizer(["[UNK]"])
    phrases = mine_phrases(pa.array(names + others, pa.large_string()), tokenizer.to_str(), 2)
    assert phrases == ["los angeles", "new york"]


def test_bigrams_are_the_most_frequent_pairs_of_the_texts() -> None:
    tokenizer = make_word_tokenizer(["[UNK]", "a", "b"])
    texts = pa.array(["a b a", "a b", None, "b b"], pa.large_string())
    assert find_bigrams(texts, tokenizer.to_str(), 2).tolist() == [[1, 2], [2, 1]]


def test_rows_of_one_kind_are_chosen_by_a_column(tmp_path: Path) -> None:
    file = str(tmp_path / "texts.parquet")
    pq.write_table(pa.table({"text": ["a", "b", "c"], "lang": ["x", "y", "x"]}), file)
    assert read_kind(f"{file}?lang=x", "text", 9).to_pylist() == ["a", "c"]
    assert read_kind(file, "text", 2).to_pylist() == ["a", "b"]
    for place, message in ((f"{file}?lang=z", "no rows in"), (f"{file}?other=z", "column 'other'")):
        with pytest.raises(InputError, match=message):
            read_kind(place, "text", 9)


def test_ways_take_turns_and_the_median_counts() -> None:
    seen: list[str] = []

    def way(name: str) -> int:
        seen.append(name)
        return 3

    rates = take_turns({"a": lambda: way("a"), "b": lambda: way("b")}, 3)
    assert seen == ["a", "b"] * 3
    assert [len(rate.runs) for rate in rates] == [3, 3]
    assert rates[0].rows_per_s == statistics.median(rates[0].runs)
    shown = show_comparison(
        Comparison("t", [Rate("a", 3, (10, 20, 60)), Rate("b", 3, (40, 30, 90))], "a", ["N."])
    )
    assert "| a | 3 | 20 | 10, 20, 60 | 1.00x |\n| b | 3 | 40 | 40, 30, 90 | 2.00x |\n\nN." in shown


def test_new_process_is_bound_to_its_cpus() -> None:
    cpu = sorted(os.sched_getaffinity(0))[-1]
    assert in_new_process([cpu], os.sched_getaffinity, 0) == {cpu}


WAYS = {
    "kernel": {"lakevec", "model2vec encode", "StaticEmbedding encode", "tokenizers alone, no vectors"},
    "phrases": {"lakevec", "lakevec, with mined phrases"},
    "bigrams": {
        "lakevec",
        "lakevec, with bigrams",
        "lakevec, with position weights",
        "lakevec, with both",
    },
    "vectors": {"lakevec", "pyarrow's list column", "plain write of the same bytes"},
    "teacher": {
        "sentence-transformers, batches of 64",
        "lakevec, float32",
        "lakevec, bfloat16",
        "lakevec, int8",
    },
    "job": {
        "lakevec",
        "model2vec in a pandas UDF",
        "StaticEmbedding in a pandas UDF",
        "ceiling: lakevec, constant vectors",
        "embed, nothing written",
    },
    "start": {
        "plain Spark's session",
        "plain Spark's session and first job",
        "lakevec embed, one row",
        "lakevec embed, nothing new",
    },
    "rows": {"lakevec, 2,000 rows", "lakevec, 4,000 rows"},
    "shapes": {
        "the usual files",
        "10 files of 100 rows",
        "one row group of 4,000 rows",
        "300 columns",
        "texts of 240 paragraphs",
    },
    "cores": {"lakevec, local[1] on 1 CPU"},
    "count": {"count", "count, with pairs of words"},
}


@pytest.mark.parametrize("parts", [KERNEL_PARTS, SPARK_PARTS], ids=["kernel", "spark"])
def test_parts_run_and_are_reported(parts: list[str], minilm_model: str, lake: Path, tmp_path: Path) -> None:
    """In a process of its own, since it binds itself to a CPU and opens its own session."""
    output, cpu = tmp_path / "bench", str(max(os.sched_getaffinity(0)))
    start = ["import sys", "from lakevec.jobs.cli import main", "" if IS_WHOLE else FEW, "sys.exit(main())"]
    words = ["--model", minilm_model, "--input", str(lake), "--text", "body", "--output", str(output)]
    words += ["--rows", "2000", "--peer-rows", "1000", "--repeats", "1", "--growth", "1", "2"]
    pq.write_table(pa.table({"text": ["a few", "others"]}), tmp_path / "others.parquet")
    words += ["--also", f"others={tmp_path / 'others.parquet'}", "--tokenizers", f"minilm={minilm_model}"]
    words += ["--cores", "1", "--cpus", cpu, "--master", "local[1]", "--part", *parts]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(start), "benchmark", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((output / "benchmark.json").read_text())
    assert report["machine"]["cpus"] == [int(cpu)]
    assert report["machine"]["command"].startswith("lakevec benchmark --model ")
    assert (report["source_rows"], report["dimensions"]) == (301, 256)
    ways = {way: rate for part in report["comparisons"] for way, rate in part["rows_per_s"].items()}
    assert all(rate > 0 for rate in ways.values())
    expected = set().union(*(WAYS.get(part, set()) for part in parts))
    assert ways.keys() == expected
    titles = {part["title"] for part in report["comparisons"]}
    assert ("others, minilm" in titles) == ("tokenizers" in parts)
    markdown = (output / "benchmark.md").read_text()
    for way in expected:
        assert re.search(rf"^\| {re.escape(way)} \| [\d,]+ \| [\d,.]+ \|", markdown, re.MULTILINE)
    assert (output / "benchmark.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(file.name for file in output.iterdir()) == [
        "benchmark.json",
        "benchmark.md",
        "benchmark.png",
    ]


@pytest.mark.parametrize("part", get_args(BenchmarkPart))
def test_every_part_has_a_function_that_measures_it(part: str) -> None:
    assert find_measure(part).__name__ == f"measure_{part}"


def test_output_that_exists_is_refused(
    minilm_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--model", minilm_model, "--output", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"lakevec benchmark: benchmark output '{tmp_path}' exists: expected a place where nothing exists; "
        "choose another --output, or remove it first\n"
    )
