"""``lakevec train-head``: what it reads, learns and publishes, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nan
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakevec.pipeline.heads.head_folder import load_head
from lakevec.pipeline.model.artifact import load
from tests.support.commands import inspect, train_head

pytestmark = [
    pytest.mark.usefixtures("spark"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"),
]
WORDS = ["north", "east", "southwest"]


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """60 texts with a label, one of them twice, a null text, and a null label."""
    texts = [f"{WORDS[n % 3]} {WORDS[n % 3]} x{n}" for n in range(60)]
    labels = [WORDS[n % 3] for n in range(60)]
    table = pa.table(
        {
            "text": [*texts, None, "north", texts[0]],
            "label": [*labels, "north", None, labels[0]],
            "number": pa.array([*[n % 3 for n in range(60)], 0, None, 0], pa.int32()),
            "score": pa.array([*[n % 3 / 2 for n in range(59)], nan, 0.5, None, nan], pa.float32()),
            "tags": [*[[label, "any"] if n % 2 else [] for n, label in enumerate(labels)], ["any"], None, []],
        }
    )
    folder = tmp_path / "lake"
    folder.mkdir()
    for part in range(3):
        pq.write_table(table.slice(part * 21, 21), folder / f"{part}.parquet")
    return folder


def run(model: str, lake: Path | str, output: Path, *words: str, label: str = "label") -> int:
    paths = ["--input", str(lake), "--output", str(output)]
    return train_head(["--model", model, *paths, "--text", "text", "--label", label, *words])


def test_head_is_published_with_its_figures(
    tiny_model: str, lake: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny_model, lake, tmp_path / "way") == 0
    told = capsys.readouterr().out
    assert "rows read 63, rows without label 1, rows without text 1, rows distinct 60, rows used 60" in told
    head = load_head(str(tmp_path / "way"))
    assert (head.name, head.labels) == ("way", tuple(sorted(WORDS)))
    assert head.model == load(tiny_model).table.fingerprint
    assert (head.quality["accuracy"], head.quality["rows"]) == (1.0, 12)
    assert head.predict(load(tiny_model).encode(["North", "southwest east southwest"])).labels.tolist() == [
        *("north", "southwest")
    ]
    assert head.provenance["rows"]["rows_trained_on"] == 48
    assert "| `north` | 4 | 1 | 1 | 1 |" in (tmp_path / "way" / "README.md").read_text()
    assert inspect([str(tmp_path / "way")]) == 0
    told = capsys.readouterr().out
    assert "labels       3 of type string: east, north, southwest" in told
    assert "accuracy 1" in told


def test_layout_of_the_lake_does_not_change_the_head(tiny_model: str, lake: Path, tmp_path: Path) -> None:
    more = ["--rows", "40"]
    assert run(tiny_model, lake, tmp_path / "a" / "way", *more) == 0
    whole = pq.read_table(lake)
    pq.write_table(whole.take(list(reversed(range(len(whole))))), tmp_path / "one.parquet", row_group_size=7)
    assert run(tiny_model, tmp_path / "one.parquet", tmp_path / "b" / "way", *more) == 0
    first, second = (load_head(str(tmp_path / name / "way")) for name in "ab")
    assert first.provenance["rows"]["rows_used"] == 40
    assert first.fingerprint == second.fingerprint
    assert first.quality == second.quality


@pytest.mark.parametrize(
    ("label", "words", "kind", "labels"),
    [
        ("number", [], "classification", (0, 1, 2)),
        ("number", ["--kind", "regression"], "regression", ()),
        ("tags", ["--name", "my-tags"], "multi-label", ("any", "east", "north", "southwest")),
    ],
)
def test_column_type_decides_the_kind(
    tiny_model: str, lake: Path, tmp_path: Path, label: str, words: list[str], kind: str, labels: Any
) -> None:
    assert run(tiny_model, lake, tmp_path / "head", *words, label=label) == 0
    head = load_head(str(tmp_path / "head"))
    assert (head.kind, head.labels) == (kind, labels)
    assert head.name == ("my-tags" if label == "tags" else "head")


def test_rows_whose_label_is_nan_are_left_out_and_counted(
    tiny_model: str, lake: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """pandas writes a missing number as NaN."""
    assert run(tiny_model, lake, tmp_path / "head", label="score") == 0
    told = capsys.readouterr().out
    assert "rows read 63, rows without label 3, rows without text 1, rows distinct 59, rows used 59" in told
    head = load_head(str(tmp_path / "head"))
    assert head.kind == "regression"
    assert head.provenance["rows"]["rows_without_label"] == 3
    assert head.quality["r2"] > 0.9


def test_rows_with_only_nan_or_infinity_are_refused(
    tiny_model: str, tmp_path: Path, told: Callable[[], str]
) -> None:
    texts = [f"north x{number}" for number in range(20)]
    for name, labels in {"nan": [nan] * 20, "inf": [0.5, inf] * 10}.items():
        pq.write_table(pa.table({"text": texts, "label": labels}), tmp_path / f"{name}.parquet")
    assert run(tiny_model, tmp_path / "nan.parquet", tmp_path / "h") == 2
    assert "no row can train a head: got 20 rows, 20 without a label" in told()
    assert run(tiny_model, tmp_path / "inf.parquet", tmp_path / "h") == 1
    assert "numbers to learn: got 10 that are NaN or infinite; expected finite numbers" in told()


def test_wrong_requests_are_refused(
    tiny_model: str, lake: Path, tmp_path: Path, told: Callable[[], str], spark: Any
) -> None:
    assert run(tiny_model, lake, tmp_path / "h", label="lable") == 2
    assert "column 'lable' is not in the input" in told()
    assert run(tiny_model, lake, tmp_path / "two words") == 2
    assert "name must begin with a letter" in told()
    assert run(tiny_model, lake, lake) == 2
    assert run(tiny_model, lake, tmp_path / "h", "--class-weight", "balanced", "--kind", "regression") == 2
    assert "class_weight needs labels" in told()
    spark.sql("SELECT 'north' AS text, DATE'2020-01-01' AS label").createOrReplaceTempView("dated")
    assert run(tiny_model, "dated", tmp_path / "h", "--format", "table") == 2
    assert "label column 'label': got date; expected string, boolean, a number, or array<string>" in told()
    spark.sql("SELECT 'north' AS text, CAST(NULL AS STRING) AS label").createOrReplaceTempView("bare")
    assert run(tiny_model, "bare", tmp_path / "h", "--format", "table") == 2
    assert "no row can train a head: got 1 rows, 1 without a label" in told()
    assert not (tmp_path / "h").exists()
