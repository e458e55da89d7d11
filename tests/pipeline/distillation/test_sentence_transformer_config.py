"""Pooling, Dense layers and prompt, read from the files of a Sentence Transformer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from lakevec.pipeline.distillation.sentence_transformer_config import read_config
from lakevec.pipeline.distillation.teacher import load_teacher
from lakevec.pipeline.errors import TeacherError
from lakevec.pipeline.storage import locate
from tests.support.teachers import (
    FEW_WORDPIECES,
    distill_plain,
    sentence_transformer,
)
from tests.support.tiny_teacher import distill_as


@pytest.mark.parametrize(
    ("pooling", "dense", "prompt"),
    [
        ("cls", 0, ""),
        ("mean", 0, ""),
        ("lasttoken", 0, ""),
        ("mean", 1, ""),
        ("cls", 2, ""),
        ("mean", 0, "query: "),
    ],
    ids=["cls", "mean", "last token", "one Dense", "two Dense", "prompt"],
)
def test_auto_does_what_the_sentence_transformer_does(
    pooling: str, dense: int, prompt: str, tmp_path: Path
) -> None:
    """Without PCA and weights a token's row is the vector that the library itself gives for it."""
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    from sentence_transformers.sentence_transformer import modules as models

    layers = [
        models.Dense(16, 12, activation_function=torch.nn.Tanh()),
        models.Dense(12, 8, bias=False, activation_function=torch.nn.Identity()),
    ][:dense]
    options = {"prompts": {"query": prompt}, "default_prompt_name": "query"} if prompt else {}
    teacher = sentence_transformer(tmp_path, pooling, *layers, **options)
    made = distill_as(
        tmp_path / "teacher", dimensions="none", weighting="none", token_remove_pattern=FEW_WORDPIECES
    )
    tokens = ["a", "about", "apple", "basis"]
    tokenizer = Tokenizer.from_str(made.table.tokenizer_json)
    rows = made.table.dense_rows()[[tokenizer.token_to_id(token) for token in tokens]]
    np.testing.assert_allclose(rows, teacher.encode(tokens), atol=1e-5)
    recipe = made.provenance["recipe"]
    assert recipe["pooling"] == {"cls": "first", "mean": "mean", "lasttoken": "last"}[pooling]
    assert recipe["pooling_reason"] == "set by 1_Pooling/config.json"
    assert (recipe.get("dense_layers", 0), recipe.get("prompt", "")) == (dense, prompt)


def test_module_of_another_package_is_never_taken_for_a_known_one(tmp_path: Path) -> None:
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "own.Pooling"},
    ]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    found = read_config(locate(str(tmp_path), error=TeacherError), width=4)
    assert (found.pooling, found.has_foreign_code) == (None, True)
    assert found.reason == "module own.Pooling is from another package than sentence-transformers"


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"linear.weight": torch.ones(4, 4)}, "lacks its bias"),
        ({"linear.weight": torch.full((4, 4), torch.nan), "linear.bias": torch.ones(4)}, "NaN or infinite"),
    ],
    ids=["bias", "NaN"],
)
def test_dense_layer_that_is_not_whole_is_refused(
    tensors: dict[str, torch.Tensor], message: str, tmp_path: Path
) -> None:
    names = ["Transformer", "Pooling", "Dense"]
    modules = [
        {"path": str(n), "type": f"sentence_transformers.models.{kind}"} for n, kind in enumerate(names)
    ]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    for number, config in (("1", {"pooling_mode_mean_tokens": True}), ("2", {"bias": True})):
        (tmp_path / number).mkdir()
        (tmp_path / number / "config.json").write_text(json.dumps(config))
    save_file(tensors, tmp_path / "2" / "model.safetensors")
    with pytest.raises(TeacherError, match=message):
        read_config(locate(str(tmp_path), error=TeacherError), width=4)


def test_dense_layer_of_any_precision_is_read(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    from sentence_transformers.sentence_transformer import modules as models

    sentence_transformer(tmp_path, "mean", models.Dense(16, 12))
    [folder] = (tmp_path / "teacher").glob("*_Dense")
    weights = load_file(folder / "model.safetensors")
    few = {"token_remove_pattern": FEW_WORDPIECES}
    expected = distill_plain(tmp_path / "teacher", **few).dense_rows()
    for kind in (torch.bfloat16, torch.float16, torch.float64):
        save_file({name: row.to(kind) for name, row in weights.items()}, folder / "model.safetensors")
        np.testing.assert_allclose(
            distill_plain(tmp_path / "teacher", **few).dense_rows(), expected, atol=0.02
        )


@pytest.mark.parametrize(
    "config",
    [
        {"prompts": {"query": None}, "default_prompt_name": "query"},
        {"prompts": {"query": ""}, "default_prompt_name": "query"},
        {"prompts": {"query": "x"}, "default_prompt_name": "passage"},
        {"prompts": {"query": "x"}, "default_prompt_name": None},
        {"prompts": None, "default_prompt_name": "query"},
        {"prompts": ["query"], "default_prompt_name": "query"},
        {"prompts": {"query": 5}, "default_prompt_name": "query"},
    ],
)
def test_prompt_that_is_none_is_no_prompt(config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text("[]")
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(config))
    assert read_config(locate(str(tmp_path), error=TeacherError), width=4).prompt == ""


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("modules.json", '[{"path": "../other", "type": "x.Transformer"}]', "names a folder outside"),
        ("modules.json", '[{"path": "", "type": "x.Transformer"}, {"type": "x.Pooling"}]', "can't be read"),
        ("1_Pooling/config.json", "[]", "can't be read"),
        ("1_Pooling/config.json", '{"pooling_mode": 3}', "can't be read"),
        ("config_sentence_transformers.json", "[]", "can't be read"),
    ],
)
def test_modules_that_make_no_sense_are_refused(
    file: str, content: str, message: str, tmp_path: Path
) -> None:
    sentence_transformer(tmp_path, "mean")
    (tmp_path / "teacher" / file).write_text(content)
    with pytest.raises(TeacherError, match=message):
        load_teacher(str(tmp_path / "teacher"))
