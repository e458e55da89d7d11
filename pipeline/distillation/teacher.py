"""The teacher: a Sentence Transformer's encoder and tokenizer, loaded without running anyone's code.

Importing this module imports torch and transformers; only distilling does so.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from pipeline.distillation.own_way import OwnWay, read_own_way
from pipeline.errors import SettingsError, TeacherError
from pipeline.model import hub

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.*", "*.model")


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
    own_way : OwnWay
        What the Sentence Transformer does with hidden states.
    """

    name: str
    revision: str
    model: Any
    tokenizer: Any
    own_way: OwnWay


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
        If it can't be found or loaded, has no safetensors weights or no fast tokenizer, or its weights are
        not finite.
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
    model = _load_model(root, teacher)
    if not all(bool(torch.isfinite(weights).all()) for weights in model.parameters()):
        raise TeacherError(
            f"teacher {teacher!r} has weights that are NaN or infinite", remedy="fetch or train it again"
        )
    own_way = read_own_way(folder, width=model.config.hidden_size)
    return Teacher(name, resolved or _weights_digest(root), model.to(where).eval(), tokenizer, own_way)


@dataclass(frozen=True)
class Sequences:
    """What the teacher sees, one sequence for each row of the table.

    Parameters
    ----------
    ids : list of list of int
        Token ids, special tokens and prompt included.
    own : list of (int, int)
        Where the token's own pieces begin and end in each.
    counted : list of (int, int)
        Which part a mean is over.
    pad_token_id : int
        Fills short sequences of a batch; masked out.
    """

    ids: list[list[int]]
    own: list[tuple[int, int]]
    counted: list[tuple[int, int]]
    pad_token_id: int


def encode_sequences(
    model: Any,
    sequences: Sequences,
    *,
    pooling: str,
    batch_size: int,
    precision: str = "float32",
    progress: bool = True,
) -> np.ndarray:
    """Push token sequences through the teacher and keep one vector of each.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        The teacher's model.
    sequences : Sequences
    pooling : {"mean", "first", "last", "pooler", "token"}
        Mean of the counted part, hidden state of the first or the last position, the model's pooler, or mean
        of the token's own pieces.
    batch_size : int
        Sequences per forward pass; sorted by length so that little is padded.
    precision : {"float32", "bfloat16", "float16", "auto"}, default="float32"
        Arithmetic of the forward pass. What isn't finite in half precision is computed again in float32.
    progress : bool, default=True
        Whether to draw a progress bar on stderr.

    Returns
    -------
    float32 ndarray of shape (V, H)
        Values that are not finite are 0.

    Raises
    ------
    TeacherError
        If `pooling` is "pooler" and the model has none.
    """
    longest = max((len(ids) for ids in sequences.ids), default=0)
    most = getattr(model.config, "max_position_embeddings", None) or longest
    if longest > most:
        raise TeacherError(
            "a token with its prompt is longer than what the teacher reads",
            got=f"{longest} tokens",
            expected=f"at most {most}",
            remedy="give a shorter --prompt",
        )
    # Sorted as model2vec sorts: with the same batches float32 rounds alike, down to the integers of int8.
    order = np.argsort([len(ids) for ids in sequences.ids])
    outputs: np.ndarray | None = None
    bar = tqdm(total=len(order), desc="teacher", unit="token", disable=None if progress else True)
    with bar:
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            pooled = _encode_batch(model, sequences, rows, pooling, _half_precision(model, precision))
            if outputs is None:
                outputs = np.empty((len(order), pooled.shape[1]), dtype=np.float32)
            outputs[rows] = pooled
            bar.update(len(rows))
    if outputs is None:
        raise TeacherError("the vocabulary is empty", expected="at least one token")
    finite: np.ndarray = np.nan_to_num(outputs, copy=False, posinf=0.0, neginf=0.0)
    return finite


def input_embeddings(model: Any, pieces: list[list[int]]) -> np.ndarray:
    """Return the teacher's input embeddings, without a forward pass.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    pieces : list of list of int
        Token ids of each row; their embeddings are averaged.

    Returns
    -------
    float32 ndarray of shape (V, H)
    """
    table = model.get_input_embeddings().weight.detach().float().cpu().numpy()
    return np.stack([table[ids].mean(axis=0) for ids in pieces])


