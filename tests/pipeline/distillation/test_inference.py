"""Forward passes: precision, pooling and limits."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from lakevec.pipeline.distillation import inference
from lakevec.pipeline.errors import TeacherError
from tests.support.teachers import (
    FEW_WORDPIECES,
    distill_plain,
    make_teacher,
)


def test_slow_half_precision_is_told_with_both_rates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_teacher("BERT", tmp_path)
    monkeypatch.setattr(inference, "SLOW_RATIO", 0.0)
    distill_plain(tmp_path, precision="bfloat16", token_remove_pattern=FEW_WORDPIECES)
    assert re.search(
        r"precision bfloat16 is slow on this CPU: [\d,]+ sequences/s, float32 [\d,]+; use --precision",
        capsys.readouterr().err,
    )


def test_teacher_without_a_pooler_is_refused(tmp_path: Path) -> None:
    make_teacher("DistilBERT", tmp_path)
    with pytest.raises(TeacherError, match="has no pooler: expected pooling mean, first or last"):
        distill_plain(tmp_path, pooling="pooler", token_remove_pattern=FEW_WORDPIECES)


def test_input_mode_takes_the_embeddings_without_a_forward_pass(tmp_path: Path) -> None:
    model = make_teacher("BERT", tmp_path)
    table = distill_plain(tmp_path, mode="input", token_remove_pattern=None)
    vocabulary = json.loads((tmp_path / "tokenizer.json").read_text())["model"]["vocab"]
    own = Tokenizer.from_str(table.tokenizer_json)
    ids = [vocabulary[own.id_to_token(row)] for row in range(table.rows)]
    expected = model.get_input_embeddings().weight.detach().numpy()[ids]
    expected[table.unknown_token_id] = 0
    np.testing.assert_array_equal(table.dense_rows(), expected)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_near_full_precision(precision: str, tmp_path: Path) -> None:
    make_teacher("BERT", tmp_path)
    few = {"token_remove_pattern": FEW_WORDPIECES}
    whole, half = distill_plain(tmp_path, **few), distill_plain(tmp_path, precision=precision, **few)
    error = np.abs(whole.dense_rows() - half.dense_rows()).max()
    assert 0 < error < 0.1


def test_float16_falls_back_to_float32_where_it_overflows(tmp_path: Path) -> None:
    model = make_teacher("BERT", tmp_path)
    # Beyond float16's 65,504, and back again.
    with torch.no_grad():
        model.encoder.layer[0].intermediate.dense.bias += 1e5
        model.encoder.layer[0].output.dense.weight *= 1e-5
    model.save_pretrained(tmp_path)
    few = {"token_remove_pattern": FEW_WORDPIECES}
    np.testing.assert_array_equal(
        distill_plain(tmp_path, **few).dense_rows(),
        distill_plain(tmp_path, precision="float16", **few).dense_rows(),
    )


def test_prompt_longer_than_what_the_teacher_reads_is_refused(tmp_path: Path) -> None:
    make_teacher("BERT", tmp_path)
    with pytest.raises(TeacherError, match=r"got 603 tokens; expected at most 512; give a shorter --prompt"):
        distill_plain(tmp_path, prompt="a " * 600, token_remove_pattern=FEW_WORDPIECES)
