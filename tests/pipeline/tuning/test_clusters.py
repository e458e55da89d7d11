"""A sample by clusters: what it takes from a pool, and what the clusters depend on."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from lakevec.pipeline.distillation.options import DistillOptions
from lakevec.pipeline.distillation.recipe import distill
from lakevec.pipeline.distillation.weighting import TokenCounts
from lakevec.pipeline.model.table import StaticTable
from lakevec.pipeline.tuning import clusters
from lakevec.pipeline.tuning.clusters import choose_by_clusters, distill_for_clusters
from lakevec.pipeline.tuning.options import TuneOptions
from tests.support.models import make_word_tokenizer
from tests.support.tiny_teacher import make_tiny_teacher

COMMON = [f"common{number}" for number in range(10)]
RARE = [f"rare{number}" for number in range(60)]


def make_table() -> StaticTable:
    """Common words lie close together, and rare words anywhere."""
    random = np.random.default_rng(0)
    near = random.normal(size=16) + 0.3 * random.normal(size=(len(COMMON), 16))
    rows = np.vstack([np.zeros(16), near, random.normal(size=(len(RARE), 16))]).astype(np.float32)
    return StaticTable(rows, make_word_tokenizer(["[UNK]", *COMMON, *RARE]).to_str())


def make_pool(texts: int) -> list[str]:
    """One text in twenty is of rare words."""
    random = np.random.default_rng(1)
    kinds = random.random(texts) < 0.05
    return [f"{' '.join(random.choice(RARE if rare else COMMON, 6))} {n}" for n, rare in enumerate(kinds)]


TABLE, POOL = make_table(), make_pool(3000)


def share_of_rare(texts: list[str]) -> float:
    return sum("rare" in text for text in texts) / len(texts)


def test_rare_topic_has_a_larger_share_and_held_out_texts_are_the_lakes() -> None:
    sample = choose_by_clusters(POOL, TABLE, rows=500, held_out=100, seed=0)
    assert (len(sample.texts), sample.pool, sample.clusters) == (500, len(POOL), 40)
    assert sample.texts[:100] == POOL[:100]
    assert share_of_rare(sample.texts[100:]) > 3 * share_of_rare(POOL)


@given(rows=st.integers(15, len(POOL) - 1), held_out=st.integers(3, 200), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_sample_is_a_part_of_the_pool_in_its_order(rows: int, held_out: int, seed: int) -> None:
    held_out = min(held_out, rows // 5)
    found = choose_by_clusters(POOL, TABLE, rows=rows, held_out=held_out, seed=seed)
    place_of = {text: place for place, text in enumerate(POOL)}
    places = [place_of[text] for text in found.texts]
    assert len(places) == rows
    assert places[:held_out] == list(range(held_out))
    assert places == sorted(set(places))


def test_clusters_give_equal_shares_or_all_they_have() -> None:
    """Four points are four clusters, of 85, 5, 6 and 4 texts."""
    table = StaticTable(np.eye(5, dtype=np.float32), make_word_tokenizer(["[UNK]", *"abcd"]).to_str())
    letters = np.random.default_rng(0).permutation(list("a" * 85 + "b" * 5 + "c" * 6 + "d" * 4)).tolist()
    found = choose_by_clusters(letters, table, rows=40, held_out=0, seed=0)
    assert Counter(found.texts) == {"a": 25, "b": 5, "c": 6, "d": 4}
    assert found.clusters == 4


def test_same_seed_gives_the_same_sample_on_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = []
    for threads, seed in ((1, 0), (2, 0), (1, 1)):
        with threadpool_limits(threads):
            samples.append(choose_by_clusters(POOL, TABLE, rows=300, held_out=60, seed=seed).texts)
    assert samples[0] == samples[1] != samples[2]
    # More texts than k-means sees get their clusters, too.
    monkeypatch.setattr(clusters, "_BATCH", 700)
    found = choose_by_clusters(POOL, TABLE, rows=500, held_out=100, seed=0).texts
    assert len(set(found)) == 500
    assert share_of_rare(found[100:]) > 3 * share_of_rare(POOL)


@pytest.mark.filterwarnings("error")
def test_texts_that_are_all_alike_are_chosen_in_the_order_of_the_pool() -> None:
    pool = [f"common1 {number}" for number in range(900)]
    sample = choose_by_clusters(pool, TABLE, rows=150, held_out=30, seed=0)
    assert sample.texts == pool[:150]


def test_table_depends_on_the_teacher_alone(tmp_path: Path) -> None:
    teacher = str(make_tiny_teacher(tmp_path / "teacher"))
    table = distill_for_clusters(teacher, TuneOptions())
    others = TuneOptions(dimensions=3, input_columns=4, position_scale=9.0, sif_coefficient=0.5, seed=8)
    others = replace(others, precision="int8", counts=TokenCounts("c", None, None))
    assert distill_for_clusters(teacher, others).fingerprint == table.fingerprint
    own = distill(teacher, DistillOptions(dimensions=24), progress=False).table
    assert table.fingerprint == own.fingerprint
