"""``lakevec tune``: the same sample however the lake lies, a resumed teacher, a better table, a gate."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakevec.jobs.tune import to_options
from lakevec.pipeline.distillation.pca import PcaProjection, rotate_to_principal_axes
from lakevec.pipeline.distillation.sentence_encoder import SentenceEncoder
from lakevec.pipeline.encoding.encoder import Encoder
from lakevec.pipeline.encoding.tokenization import TokenIds
from lakevec.pipeline.errors import DataError, InputError
from lakevec.pipeline.evaluation.fidelity import measure_fidelity
from lakevec.pipeline.local_files import texts_sha256
from lakevec.pipeline.model.artifact import Artifact, load
from lakevec.pipeline.model.table import StaticTable
from lakevec.pipeline.settings.tune import TuneSettings
from lakevec.pipeline.storage import locate
from lakevec.pipeline.tuning.options import TrainingConfig, TuneOptions
from lakevec.pipeline.tuning.recipe import TeacherSample, align_rows
from lakevec.pipeline.tuning.recipe import tune as fit
from lakevec.pipeline.tuning.sampling import allocate_equally, allocate_proportionally
from lakevec.pipeline.tuning.teacher_shards import TeacherShards, open_shards
from lakevec.pipeline.tuning.training import TrainingSet, train
from tests.support.commands import tune
from tests.support.tiny_teacher import UNSEEN, make_texts, make_tiny_teacher

ROWS = 600
QUICK = ["--dimensions", "12", "--texts-per-step", "64", "--learning-rate", "0.005", "--piece-rows", "100"]


def words_of(teacher: Path, lake: Path, output: Path) -> list[str]:
    """The options that every run needs."""
    return ["--teacher", str(teacher), "--input", str(lake), "--text", "body", "--output", str(output)]


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


def taught(teacher: Path, texts: list[str]) -> TeacherSample:
    encoder = SentenceEncoder(str(teacher))
    return TeacherSample(texts, encoder.encode(texts), {"name": "tiny", "revision": "1"}, encoder.normalizes)


@pytest.fixture(scope="module")
def published(
    spark: Any, teacher: Path, lake: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Artifact, str]:
    """What the job publishes of the whole lake, and what it says."""
    import contextlib
    import io

    folder = tmp_path_factory.mktemp("published")
    out = io.StringIO()
    words = words_of(teacher, lake, folder / "model")
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
        rf"sample: {ROWS} texts; the teacher works in float32\nteacher: 6 of 6 shards to make\n", out
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
    words = [*words_of(teacher, lake, tmp_path / "again"), "--epochs", "4"]
    assert tune([*words, "--vectors", str(folder / "model-teacher"), *QUICK]) == 0
    assert "teacher: 0 of 6 shards to make" in capsys.readouterr().out
    assert load(str(tmp_path / "again")).table.fingerprint == artifact.table.fingerprint


def test_job_goes_on_where_it_was_killed(
    spark: Any, teacher: Path, lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """A piece whose teacher dies leaves the others, which the next run does not make again."""
    from lakevec.jobs.tuning import teacher_vectors
    from lakevec.udfs.teacher_task import TeacherTask

    class DyingTask(TeacherTask):  # within the test, so that its code travels
        def __call__(self, batches: Any) -> Any:
            for batch in batches:
                if batch.column(0).to_pylist() == [3]:
                    os._exit(1)
                yield from super().__call__(iter([batch]))

    words = words_of(teacher, lake, tmp_path / "model")
    words += [*QUICK, "--epochs", "1"]
    monkeypatch.setattr(teacher_vectors, "TeacherTask", DyingTask)
    assert tune(words) == 1
    assert "a Python worker died" in capsys.readouterr().err
    monkeypatch.undo()
    [kept] = (tmp_path / "model-teacher").iterdir()
    done = {file: file.stat().st_mtime_ns for file in (kept / "vectors").glob("*.parquet")}
    assert 1 <= len(done) <= 5
    assert not (tmp_path / "model").exists()
    (kept / "vectors" / ".000003.parquet.half").write_bytes(b"PAR1")  # what a killed task leaves
    assert tune(words) == 0
    left = re.search(r"teacher: (\d) of 6 shards to make", capsys.readouterr().out)
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
    words = words_of(teacher, lake, tmp_path / "m")
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
    from lakevec.jobs.tuning.sampling import sample_lake

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
    from lakevec.jobs.tuning.sampling import sample_lake

    settings = settings_of(teacher, lake, tmp_path, rows=100, stratify="kind", max_chars=20)
    texts = sample_lake(spark, settings)
    assert max(map(len, texts)) == 20
    rows = pq.read_table(lake).to_pylist()
    rare = {row["body"][:20] for row in rows if row["kind"] == "rare" and (row["body"] or "").strip()}
    assert 45 <= sum(text in rare for text in texts) <= 55


def test_stratum_of_few_texts_that_repeat_gives_them_all(spark: Any, teacher: Path, tmp_path: Path) -> None:
    """Ten texts in 20,000 rows: the first look, at a part of them, finds hardly any."""
    from lakevec.jobs.tuning.sampling import sample_lake

    few, many = (
        [f"few {number % 10}" for number in range(20_000)],
        [f"many {number}" for number in range(3000)],
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
            "a model to start from has its own vocabulary",
        ),
        (["--text", "body", "--model", "m", "--counts", "c"], "counts weigh the teacher's tokens"),
        (["--text", "body", "--rows", "10"], "greater than or equal to 15: got 10"),
        (["--text", "body", "--rows", "20"], "dimensions: got 17; expected at most 16"),
        (["--text", "body", "--dimensions", "500"], "dimensions: got 500; expected at most 24"),
        (["--text", "body", "--vocabulary", "gone.txt"], "gone.txt"),
        (["--text", "body", "--model", "gone"], "gone"),
        (["--text", "body", "--counts", "gone"], "counts 'gone' can't be read"),
    ],
    ids=["text", "stratum", "vocabulary", "counts", "few", "narrow", "wide", "words", "model", "no counts"],
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


def test_texts_of_tokens_never_seen_keep_to_the_teacher(teacher: Path, lake: Path, tmp_path: Path) -> None:
    """Training moves the others; texts that hold one must not come out worse than before it."""
    options = TuneOptions(dimensions=12, epochs=4, texts_per_step=64, learning_rate=0.005)
    data = taught(teacher, make_texts(400))
    tuned = fit(str(teacher), data, options, progress=False)
    start = fit(str(teacher), data, replace(options, epochs=1, learning_rate=1e-9), progress=False)
    texts = [f"{word} {text}" for word, text in zip(UNSEEN * 10, make_texts(200, seed=5), strict=True)]
    truth = SentenceEncoder(str(teacher)).encode(texts)
    after, before = (
        measure_fidelity(Encoder(found.table).encode(pa.array(texts)).vectors, truth)
        for found in (tuned, start)
    )
    assert after.correlation > before.correlation


def test_another_table_may_be_the_start(teacher: Path, lake: Path, tmp_path: Path, published: Any) -> None:
    """Mapped into the teacher's space it begins where it was, and unseen rows are mapped with the others."""
    _, artifact, _ = published
    options = TuneOptions(model=artifact, dimensions=12, epochs=1, learning_rate=1e-9)
    tuned = fit(str(teacher), taught(teacher, make_texts(400)), options, progress=False)
    assert tuned.quality["fidelity_before_tuning"] > artifact.quality["fidelity_before_tuning"]
    assert tuned.table.dense_rows()[-len(UNSEEN) :].any(axis=1).all()


