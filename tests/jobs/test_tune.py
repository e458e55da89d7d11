"""``lakevec tune``: the same sample however the lake lies, a resumed teacher, a better table, a gate."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakevec.jobs.lake_sample import sample_lake
from lakevec.jobs.tune import to_options
from lakevec.pipeline.distillation.sentence_encoder import SentenceEncoder
from lakevec.pipeline.encoding.encoder import Encoder
from lakevec.pipeline.errors import InputError
from lakevec.pipeline.evaluation.fidelity import measure_fidelity
from lakevec.pipeline.local_files import texts_sha256
from lakevec.pipeline.model.artifact import Artifact, load
from lakevec.pipeline.settings.tune import TuneSettings
from lakevec.pipeline.tuning.options import TuneOptions
from tests.support.commands import tune
from tests.support.dying_task import DyingTask
from tests.support.tiny_teacher import QUICK, make_texts, make_tiny_teacher, tune_words

ROWS = 600


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_teacher(tmp_path_factory.mktemp("tuning") / "teacher")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts in four files, some twice, some null or blank, of two kinds."""
    folder = tmp_path_factory.mktemp("tuning") / "lake"
    folder.mkdir()
    texts: list[str | None] = [*make_texts(ROWS), *make_texts(50), None, "", "  ", "\t\n"]
    kinds = ["rare" if number % 10 == 0 else "common" for number in range(len(texts))]
    for part in range(4):
        table = pa.table({"body": texts[part::4], "kind": kinds[part::4]})
        pq.write_table(table, folder / f"{part}.parquet")
    return folder


def settings_of(teacher: Path, lake: Path, folder: Path, **values: Any) -> TuneSettings:
    required = {
        "teacher": str(teacher),
        "input": [str(lake)],
        "text": ["body"],
        "output": str(folder / "model"),
    }
    return TuneSettings.model_validate({**required, **values})


@pytest.fixture(scope="module")
def published(
    spark: Any, teacher: Path, lake: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Artifact, str]:
    """What the job publishes of the whole lake, and what it says."""
    import contextlib
    import io

    folder = tmp_path_factory.mktemp("published")
    out = io.StringIO()
    words = tune_words(teacher, lake, folder / "model")
    with contextlib.redirect_stdout(out):
        assert tune([*words, *QUICK, "--epochs", "4"]) == 0
    return folder, load(str(folder / "model")), out.getvalue()


def test_job_publishes_a_table_that_keeps_closer_than_its_start(
    published: tuple[Path, Artifact, str], teacher: Path
) -> None:
    folder, artifact, out = published
    quality, recipe = artifact.quality, artifact.provenance["recipe"]
    assert quality["fidelity"] > quality["fidelity_before_tuning"] + 0.03
    assert recipe["tuned_on_texts"] == ROWS - ROWS // 5
    assert quality["held_out_texts"] == ROWS // 5
    assert re.search(
        rf"sample: {ROWS} texts; the teacher works in float32\nteacher: 6 of 6 shards to compute\n", out
    )
    assert f"fidelity {quality['fidelity']:.4f}" in out
    assert (folder / "model" / "training.svg").read_text().startswith("<?xml")
    card = (folder / "model" / "README.md").read_text()
    assert f"| fidelity | {quality['fidelity']:.4g} |" in card
    assert f"`{recipe['sample_sha256']}`" in card
    # Not only on the texts that chose the epoch.
    fresh = make_texts(200, seed=7)
    truth = SentenceEncoder(str(teacher)).encode(fresh)
    vectors = Encoder(artifact.table).encode(pa.array(fresh)).vectors
    assert measure_fidelity(vectors, truth).correlation > quality["fidelity_before_tuning"] + 0.02


def test_kept_vectors_are_used_again_and_the_table_is_the_same(
    published: tuple[Path, Artifact, str], teacher: Path, lake: Path, tmp_path: Path, capsys: Any
) -> None:
    folder, artifact, _ = published
    words = [*tune_words(teacher, lake, tmp_path / "again"), "--epochs", "4"]
    assert tune([*words, "--vectors", str(folder / "model-teacher"), *QUICK]) == 0
    assert "teacher: 0 of 6 shards to compute" in capsys.readouterr().out
    assert load(str(tmp_path / "again")).table.fingerprint == artifact.table.fingerprint


