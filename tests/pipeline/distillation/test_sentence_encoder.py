"""Whole texts through the teacher: as Sentence Transformers does it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lakevec.pipeline.distillation import sentence_encoder
from lakevec.pipeline.distillation.int8_layers import has_exact_int8
from lakevec.pipeline.distillation.options import TeacherOptions
from lakevec.pipeline.distillation.sentence_encoder import SentenceEncoder
from lakevec.pipeline.errors import SettingsError, TeacherError
from tests.support.tiny_teacher import WIDTH, make_texts, make_tiny_teacher

NEEDS_INT8 = pytest.mark.skipif(not has_exact_int8(), reason="this CPU lacks VNNI")
TEXTS = [*make_texts(40), "", "no word of it is known", " ".join(make_texts(9, seed=2))]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_teacher(tmp_path_factory.mktemp("sentences") / "teacher")


def reference(folder: Path, texts: list[str]) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    vectors: np.ndarray = SentenceTransformer(str(folder), device="cpu").encode(texts)
    return vectors


def test_vectors_are_those_of_sentence_transformers(teacher: Path) -> None:
    np.testing.assert_allclose(
        SentenceEncoder(str(teacher)).encode(TEXTS), reference(teacher, TEXTS), atol=1e-6
    )


def test_real_teacher_gives_the_same_vectors(minilm_folder: Path) -> None:
    texts = ["A short text.", "Ein zweiter, längerer Text über Katzen und Hunde.", "word " * 400]
    encoder = SentenceEncoder(str(minilm_folder), TeacherOptions(batch_size=2))
    np.testing.assert_allclose(encoder.encode(texts), reference(minilm_folder, texts), atol=1e-6)


POOLING, PROMPTS = "1_Pooling/config.json", "config_sentence_transformers.json"
PROMPT = {"prompts": {"query": "ba de "}, "default_prompt_name": "query"}


@pytest.mark.parametrize(
    "changes",
    [
        {POOLING: {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}},
        {"sentence_bert_config.json": {"max_seq_length": 5}},
        {PROMPTS: PROMPT},
        {PROMPTS: PROMPT, POOLING: {"pooling_mode_mean_tokens": True, "include_prompt": False}},
        {"config.json": {"layer_norm_eps": 0.5}},
    ],
    ids=[
        "first position",
        "cuts early",
        "prompt",
        "prompt left out of the mean",
        "configuration",
    ],
)
def test_every_setting_of_the_teacher_counts(changes: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    folder = make_tiny_teacher(tmp_path / "teacher")
    before = SentenceEncoder(str(folder))
    for name, change in changes.items():
        file = folder / name
        config = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps(config | change))
    assert_other_vectors(folder, before)


def test_vectors_of_any_length_are_the_teachers_without_its_normalize_module(tmp_path: Path) -> None:
    folder = make_tiny_teacher(tmp_path / "teacher")
    before = SentenceEncoder(str(folder))
    modules = json.loads((folder / "modules.json").read_text())
    kept = [module for module in modules if module["path"] != "2_Normalize"]
    (folder / "modules.json").write_text(json.dumps(kept))
    assert_other_vectors(folder, before)


def assert_other_vectors(folder: Path, before: SentenceEncoder) -> None:
    """The changed teacher gives the reference's vectors, and no longer those from before."""
    after = SentenceEncoder(str(folder))
    vectors = after.encode(TEXTS)
    np.testing.assert_allclose(vectors, reference(folder, TEXTS), atol=2e-6)
    assert np.abs(vectors - before.encode(TEXTS)).max() > 0.01
    assert after.fingerprint != before.fingerprint


def test_batch_and_order_do_not_matter(teacher: Path) -> None:
    whole = SentenceEncoder(str(teacher), TeacherOptions(batch_size=64)).encode(TEXTS)
    single = SentenceEncoder(str(teacher), TeacherOptions(batch_size=1)).encode(TEXTS[::-1])[::-1]
    np.testing.assert_allclose(whole, single, atol=1e-6)
    assert SentenceEncoder(str(teacher)).encode([]).shape == (0, WIDTH)


def test_arithmetic_is_named_by_what_it_is(teacher: Path) -> None:
    """So that nodes with and without a GPU don't take each other's vectors."""
    auto, float32, *others = (
        SentenceEncoder(str(teacher), TeacherOptions(device="cpu", precision=name))
        for name in ("auto", "float32", "bfloat16", "int8")
    )
    assert auto.precision == "float32"
    assert auto.fingerprint == float32.fingerprint
    assert len({encoder.fingerprint for encoder in (auto, *others)}) == 3


@NEEDS_INT8
def test_other_texts_of_a_batch_hardly_change_int8_vectors(minilm_folder: Path) -> None:
    texts = [line for line in str(np.__doc__).splitlines() if line.strip()]
    texts += [str(module.__doc__) for module in (json, torch, np)]
    one, many = (
        SentenceEncoder(
            str(minilm_folder), TeacherOptions(device="cpu", precision="int8", batch_size=size)
        ).encode(texts)
        for size in (1, 64)
    )
    changes = np.abs(one - many).max(axis=1)
    assert changes.max() < 0.02
    assert np.mean(changes > 1e-5) < 0.2


@NEEDS_INT8
def test_int8_is_near_float32_on_the_real_teacher(minilm_folder: Path) -> None:
    texts = [
        line for module in (json, torch, np) for line in str(module.__doc__).splitlines() if line.strip()
    ]
    exact, int8 = (
        SentenceEncoder(str(minilm_folder), TeacherOptions(device="cpu", precision=name))
        for name in ("float32", "int8")
    )
    assert int8.parameters == exact.parameters
    cosines = (exact.encode(texts) * int8.encode(texts)).sum(axis=1)
    assert 0.98 < cosines.mean() < 1 - 1e-6
    assert cosines.min() > 0.95


def test_int8_needs_a_cpu(teacher: Path) -> None:
    with pytest.raises(SettingsError, match="precision int8 needs the CPU: got device meta"):
        SentenceEncoder(str(teacher), TeacherOptions(device="meta", precision="int8"))


def test_batches_of_few_tokens_give_the_vectors_of_large_ones(minilm_folder: Path) -> None:
    """So that shards of earlier versions, in batches of 64 texts, are continued."""
    texts = [f"{text} " * (1 + number % 6) for number, text in enumerate(make_texts(90))]
    encoder = SentenceEncoder(str(minilm_folder), TeacherOptions(device="cpu"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sentence_encoder, "_CPU_BATCH_TOKENS", None)
        before = encoder.encode(texts)
    np.testing.assert_allclose(encoder.encode(texts), before, rtol=0, atol=1e-5)


def test_teacher_without_finite_vectors_is_refused(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = make_tiny_teacher(tmp_path / "teacher")
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.0.output.LayerNorm.weight"][:] = 3e38
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TeacherError, match="the teacher gives NaN or infinity for 3 texts"):
        SentenceEncoder(str(folder)).encode(["ba", "di", "di ba"])


def test_teacher_that_its_own_library_can_not_load_is_refused(tmp_path: Path) -> None:
    folder = make_tiny_teacher(tmp_path / "teacher")
    config = {"pooling_mode_mean_tokens": False, "pooling_mode_weightedmean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))
    with pytest.raises(TeacherError, match="sentence-transformers can't load teacher"):
        SentenceEncoder(str(folder))
