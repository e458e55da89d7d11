"""The teacher: a Sentence Transformer's encoder and tokenizer, loaded without running anyone's code.

Importing this module imports torch and transformers; only distilling does so.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from pipeline.errors import SettingsError, TeacherError

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.*", "*.model")
_HUB_FILES = ["*.safetensors", "*.json", "*.txt", "*.model"]


@dataclass(frozen=True, eq=False)
class Teacher:
    """A loaded teacher.

    Parameters
    ----------
    name : str
        Hub id, or the folder's name.
    revision : str
        Commit of a hub teacher, or ``sha256:`` of a folder's weights.
    model : transformers.PreTrainedModel
        In evaluation mode, float32, on its device.
    tokenizer : transformers.PreTrainedTokenizerBase
        Backed by the `tokenizers` library.
    """

    name: str
    revision: str
    model: Any
    tokenizer: Any


def load_teacher(teacher: str, *, revision: str | None = None, device: str = "auto") -> Teacher:
    """Load a teacher from a folder or the Hugging Face hub.

    Parameters
    ----------
    teacher : str
        Folder of a Sentence Transformer or plain transformer, or a hub id.
    revision : str, optional
        Branch, tag or commit of a hub teacher.
    device : str, default="auto"
        torch device; ``auto`` is cuda where there is one, else cpu.

    Returns
    -------
    Teacher

    Raises
    ------
    TeacherError
        If it can't be found or loaded, has no safetensors weights or no fast tokenizer.
    SettingsError
        If the device is not there.

    Notes
    -----
    Only safetensors weights are read and ``trust_remote_code`` is off.
    """
    where = _pick_device(device)
    folder, name, resolved = _resolve(teacher, revision)
    root = _transformer_folder(folder)
    if not any(root.glob("*.safetensors")):
        raise TeacherError(
            f"teacher {teacher!r} has no safetensors weights",
            expected="model.safetensors; pickled weights are not loaded",
            remedy="save the teacher again with safe_serialization=True",
        )
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    tokenizer = _load_tokenizer(root, teacher)
    try:
        model = transformers.AutoModel.from_pretrained(
            str(root),
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
            dtype=torch.float32,
        )
    # transformers and safetensors raise many kinds of errors for damaged folders
    except Exception as error:
        raise TeacherError(f"teacher {teacher!r} can't be loaded", got=_one_line(error)) from None
    return Teacher(name, resolved or _weights_digest(root), model.to(where).eval(), tokenizer)


@torch.inference_mode()
def encode_token_ids(
    model: Any, sequences: list[list[int]], *, pad_token_id: int, batch_size: int, progress: bool = True
) -> np.ndarray:
    """Push token sequences through the teacher and average its output over each sequence.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        The teacher's model.
    sequences : list of list of int
        Token ids with their special tokens, one sequence per row of the table.
    pad_token_id : int
        Fills short sequences of a batch; masked out.
    batch_size : int
        Sequences per forward pass; sorted by length so that little is padded.
    progress : bool, default=True
        Whether to draw a progress bar on stderr.

    Returns
    -------
    float32 ndarray of shape (V, H)
        Masked mean of the last hidden states, special tokens included. Values that are not finite are 0.
    """
    takes_types = "token_type_ids" in inspect.signature(model.forward).parameters
    order = np.argsort([len(sequence) for sequence in sequences], kind="stable")
    outputs = np.empty((len(sequences), model.config.hidden_size), dtype=np.float32)
    bar = tqdm(total=len(sequences), desc="teacher", unit="token", disable=None if progress else True)
    with bar:
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = [torch.tensor(sequences[row]) for row in rows]
            ids = pad_sequence(batch, batch_first=True, padding_value=pad_token_id)
            lengths = torch.tensor([len(sequence) for sequence in batch])
            mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
            inputs = {"input_ids": ids, "attention_mask": mask}
            if takes_types:
                inputs["token_type_ids"] = torch.zeros_like(ids)
            hidden = model(**{key: value.to(model.device) for key, value in inputs.items()}).last_hidden_state
            shares = (mask / lengths[:, None]).to(hidden)
            outputs[rows] = torch.bmm(shares[:, None, :], hidden)[:, 0].float().cpu().numpy()
            bar.update(len(rows))
    return np.nan_to_num(outputs, copy=False, posinf=0.0, neginf=0.0)


def _pick_device(device: str) -> torch.device:
    """Turn the setting into a device that is there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError) as error:
        raise SettingsError(
            f"device {device!r} can't be used", got=_one_line(error), expected="cpu or cuda"
        ) from None
    return found


def _resolve(teacher: str, revision: str | None) -> tuple[Path, str, str | None]:
    """Return the teacher's folder, its name, and the commit where it came from a hub."""
    folder = Path(teacher).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise SettingsError("revision", got=repr(revision), expected="none for a teacher in a folder")
        return folder, folder.resolve().name, None
    if not _HUB_ID.fullmatch(teacher) or teacher.startswith("."):
        raise TeacherError(
            f"teacher {teacher!r} does not exist", expected="a folder or a hub id such as organisation/name"
        )
    try:
        found = Path(snapshot_download(teacher, revision=revision, allow_patterns=_HUB_FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError, OSError, ValueError) as error:
        raise TeacherError(
            f"teacher {teacher!r} is neither a folder nor a hub model that can be reached",
            got=type(error).__name__,
            expected="an existing folder, or a hub id and a network",
            remedy="check the name; offline, give the folder of a downloaded teacher",
        ) from None
    return found, teacher, found.name


def _transformer_folder(folder: Path) -> Path:
    """Find the transformer inside a Sentence Transformer, which may keep it in a sub-folder."""
    modules = folder / "modules.json"
    root = folder
    if modules.is_file():
        try:
            entries = json.loads(modules.read_text(encoding="utf-8"))
            paths = [entry["path"] for entry in entries if entry["type"].endswith(".Transformer")]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise TeacherError(
                f"{modules} can't be read", expected="a list of modules with path and type"
            ) from None
        if not paths:
            raise TeacherError(
                f"teacher {folder} has no Transformer module",
                expected="a Sentence Transformer, not a static model",
            )
        root = folder / paths[0]
    if not (root / "config.json").is_file():
        raise TeacherError(
            f"{root} is not a teacher", got="no config.json", expected="the folder of a Sentence Transformer"
        )
    return root


def _load_tokenizer(root: Path, teacher: str) -> Any:
    """Load the teacher's tokenizer and refuse one that the `tokenizers` library can't run."""
    # Where none of these is there, transformers makes up a tokenizer of five special tokens.
    if not any(file for pattern in _TOKENIZER_FILES for file in root.glob(pattern)):
        raise TeacherError(
            f"teacher {teacher!r} has no tokenizer", expected="tokenizer.json, or files to make it from"
        )
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(root), use_fast=True, trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # as above
        raise TeacherError(
            f"teacher {teacher!r} has no tokenizer that can be loaded", got=_one_line(error)
        ) from None
    if not tokenizer.is_fast:
        raise TeacherError(
            f"teacher {teacher!r} has no fast tokenizer",
            got=type(tokenizer).__name__,
            expected="one that the tokenizers library can run",
            remedy="convert it to tokenizer.json first",
        )
    return tokenizer


def _weights_digest(root: Path) -> str:
    """Name the weights of a folder, which has no commit."""
    digest = hashlib.sha256()
    for file in sorted(root.glob("*.safetensors")):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return f"sha256:{digest.hexdigest()}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
