"""The tuning recipe, without Spark."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakevec.pipeline.distillation.sentence_encoder import SentenceEncoder
from lakevec.pipeline.encoding.encoder import Encoder
from lakevec.pipeline.errors import InputError, SettingsError
from lakevec.pipeline.evaluation.fidelity import measure_fidelity
from lakevec.pipeline.model.artifact import Artifact
from lakevec.pipeline.model.table import StaticTable
from lakevec.pipeline.tuning.options import TuneOptions
from lakevec.pipeline.tuning.recipe import TeacherSample, TuneResult, check_initial, tune
from lakevec.pipeline.tuning.start import align_rows
from tests.support.tiny_teacher import UNSEEN, make_texts, make_tiny_teacher


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_teacher(tmp_path_factory.mktemp("tuning") / "teacher")


def taught(teacher: Path, texts: list[str]) -> TeacherSample:
    encoder = SentenceEncoder(str(teacher))
    return TeacherSample(texts, encoder.encode(texts), {"name": "tiny", "revision": "1"}, encoder.normalizes)


OPTIONS = TuneOptions(dimensions=12, epochs=4, texts_per_step=64, learning_rate=0.005)


@pytest.fixture(scope="module")
def tuned(teacher: Path) -> TuneResult:
    return tune(str(teacher), taught(teacher, make_texts(400)), OPTIONS, progress=False)


def test_texts_of_tokens_never_seen_keep_to_the_teacher(teacher: Path, tuned: TuneResult) -> None:
    """Training moves the others; texts that hold one must not come out worse than before it."""
    untrained = replace(OPTIONS, epochs=1, learning_rate=1e-9)
    start = tune(str(teacher), taught(teacher, make_texts(400)), untrained, progress=False)
    texts = [f"{word} {text}" for word, text in zip(UNSEEN * 10, make_texts(200, seed=5), strict=True)]
    truth = SentenceEncoder(str(teacher)).encode(texts)
    after, before = (
        measure_fidelity(Encoder(found.table).encode(pa.array(texts)).vectors, truth)
        for found in (tuned, start)
    )
    assert after.correlation > before.correlation


def test_another_table_may_be_the_start(teacher: Path, tuned: TuneResult) -> None:
    """Mapped into the teacher's space it begins where it was, and unseen rows are mapped with the others."""
    options = TuneOptions(model=Artifact(tuned.table, "tuned"), dimensions=12, epochs=1, learning_rate=1e-9)
    again = tune(str(teacher), taught(teacher, make_texts(400, seed=3)), options, progress=False)
    assert again.quality["fidelity_before_tuning"] > tuned.quality["fidelity_before_tuning"]
    assert again.table.dense_rows()[-len(UNSEEN) :].any(axis=1).all()


@pytest.mark.parametrize("pools_unknown", [False, True])
def test_figure_of_the_card_is_that_of_the_published_table(
    teacher: Path, tuned: TuneResult, pools_unknown: bool
) -> None:
    """As int8, and with a start whose unknown token has a row that counts."""
    rows = tuned.table.dense_rows().copy()
    rows[1] = rows[7]  # the unknown token's
    start = StaticTable(rows, tuned.table.tokenizer_json, pools_unknown=pools_unknown)
    options = TuneOptions(model=Artifact(start, "start"), dimensions=12, epochs=1, dtype="int8")
    data = taught(teacher, [f"zzz {text}" if row % 3 else text for row, text in enumerate(make_texts(400))])
    again = tune(str(teacher), data, options, progress=False)
    assert again.table.pools_unknown == pools_unknown
    vectors = Encoder(again.table).encode(pa.array(data.texts[:80])).vectors
    assert again.quality["fidelity"] == measure_fidelity(vectors, data.vectors[:80]).correlation
    assert again.quality["fidelity"] != again.trained.epochs[-1].fidelity.correlation


def test_rows_are_mapped_as_least_squares_says() -> None:
    random = np.random.default_rng(0)
    means, turn = random.normal(size=(30, 4)).astype(np.float32), random.normal(size=(4, 3))
    rows = random.normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_allclose(align_rows(means, means @ turn, rows), rows @ turn, atol=1e-3)


def fidelity_of(found: TuneResult, data: TeacherSample) -> float:
    """Fidelity of a table on the held-out texts."""
    vectors = Encoder(found.table).encode(pa.array(data.texts[:80])).vectors
    return measure_fidelity(vectors, data.vectors[:80]).correlation


