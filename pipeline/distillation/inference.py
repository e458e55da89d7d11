"""Forward passes of the teacher, and pooling of its hidden states."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from timeit import timeit
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from lakevec.pipeline.errors import SettingsError, TeacherError

Span = tuple[int, int]
# Warn if half precision takes this many times as long as float32.
SLOW_RATIO = 1.5
_HALF = {"float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class TokenSequences:
    """Inputs of the teacher: one token sequence for each row of the result.

    Parameters
    ----------
    ids : list of list of int
        Token ids, special tokens and prompt included.
    spans : list of (int, int)
        Start and end of the positions that mean pooling covers.
    pad_token_id : int
        Pads short sequences of a batch; masked out.
    """

    ids: list[list[int]]
    spans: list[Span]
    pad_token_id: int


# Input of a model by name: token ids and attention mask, int64 of shape (B, L).
Inputs = dict[str, torch.Tensor]


def run_in_batches(
    sequences: TokenSequences,
    embed: Callable[[Inputs, list[Span]], np.ndarray],
    *,
    device: torch.device,
    batch_size: int,
    max_tokens: int | None = None,
    progress: bool,
) -> np.ndarray:
    """Embed all sequences, sorted by length to reduce padding: float32 of shape (V, H).

    Parameters
    ----------
    embed : callable
        Returns float ndarray of shape (B, H) for a batch of inputs and their spans.
    device : torch.device
        Where the inputs go.
    batch_size : int
        Maximum number of sequences in a batch.
    max_tokens : int, optional
        Maximum number of tokens in a batch of two or more sequences, padding included. Default: no maximum.
    progress : bool
        Whether to draw a progress bar on stderr if that is a terminal.
    """
    # model2vec sorts the same way. Equal batches round equally, so int8 tables have the same integers.
    lengths = np.array([len(ids) for ids in sequences.ids], dtype=np.int64)
    order = np.argsort(lengths)
    outputs: np.ndarray | None = None
    with tqdm(total=len(order), desc="teacher", unit="token", disable=None if progress else True) as bar:
        for start, end in _cut(lengths[order], batch_size, max_tokens):
            rows = order[start:end]
            parts = [torch.tensor(sequences.ids[row]) for row in rows]
            ids = pad_sequence(parts, batch_first=True, padding_value=sequences.pad_token_id)
            mask = pad_sequence([torch.ones_like(part) for part in parts], batch_first=True)
            # No token types: models with token types default to 0, and GPT-2 would add token 0's embedding.
            inputs = {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
            vectors = embed(inputs, [sequences.spans[row] for row in rows])
            if outputs is None:
                outputs = np.empty((len(order), vectors.shape[1]), dtype=np.float32)
            outputs[rows] = vectors
            bar.update(len(rows))
    if outputs is None:
        raise TeacherError("the vocabulary is empty", expected="at least one token")
    return outputs


def _cut(lengths: np.ndarray, batch_size: int, max_tokens: int | None) -> Iterator[Span]:
    """Return start and end of each batch, for ascending lengths."""
    start = 0
    for end in range(1, len(lengths) + 1):
        is_full = end - start == batch_size
        # The longest sequence is the last one, and the others are padded to it.
        if end < len(lengths) and max_tokens is not None:
            is_full = is_full or (end - start + 1) * lengths[end] > max_tokens
        if is_full or end == len(lengths):
            yield start, end
            start = end


def embed_sequences(
    model: Any,
    sequences: TokenSequences,
    *,
    pooling: str,
    batch_size: int,
    max_tokens: int | None = None,
    precision: str = "float32",
    progress: bool = True,
) -> np.ndarray:
    """Run token sequences through the teacher and pool the hidden states of each.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    pooling : {"mean", "token", "first", "last", "pooler"}
        Mean over the span (also for "token"), state of the first or last position, or the model's pooler.
    batch_size : int
        Sequences per forward pass.
    max_tokens : int, optional
        As in `run_in_batches`.
    precision : {"float32", "bfloat16", "float16", "auto"}, default="float32"
        Arithmetic of the forward pass. If a batch has values that are not finite, it is repeated in float32.

    Returns
    -------
    float32 ndarray of shape (V, H)
        Values that overflow float32 are not finite.

    Raises
    ------
    TeacherError
        If a sequence is too long, or if `pooling` is "pooler" and the model has no pooler.
    SettingsError
        If the precision is "int8", which `SentenceEncoder` sets up for whole texts.
    """
    if precision == "int8":
        raise SettingsError(
            "precision int8 is for whole texts",
            got="tokens of a table",
            expected="auto, float32, bfloat16 or float16",
        )
    longest = max((len(ids) for ids in sequences.ids), default=0)
    most = getattr(model.config, "max_position_embeddings", None) or longest
    if longest > most:
        raise TeacherError(
            "a token with its prompt exceeds the teacher's maximum length",
            got=f"{longest} tokens",
            expected=f"at most {most}",
            remedy="give a shorter --prompt",
        )
    half = _HALF.get(resolve_precision(model, precision))
    # Only the first batch is timed.
    is_timed = half is not None and model.device.type == "cpu"

    def embed(inputs: Inputs, spans: list[Span]) -> np.ndarray:
        nonlocal is_timed
        run = partial(_embed_batch, model, inputs, spans, pooling)
        if is_timed:
            is_timed = False
            _warn_if_slow(run, half, len(spans))
        return run(half)

    return run_in_batches(
        sequences,
        embed,
        device=model.device,
        batch_size=batch_size,
        max_tokens=max_tokens,
        progress=progress,
    )


def _warn_if_slow(
    embed: Callable[[torch.dtype | None], object], half: torch.dtype | None, sequences: int
) -> None:
    """Warn that float32 is faster if the CPU emulates half precision."""

    def seconds(kind: torch.dtype | None) -> float:
        return timeit(partial(embed, kind), number=1)

    in_half, in_single = seconds(half), seconds(None)
    # The very first pass may be slow for other reasons, so time it again.
    if in_half < SLOW_RATIO * in_single or (in_half := seconds(half)) < SLOW_RATIO * in_single:
        return
    name = str(half).removeprefix("torch.")
    tqdm.write(
        f"precision {name} is slow on this CPU: {sequences / in_half:,.0f} sequences/s, float32 "
        f"{sequences / in_single:,.0f}; use --precision float32",
        file=sys.stderr,
    )


@torch.inference_mode()
def _embed_batch(
    model: Any, inputs: Inputs, spans: list[Span], pooling: str, half: torch.dtype | None
) -> np.ndarray:
    with torch.autocast(model.device.type, dtype=half, enabled=half is not None):
        pooled = _pool(model(**inputs), inputs["attention_mask"], spans, pooling)
    if half is not None and not bool(torch.isfinite(pooled).all()):
        return _embed_batch(model, inputs, spans, pooling, None)
    return np.asarray(pooled.float().cpu().numpy())


def _pool(output: Any, mask: torch.Tensor, spans: list[Span], pooling: str) -> torch.Tensor:
    hidden: torch.Tensor = output.last_hidden_state
    if pooling == "pooler":
        pooler: torch.Tensor | None = getattr(output, "pooler_output", None)
        if pooler is None:
            expected = "pooling mean, first or last for this model"
            raise TeacherError("the teacher has no pooler", expected=expected)
        return pooler
    if pooling == "first":
        return hidden[:, 0]
    if pooling == "last":
        return hidden[torch.arange(len(spans)), mask.sum(dim=1) - 1]
    positions = torch.arange(hidden.shape[1])
    first, last = torch.tensor(spans).T[:, :, None]
    inside = ((positions >= first) & (positions < last)).long()
    shares = (inside / inside.sum(dim=1, keepdim=True).clamp(min=1)).to(hidden)
    return torch.bmm(shares[:, None, :], hidden)[:, 0]


def input_embeddings(model: Any, pieces: list[list[int]]) -> np.ndarray:
    """Return the mean input embedding of each row's token ids: float32 of shape (V, H)."""
    table = model.get_input_embeddings().weight.detach().float().cpu().numpy()
    return np.stack([table[ids].mean(axis=0) for ids in pieces])


def resolve_precision(model: Any, precision: str) -> str:
    """Resolve ``auto``: float16 on cuda, float32 on cpu."""
    if precision == "auto":
        return "float16" if model.device.type == "cuda" else "float32"
    return precision
