"""The teacher's vectors of whole texts: targets of tuning, and reference for the evaluation of tables."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from tokenizers import Tokenizer
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from lakevec.pipeline.distillation.inference import TokenSequences, embed_sequences, resolve_precision
from lakevec.pipeline.distillation.int8_layers import quantize_linear_layers
from lakevec.pipeline.distillation.options import TeacherOptions
from lakevec.pipeline.distillation.teacher import Teacher, load_teacher
from lakevec.pipeline.errors import TeacherError
from lakevec.pipeline.local_files import file_sha256

# Small enough for a core's cache, where larger batches are slower; large enough for the matrix products.
_CPU_BATCH_TOKENS = 512
# Model types whose position ids start at pad_token_id + 1.
_POSITIONS_AFTER_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet")
# Configuration keys that change no vector.
_IRRELEVANT = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")


class SentenceEncoder:
    """A Sentence Transformer that embeds whole texts.

    The Sentence Transformer determines pooling, Dense layers, default prompt, maximum length and
    normalization. Texts are sorted by length to reduce padding. The other texts of a batch change a vector
    only by rounding errors. In int8, few vectors change, each element by up to some 0.01 if vectors have
    length 1: a last bit may decide how an input of a layer is rounded.

    Parameters
    ----------
    teacher : str
        As for `lakevec.pipeline.distillation.teacher.load_teacher`, which also lists the errors.

    Attributes
    ----------
    name, revision : str
    precision : {"float32", "bfloat16", "float16", "int8"}
        Arithmetic of the forward pass, with ``auto`` resolved.
    normalizes : bool
        Whether vectors have length 1.
    width : int
        Width of the vectors, H.
    parameters : int
        Number of the teacher's parameters, including Dense layers.

    Raises
    ------
    SetupError
        If the teacher needs sentence-transformers, which is not installed.
    SettingsError
        If the device does not exist, or can't compute this teacher in int8.
    """

    def __init__(self, teacher: str, options: TeacherOptions | None = None) -> None:
        options = options or TeacherOptions()
        self._teacher = loaded = load_teacher(teacher, options)
        self._config = config = loaded.config
        self._batch_size = options.batch_size
        self._tokenizer = _make_tokenizer(loaded)
        self._delegate = loaded.delegate if config.pooling is None else None
        self.name, self.revision = loaded.name, loaded.revision
        self.normalizes = config.normalizes
        self.width = self._delegate.width if self._delegate else loaded.width(config.dense)
        # sentence-transformers computes in the precision of the weights.
        self.precision = "float32" if self._delegate else resolve_precision(loaded.model, options.precision)
        self.parameters = _count_parameters(loaded)
        if self.precision == "int8":
            quantize_linear_layers(loaded.model)

    @property
    def fingerprint(self) -> str:
        """``sha256:`` and 64 digits over everything that changes a vector, including precision."""
        config, model = self._config, self._teacher.model.config.to_diff_dict()
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
    def tokens(self) -> list[str]:
        """The tokenizer's tokens, including special and added tokens, in no particular order."""
        return list(self._tokenizer.get_vocab(with_added_tokens=True))

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
        model = self._teacher.model
        vectors = embed_sequences(
            model,
            self._tokenize(texts),
            pooling=str(self._config.pooling),
            batch_size=self._batch_size,
            max_tokens=_CPU_BATCH_TOKENS if model.device.type == "cpu" else None,
            # Int8 layers take and give float32.
            precision="float32" if self.precision == "int8" else self.precision,
            progress=progress,
        )
        if bad := int((~np.isfinite(vectors)).any(axis=1).sum()):
            raise TeacherError(
                f"the teacher gives NaN or infinity for {bad:,} texts",
                expected="finite vectors in float32",
                remedy="use another teacher",
            )
        for layer in self._config.dense:
            vectors = layer.apply(vectors)
        if self.normalizes:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return np.ascontiguousarray(vectors, dtype=np.float32)

    def _tokenize(self, texts: Sequence[str]) -> TokenSequences:
        config = self._config
        prompted = [config.prompt + text for text in texts]
        prompted = [text.lower() for text in prompted] if config.lowercases else prompted
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch(prompted)]
        first = 0 if config.pools_prompt else self._prompt_length()
        return TokenSequences(
            ids,
            spans=[(min(first, len(sequence)), len(sequence)) for sequence in ids],
            pad_token_id=self._teacher.tokenizer.pad_token_id or 0,
        )

    def _prompt_length(self) -> int:
        """Count the tokens that mean pooling excludes: the prompt and the special tokens before it."""
        if not self._config.prompt:
            return 0
        encoding = self._tokenizer.encode(self._config.prompt)
        # Special tokens at the end follow the text, not the prompt.
        trailing = next((n for n, special in enumerate(encoding.special_tokens_mask[::-1]) if not special), 0)
        return len(encoding.ids) - trailing


def _count_parameters(teacher: Teacher) -> int:
    dense = sum(part.size for layer in teacher.config.dense for part in layer.parameters)
    return int(dense + sum(weights.numel() for weights in teacher.model.parameters()))


def _make_tokenizer(teacher: Teacher) -> Tokenizer:
    """Copy the teacher's tokenizer, with the teacher's maximum length, which includes special tokens."""
    tokenizer = Tokenizer.from_str(teacher.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    config = teacher.model.config
    limits = [teacher.config.max_tokens or teacher.tokenizer.model_max_length]
    if positions := getattr(config, "max_position_embeddings", None):
        is_shifted = config.model_type in _POSITIONS_AFTER_PADDING
        limits.append(positions - int(config.pad_token_id) - 1 if is_shifted else positions)
    if min(limits) < VERY_LARGE_INTEGER:
        tokenizer.enable_truncation(int(min(limits)))
    return tokenizer
