"""``lakevec count``: exact under any partitioning, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakevec.pipeline.corpus import counts_folder
from lakevec.pipeline.corpus.stored_bigrams import read_bigrams
from lakevec.pipeline.distillation.weighting import read_counts
from lakevec.pipeline.errors import InputError
from lakevec.pipeline.storage import locate
from tests.support.commands import count as main

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"
)


@pytest.fixture
def lake(tmp_path: Path, spark: Any) -> Path:
    texts = [f"North east {number % 7} southwest" for number in range(70)] + [None, ""]
    other = ["far north"] * 72
    frame = spark.createDataFrame(list(zip(texts, other, strict=True)), "`body text` string, title string")
    frame.repartition(7).write.parquet(str(tmp_path / "seven"))
    frame.coalesce(1).write.parquet(str(tmp_path / "one"))
    return tmp_path


def run(model: str, place: Path | str, output: Path, *words: str) -> int:
    texts = ["--text", "body text", "--text", "title"]
    return main(["--model", model, "--input", str(place), *texts, "--output", str(output), *words])


def test_counts_of_a_lake_are_the_same_in_one_part_and_in_seven(
    tiny_model: str, lake: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "seven"):
        words = ["--phrases", "2", "--bigrams", "2"]
        assert run(tiny_model, lake / name, lake / f"counts-{name}", *words) == 0
    tables = [
        [pq.read_table(lake / f"counts-{name}" / kind) for kind in ("tokens", "words", "phrases", "bigrams")]
        for name in ("one", "seven")
    ]
    assert tables[0] == tables[1]
    tokens, words, phrases, bigrams = tables[0]
    assert tokens.schema.names == ["id", "token", "count", "documents"]
    assert [kind.bit_width for kind in tokens.schema.types if pa.types.is_integer(kind)] == [32, 64, 64]
    assert tokens.to_pylist() == [
        {"id": 0, "token": "[UNK]", "count": 70 + 72, "documents": 142},
        {"id": 1, "token": "north", "count": 142, "documents": 142},
        {"id": 2, "token": "east", "count": 70, "documents": 70},
        {"id": 3, "token": "southwest", "count": 70, "documents": 70},
    ]
    assert words.to_pylist()[:2] == [
        {"word": "north", "count": 142, "documents": 142},
        {"word": "far", "count": 72, "documents": 72},
    ]
    assert phrases.num_rows == 2 + 2 * 7
    # "North east 3 southwest", whose number is unknown.
    assert bigrams.to_pylist() == [
        {"first": "north", "second": "east", "count": 70},
        {"first": "east", "second": "southwest", "count": 70},
    ]
    record = json.loads((lake / "counts-seven" / "count.json").read_text())
    assert {key: record[key] for key in ("rows", "texts", "nulls", "tokens", "distinct_words")} == {
        "rows": 72,
        "texts": 143,
        "nulls": 1,
        "tokens": 424,
        "distinct_words": 11,
    }
    assert record["bigrams"] == 2
    assert "counted 72 rows: 143 texts, 1 nulls, 424 tokens" in capsys.readouterr().out
    # The folder as well as its tokens; a word that is no token has its word's count.
    for place in (lake / "counts-one", lake / "counts-one" / "tokens"):
        assert read_counts(str(place)).lookup(["east", "north"]).tolist() == [70, 142]
    assert read_counts(str(lake / "counts-one")).lookup(["north", "Ġfar", "never"]).tolist() == [142, 72, 0]
    pairs, counts = read_bigrams(str(lake / "counts-one"), ["southwest", "east", "north"], 5)
    assert (pairs.tolist(), counts.tolist()) == ([[1, 0], [2, 1]], [70, 70])


def test_same_request_is_done_already_and_another_is_refused(
    tiny_model: str, lake: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = lake / "counts"
    assert run(tiny_model, lake / "one", output) == 0
    before = (output / "count.json").read_bytes()
    assert run(tiny_model, lake / "one", output) == 0
    assert "already counted: 72 rows" in capsys.readouterr().out
    assert (output / "count.json").read_bytes() == before
    assert run(tiny_model, lake / "one", output, "--phrases", "2") == 2
    assert "holds the counts of another request: choose another --output" in capsys.readouterr().err
    pq.write_table(pa.table({"body text": ["x"], "title": ["y"]}), lake / "one" / "new.parquet")
    assert run(tiny_model, lake / "one", output) == 2
    told = capsys.readouterr().err
    assert "counts of other files: got files that were added, removed or changed since" in told
    (lake / "one" / "new.parquet").unlink()
    assert run(tiny_model, lake / "one", output) == 0
    (file, *_) = (lake / "one").glob("*.parquet")
    file.touch()
    assert run(tiny_model, lake / "one", output) == 2


def test_counts_of_earlier_versions_are_kept_and_have_no_bigrams(
    tiny_model: str, lake: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = lake / "counts"
    assert run(tiny_model, lake / "one", output) == 0
    record = json.loads((output / "count.json").read_text())
    for part in (record["request"], record["settings"], record):
        del part["bigrams"]
    (output / "count.json").write_text(json.dumps(record))
    capsys.readouterr()
    assert run(tiny_model, lake / "one", output) == 0
    assert "already counted: 72 rows" in capsys.readouterr().out
    assert run(tiny_model, lake / "one", output, "--bigrams", "5") == 2
    assert "holds the counts of another request" in capsys.readouterr().err
    with pytest.raises(InputError, match="have no bigrams: got counts without --bigrams; count again with"):
        read_bigrams(str(output), ["north"], 5)


def test_counts_without_pairs_have_no_bigrams(tiny_model: str, tmp_path: Path, spark: Any) -> None:
    pq.write_table(pa.table({"body text": ["north"], "title": ["far"]}), tmp_path / "a.parquet")
    assert run(tiny_model, tmp_path / "a.parquet", tmp_path / "counts", "--bigrams", "5") == 0
    pairs, counts = read_bigrams(str(tmp_path / "counts"), ["north"], 5)
    assert (pairs.shape, counts.tolist()) == ((0, 2), [])


def test_counts_of_a_view_are_not_taken_for_those_of_its_rows_today(
    tiny_model: str, lake: Path, spark: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    spark.sql("SELECT 'north' AS `body text`, 'east' AS title").createOrReplaceTempView("rows")
    words = ["--format", "table"]
    assert run(tiny_model, "rows", lake / "counts", *words) == 0
    assert run(tiny_model, "rows", lake / "counts", *words) == 2
    assert "an input without files, whose new rows lakevec can't recognise" in capsys.readouterr().err


def test_what_a_killed_count_left_is_refused_and_then_counted_over(tiny_model: str, lake: Path) -> None:
    output = lake / "counts"
    folder = locate(str(output), error=InputError)
    with counts_folder.hold(folder, "dead", "counts"):
        counts_folder.begin(folder)
    (output / "words").mkdir()
    (output / "words" / "part").write_bytes(b"half")
    with pytest.raises(InputError, match="are incomplete: got a count that was killed"):
        read_counts(str(output)).lookup(["north"])
    assert run(tiny_model, lake / "one", output) == 0
    assert read_counts(str(output)).lookup(["north"]).tolist() == [142]
    assert sorted(path.name for path in output.iterdir()) == ["count.json", "tokens", "words"]


def test_second_count_into_one_output_is_refused_while_the_first_lives(
    tiny_model: str, lake: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = lake / "counts"
    folder = locate(str(output), error=InputError)
    with counts_folder.hold(folder, "first", "counts"):
        counts_folder.begin(folder)
        (output / "words").mkdir()
        assert run(tiny_model, lake / "one", output) == 3
        assert "another run is writing to output" in capsys.readouterr().err
        assert (output / "words").exists()


@pytest.fixture(scope="module")
def finished(tiny_model: str, spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Counts of two texts."""
    folder = tmp_path_factory.mktemp("finished")
    pq.write_table(
        pa.table({"body text": ["north", "far"], "title": ["north east", None]}), folder / "a.parquet"
    )
    assert run(tiny_model, folder / "a.parquet", folder / "counts", "--bigrams", "9") == 0
    return folder / "counts"