def test_input_columns_are_reduced_with_the_others(teacher: Path) -> None:
    data = taught(teacher, make_texts(400))
    options = replace(OPTIONS, trained_dimensions=12, input_columns=4)
    wide = tune(str(teacher), data, replace(options, dimensions=16), progress=False).table
    narrow = tune(str(teacher), data, replace(options, dimensions=10), progress=False).table
    assert (wide.dimensions, narrow.dimensions) == (16, 10)
    assert not wide.embeddings[wide.unknown_token_id].any()
    # The narrow table keeps the first axes of the wide one.
    np.testing.assert_allclose(narrow.embeddings, wide.embeddings[:, :10], atol=1e-5)
    # Twelve trained columns alone could not span sixteen.
    assert np.linalg.matrix_rank(wide.embeddings) == 16


def test_positions_are_trained_and_stored(teacher: Path) -> None:
    data = taught(teacher, make_texts(400))
    found = tune(str(teacher), data, replace(OPTIONS, position_scale=3.0), progress=False)
    assert found.table.position_scale == 3.0
    assert found.provenance["recipe"]["position_scale"] == 3.0
    assert found.quality["fidelity"] == fidelity_of(found, data)
    # Adam sees other gradients than without weights.
    plain = tune(str(teacher), data, OPTIONS, progress=False)
    assert not np.allclose(found.table.embeddings, plain.table.embeddings, atol=1e-3)
    again = TuneOptions(model=Artifact(found.table, "tuned"), dimensions=12, epochs=1, learning_rate=1e-9)
    assert tune(str(teacher), data, again, progress=False).table.position_scale == 3.0


def test_bigrams_learn_what_tokens_can_not(teacher: Path) -> None:
    data = taught(teacher, make_texts(400))
    options = replace(OPTIONS, epochs=8)
    plain = tune(str(teacher), data, options, progress=False)
    found = tune(str(teacher), data, replace(options, bigrams=50, bigram_dropout=0), progress=False)
    assert found.table.bigrams is not None
    assert found.table.bigrams.pairs.shape == (50, 2)
    assert found.table.bigrams.embeddings.any(axis=1).all()
    assert found.quality["fidelity"] == fidelity_of(found, data)
    losses = [result.trained.epochs[-1].loss for result in (found, plain)]
    assert losses[0] < losses[1]
    with pytest.raises(SettingsError, match="model"):
        tune(str(teacher), data, TuneOptions(model=Artifact(found.table, "tuned")), progress=False)


def test_old_loss_has_the_options_of_old_tables() -> None:
    old, new = TuneOptions(loss="correlation"), TuneOptions()
    found = old.initial_coefficient, old.correlation_weight, old.initial_learning_rate(15)
    assert found == (0.0003, 1.0, 0.001)
    assert (new.initial_coefficient, new.correlation_weight, new.initial_learning_rate(15)) == (
        0.003,
        3.0,
        0.003,
    )


@pytest.mark.parametrize("options", [{"loss": "correlation"}, {"prefixes": (4,)}, {}])
def test_fewer_dimensions_than_trained_are_kept(teacher: Path, options: dict[str, Any]) -> None:
    data = taught(teacher, make_texts(400))
    method = replace(OPTIONS, trained_dimensions=12, dimensions=8, epochs=1, **options)
    assert tune(str(teacher), data, method, progress=False).table.dimensions == 8


def test_texts_of_one_token_have_no_bigrams(teacher: Path) -> None:
    texts = [text.split()[0] for text in make_texts(400)]
    data = taught(teacher, list(dict.fromkeys(texts))[:60])
    options = TuneOptions(dimensions=4, epochs=1, bigrams=10)
    assert tune(str(teacher), data, options, progress=False).table.bigrams is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dimensions": 99}, "dimensions: got 99; expected at most"),
        (
            {"dimensions": 20, "trained_dimensions": 12, "input_columns": 4},
            "dimensions: got 20; expected at most 16",
        ),
        ({"dimensions": 12, "trained_dimensions": 99}, "trained_dimensions: got 99; expected at most"),
        (
            {"dimensions": 12, "trained_dimensions": 12, "input_columns": 99},
            "input_columns: got 99; expected at most",
        ),
        ({"dimensions": 12, "prefixes": (13,)}, "prefixes: got 13; expected at most 12"),
    ],
)
def test_widths_that_can_not_be_are_refused_by_name(options: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        check_initial(TuneOptions(**options), rows=1000, width=32, tokens=[])


def test_counted_bigrams_are_checked_against_the_tokens_of_the_initial_table(
    tiny_table: StaticTable, tmp_path: Path
) -> None:
    file = str(tmp_path / "bigrams.parquet")
    pq.write_table(pa.table({"first": ["north"], "second": ["east"], "count": [3]}), file)
    options = TuneOptions(dimensions=2, bigrams=1, bigram_counts=file)
    with pytest.raises(InputError, match="no bigrams of the vocabulary"):
        check_initial(options, rows=100, width=2, tokens=["ba"])
    model = Artifact(tiny_table, "by hand")
    check_initial(replace(options, model=model), rows=100, width=2, tokens=["ba"])
