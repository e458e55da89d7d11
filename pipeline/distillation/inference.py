"""The teacher at work: token sequences in, one vector of hidden states out."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from lakevec.pipeline.errors import TeacherError

# What the first batch must take longer by, to be told.
_SLOWER = 1.5


@dataclass(frozen=True)
class TokenSequences:
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


def embed_sequences(
    model: Any,
    sequences: TokenSequences,
    *,
    pooling: str,
    batch_size: int,
    precision: str = "float32",
    progress: bool = True,
    refuses_overflow: bool = False,
) -> np.ndarray:
    """Push token sequences through the teacher and keep one vector of each.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        The teacher's model.
    sequences : TokenSequences
    pooling : {"mean", "first", "last", "pooler", "token"}
        Mean of the counted part, hidden state of the first or the last position, the model's pooler, or mean
        of the token's own pieces.
    batch_size : int
        TokenSequences per forward pass; sorted by length so that little is padded.
    precision : {"float32", "bfloat16", "float16", "auto"}, default="float32"
        Arithmetic of the forward pass. What isn't finite in half precision is computed again in float32.
    progress : bool, default=True
        Whether to draw a progress bar on stderr.
    refuses_overflow : bool, default=False
        Whether values that are not finite are an error, and not 0.

    Returns
    -------
    float32 ndarray of shape (V, H)

    Raises
    ------
    TeacherError
        If `pooling` is "pooler" and the model has none, or for values that are not finite.
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
            half = _half_precision(model, precision)
            began = time.perf_counter()
            pooled = _encode_batch(model, sequences, rows, pooling, half)
            if start == 0 and half is not None and model.device.type == "cpu":
                _warn_if_slow(model, sequences, rows, pooling, half, time.perf_counter() - began)
            if outputs is None:
                outputs = np.empty((len(order), pooled.shape[1]), dtype=np.float32)
            outputs[rows] = pooled
            bar.update(len(rows))
    if outputs is None:
        raise TeacherError("the vocabulary is empty", expected="at least one token")
    if refuses_overflow and (bad := int((~np.isfinite(outputs)).any(axis=1).sum())):
        raise TeacherError(
            f"the teacher gives NaN or infinity for {bad:,} texts",
            expected="finite vectors in float32",
            remedy="use another teacher",
        )
    finite: np.ndarray = np.nan_to_num(outputs, copy=False, posinf=0.0, neginf=0.0)
    return finite


def _warn_if_slow(
    model: Any, sequences: TokenSequences, rows: np.ndarray, pooling: str, half: torch.dtype, seconds: float
) -> None:
    """Say so where the processor has no half precision of its own and float32 is faster."""

    def measure(kind: torch.dtype | None) -> float:
        began = time.perf_counter()
        _encode_batch(model, sequences, rows, pooling, kind)
        return time.perf_counter() - began

    plain = measure(None)
    if seconds < _SLOWER * plain or (seconds := measure(half)) < _SLOWER * plain:
        return
    name = str(half).removeprefix("torch.")
    tqdm.write(
        f"precision {name} makes {len(rows) / seconds:,.0f} sequences/s on this CPU, float32 "
        f"{len(rows) / plain:,.0f}: --precision float32 is faster here",
        file=sys.stderr,
    )


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
    model: Any, sequences: TokenSequences, rows: np.ndarray, pooling: str, half: torch.dtype | None
) -> np.ndarray:
    batch = [torch.tensor(sequences.ids[row]) for row in rows]
    ids = pad_sequence(batch, batch_first=True, padding_value=sequences.pad_token_id)
    lengths = torch.tensor([len(sequence) for sequence in batch])
    inputs = {"input_ids": ids, "attention_mask": _spans(ids, [(0, int(length)) for length in lengths])}
    # Without token types: models that have some take 0, and GPT-2 would add the embedding of token 0.
    inputs = {key: value.to(model.device) for key, value in inputs.items()}
    with torch.autocast(model.device.type, dtype=half, enabled=half is not None):
        pooled = _pool(model(**inputs), sequences, rows, lengths, pooling)
    if half is not None and not bool(torch.isfinite(pooled).all()):
        pooled = _pool(model(**inputs), sequences, rows, lengths, pooling)
    found: np.ndarray = pooled.float().cpu().numpy()
    return found


def _pool(
    output: Any, sequences: TokenSequences, rows: np.ndarray, lengths: torch.Tensor, pooling: str
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


def resolve_precision(model: Any, precision: str) -> str:
    """Return the arithmetic of a forward pass by its name.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    precision : {"auto", "float32", "bfloat16", "float16"}
        auto is float16 on cuda and float32 on cpu.

    Returns
    -------
    {"float32", "bfloat16", "float16"}
    """
    if precision == "auto":
        return "float16" if model.device.type == "cuda" else "float32"
    return precision


def _half_precision(model: Any, precision: str) -> torch.dtype | None:
    halves = {"float32": None, "float16": torch.float16, "bfloat16": torch.bfloat16}
    return halves[resolve_precision(model, precision)]
