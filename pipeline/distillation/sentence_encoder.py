"""The teacher's vectors of whole texts: targets of tuning, and reference for the evaluation of tables."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from tokenizers import Tokenizer
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from lakevec.pipeline.distillation.inference import TokenSequences, embed_sequences, resolve_precision
from lakevec.pipeline.distillation.options import TeacherOptions
from lakevec.pipeline.distillation.teacher import Teacher, load_teacher
from lakevec.pipeline.errors import TeacherError
from lakevec.pipeline.local_files import file_sha256

# Model types whose position ids start at pad_token_id + 1.
_POSITIONS_AFTER_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet")
# Configuration keys that change no vector.
_IRRELEVANT = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")


class SentenceEncoder:
    """A Sentence Transformer that embeds whole texts.

    The Sentence Transformer determines pooling, Dense layers, default prompt, maximum length and
    normalization. Texts are sorted by length to reduce padding. The other texts of a batch change a vector
    only by rounding errors.

    Parameters
    ----------
    teacher : str
        Folder of a Sentence Transformer or plain transformer, or a hub id.

    Raises
    ------
    TeacherError
        If the teacher can't be loaded.
    SetupError
        If the teacher needs sentence-transformers, which is not installed.
    SettingsError
        If the device does not exist.

    Attributes
    ----------
    name, revision : str
    precision : {"float32", "bfloat16", "float16"}
        Arithmetic of the forward pass, with ``auto`` resolved.
    """

    def __init__(self, teacher: str, options: TeacherOptions | None = None) -> None:
        options = options or TeacherOptions()
        loaded = load_teacher(teacher, options)
        self._delegate = loaded.delegate() if loaded.config.pooling is None else None
        self.name = loaded.name
        self.revision = loaded.revision
        self._teacher = loaded
        # sentence-transformers computes in the precision of the weights.
        self.precision = "float32" if self._delegate else resolve_precision(loaded.model, options.precision)
        self._batch_size = options.batch_size
        self._tokenizer = _make_tokenizer(loaded)

    @property
    def fingerprint(self) -> str:
        """``sha256:`` and 64 digits over everything that changes a vector, including precision."""
        config, model = self._teacher.config, self._teacher.model.config.to_diff_dict()
        read = (config.prompt, config.pools_prompt, config.max_tokens, config.lowercases)
        parts = [
            self.revision,
            self.precision,
            sorted((key, repr(value)) for key, value in model.items() if key not in _IRRELEVANT),
            [config.pooling, config.normalizes, *read, *(layer.activation for layer in config.dense)],
            self._tokenizer.to_str(),
        ]
        digest = hashlib.sha256(repr(parts).encode())
        for layer in config.dense:
            for part in layer.parameters:
                digest.update(part.tobytes())
        # Modules of sentence-transformers may read any file.
        if self._delegate:
            folder = self._teacher.folder
            for file in sorted(path for path in folder.rglob("*") if path.is_file()):
                digest.update(file.relative_to(folder).as_posix().encode())
                digest.update(bytes.fromhex(file_sha256(file)))
        return f"sha256:{digest.hexdigest()}"

    @property
    def normalizes(self) -> bool:
        """Whether vectors have length 1."""
        return self._teacher.config.normalizes

    @property
    def width(self) -> int:
        """Width of the vectors, H."""
        return self._delegate.width if self._delegate else self._teacher.width(self._teacher.config.dense)

    @property
    def tokens(self) -> list[str]:
        """The tokenizer's tokens, including special and added tokens, in no particular order."""
        return list(self._tokenizer.get_vocab(with_added_tokens=True))

    @property
    def parameters(self) -> int:
        """Number of the teacher's parameters, including Dense layers."""
        dense = sum(part.size for layer in self._teacher.config.dense for part in layer.parameters)
        return int(dense + sum(weights.numel() for weights in self._teacher.model.parameters()))

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> np.ndarray:
        """Embed texts: float32 of shape (N, H), in the order of the texts.

        Raises
        ------
        TeacherError
            If values are not finite.
        """
        if not len(texts):
            return np.empty((0, self.width), dtype=np.float32)
        if self._delegate:
            return self._delegate.encode(texts, batch_size=self._batch_size, progress=progress)
        config = self._teacher.config
        vectors = embed_sequences(
            self._teacher.model,
            self._tokenize(texts),
            pooling=str(config.pooling),
            batch_size=self._batch_size,
            precision=self.precision,
            progress=progress,
        )
        if bad := int((~np.isfinite(vectors)).any(axis=1).sum()):
            raise TeacherError(
                f"the teacher gives NaN or infinity for {bad:,} texts",
                expected="finite vectors in float32",
                remedy="use another teacher",
            )
        for layer in config.dense:
            vectors = layer.apply(vectors)
        if config.normalizes:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return np.ascontiguousarray(vectors, dtype=np.float32)

    def _tokenize(self, texts: Sequence[str]) -> TokenSequences:
        config = self._teacher.config
        prompted = [config.prompt + text for text in texts]
        encoded = self._tokenizer.encode_batch(
            [text.lower() for text in prompted] if config.lowercases else prompted
        )
        ids = [encoding.ids for encoding in encoded]
        first = 0 if config.pools_prompt else self._prompt_length()
        return TokenSequences(
            ids,
            token_spans=[(0, len(sequence)) for sequence in ids],
            pooled_spans=[(min(first, len(sequence)), len(sequence)) for sequence in ids],
            pad_token_id=self._teacher.tokenizer.pad_token_id or 0,
        )

    def _prompt_length(self) -> int:
        """Count the tokens that mean pooling excludes: the prompt and the special tokens before it."""
        if not (prompt := self._teacher.config.prompt):
            return 0
        encoding = self._tokenizer.encode(prompt)
        # Special tokens at the end follow the text, not the prompt.
        trailing = next((n for n, special in enumerate(encoding.special_tokens_mask[::-1]) if not special), 0)
        return len(encoding.ids) - trailing


def _make_tokenizer(teacher: Teacher) -> Tokenizer:
    """Copy the teacher's tokenizer, with the teacher's maximum length."""
    tokenizer = Tokenizer.from_str(teacher.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if (max_tokens := _max_tokens(teacher)) is not None:
        tokenizer.enable_truncation(max_tokens)
    return tokenizer


def _max_tokens(teacher: Teacher) -> int | None:
    """Return the teacher's maximum length in tokens, including special tokens; None if unlimited."""
    config = teacher.model.config
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and config.model_type in _POSITIONS_AFTER_PADDING:
        positions -= int(config.pad_token_id) + 1
    configured = teacher.config.max_tokens or teacher.tokenizer.model_max_length
    max_tokens = min(configured, positions or configured)
    return None if max_tokens >= VERY_LARGE_INTEGER else int(max_tokens)
