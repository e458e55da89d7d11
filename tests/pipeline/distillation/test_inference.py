"""Forward passes: precision, pooling and limits."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from lakevec.pipeline.distillation import inference
from lakevec.pipeline.distillation.inference import TokenSequences, run_in_batches
from lakevec.pipeline.distillation.options import DistillOptions
from lakevec.pipeline.distillation.recipe import distill
from lakevec.pipeline.errors import SettingsError, TeacherError
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


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=60),
    batch_size=st.integers(1, 20),
    max_tokens=st.none() | st.integers(1, 200),
)
def test_every_sequence_is_in_one_batch_and_no_batch_is_too_large_or_too_small(
    lengths: list[int], batch_size: int, max_tokens: int | None
) -> None:
    shapes: list[tuple[int, int]] = []

    def embed(inputs: inference.Inputs, spans: list[inference.Span]) -> np.ndarray:
        shapes.append(tuple(inputs["input_ids"].shape))
        return np.array([[ids[mask.bool()].sum()] for ids, mask in zip(*inputs.values(), strict=True)], "f4")

    ids = [[row] * length for row, length in enumerate(lengths, start=1)]
    sequences = TokenSequences(ids, [(0, length) for length in lengths], pad_token_id=0)
    vectors = run_in_batches(
        sequences,
        embed,
        device=torch.device("cpu"),
        batch_size=batch_size,
        max_tokens=max_tokens,
        progress=False,
    )
    assert vectors[:, 0].tolist() == [sum(row) for row in ids]
    assert sum(rows for rows, _ in shapes) == len(lengths)
    limit = max_tokens or sum(lengths) * 60
    assert all(rows <= batch_size and (rows == 1 or rows * longest <= limit) for rows, longest in shapes)
    ascending = sorted(lengths)
    for batch, (rows, _) in enumerate(shapes[:-1]):
        following = ascending[sum(count for count, _ in shapes[: batch + 1])]
        assert rows == batch_size or (rows + 1) * following > limit


def test_tokens_of_a_table_are_not_computed_in_int8(tmp_path: Path) -> None:
    make_teacher("BERT", tmp_path)
    with pytest.raises(SettingsError, match="precision int8 is for whole texts"):
        distill(str(tmp_path), DistillOptions(dimensions="none", precision="int8"))  # type: ignore[arg-type]
