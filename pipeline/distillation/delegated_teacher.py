"""Teachers with modules that lakevec does not implement; sentence-transformers runs them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lakevec.pipeline.distillation.inference import Inputs, Span, TokenSequences, run_in_batches
from lakevec.pipeline.errors import SetupError, TeacherError, rephrase

_CHOOSE_POOLING = "choose --pooling mean, first, last or pooler"
_TOKEN_ID_MODULES = ("WordWeights", "BoW")


class DelegatedTeacher:
    """A Sentence Transformer that the library sentence-transformers runs.

    Parameters
    ----------
    folder : pathlib.Path
    reason : str
        Why lakevec can't compute the vectors itself.
    device : torch.device
    trust_remote_code : bool
        Whether code in the teacher's folder may run.

    Raises
    ------
    SetupError
        If sentence-transformers is not installed.
    TeacherError
        If sentence-transformers can't load the teacher.
    """

    def __init__(self, folder: Path, reason: str, *, device: Any, trust_remote_code: bool) -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            raise SetupError(
                f"teacher {folder} needs sentence-transformers",
                got=reason,
                remedy=f"pip install sentence-transformers, or {_CHOOSE_POOLING}",
            ) from None
        # sentence-transformers has no common error class for damaged folders and incompatible modules.
        with rephrase(TeacherError, f"sentence-transformers can't load teacher {folder}"):
            self._model = SentenceTransformer(
                str(folder),
                device=str(device),
                local_files_only=True,
                trust_remote_code=trust_remote_code,
                model_kwargs={"use_safetensors": True, "dtype": torch.float32},
            ).eval()

    @property
    def width(self) -> int:
        """Width of the vectors, H."""
        return len(self.encode(["a"], batch_size=1)[0])

    def encode(self, texts: Sequence[str], *, batch_size: int, progress: bool = False) -> np.ndarray:
        """Embed texts with their default prompt: float32 of shape (N, H)."""
        what = "sentence-transformers can't embed texts with this teacher"
        with rephrase(TeacherError, what, remedy=f"{_CHOOSE_POOLING}, or repair its modules.json"):
            vectors = self._model.encode(
                list(texts), batch_size=batch_size, show_progress_bar=progress, convert_to_numpy=True
            )
        return np.ascontiguousarray(vectors, dtype=np.float32)

    @torch.inference_mode()
    def embed_sequences(
        self, model: Any, sequences: TokenSequences, *, batch_size: int, progress: bool
    ) -> np.ndarray:
        """Run token sequences through all modules: float32 of shape (V, H).

        Parameters
        ----------
        model : transformers.PreTrainedModel
            Replaces the loaded transformer; the token ids index its embeddings.
        """
        kinds = (type(module).__name__ for module in self._model)
        if kind := next((kind for kind in kinds if kind in _TOKEN_ID_MODULES), None):
            raise TeacherError(
                f"the teacher's module {kind} reads token ids, which differ in the table's vocabulary",
                remedy=_CHOOSE_POOLING,
            )

        def embed(inputs: Inputs, spans: list[Span]) -> np.ndarray:
            prompt_length = spans[0][0]
            features: dict[str, Any] = inputs | ({"prompt_length": prompt_length} if prompt_length else {})
            return np.asarray(self._model(features)["sentence_embedding"].float().cpu().numpy())

        what = "sentence-transformers can't embed single tokens of this teacher"
        with _replace_model(self._model[0], model), rephrase(TeacherError, what, remedy=_CHOOSE_POOLING):
            return run_in_batches(
                sequences, embed, device=model.device, batch_size=batch_size, progress=progress
            )


@contextmanager
def _replace_model(transformer: Any, model: Any) -> Iterator[None]:
    """Replace the model inside the Transformer module, and restore it afterwards."""
    # sentence-transformers 5.4 renamed the attribute.
    name = "model" if "model" in transformer._modules else "auto_model"
    original = getattr(transformer, name)
    setattr(transformer, name, model)
    try:
        # The old model would read the renumbered ids as other tokens.
        if transformer.auto_model is not model:
            raise SetupError(
                "lakevec can't replace the model inside this version of sentence-transformers",
                expected="5.0 or later",
                remedy="pip install --upgrade sentence-transformers",
            )
        yield
    finally:
        setattr(transformer, name, original)