@torch.inference_mode()
def _encode_batch(
    model: Any, sequences: Sequences, rows: np.ndarray, pooling: str, half: torch.dtype | None
) -> np.ndarray:
    batch = [torch.tensor(sequences.ids[row]) for row in rows]
    ids = pad_sequence(batch, batch_first=True, padding_value=sequences.pad_token_id)
    lengths = torch.tensor([len(sequence) for sequence in batch])
    inputs = {"input_ids": ids, "attention_mask": _spans(ids, [(0, int(length)) for length in lengths])}
    # Without token types: models that have some take 0, and GPT-2 would add the embedding of token 0.
    inputs = {key: value.to(model.device) for key, value in inputs.items()}
    if half is not None:
        with torch.autocast(model.device.type, dtype=half):
            pooled = _pool(model(**inputs), sequences, rows, lengths, pooling)
        if bool(torch.isfinite(pooled).all()):
            found: np.ndarray = pooled.float().cpu().numpy()
            return found
    pooled = _pool(model(**inputs), sequences, rows, lengths, pooling)
    result: np.ndarray = pooled.float().cpu().numpy()
    return result


def _pool(
    output: Any, sequences: Sequences, rows: np.ndarray, lengths: torch.Tensor, pooling: str
) -> torch.Tensor:
    hidden: torch.Tensor = output.last_hidden_state
    averaged: torch.Tensor
    if pooling == "pooler":
        pooler: torch.Tensor | None = getattr(output, "pooler_output", None)
        if pooler is None:
            raise TeacherError(
                "the teacher has no pooler", expected="pooling mean, first or last for this model"
            )
        return pooler
    if pooling == "first":
        return hidden[:, 0]
    if pooling == "last":
        return hidden[torch.arange(len(rows)), lengths.to(hidden.device) - 1]
    spans = sequences.own if pooling == "token" else sequences.counted
    mask = _spans(hidden[:, :, 0], [spans[row] for row in rows])
    shares = (mask / mask.sum(dim=1, keepdim=True).clamp(min=1)).to(hidden)
    averaged = torch.bmm(shares[:, None, :], hidden)[:, 0]
    return averaged


def _spans(like: torch.Tensor, spans: list[tuple[int, int]]) -> torch.Tensor:
    """Return a mask of shape (B, L), 1 within each row's span."""
    places = torch.arange(like.shape[1])
    first, last = torch.tensor(spans).T
    inside: torch.Tensor = (places >= first[:, None]) & (places < last[:, None])
    return inside.long()


def _half_precision(model: Any, precision: str) -> torch.dtype | None:
    if precision == "auto":
        return torch.float16 if model.device.type == "cuda" else None
    return {"float32": None, "float16": torch.float16, "bfloat16": torch.bfloat16}[precision]


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
    if not hub.may_be_hub_id(teacher):
        raise TeacherError(
            f"teacher {teacher!r} does not exist", expected="a folder or a hub id such as organisation/name"
        )
    found = hub.fetch(teacher, revision=revision, error=TeacherError)
    return found.folder, found.name, found.commit


def _load_model(root: Path, teacher: str) -> Any:
    """Load the transformer; of one with encoder and decoder, the encoder."""
    options = {"trust_remote_code": False, "local_files_only": True}
    try:
        config = transformers.AutoConfig.from_pretrained(str(root), **options)
        is_half = any(name.endswith("EncoderModel") for name in config.architectures or [])
        has_decoder = config.is_encoder_decoder or is_half
        kind = transformers.AutoModelForTextEncoding if has_decoder else transformers.AutoModel
        return kind.from_pretrained(str(root), use_safetensors=True, dtype=torch.float32, **options)
    # transformers and safetensors raise many kinds of errors for damaged folders
    except Exception as error:
        raise TeacherError(f"teacher {teacher!r} can't be loaded", got=_one_line(error)) from None


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
        if paths[0].startswith("/") or ".." in paths[0].split("/"):
            raise TeacherError(
                f"teacher {folder} names a folder outside", got=repr(paths[0]), expected="one in it"
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