@pytest.mark.parametrize("pools_unknown", [False, True])
def test_figure_of_the_card_is_that_of_the_published_table(
    teacher: Path, lake: Path, tmp_path: Path, published: Any, pools_unknown: bool
) -> None:
    """As int8, and with a start whose unknown token has a row that counts."""
    _, artifact, _ = published
    rows = artifact.table.dense_rows()
    rows[1] = rows[7]  # the unknown token's
    start = StaticTable(rows, artifact.table.tokenizer_json, pools_unknown=pools_unknown)
    options = TuneOptions(model=Artifact(start, "start"), dimensions=12, epochs=1, dtype="int8")
    data = taught(teacher, [f"zzz {text}" if row % 3 else text for row, text in enumerate(make_texts(400))])
    tuned = fit(str(teacher), data, options, progress=False)
    assert tuned.table.pools_unknown == pools_unknown
    vectors = Encoder(tuned.table).encode(pa.array(data.texts[:80])).vectors
    assert tuned.quality["fidelity"] == measure_fidelity(vectors, data.vectors[:80]).correlation
    assert tuned.quality["fidelity"] != tuned.trained.epochs[-1].fidelity.correlation


def lesson(ids: list[list[int]], targets: list[list[float]]) -> TrainingSet:
    offsets = np.cumsum([0, *map(len, ids)]).astype(np.int64)
    flat = np.array([token for text in ids for token in text], np.int32)
    rows = np.array(targets, np.float32)
    return TrainingSet(TokenIds(flat, offsets, 0, 0), rows, rows)


