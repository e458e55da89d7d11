"""Teachers with modules that only sentence-transformers can run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from lakevec.pipeline.distillation.sentence_encoder import SentenceEncoder
from lakevec.pipeline.errors import TeacherError
from tests.support.teachers import (
    FEW_WORDPIECES,
    distill_plain,
    make_teacher,
    sentence_transformer,
)


def other_stack(name: str) -> tuple[Any, list[Any]]:
    """Pooling and layers that lakevec does not compute itself."""
    from sentence_transformers.sentence_transformer import modules as models

    stacks: dict[str, tuple[Any, list[Any]]] = {
        "max": ("max", []),
        "max, then Dense": ("max", [models.Dense(16, 12)]),
        "weighted mean": ("weightedmean", []),
        "two poolings": (("mean", "max"), []),
        "layer norm": ("mean", [models.LayerNorm(16)]),
        "another activation": ("mean", [models.Dense(16, 12, activation_function=torch.nn.Softplus())]),
        "normalized before Dense": ("mean", [models.Normalize(), models.Dense(16, 12)]),
    }
    return stacks[name]


@pytest.mark.parametrize(
    "name",
    [
        "max",
        "max, then Dense",
        "weighted mean",
        "two poolings",
        "layer norm",
        "another activation",
        "normalized before Dense",
    ],
)
def test_modules_that_are_not_known_are_run_by_their_own_library(name: str, tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    pooling, layers = other_stack(name)
    teacher = sentence_transformer(tmp_path, pooling, *layers)
    table = distill_plain(tmp_path / "teacher", token_remove_pattern=FEW_WORDPIECES)
    tokens = ["a", "about", "apple", "basis"]
    tokenizer = Tokenizer.from_str(table.tokenizer_json)
    rows = table.dense_rows()[[tokenizer.token_to_id(token) for token in tokens]]
    np.testing.assert_allclose(rows, teacher.encode(tokens), atol=1e-5)
    encoder = SentenceEncoder(str(tmp_path / "teacher"))
    np.testing.assert_allclose(encoder.encode(tokens), teacher.encode(tokens), atol=1e-5)
    assert encoder.width == rows.shape[1]
    few = {"token_remove_pattern": FEW_WORDPIECES}
    assert distill_plain(tmp_path / "teacher", pooling="mean", **few).rows > 100


def test_library_leaves_the_prompt_out_where_its_pooling_does(tmp_path: Path) -> None:
    teacher = sentence_transformer(tmp_path, "max", prompts={"q": "about: "}, default_prompt_name="q")
    teacher.set_pooling_include_prompt(False)
    teacher.save(str(tmp_path / "teacher"))
    table = distill_plain(tmp_path / "teacher", token_remove_pattern=FEW_WORDPIECES)
    tokens = ["a", "apple", "basis"]
    tokenizer = Tokenizer.from_str(table.tokenizer_json)
    rows = table.dense_rows()[[tokenizer.token_to_id(token) for token in tokens]]
    np.testing.assert_allclose(rows, teacher.encode(tokens), atol=1e-5)


def test_module_that_reads_ids_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    from sentence_transformers.sentence_transformer import modules as models

    make_teacher("BERT", tmp_path / "transformer")
    vocabulary = json.loads((tmp_path / "transformer" / "tokenizer.json").read_text())["model"]["vocab"]
    sentence_transformer(tmp_path, "mean", models.WordWeights(sorted(vocabulary, key=vocabulary.get), {}))
    with pytest.raises(TeacherError, match="WordWeights reads token ids"):
        distill_plain(tmp_path / "teacher", token_remove_pattern=FEW_WORDPIECES)


def test_pickled_dense_layer_is_read_by_the_library(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    from sentence_transformers.sentence_transformer import modules as models

    teacher = sentence_transformer(tmp_path, "mean", models.Dense(16, 12))
    [folder] = (tmp_path / "teacher").glob("*_Dense")
    torch.save(teacher[2].state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    encoder = SentenceEncoder(str(tmp_path / "teacher"))
    np.testing.assert_allclose(encoder.encode(["apple"]), teacher.encode(["apple"]), atol=1e-5)


def test_code_of_a_teacher_never_runs_unasked(tmp_path: Path) -> None:
    sentence_transformer(tmp_path, "max")
    folder = tmp_path / "teacher"
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Pooling: ...\n")
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["type"] = "own.Pooling"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(TeacherError, match=r"brings code of its own: .*run with --trust-remote-code"):
        distill_plain(folder)
    assert not (tmp_path / "ran").exists()