def test_job_goes_on_where_it_was_killed(
    spark: Any, teacher: Path, lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """A piece whose teacher dies leaves the others, which the next run does not make again."""
    words = tune_words(teacher, lake, tmp_path / "model")
    words += [*QUICK, "--epochs", "1"]
    monkeypatch.setattr("lakevec.jobs.tune.TeacherTask", DyingTask)
    assert tune(words) == 1
    assert "a Python worker died" in capsys.readouterr().err
    monkeypatch.undo()
    [kept] = (tmp_path / "model-teacher").iterdir()
    done = {file: file.stat().st_mtime_ns for file in (kept / "vectors").glob("*.parquet")}
    assert 1 <= len(done) <= 5
    assert not (tmp_path / "model").exists()
    (kept / "vectors" / ".000003.parquet.half").write_bytes(b"PAR1")  # what a killed task leaves
    assert tune(words) == 0
    left = re.search(r"teacher: (\d) of 6 shards to compute", capsys.readouterr().out)
    # Tasks beside the one that died may have finished theirs after it.
    assert left is not None
    assert 1 <= int(left[1]) <= 6 - len(done)
    assert {file: file.stat().st_mtime_ns for file in done} == done


@pytest.mark.parametrize(("given", "code"), [("-1", 0), ("0.9999", 1)], ids=["passes", "refuses"])
def test_gate_decides_on_the_lakes_own_rows(
    spark: Any,
    published: tuple[Path, Artifact, str],
    teacher: Path,
    lake: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    given: str,
    code: int,
) -> None:
    words = tune_words(teacher, lake, tmp_path / "m")
    words += [
        *QUICK,
        "--epochs",
        "1",
        "--vectors",
        str(published[0] / "model-teacher"),
        "--min-fidelity",
        given,
    ]
    words += ["--sample", str(lake), "--sample-text", "body"]
    assert tune(words) == code
    assert (tmp_path / "m").exists() == (code == 0)
    err = capsys.readouterr().err
    expected = r"lakevec tune: the table's fidelity to its teacher on sample '.*lake' is too low: got a"
    assert bool(re.match(expected, err)) == (code == 1)


def test_sample_is_the_same_however_the_lake_lies(
    spark: Any, teacher: Path, lake: Path, tmp_path: Path
) -> None:
    rows = pq.read_table(lake)
    turned = rows.take(np.random.default_rng(0).permutation(len(rows)))
    (tmp_path / "turned").mkdir()
    pq.write_table(turned, tmp_path / "turned" / "one.parquet", row_group_size=37)
    found = [
        sample_lake(spark, settings_of(teacher, where, tmp_path, rows=100, seed=seed))
        for where, seed in ((lake, 0), (tmp_path / "turned", 0), (lake, 1))
    ]
    assert found[0] == found[1]
    assert len(set(found[0])) == 100
    assert len(set(found[0]) & set(found[2])) < 60


def test_strata_of_a_column_give_alike_and_long_texts_are_cut(
    spark: Any, teacher: Path, lake: Path, tmp_path: Path
) -> None:
    settings = settings_of(teacher, lake, tmp_path, rows=100, stratify="kind", max_chars=20)
    texts = sample_lake(spark, settings)
    assert max(map(len, texts)) == 20
    rows = pq.read_table(lake).to_pylist()
    rare = {row["body"][:20] for row in rows if row["kind"] == "rare" and (row["body"] or "").strip()}
    assert 45 <= sum(text in rare for text in texts) <= 55


def test_stratum_of_few_texts_that_repeat_gives_them_all(spark: Any, teacher: Path, tmp_path: Path) -> None:
    """Ten texts in 20,000 rows: the first look, at a part of them, finds hardly any."""
    few, many = (
        [f"few {'abcdefghij'[number % 10]}" for number in range(20_000)],
        [f"many {'abc'[number % 3] * (1 + number // 3)}" for number in range(3000)],
    )
    kinds = ["few"] * len(few) + ["many"] * len(many)
    pq.write_table(pa.table({"body": few + many, "kind": kinds}), tmp_path / "a.parquet")
    settings = settings_of(teacher, tmp_path / "a.parquet", tmp_path, rows=100, stratify="kind")
    texts = sample_lake(spark, settings)
    assert {text for text in texts if text.startswith("few")} == set(few)
    # What one kind lacks the other gives.
    assert len(texts) == len(set(texts)) == 100
    more = sample_lake(spark, settings.model_copy(update={"rows": 200}))
    assert set(texts) < set(more)
    by_length = settings.model_copy(update={"rows": 1000, "stratify": None})
    assert len(sample_lake(spark, by_length)) == 1000
    with pytest.raises(InputError, match="'body' can't stratify 100 texts: got more values than texts"):
        sample_lake(spark, settings.model_copy(update={"stratify": "body"}))


NEAR_DUPLICATES = [
    [
        "Page 3 of the report.",
        "page 12 of the  report",
        "PAGE 1,000.5, of the *report*",
        "Page 2026-01-31: of the report",
    ],
    ["3 blind mice", "(1) blind mice!", "7 blind\tmice"],
    ["été 1", "ÉTÉ 2?"],
    ["१२ किताब", "३ किताब"],
    ["1", "2.5", "1999-12-31", "(9)"],
]
DIFFERENT = [
    "page of the report",
    "blind mice",
    "ete 1",
    "किताब",
    "🙂",
    "🙁",
    "***",
    "---",
    "a b",
    "ab",
    "a 1 b",
    "a1b",
]


def test_near_duplicates_are_dropped_and_other_texts_are_not(
    spark: Any, teacher: Path, tmp_path: Path
) -> None:
    texts = [*(text for group in NEAR_DUPLICATES for text in group), *DIFFERENT]
    found = []
    for name, order in (("one", texts), ("turned", texts[::-1])):
        pq.write_table(pa.table({"body": order}), tmp_path / f"{name}.parquet", row_group_size=5)
        settings = settings_of(teacher, tmp_path / f"{name}.parquet", tmp_path, rows=100)
        found.append(sample_lake(spark, settings))
    # Of each group, the first in the order of strings.
    assert sorted(found[0]) == sorted([*map(min, NEAR_DUPLICATES), *DIFFERENT])
    assert found[0] == found[1]
    kept = sample_lake(spark, settings.model_copy(update={"near_duplicates": "keep"}))
    assert sorted(kept) == sorted(texts)


def test_near_duplicates_of_several_strata_are_in_the_sample_once(
    spark: Any, teacher: Path, tmp_path: Path
) -> None:
    texts = [f"{name} {number}" for name in ("north", "east", "far") for number in range(20)]
    kinds = [str(number % 4) for number in range(len(texts))]
    pq.write_table(pa.table({"body": texts, "kind": kinds}), tmp_path / "a.parquet")
    settings = settings_of(teacher, tmp_path / "a.parquet", tmp_path, rows=60, stratify="kind")
    assert sorted(sample_lake(spark, settings)) == ["east 0", "far 0", "north 0"]


@pytest.mark.parametrize(
    ("stratify", "digest"),
    [
        (None, "f81703e8b79844d94a7301a47751c9e26ce57af1e4a336dd649ccd5643ae14b0"),
        ("kind", "e28935e0442e77af0bd32aa363fd417076067bacc3fc65dc6f32c7161b0c43c5"),
    ],
    ids=["by length", "by column"],
)
def test_with_near_duplicates_the_sample_is_that_of_earlier_versions(
    spark: Any, teacher: Path, tmp_path: Path, stratify: str | None, digest: str
) -> None:
    """So that a run continues with the teacher vectors that an earlier version kept."""
    pages = [f"page {number} of the report" for number in range(40)]
    texts = [*make_texts(600), *make_texts(50), *pages, None, "", "  "]
    kinds = [str(number % 3) for number in range(len(texts))]
    pq.write_table(pa.table({"body": texts, "kind": kinds}), tmp_path / "a.parquet")
    values = {"rows": 100, "stratify": stratify, "near_duplicates": "keep"}
    settings = settings_of(teacher, tmp_path / "a.parquet", tmp_path, **values)
    assert texts_sha256(sample_lake(spark, settings)) == digest


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--text", "bdy"],
            "column 'bdy' is not in the input: expected one of 'body', 'kind'; did you mean 'body'?",
        ),
        (["--text", "body", "--stratify", "knd"], "column 'knd' is not in the input: expected one of"),
        (
            ["--text", "body", "--model", "m", "--vocabulary", "v"],
            "give model or vocabulary, since a model has its own vocabulary",
        ),
        (
            ["--text", "body", "--model", "m", "--counts", "c"],
            "give model or counts",
        ),
        (
            ["--text", "body", "--stratify", "kind", "--sample-by", "clusters"],
            "give stratify or sample_by clusters, since each sets the shares of texts",
        ),
        (["--text", "body", "--rows", "10"], "greater than or equal to 15: got 10"),
        (["--text", "body", "--rows", "20"], "dimensions: got 17; expected at most 16"),
        (["--text", "body", "--dimensions", "500"], "dimensions: got 500; expected at most 24"),
        (["--text", "body", "--vocabulary", "gone.txt"], "gone.txt"),
        (["--text", "body", "--model", "gone"], "gone"),
        (["--text", "body", "--counts", "gone"], "counts 'gone' can't be read"),
    ],
    ids=[
        "text",
        "stratum",
        "vocabulary",
        "counts",
        "clusters",
        "few",
        "narrow",
        "wide",
        "words",
        "model",
        "no counts",
    ],
)
def test_what_can_not_be_tuned_is_refused_in_one_line(
    spark: Any, teacher: Path, lake: Path, tmp_path: Path, capsys: Any, words: list[str], message: str
) -> None:
    given = ["--teacher", str(teacher), "--input", str(lake), "--output", str(tmp_path / "model")]
    assert tune([*given, "--dimensions", "17", *words]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "model").exists()
    assert not (tmp_path / "model-teacher").exists()  # the teacher was not asked


def test_defaults_of_library_and_command_line_are_the_same(tmp_path: Path) -> None:
    assert to_options(settings_of(tmp_path, tmp_path, tmp_path)) == TuneOptions()


def test_dry_run_writes_nothing(teacher: Path, lake: Path, tmp_path: Path, capsys: Any) -> None:
    assert tune([*tune_words(teacher, lake, tmp_path / "m"), "--dry-run"]) == 0
    assert "dry run: nothing was written" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_plot_is_hashed_with_the_model(published: tuple[Path, Artifact, str]) -> None:
    manifest = json.loads((published[0] / "model" / "lakevec.json").read_text())
    assert manifest["files"]["training.svg"]["bytes"] > 1000