def test_one_step_of_training_by_hand() -> None:
    """Adam's first step moves each number by the learning rate against its gradient's sign.

    The mean of (1, 0) and (0, 1) is to point along (1, 0): both first columns rise, both second columns fall.
    """
    texts = lesson([[0, 1]], [[1.0, 0.0]])
    held_out = lesson([[0], [1], [2]], [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    method = TrainingConfig(epochs=1, texts_per_step=4, learning_rate=0.1, relation=0, patience=1)
    start = np.array([[1, 0], [0, 1], [1, -1]], np.float32)
    found = train(start, texts, held_out, method, progress=False)
    assert found.best == 1
    np.testing.assert_allclose(found.rows, [[1.1, -0.1], [0.1, 0.9], [1, -1]], atol=1e-5)
    assert found.epochs[0].loss == pytest.approx(1 - np.sqrt(0.5), abs=1e-6)


def test_relation_is_a_correlation_of_cosines() -> None:
    random = np.random.default_rng(0)
    start, targets = random.normal(size=(9, 4)).astype(np.float32), random.normal(size=(9, 4))
    texts = lesson([[number] for number in range(9)], targets.tolist())
    losses = []
    for relation in (0.0, 1.0):
        method = TrainingConfig(epochs=1, learning_rate=1e-9, relation=relation)
        losses.append(train(start, texts, texts, method, progress=False).epochs[0].loss)
    correlation = measure_fidelity(start, targets).correlation
    assert losses[1] - losses[0] == pytest.approx(1 - correlation, abs=1e-5)


@pytest.mark.parametrize("at_once", [1, 2, 8])
def test_steps_of_few_texts_leave_finite_rows(at_once: int) -> None:
    """Nine texts leave one for the last step of two or of eight."""
    random = np.random.default_rng(0)
    start, targets = random.normal(size=(9, 4)).astype(np.float32), random.normal(size=(9, 4))
    texts = lesson([[number] for number in range(9)], targets.tolist())
    method = TrainingConfig(epochs=2, texts_per_step=at_once, learning_rate=0.01)
    found = train(start, texts, texts, method, progress=False)
    assert np.isfinite(found.rows).all()
    assert all(np.isfinite(epoch.loss) for epoch in found.epochs)


def test_training_without_gain_keeps_the_start_and_stops() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(9, 4)).astype(np.float32)
    texts = lesson([[number] for number in range(9)], rows.tolist())
    method = TrainingConfig(epochs=50, learning_rate=0.5, relation=0, token_dropout=0.3)
    found = train(rows, lesson([[0], [1]], (-rows[:2]).tolist()), texts, method, progress=False)
    assert (found.best, len(found.epochs)) == (0, 2)
    assert found.rows is rows


def test_texts_without_a_token_can_not_be_learned_from() -> None:
    rows = np.eye(3, dtype=np.float32)
    held_out = lesson([[0], [1], [2]], np.eye(3).tolist())
    with pytest.raises(DataError, match="no text with a known token"):
        train(rows, lesson([[], []], [[1, 0, 0]] * 2), held_out, TrainingConfig())


def test_rotation_changes_no_cosine_and_axes_are_those_of_pca() -> None:
    from sklearn.decomposition import PCA

    random = np.random.default_rng(0)
    rows = (random.normal(size=(40, 6)) * [9, 1, 5, 2, 3, 1]).astype(np.float32)
    turned = rotate_to_principal_axes(rows)
    np.testing.assert_allclose(turned @ turned.T, rows @ rows.T, rtol=1e-4, atol=1e-3)
    assert (np.diff((turned**2).sum(axis=0)) < 0).all()
    pca = PcaProjection.fit(rows, 3)
    reference = PCA(3).fit(rows)
    np.testing.assert_allclose(np.abs(pca.project(rows)), np.abs(reference.transform(rows)), atol=1e-3)
    assert pca.explained_variance == pytest.approx(reference.explained_variance_ratio_.sum(), abs=1e-5)


def test_rows_are_mapped_as_least_squares_says() -> None:
    random = np.random.default_rng(0)
    means, turn = random.normal(size=(30, 4)).astype(np.float32), random.normal(size=(4, 3))
    rows = random.normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_allclose(align_rows(means, means @ turn, rows), rows @ turn, atol=1e-3)


def test_shares_add_up() -> None:
    available = {"a": 3, "b": 1000, "c": 77, "d": 0}
    for rows in (0, 1, 7, 100, 1080, 5000):
        for share in (allocate_equally, allocate_proportionally):
            found = share(available, rows)
            assert sum(found.values()) == min(rows, 1080)
            assert all(found[name] <= available[name] for name in available)


def test_shards_belong_to_teacher_texts_and_layout(tmp_path: Path) -> None:
    texts = ["a", "b", "c"]
    found = open_shards(str(tmp_path), texts, teacher="t", shard_rows=2)
    assert found.number == 2
    others = [("u", texts, 2), ("t", ["a", "bc"], 2), ("t", texts, 3)]
    names = {
        open_shards(str(tmp_path), these, teacher=name, shard_rows=rows).folder.name
        for name, these, rows in others
    }
    assert len(names | {found.folder.name}) == 4
    assert texts_sha256(["ab", "c"]) != texts_sha256(["a", "bc"])


def test_damaged_shard_is_named(tmp_path: Path) -> None:
    shards = TeacherShards(locate(str(tmp_path), error=InputError), 1)
    shards.write_vectors(0, np.full((2, 3), np.nan, np.float32))
    with pytest.raises(DataError, match="hold NaN or infinity"):
        shards.read_vectors()
    (tmp_path / "vectors" / "000000.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"vectors/000000\.parquet can't be read"):
        shards.read_vectors()


def test_defaults_of_library_and_command_line_are_the_same(tmp_path: Path) -> None:
    assert to_options(settings_of(tmp_path, tmp_path, tmp_path)) == TuneOptions()


def test_dry_run_writes_nothing(teacher: Path, lake: Path, tmp_path: Path, capsys: Any) -> None:
    assert tune([*words_of(teacher, lake, tmp_path / "m"), "--dry-run"]) == 0
    assert "dry run: nothing was written" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_plot_is_hashed_with_the_model(published: tuple[Path, Artifact, str]) -> None:
    manifest = json.loads((published[0] / "model" / "lakevec.json").read_text())
    assert manifest["files"]["training.svg"]["bytes"] > 1000
