"""Linear layers of a teacher in int8, for CPUs."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch

from lakevec.pipeline.errors import SettingsError


class Int8Linear(torch.nn.Module):
    """A Linear layer in int8: a scale for each output of the weights, and one for each token of the inputs.

    Parameters
    ----------
    linear : torch.nn.Linear
        float32, with weights of shape (outputs, inputs).

    Notes
    -----
    Scales are max |x| / 127. The products are those of ``vector-wise quantization`` in Dettmers et al.,
    *LLM.int8()* (NeurIPS 2022), section 2.1, without its exception for outliers.
    """

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        int8, scales = _round(linear.weight.detach())
        # Not `contiguous`, which keeps the strides of a single column, and oneDNN reads them wrongly.
        self._weights = int8.T.clone(memory_format=torch.contiguous_format)
        self._scales = scales[:, 0]
        self.bias = None if linear.bias is None else linear.bias.detach()

    @cached_property
    def weight(self) -> torch.Tensor:
        """The rounded weights, float32 of shape (outputs, inputs), for models that read them themselves.

        Kept once read, since some models read them in every pass.
        """
        return (self._weights * self._scales).T

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return float32 of shape (..., outputs) for float32 inputs of shape (..., inputs).

        Inputs that are not finite give outputs that are not finite.
        """
        int8, scales = _round(inputs.reshape(-1, inputs.shape[-1]))
        outputs = torch._int_mm(int8, self._weights).float().mul_(scales).mul_(self._scales)
        if self.bias is not None:
            outputs.add_(self.bias)
        return outputs.view(*inputs.shape[:-1], -1)


def has_exact_int8() -> bool:
    """Return whether torch multiplies int8 exactly here: without VNNI, x86 CPUs saturate sums of products."""
    largest = torch.full((64, 64), 127, dtype=torch.int8)
    return bool((torch._int_mm(largest, largest) == 64 * 127**2).all())


def quantize_linear_layers(model: Any) -> None:
    """Replace the Linear layers of a model by int8 layers, in place.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        float32, on the CPU. Embeddings and other kinds of layers stay float32.

    Raises
    ------
    SettingsError
        If the model is not on the CPU, the CPU lacks exact int8 products, or the model has no Linear layer.
    """
    if model.device.type != "cpu":
        raise SettingsError(
            "precision int8 needs the CPU",
            got=f"device {model.device.type}",
            remedy="set --device cpu, or --precision float16",
        )
    if not has_exact_int8():
        raise SettingsError(
            "precision int8 is inexact on this CPU",
            expected="an x86 CPU with VNNI",
            remedy="set --precision float32",
        )
    # The exact type, since a subclass may compute something else.
    found = [
        (parent, name, layer)
        for parent in model.modules()
        for name, layer in parent.named_children()
        if type(layer) is torch.nn.Linear
    ]
    if not found:
        raise SettingsError(
            "precision int8 needs a teacher with Linear layers",
            got=type(model).__name__,
            remedy="set --precision float32",
        )
    for parent, name, layer in found:
        setattr(parent, name, Int8Linear(layer))


def _round(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return int8 rows, and their float32 scales of shape (rows, 1)."""
    # A row of zeros may have any scale.
    scales = rows.abs().amax(dim=1, keepdim=True).clamp_(min=1e-30) / 127
    return (rows / scales).round_().to(torch.int8), scales
