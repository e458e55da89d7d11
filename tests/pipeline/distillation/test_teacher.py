"""Teachers that load, and the many that must not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lakevec.pipeline.distillation.teacher import load_teacher
from lakevec.pipeline.errors import TeacherError
from tests.support.teachers import (
    FEW_WORDPIECES,
    distill_plain,
    make_teacher,
)


def test_weights_that_the_file_lacks_are_never_made_up(tmp_path: Path) -> None:
    make_teacher("BERT", tmp_path)
    file = tmp_path / "model.safetensors"
    whole = load_file(file)
    few = {"token_remove_pattern": FEW_WORDPIECES}
    without_pooler = {name: row for name, row in whole.items() if "pooler" not in name}
    save_file(without_pooler, file, metadata={"format": "pt"})
    assert distill_plain(tmp_path, **few).rows > 100
    with pytest.raises(TeacherError, match="lacks the weights of its pooler"):
        distill_plain(tmp_path, pooling="pooler", **few)
    name = "encoder.layer.0.intermediate.dense.weight"
    save_file({key: row for key, row in whole.items() if key != name}, file, metadata={"format": "pt"})
    with pytest.raises(TeacherError, match=f"lacks 1 weight: got none for {name}; expected every weight"):
        distill_plain(tmp_path)
    save_file({f"other.{key}": row for key, row in whole.items()}, file, metadata={"format": "pt"})
    with pytest.raises(TeacherError, match=r"lacks \d+ weights: got none for .*, \.\.\."):
        distill_plain(tmp_path)
    save_file(whole | {name: whole[name][:, :-1].contiguous()}, file, metadata={"format": "pt"})
    with pytest.raises(TeacherError, match=rf"another shape than its configuration: got {name} of shape"):
        distill_plain(tmp_path)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    model = make_teacher("BERT", tmp_path)
    with torch.no_grad():
        model.encoder.layer[0].output.dense.bias[3] = float("nan")
    model.save_pretrained(tmp_path)
    with pytest.raises(TeacherError, match="has weights that are NaN or infinite"):
        load_teacher(str(tmp_path))


@pytest.fixture
def small_teacher(minilm_folder: Path, tmp_path: Path) -> Path:
    """A copy of the teacher that a test may damage."""
    folder = tmp_path / "teacher"
    shutil.copytree(minilm_folder, folder)
    return folder


def test_teacher_without_safetensors_is_refused(small_teacher: Path) -> None:
    (small_teacher / "model.safetensors").rename(small_teacher / "pytorch_model.bin")
    with pytest.raises(TeacherError, match="has no safetensors weights"):
        load_teacher(str(small_teacher))


def test_teacher_with_damaged_weights_is_refused(small_teacher: Path) -> None:
    weights = small_teacher / "model.safetensors"
    weights.write_bytes(b"\xff" * 8 + weights.read_bytes()[8:])
    with pytest.raises(TeacherError, match="can't be loaded"):
        load_teacher(str(small_teacher))


def test_teacher_without_any_tokenizer_is_refused(small_teacher: Path) -> None:
    for name in ("tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json"):
        (small_teacher / name).unlink()
    with pytest.raises(TeacherError, match=r"has no tokenizer: expected tokenizer\.json, or files"):
        load_teacher(str(small_teacher))


def test_teacher_with_a_slow_tokenizer_is_refused(small_teacher: Path) -> None:
    """A byte-level tokenizer of transformers that has no `tokenizers` twin."""
    for name in ("tokenizer.json", "vocab.txt", "special_tokens_map.json"):
        (small_teacher / name).unlink()
    (small_teacher / "tokenizer_config.json").write_text('{"tokenizer_class": "ByT5Tokenizer"}')
    with pytest.raises(TeacherError) as caught:
        load_teacher(str(small_teacher))
    assert str(caught.value) == (
        f"teacher '{small_teacher}' has no fast tokenizer: got ByT5Tokenizer; "
        "expected one that the tokenizers library can run; convert it to tokenizer.json first"
    )


def test_static_model_is_no_teacher(minilm_model: str) -> None:
    with pytest.raises(TeacherError, match="has no Transformer module"):
        load_teacher(minilm_model)


def test_code_in_a_teacher_folder_is_never_run(small_teacher: Path, tmp_path: Path) -> None:
    config = json.loads((small_teacher / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "evil.Model", "AutoConfig": "evil.Config"}
    config["model_type"] = "evil"
    (small_teacher / "config.json").write_text(json.dumps(config))
    (small_teacher / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(TeacherError):
        load_teacher(str(small_teacher))
    assert not (tmp_path / "ran").exists()


def test_hub_teacher_records_the_commit_it_was_resolved_to(
    minilm_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hub cache as huggingface_hub lays it out, read without a network."""
    commit = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
    cache = tmp_path / "models--org--minilm"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text(commit)
    shutil.copytree(minilm_folder, cache / "snapshots" / commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    teacher = load_teacher("hf://org/minilm")
    assert (teacher.name, teacher.revision) == ("org/minilm", commit)


def test_hub_teacher_that_can_not_be_reached_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(TeacherError, match="'hf://org/absent' can't be fetched from the Hugging Face hub"):
        load_teacher("hf://org/absent")
