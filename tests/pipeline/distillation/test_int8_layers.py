"""Linear layers in int8: near float32, and refused where they would be wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from lakevec.pipeline.distillation.int8_layers import Int8Linear, has_exact_int8, quantize_linear_layers
from lakevec.pipeline.errors import SettingsError
from tests.support.paths import ROOT

SIZES: dict[str, Any] = {
    **{"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
    **{"intermediate_size": 48, "max_position_embeddings": 64, "pad_token_id": 0},
}
RELATIVE: dict[str, Any] = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
T5_SIZES: dict[str, Any] = {"vocab_size": 60, "d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 2}
FAMILIES: dict[str, Callable[[], Any]] = {
    "BERT": lambda: transformers.BertModel(transformers.BertConfig(**SIZES)),
    "RoBERTa": lambda: transformers.RobertaModel(transformers.RobertaConfig(**SIZES)),
    "MPNet": lambda: transformers.MPNetModel(transformers.MPNetConfig(**SIZES)),
    "DeBERTa": lambda: transformers.DebertaModel(transformers.DebertaConfig(**SIZES, **RELATIVE)),
    "DeBERTa of version 2": lambda: transformers.DebertaV2Model(
        transformers.DebertaV2Config(**SIZES, **RELATIVE, share_att_key=True, position_buckets=8)
    ),
    "T5": lambda: transformers.T5EncoderModel(transformers.T5Config(**T5_SIZES, num_heads=2)),
    "gated T5": lambda: transformers.T5EncoderModel(
        transformers.T5Config(**T5_SIZES, num_heads=2, feed_forward_proj="gated-gelu")
    ),
    "ModernBERT": lambda: transformers.ModernBertModel(
        transformers.ModernBertConfig(
            **SIZES, cls_token_id=1, sep_token_id=2, bos_token_id=1, eos_token_id=2, local_attention=8
        )
    ),
}
needs_int8 = pytest.mark.skipif(not has_exact_int8(), reason="this CPU lacks VNNI")


@needs_int8
@settings(deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9)),
    inputs=st.integers(1, 70),
    outputs=st.integers(1, 70),
    has_bias=st.booleans(),
    seed=st.integers(0, 99),
)
def test_layer_is_within_its_rounding_errors_of_float32(
    shape: tuple[int, int], inputs: int, outputs: int, has_bias: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    linear = torch.nn.Linear(inputs, outputs, bias=has_bias)
    values = torch.randn(*shape, inputs) * 10.0 ** float(torch.randint(-6, 6, ()))
    with torch.inference_mode():
        exact, found = linear(values), Int8Linear(linear)(values)
    # Each factor is off by half a step at most.
    x, w = values.abs().amax(-1, keepdim=True), linear.weight.detach().abs().amax(1)
    bound = inputs * x * w * (1 / 127 + 1 / (4 * 127**2)) + 1e-4 * exact.abs() + 1e-6
    assert found.shape == exact.shape
    assert found.dtype == torch.float32
    assert bool(((found - exact).abs() <= bound).all())


@needs_int8
def test_each_token_has_a_scale_of_its_own() -> None:
    torch.manual_seed(0)
    layer = Int8Linear(torch.nn.Linear(16, 8))
    few, huge = torch.randn(3, 16), 1e6 * torch.randn(1, 16)
    with torch.inference_mode():
        np.testing.assert_array_equal(layer(torch.cat([few, huge]))[:3], layer(few))


@needs_int8
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_values_that_are_not_finite_stay_so(value: float) -> None:
    inputs = torch.ones(2, 4)
    inputs[1, 2] = value
    with torch.inference_mode():
        found = Int8Linear(torch.nn.Linear(4, 8))(inputs)
    assert torch.isfinite(found).all(dim=1).tolist() == [True, False]


@needs_int8
def test_zeros_give_the_bias() -> None:
    linear = torch.nn.Linear(4, 3)
    torch.nn.init.zeros_(linear.weight[1])
    with torch.inference_mode():
        assert bool((Int8Linear(linear)(torch.zeros(2, 4)) == linear.bias).all())
        assert float(Int8Linear(linear)(torch.ones(1, 4))[0, 1]) == float(linear.bias[1])


@needs_int8
@pytest.mark.filterwarnings("ignore:.*jit.script:DeprecationWarning")
@pytest.mark.parametrize("make_model", FAMILIES.values(), ids=FAMILIES)
def test_transformer_of_every_family_is_near_float32(make_model: Callable[[], Any]) -> None:
    torch.manual_seed(0)
    model = make_model().eval()
    with torch.no_grad():
        # Larger than usual, so that attention differs between tokens.
        for weights in filter(lambda weights: weights.ndim > 1, model.parameters()):
            weights.normal_(0, 0.2)
    inputs = {"input_ids": torch.randint(5, 60, (4, 12)), "attention_mask": torch.ones(4, 12).long()}
    inputs["attention_mask"][0, 8:] = 0
    with torch.inference_mode():
        exact = model(**inputs).last_hidden_state
        quantize_linear_layers(model)
        found = model(**inputs).last_hidden_state
    assert not any(type(layer) is torch.nn.Linear for layer in model.modules())
    cosines = torch.nn.functional.cosine_similarity(exact, found, dim=-1)[inputs["attention_mask"] == 1]
    assert 0.97 < cosines.min() < 1 - 1e-6


class ReadsItsWeights(torch.nn.Module):
    """As the code of some teachers does, and torch's own fast path of an encoder layer."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        super().__init__()
        self.query = torch.nn.Linear(8, 16)
        self.layer = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        first = torch.nn.functional.linear(inputs, self.query.weight, self.query.bias)
        assert first.shape[-1] == self.query.out_features
        found: torch.Tensor = self.layer(first)
        return found


@needs_int8
def test_model_that_reads_its_weights_is_near_float32() -> None:
    torch.manual_seed(0)
    model, inputs = ReadsItsWeights().eval(), torch.randn(3, 5, 8)
    with torch.inference_mode():
        exact = model(inputs)
        quantize_linear_layers(model)
        torch.testing.assert_close(model(inputs), exact, rtol=0, atol=0.05)


@needs_int8
def test_model_without_linear_layers_is_refused() -> None:
    model = torch.nn.Sequential(torch.nn.ReLU())
    model.device = torch.device("cpu")  # type: ignore[assignment]
    with pytest.raises(SettingsError, match="needs a teacher with Linear layers: got Sequential"):
        quantize_linear_layers(model)


def test_cpu_that_saturates_is_refused() -> None:
    """By oneDNN's switch, which makes this CPU an older one."""
    code = """
import torch
from lakevec.pipeline.distillation.int8_layers import quantize_linear_layers
model = torch.nn.Sequential(torch.nn.Linear(4, 4))
model.device = torch.device("cpu")
quantize_linear_layers(model)
"""
    env = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True)
    assert "SettingsError: precision int8 is inexact on this CPU: expected an x86 CPU" in done.stderr
