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
import safetensors.numpy
import torch

from pipeline.errors import TeacherError

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
_READING_FILE = "sentence_bert_config.json"
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
class OwnWay:
    """How the Sentence Transformer makes a vector of hidden states.

    Parameters
    ----------
    pooling : str or None
        As in `pipeline.settings.DistillSettings`; None where it pools in a way that is not offered here.
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
    """

    pooling: str | None
    reason: str
    dense: tuple[DenseLayer, ...] = ()
    prompt: str = ""
    counts_prompt: bool = True
    normalizes: bool = False
    max_tokens: int | None = None
    lowercases: bool = False

    @property
    def described(self) -> tuple[Any, ...]:
        """What decides about a vector, weights of Dense layers apart."""
        read = (self.prompt, self.counts_prompt, self.max_tokens, self.lowercases)
        return (self.pooling, self.normalizes, *read)


def read_own_way(folder: Path, *, width: int) -> OwnWay:
    """Read the modules of a Sentence Transformer.

    Parameters
    ----------
    folder : pathlib.Path
        The teacher's folder.
    width : int
        Width of the hidden states, H.

    Returns
    -------
    OwnWay

    Raises
    ------
    TeacherError
        If a configuration file or a Dense layer can't be read, or does not fit.
    """
    if not (folder / "modules.json").is_file():
        return OwnWay("mean", "a transformer that is no Sentence Transformer, so the mean")
    try:
        return _read_modules(folder, width)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise TeacherError(
            f"the modules of teacher {folder} can't be read",
            got=" ".join(str(error).split()),
            expected="the configuration files of a Sentence Transformer",
        ) from None


def _read_modules(folder: Path, width: int) -> OwnWay:
    config: dict[str, Any] = {}
    dense: list[DenseLayer] = []
    reading: dict[str, Any] = {}
    kinds: list[str] = []
    where = "modules.json names no pooling"
    for module in _read(folder / "modules.json"):
        kind, path = str(module["type"]).rpartition(".")[2], str(module["path"])
        if path.startswith("/") or ".." in path.split("/"):
            raise TeacherError(
                f"teacher {folder} names a folder outside", got=repr(path), expected="one in it"
            )
        kinds.append(kind)
        if kind == "Transformer" and (folder / path / _READING_FILE).is_file():
            reading = _read(folder / path / _READING_FILE)
        if kind == "Pooling":
            config, where = _read(folder / path / "config.json"), f"{path}/config.json"
        elif kind == "Dense":
            dense.append(_read_dense(folder / path, dense[-1].weight.shape[0] if dense else width))
        elif kind not in ("Transformer", *_WITHOUT_WEIGHTS):
            # Only pooling "auto" needs it, and says then what to do.
            return OwnWay(None, f"its module {kind} is not known")
    pooling = _find_pooling(config) if config else "mean"
    return OwnWay(
        pooling,
        (f"{where} says so" if pooling else f"{where} says another") if config else where,
        tuple(dense),
        prompt=_default_prompt(folder),
        counts_prompt=bool(config.get("include_prompt", True)),
        normalizes="Normalize" in kinds,
        max_tokens=None if reading.get("max_seq_length") is None else int(reading["max_seq_length"]),
        lowercases=bool(reading.get("do_lower_case", False)),
    )


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
    name, prompts = config.get("default_prompt_name"), config.get("prompts") or {}
    return str(prompts[name]) if name in prompts else ""


def _read_dense(folder: Path, inputs: int) -> DenseLayer:
    config = _read(folder / "config.json")
    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2]
    try:
        tensors = safetensors.numpy.load_file(folder / "model.safetensors")
        layer = DenseLayer(
            tensors["linear.weight"].astype(np.float32),
            tensors["linear.bias"].astype(np.float32) if "linear.bias" in tensors else None,
            activation,
        )
    except (OSError, KeyError, safetensors.SafetensorError) as error:
        raise TeacherError(
            f"Dense layer {folder} can't be read",
            got=str(error),
            expected="model.safetensors with linear.weight",
        ) from None
    if activation not in _ACTIVATIONS:
        raise TeacherError(
            f"Dense layer {folder}",
            got=f"activation {activation}",
            expected=f"one of {', '.join(_ACTIVATIONS)}",
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