DAMAGES: dict[str, Callable[[Path], object]] = {
    "gone": shutil.rmtree,
    "empty": lambda part: [file.unlink() for file in part.glob("*.parquet")],
    "cut": lambda part: [file.write_bytes(b"PAR1") for file in part.glob("*.parquet")],
}


@pytest.mark.parametrize("part", ["words", "tokens"])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_counts_without_a_part_are_refused(
    finished: Path, tmp_path: Path, part: str, damage: Callable[[Path], object]
) -> None:
    shutil.copytree(finished, tmp_path / "counts")
    damage(tmp_path / "counts" / part)
    with pytest.raises(InputError, match=f"are incomplete: got 0 {part}; .*; restore the folder {part}"):
        read_counts(str(tmp_path / "counts")).lookup(["north", "new"])


def test_lost_rows_of_words_are_noticed(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "counts")
    file = min((tmp_path / "counts" / "words").glob("*.parquet"))
    pq.write_table(pq.read_table(file).slice(1), file)
    with pytest.raises(InputError, match="got 2 words; expected 3; restore the folder words"):
        read_counts(str(tmp_path / "counts")).lookup(["north", "new"])


def test_lost_bigrams_are_noticed(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "counts")
    shutil.rmtree(tmp_path / "counts" / "bigrams")
    with pytest.raises(InputError, match="got 0 bigrams; expected 1; restore the folder bigrams"):
        read_bigrams(str(tmp_path / "counts"), ["north", "east"], 5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--text", "nobody"], "column 'nobody' is not in the input"),
        (["--phrases", "4"], "'phrases' is not allowed"),
        (["--bigrams", "0"], "'bigrams' is not allowed"),
    ],
)
def test_what_can_not_be_counted_is_refused(
    tiny_model: str, lake: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert run(tiny_model, lake / "one", lake / "counts", *words) == 2
    assert message in capsys.readouterr().err
    assert not (lake / "counts").exists()


def test_other_folders_and_other_places_are_refused(
    tiny_model: str, lake: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (lake / "mine").mkdir()
    (lake / "mine" / "file").write_text("mine")
    assert run(tiny_model, lake / "one", lake / "mine") == 2
    assert "expected a new or empty folder, or the counts of the same request" in capsys.readouterr().err
    assert run(str(lake / "one"), lake / "one", lake / "counts") == 2
    assert "lakevec count: " in capsys.readouterr().err
    assert run(tiny_model, lake / "one", lake / ("a" * 300)) == 2
    assert "lakevec count: can't look at '" in capsys.readouterr().err


def test_bad_rows_end_the_run_or_are_left_out(
    tiny_model: str, tmp_path: Path, spark: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = pa.array([b"north", b"\xff"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"body text": texts, "title": ["east", "east"]}), tmp_path / "a.parquet")
    assert run(tiny_model, tmp_path / "a.parquet", tmp_path / "counts") == 1
    assert "a text is not valid UTF-8" in capsys.readouterr().err
    assert run(tiny_model, tmp_path / "a.parquet", tmp_path / "counts", "--on-bad-row", "skip") == 0
    assert "1 texts left out, which are not valid UTF-8" in capsys.readouterr().out
    assert read_counts(str(tmp_path / "counts")).lookup(["north", "east"]).tolist() == [1, 2]


def test_teachers_own_tokens_are_counted(
    minilm_folder: Path, tmp_path: Path, spark: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    pq.write_table(pa.table({"body text": ["numpy"], "title": ["the"]}), tmp_path / "a.parquet")
    assert run(str(minilm_folder), tmp_path / "a.parquet", tmp_path / "counts") == 0
    tokens = pq.read_table(tmp_path / "counts" / "tokens").to_pylist()
    assert {row["token"]: row["count"] for row in tokens if row["count"]} == {
        "nu": 1,
        "##mp": 1,
        "##y": 1,
        "the": 1,
    }
    assert len(tokens) == 30_522
