"""Teachers whose modules lakevec does not know: sentence-transformers itself computes their vectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from lakevec.pipeline.distillation.inference import TokenSequences
from lakevec.pipeline.errors import SetupError, TeacherError

_LONGEST_REASON = 300
_READ_IDS = ("WordWeights", "BoW")


class DelegatedTeacher:
    """A Sentence Transformer as its own library runs it.

    Parameters
    ----------
    folder : pathlib.Path
    reason : str
        Why lakevec does not compute the vectors itself.
    device : torch.device
    trust_remote_code : bool
        Whether code in the teacher's folder may run.

    Raises
    ------
    SetupError
        If sentence-transformers is not installed.
    TeacherError
        If it can't load the teacher.
    """

    def __init__(self, folder: Path, reason: str, *, device: Any, trust_remote_code: bool) -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            raise SetupError(
                f"teacher {folder} needs sentence-transformers",
                got=reason,
                remedy="pip install sentence-transformers, or choose --pooling mean, first, last or pooler",
            ) from None
        try:
            self._model = SentenceTransformer(
                str(folder),
                device=str(device),
                local_files_only=True,
                trust_remote_code=trust_remote_code,
                model_kwargs={"use_safetensors": True, "dtype": torch.float32},
            ).eval()
        except Exception as error:  # the library raises many kinds for damaged folders
            raise TeacherError(
                f"sentence-transformers can't load teacher {folder}",
                got=" ".join(str(error).split())[:_LONGEST_REASON],
            ) from None

    @property
    def width(self) -> int:
        """Width of the vectors, H."""
        return len(self.encode(["a"], batch_size=1)[0])

    def encode(self, texts: Sequence[str], *, batch_size: int, progress: bool = False) -> np.ndarray:
        """Embed texts with their default prompt.

        Parameters
        ----------
        texts : sequence of str of length N
        batch_size : int
        progress : bool, default=False

        Returns
        -------
        float32 ndarray of shape (N, H)

        Raises
        ------
        TeacherError
            If its modules don't fit together.
        """
        try:
            found = self._model.encode(
                list(texts), batch_size=batch_size, show_progress_bar=progress, convert_to_numpy=True
            )
        except Exception as error:  # modules that don't fit together fail in many ways
            raise TeacherError(
                "sentence-transformers can't embed texts with this teacher",
                got=f"{type(error).__name__}, {' '.join(str(error).split())[:_LONGEST_REASON]}",
                remedy="choose --pooling mean, first, last or pooler, or repair its modules.json",
            ) from None
        return np.ascontiguousarray(found, dtype=np.float32)

    @torch.inference_mode()
    def embed_sequences(
        self, model: Any, sequences: TokenSequences, *, batch_size: int, progress: bool
    ) -> np.ndarray:
        """Push token sequences through all modules.

        Parameters
        ----------
        model : transformers.PreTrainedModel
            With the vocabulary that the ids belong to; takes the place of the library's.
        sequences : TokenSequences
        batch_size : int
        progress : bool

        Returns
        -------
        float32 ndarray of shape (V, H)

        Raises
        ------
        TeacherError
            If the modules can't work on tokens.
        """
        if by_id := [type(module).__name__ for module in self._model if type(module).__name__ in _READ_IDS]:
            raise TeacherError(
                f"the teacher's module {by_id[0]} reads token ids, which a vocabulary of its own changes",
                remedy="choose --pooling mean, first, last or pooler",
            )
        transformer = self._model[0]
        # Its name before sentence-transformers 5.4 and since.
        place = "model" if "model" in transformer._modules else "auto_model"
        own = getattr(transformer, place)
        setattr(transformer, place, model)
        if transformer.auto_model is not model:  # else the ids would mean other tokens
            raise SetupError(
                "this sentence-transformers keeps its model elsewhere",
                expected="5.0 or later",
                remedy="pip install --upgrade sentence-transformers",
            )
        order = np.argsort([len(ids) for ids in sequences.ids])
        found: list[np.ndarray] = []
        try:
            for start in tqdm(
                range(0, len(order), batch_size), desc="teacher", disable=None if progress else True
            ):
                batch = [torch.tensor(sequences.ids[row]) for row in order[start : start + batch_size]]
                ids = pad_sequence(batch, batch_first=True, padding_value=sequences.pad_token_id)
                mask = pad_sequence([torch.ones_like(row) for row in batch], batch_first=True)
                features: dict[str, Any] = {
                    "input_ids": ids.to(model.device),
                    "attention_mask": mask.to(model.device),
                }
                if left_out := sequences.counted[0][0]:
                    features["prompt_length"] = left_out
                found.append(self._model(features)["sentence_embedding"].float().cpu().numpy())
        except Exception as error:  # as above
            raise TeacherError(
                "sentence-transformers can't embed single tokens of this teacher",
                got=f"{type(error).__name__}, {' '.join(str(error).split())[:_LONGEST_REASON]}",
                remedy="choose --pooling mean, first, last or pooler",
            ) from None
        finally:
            setattr(transformer, place, own)
        rows = np.concatenate(found).astype(np.float32)
        outputs = np.empty_like(rows)
        outputs[order] = rows
        return outputs
