"""What a Sentence Transformer itself does with hidden states: its pooling, Dense layers and default prompt.

Read from its configuration files; none of its modules is imported or run.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from lakevec.pipeline.errors import TeacherError

# Names of the library's pooling modes, in its old and new configuration files, and ours.
_POOLINGS = {
    "pooling_mode_cls_token": "first",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last",
    "cls": "first",
    "mean": "mean",
    "lasttoken": "last",
}
_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "Identity": lambda value: value,
    "Tanh": torch.tanh,
    "ReLU": torch.relu,
    "GELU": torch.nn.functional.gelu,
    "SiLU": torch.nn.functional.silu,
    "Sigmoid": torch.sigmoid,
}
# sentence_bert_config.json; old versions of the library wrote sentence_roberta_config.json and others.
_READING_FILES = "sentence_*_config.json"
_PACKAGE = "sentence_transformers."
_WITHOUT_WEIGHTS = ("Normalize", "Dropout")


@dataclass(frozen=True, eq=False)
class DenseLayer:
    """One ``Dense`` module.

    Parameters
    ----------
    weight : float32 ndarray of shape (O, I)
    bias : float32 ndarray of shape (O,) or None
    activation : str
        Name of torch's class.
    """

    weight: np.ndarray
    bias: np.ndarray | None
    activation: str

    def apply(self, rows: np.ndarray) -> np.ndarray:
        """Apply the layer to rows.

        Parameters
        ----------
        rows : float32 ndarray of shape (V, I)

        Returns
        -------
        float32 ndarray of shape (V, O)
        """
        product = rows @ self.weight.T + (0.0 if self.bias is None else self.bias)
        activated: np.ndarray = _ACTIVATIONS[self.activation](torch.from_numpy(product)).numpy()
        return activated


@dataclass(frozen=True, eq=False)
class SentenceTransformerConfig:
    """How the Sentence Transformer makes a vector of hidden states.

    Parameters
    ----------
    pooling : str or None
        As in `lakevec.pipeline.settings.DistillSettings`; None where it pools in a way that is not offered
        here.
    reason : str
        Where that is said.
    dense : tuple of DenseLayer
        Applied to the pooled vector, in order.
    prompt : str
        Text that it puts before every text; empty where there is none.
    counts_prompt : bool
        Whether a mean is also over the prompt.
    normalizes : bool
        Whether vectors of texts are scaled to length 1. Distilling tokens does without: length does not
        matter to what is centred and weighted afterwards.
    max_tokens : int or None
        Tokens that it reads of a text, special ones included; None where it names no number.
    lowercases : bool
        Whether it writes texts in lower case before its tokenizer sees them.
    has_foreign_code : bool
        Whether its modules are classes of other packages than sentence-transformers.
    """

    pooling: str | None
    reason: str
    dense: tuple[DenseLayer, ...] = ()
    prompt: str = ""
    counts_prompt: bool = True
    normalizes: bool = False
    max_tokens: int | None = None
    lowercases: bool = False
    has_foreign_code: bool = False

    @property
    def described(self) -> tuple[Any, ...]:
        """What decides about a vector, weights of Dense layers apart."""
        read = (self.prompt, self.counts_prompt, self.max_tokens, self.lowercases)
        return (self.pooling, self.normalizes, *read)


def read_config(folder: Path, *, width: int) -> SentenceTransformerConfig:
    """Read the modules of a Sentence Transformer.

    Parameters
    ----------
    folder : pathlib.Path
        The teacher's folder.
    width : int
        Width of the hidden states, H.

    Returns
    -------
    SentenceTransformerConfig

    Raises
    ------
    TeacherError
        If a configuration file or a Dense layer can't be read, or does not fit.
    """
    if not (folder / "modules.json").is_file():
        return SentenceTransformerConfig("mean", "a transformer that is no Sentence Transformer, so the mean")
    try:
        return _read_modules(folder, width)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise TeacherError(
            f"the modules of teacher {folder} can't be read",
            got=" ".join(str(error).split()),
            expected="the configuration files of a Sentence Transformer",
        ) from None


def _read_modules(folder: Path, width: int) -> SentenceTransformerConfig:
    config: dict[str, Any] = {}
    dense: list[DenseLayer] = []
    reading: dict[str, Any] = {}
    kinds: list[str] = []
    where = "modules.json names no pooling"
    unknown = ""
    modules = _read(folder / "modules.json")
    for module in modules:
        kind, path = str(module["type"]).rpartition(".")[2], str(module["path"])
        if path.startswith("/") or ".." in path.split("/"):
            raise TeacherError(
                f"teacher {folder} names a folder outside", got=repr(path), expected="one in it"
            )
        kinds.append(kind)
        if kind == "Transformer" and (files := sorted((folder / path).glob(_READING_FILES))):
            reading = _read(files[0])
        if kind == "Pooling":
            config, where = _read(folder / path / "config.json"), f"{path}/config.json"
        elif kind == "Dense" and not unknown:
            unknown = _find_unknown_dense(folder / path)
            if not unknown:
                dense.append(_read_dense(folder / path, dense[-1].weight.shape[0] if dense else width))
        elif kind not in ("Transformer", "Dense", *_WITHOUT_WEIGHTS):
            unknown = f"its module {kind} is not known"
    unknown = unknown or _find_unknown_order(kinds)
    # A class of another package may do anything, whatever its name is.
    foreign = [kind for kind in (str(module["type"]) for module in modules) if not kind.startswith(_PACKAGE)]
    if foreign:
        unknown = f"its module {foreign[0]} is not of sentence-transformers"
    pooling = None if unknown else _find_pooling(config) if config else "mean"
    said = f"{where} says {'so' if pooling else 'another'}" if config else where
    return SentenceTransformerConfig(
        pooling,
        unknown or said,
        () if unknown else tuple(dense),
        prompt=_default_prompt(folder),
        counts_prompt=bool(config.get("include_prompt", True)),
        normalizes="Normalize" in kinds,
        max_tokens=None if reading.get("max_seq_length") is None else int(reading["max_seq_length"]),
        lowercases=bool(reading.get("do_lower_case", False)),
        has_foreign_code=bool(foreign),
    )


def _find_unknown_order(kinds: list[str]) -> str:
    """Say what is unusual in the order of modules: one pooling, then Dense layers, then normalization."""
    at_work = [kind for kind in kinds if kind != "Dropout"]
    poolings, layers = at_work.count("Pooling"), at_work.count("Dense")
    usual = ["Transformer", *["Pooling"] * min(1, poolings), *["Dense"] * layers]
    usual += ["Normalize"] * min(1, at_work.count("Normalize"))
    if at_work in (usual, []) or poolings == layers == 0:
        return ""
    return f"its modules work in the order {', '.join(at_work)}"


def _find_unknown_dense(folder: Path) -> str:
    """Say what is unusual about a Dense layer; empty if nothing."""
    config = _read(folder / "config.json")
    activation = _activation(config)
    if activation not in _ACTIVATIONS:
        return f"activation {activation} of {folder.name} is not known"
    if not (folder / "model.safetensors").is_file() and (folder / "pytorch_model.bin").is_file():
        return f"{folder.name} has its weights in pytorch_model.bin"
    if config.get("use_residual"):
        return f"{folder.name} adds its input to its output"
    names = [config.get(key) for key in ("module_input_name", "module_output_name")]
    if any(name not in (None, "sentence_embedding") for name in names):
        return f"{folder.name} does not work on the vector of the text"
    return ""


def _activation(config: dict[str, Any]) -> str:
    named = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    return str(named).rpartition(".")[2]


def _find_pooling(config: dict[str, Any]) -> str | None:
    named = config.get("pooling_mode")
    if named is None:
        found = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    else:
        found = [named] if isinstance(named, str) else list(named)
    return _POOLINGS.get(found[0]) if len(found) == 1 else None


def _default_prompt(folder: Path) -> str:
    file = folder / "config_sentence_transformers.json"
    config = _read(file) if file.is_file() else {}
    name, prompts = config.get("default_prompt_name"), config.get("prompts")
    prompt = prompts.get(name) if isinstance(prompts, dict) and isinstance(name, str) else None
    return prompt if isinstance(prompt, str) else ""


def _read_dense(folder: Path, inputs: int) -> DenseLayer:
    config = _read(folder / "config.json")
    try:
        # By torch, since numpy has no bfloat16.
        tensors = safetensors.torch.load_file(folder / "model.safetensors")
        layer = DenseLayer(
            tensors["linear.weight"].float().numpy(),
            tensors["linear.bias"].float().numpy() if "linear.bias" in tensors else None,
            _activation(config),
        )
    except (OSError, KeyError, safetensors.SafetensorError) as error:
        raise TeacherError(
            f"Dense layer {folder} can't be read",
            got=str(error),
            expected="model.safetensors with linear.weight",
        ) from None
    if config.get("bias", False) and layer.bias is None:
        raise TeacherError(
            f"Dense layer {folder} lacks its bias", expected="linear.bias, as config.json says"
        )
    if not all(np.isfinite(part).all() for part in (layer.weight, layer.bias) if part is not None):
        raise TeacherError(
            f"Dense layer {folder} has weights that are NaN or infinite", remedy="fetch or train it again"
        )
    if layer.weight.ndim != 2 or layer.weight.shape[1] != inputs:
        raise TeacherError(
            f"Dense layer {folder}", got=f"weights of shape {layer.weight.shape}", expected=f"{inputs} inputs"
        )
    return layer


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TeacherError(f"{file} can't be read", got=" ".join(str(error).split())) from None
