"""How a Sentence Transformer turns hidden states into a vector, read from its configuration files.

lakevec neither imports nor runs its modules.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from lakevec.pipeline.errors import TeacherError, rephrase
from lakevec.pipeline.model.sentence_transformer_files import Module, read_json_object, read_modules
from lakevec.pipeline.storage import Location

_POOLINGS = {"cls": "first", "mean": "mean", "lasttoken": "last"}
# Old configuration files have a flag for each mode, such as pooling_mode_cls_token.
_OLD_POOLING = re.compile(r"pooling_mode_(?P<mode>.+?)(_tokens?)?")
_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "Identity": lambda value: value,
    "Tanh": torch.tanh,
    "ReLU": torch.relu,
    "GELU": torch.nn.functional.gelu,
    "SiLU": torch.nn.functional.silu,
    "Sigmoid": torch.sigmoid,
}
_KNOWN_MODULES = ("Transformer", "Pooling", "Dense", "Normalize", "Dropout")
_KNOWN_ORDER = re.compile("Transformer( Pooling)?( Dense)*( Normalize)?")
_PACKAGE = "sentence_transformers."


@dataclass(frozen=True, eq=False)
class DenseLayer:
    """One ``Dense`` module.

    Parameters
    ----------
    weight : float32 ndarray of shape (O, I)
    bias : float32 ndarray of shape (O,) or None
    activation : str
        Name of the torch class.
    """

    weight: np.ndarray
    bias: np.ndarray | None
    activation: str

    @property
    def parameters(self) -> list[np.ndarray]:
        """Weight, and bias if the layer has one."""
        return [part for part in (self.weight, self.bias) if part is not None]

    def apply(self, rows: np.ndarray) -> np.ndarray:
        """Apply the layer to float32 rows of shape (V, I): float32 of shape (V, O)."""
        product = rows @ self.weight.T + (0.0 if self.bias is None else self.bias)
        return np.asarray(_ACTIVATIONS[self.activation](torch.from_numpy(product)).numpy())


@dataclass(frozen=True, eq=False)
class SentenceTransformerConfig:
    """What a Sentence Transformer does before and after its transformer.

    Parameters
    ----------
    pooling : {"mean", "first", "last"} or None
        None if only sentence-transformers can compute the vectors.
    reason : str
        The file or module that determines the pooling.
    dense : tuple of DenseLayer
        Applied to the pooled vector, in order.
    prompt : str
        Default prompt before every text; empty for none.
    pools_prompt : bool
        Whether mean pooling includes the prompt.
    normalizes : bool
        Whether text vectors are scaled to length 1. Distillation does not scale token vectors.
    max_tokens : int or None
        Maximum length of a text, including special tokens; None for no limit.
    lowercases : bool
        Whether texts are lowercased before tokenization.
    has_foreign_code : bool
        Whether modules come from packages other than sentence-transformers.
    """

    pooling: str | None
    reason: str
    dense: tuple[DenseLayer, ...] = ()
    prompt: str = ""
    pools_prompt: bool = True
    normalizes: bool = False
    max_tokens: int | None = None
    lowercases: bool = False
    has_foreign_code: bool = False


def read_config(folder: Location, *, width: int) -> SentenceTransformerConfig:
    """Read the modules of a Sentence Transformer.

    Parameters
    ----------
    folder : Location
    width : int
        Width of the hidden states, H.

    Raises
    ------
    TeacherError
        If a configuration file or a Dense layer is unreadable or invalid.
    """
    modules = read_modules(folder, error=TeacherError)
    if modules is None:
        return SentenceTransformerConfig("mean", "the default for a plain transformer")
    what = f"the modules of teacher {folder.path} can't be read"
    expected = "the configuration files of a Sentence Transformer"
    with rephrase(TeacherError, what, on=(TypeError, ValueError), expected=expected):
        return _describe(folder, modules, width)


def _describe(folder: Location, modules: list[Module], width: int) -> SentenceTransformerConfig:
    poolings = [module for module in modules if module.kind == "Pooling"]
    config = poolings[-1].read_config(error=TeacherError) if poolings else {}
    tokenization, unknown = _read_tokenization(modules), _find_unknown(modules)
    pooling = None if unknown else _find_pooling(config) if config else "mean"
    reason = "the default, since modules.json names no pooling"
    if poolings:
        file = f"{poolings[-1].path}/config.json"
        reason = f"set by {file}" if pooling else f"{file} names a pooling that lakevec does not implement"
    max_tokens = tokenization.get("max_seq_length")
    return SentenceTransformerConfig(
        pooling,
        unknown or reason,
        () if unknown else _read_dense_layers(modules, width),
        prompt=_default_prompt(folder),
        pools_prompt=bool(config.get("include_prompt", True)),
        normalizes=any(module.kind == "Normalize" for module in modules),
        max_tokens=None if max_tokens is None else int(max_tokens),
        lowercases=bool(tokenization.get("do_lower_case", False)),
        has_foreign_code=_find_foreign(modules) is not None,
    )


def _read_tokenization(modules: list[Module]) -> dict[str, Any]:
    """Read sentence_bert_config.json; old versions name the file after other models."""
    for module in modules:
        files = sorted(Path(module.folder.path).glob("sentence_*_config.json"))
        if module.kind == "Transformer" and files:
            return read_json_object(module.folder / files[0].name, error=TeacherError)
    return {}


def _find_foreign(modules: list[Module]) -> str | None:
    return next((m.class_name for m in modules if not m.class_name.startswith(_PACKAGE)), None)


def _find_unknown(modules: list[Module]) -> str:
    """Describe the first feature that lakevec does not implement; empty if there is none."""
    # A class of another package may do anything, even under a known name.
    if foreign := _find_foreign(modules):
        return f"module {foreign} is from another package than sentence-transformers"
    kinds = [module.kind for module in modules]
    if others := [kind for kind in kinds if kind not in _KNOWN_MODULES]:
        return f"lakevec does not implement module {others[-1]}"
    for module in modules:
        if module.kind == "Dense" and (unknown := _find_unknown_dense(module)):
            return unknown
    kinds = [kind for kind in kinds if kind != "Dropout"]
    if {"Pooling", "Dense"} & set(kinds) and not _KNOWN_ORDER.fullmatch(" ".join(kinds)):
        return f"lakevec does not implement the order of modules {', '.join(kinds)}"
    return ""


def _find_unknown_dense(module: Module) -> str:
    """Describe a feature of a Dense layer that lakevec does not implement; empty if there is none."""
    config, folder = module.read_config(error=TeacherError), Path(module.folder.path)
    if (activation := _activation(config)) not in _ACTIVATIONS:
        return f"lakevec does not implement activation {activation} of {folder.name}"
    if not (folder / "model.safetensors").is_file() and (folder / "pytorch_model.bin").is_file():
        return f"{folder.name} has its weights in pytorch_model.bin"
    if config.get("use_residual"):
        return f"{folder.name} adds its input to its output"
    names = [config.get(key) for key in ("module_input_name", "module_output_name")]
    if any(name not in (None, "sentence_embedding") for name in names):
        return f"{folder.name} reads or writes another value than the text's vector"
    return ""


def _activation(config: dict[str, Any]) -> str:
    return str(config.get("activation_function", "Tanh")).rpartition(".")[2]


def _find_pooling(config: dict[str, Any]) -> str | None:
    mode = config.get("pooling_mode")
    if mode is None:
        flags = [_OLD_POOLING.fullmatch(key) for key, value in config.items() if value is True]
        modes = [flag["mode"] for flag in flags if flag]
    else:
        modes = [mode] if isinstance(mode, str) else list(mode)
    return _POOLINGS.get(modes[0]) if len(modes) == 1 else None


def _default_prompt(folder: Location) -> str:
    file = folder / "config_sentence_transformers.json"
    config = read_json_object(file, error=TeacherError) if file.exists() else {}
    name, prompts = config.get("default_prompt_name"), config.get("prompts")
    prompt = prompts.get(name) if isinstance(prompts, dict) and isinstance(name, str) else None
    return prompt if isinstance(prompt, str) else ""


def _read_dense_layers(modules: list[Module], width: int) -> tuple[DenseLayer, ...]:
    layers: list[DenseLayer] = []
    for module in modules:
        if module.kind == "Dense":
            layers.append(_read_dense(module, layers[-1].weight.shape[0] if layers else width))
    return tuple(layers)


def _read_dense(module: Module, inputs: int) -> DenseLayer:
    config, what = module.read_config(error=TeacherError), f"Dense layer {module.folder.path}"
    unreadable = (OSError, KeyError, safetensors.SafetensorError)
    expected = "model.safetensors with linear.weight"
    with rephrase(TeacherError, f"{what} can't be read", on=unreadable, expected=expected):
        # torch reads the file, since numpy has no bfloat16.
        tensors = safetensors.torch.load_file(f"{module.folder.path}/model.safetensors")
        parts = {name: tensor.float().numpy() for name, tensor in tensors.items()}
        layer = DenseLayer(parts["linear.weight"], parts.get("linear.bias"), _activation(config))
    if config.get("bias", False) and layer.bias is None:
        raise TeacherError(f"{what} lacks its bias", expected="linear.bias, as config.json says")
    if not all(np.isfinite(part).all() for part in layer.parameters):
        raise TeacherError(f"{what} has weights that are NaN or infinite", remedy="fetch or train it again")
    if layer.weight.ndim != 2 or layer.weight.shape[1] != inputs:
        raise TeacherError(what, got=f"weights of shape {layer.weight.shape}", expected=f"{inputs} inputs")
    return layer
