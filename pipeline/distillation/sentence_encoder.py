"""Whole texts through the teacher, in its own way: what a table is tuned towards and compared with."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from lakevec.pipeline.distillation.inference import TokenSequences, embed_sequences, resolve_precision
from lakevec.pipeline.distillation.teacher import Teacher, load_teacher

# Their first position is the one behind the padding token's id.
_POSITIONS_AFTER_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet")

# What a configuration says of where it was found, and by what.
_NO_MATTER = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")


class SentenceEncoder:
    """A Sentence Transformer that gives vectors of whole texts.

    Parameters
    ----------
    teacher : str
        Folder of a Sentence Transformer or plain transformer, or a hub id.
    revision : str, optional
        Branch, tag or commit of a hub teacher.
    device : str, default="auto"
        torch device; ``auto`` is cuda where there is one, else cpu.
    precision : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        Arithmetic of the forward pass; auto is float16 on cuda and float32 on cpu.
    batch_size : int, default=64
        Texts per forward pass.
    trust_remote_code : bool, default=False
        Whether code of the teacher's may run.

    Raises
    ------
    TeacherError
        If the teacher can't be loaded.
    SetupError
        If only sentence-transformers knows how it pools, and that is not installed.
    SettingsError
        If the device is not there.

    Attributes
    ----------
    name, revision : str
    precision : {"float32", "bfloat16", "float16"}
        What auto became.

    Notes
    -----
    Pooling, Dense layers, default prompt, longest input and normalization are the Sentence Transformer's own,
    read from its folder. Texts are sorted by length, so batches pad little; what else is in a batch changes a
    vector by the rounding of float32 alone.
    """

    def __init__(
        self,
        teacher: str,
        *,
        revision: str | None = None,
        device: str = "auto",
        precision: str = "auto",
        batch_size: int = 64,
        trust_remote_code: bool = False,
    ) -> None:
        loaded = load_teacher(teacher, revision=revision, device=device, trust_remote_code=trust_remote_code)
        self._library = loaded.open_library() if loaded.own_way.pooling is None else None
        self.name = loaded.name
        self.revision = loaded.revision
        self._teacher = loaded
        # The library computes in the weights' own precision.
        self.precision = "float32" if self._library else resolve_precision(loaded.model, precision)
        self._batch_size = batch_size
        self._tokenizer = _make_tokenizer(loaded)

    @property
    def fingerprint(self) -> str:
        """``sha256:`` and 64 digits over all that decides about a vector, arithmetic included."""
        own_way = self._teacher.own_way
        dense = [part for layer in own_way.dense for part in (layer.weight, layer.bias) if part is not None]
        config = self._teacher.model.config.to_diff_dict()
        digest = hashlib.sha256(
            repr(
                [
                    self.revision,
                    self.precision,
                    sorted((key, repr(value)) for key, value in config.items() if key not in _NO_MATTER),
                    [*own_way.described, *(layer.activation for layer in own_way.dense)],
                    self._tokenizer.to_str(),
                ]
            ).encode()
        )
        for part in dense:
            digest.update(part.tobytes())
        if self._library:
            _digest_folder(self._teacher.folder, digest)
        return f"sha256:{digest.hexdigest()}"

    @property
    def normalizes(self) -> bool:
        """Whether vectors have length 1."""
        return self._teacher.own_way.normalizes

    @property
    def width(self) -> int:
        """Width of the vectors, H."""
        if self._library:
            return self._library.width
        dense = self._teacher.own_way.dense
        return int(dense[-1].weight.shape[0] if dense else self._teacher.model.config.hidden_size)

    @property
    def tokens(self) -> list[str]:
        """The tokenizer's tokens, special and added ones included, in no order."""
        return list(self._tokenizer.get_vocab(with_added_tokens=True))

    @property
    def parameters(self) -> int:
        """How many numbers the teacher holds, its Dense layers' included."""
        dense = [part for layer in self._teacher.own_way.dense for part in (layer.weight, layer.bias)]
        own = sum(part.size for part in dense if part is not None)
        return int(own + sum(weights.numel() for weights in self._teacher.model.parameters()))

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> np.ndarray:
        """Embed texts.

        Parameters
        ----------
        texts : sequence of str of length N
        progress : bool, default=False
            Whether to draw a progress bar on stderr where that is a terminal.

        Returns
        -------
        float32 ndarray of shape (N, H)
            In the order of the texts.
        """
        if not len(texts):
            return np.empty((0, self.width), dtype=np.float32)
        if self._library:
            return self._library.encode(texts, batch_size=self._batch_size, progress=progress)
        own_way = self._teacher.own_way
        shown = [own_way.prompt + text for text in texts]
        encoded = self._tokenizer.encode_batch(
            [text.lower() for text in shown] if own_way.lowercases else shown
        )
        ids = [encoding.ids for encoding in encoded]
        first = 0 if own_way.counts_prompt else self._prompt_length()
        vectors = embed_sequences(
            self._teacher.model,
            TokenSequences(
                ids,
                own=[(0, len(sequence)) for sequence in ids],
                counted=[(min(first, len(sequence)), len(sequence)) for sequence in ids],
                pad_token_id=self._teacher.tokenizer.pad_token_id or 0,
            ),
            pooling=str(own_way.pooling),
            batch_size=self._batch_size,
            precision=self.precision,
            progress=progress,
            refuses_overflow=True,
        )
        for layer in own_way.dense:
            vectors = layer.apply(vectors)
        if own_way.normalizes:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return np.ascontiguousarray(vectors, dtype=np.float32)

    def _prompt_length(self) -> int:
        """Count the tokens that a mean leaves out: special tokens before the prompt, and the prompt."""
        if not (prompt := self._teacher.own_way.prompt):
            return 0
        encoding = self._tokenizer.encode(prompt)
        # All but what the teacher writes behind a text.
        behind = next((n for n, special in enumerate(encoding.special_tokens_mask[::-1]) if not special), 0)
        return len(encoding.ids) - behind


def _digest_folder(folder: Path, digest: Any) -> None:
    """Digest all files that modules may be read from."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(file.relative_to(folder).as_posix().encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())


def _make_tokenizer(teacher: Teacher) -> Tokenizer:
    """Copy the teacher's tokenizer, special tokens included, and let it cut where the teacher cuts."""
    tokenizer = Tokenizer.from_str(teacher.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if (longest := _longest_input(teacher)) is not None:
        tokenizer.enable_truncation(longest)
    return tokenizer


def _longest_input(teacher: Teacher) -> int | None:
    """Return how many tokens the teacher reads of a text, special ones included."""
    config = teacher.model.config
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and config.model_type in _POSITIONS_AFTER_PADDING:
        positions -= int(config.pad_token_id) + 1
    named = teacher.own_way.max_tokens or teacher.tokenizer.model_max_length
    longest = min(named, positions or named)
    return None if longest >= VERY_LARGE_INTEGER else int(longest)
