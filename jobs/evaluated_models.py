"""From names on the command line to models that can be evaluated: tables and teachers.

Teachers bring torch, which is imported only where one of them is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lakevec.pipeline.distillation.options import TeacherOptions
from lakevec.pipeline.errors import ModelError, requires_extra
from lakevec.pipeline.evaluation.embedding_model import EmbeddingModel, StaticEmbeddingModel
from lakevec.pipeline.model import hub
from lakevec.pipeline.model.artifact import MANIFEST_NAME, load
from lakevec.pipeline.redaction import redact

if TYPE_CHECKING:
    from lakevec.pipeline.distillation.sentence_encoder import SentenceEncoder

_BYTES_PER_PARAMETER = 4


class SentenceTransformerModel:
    """A Sentence Transformer as a model to evaluate.

    Parameters
    ----------
    name : str
    encoder : SentenceEncoder
    fingerprint : str
    """

    def __init__(self, name: str, encoder: SentenceEncoder, fingerprint: str) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self.dimensions = encoder.width
        self.parameters = encoder.parameters
        self.size_bytes = _BYTES_PER_PARAMETER * encoder.parameters
        self._encoder = encoder

    def prepare(self) -> None:
        """Run a text, since a first one takes longer."""
        self._encoder.encode(["one"])

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Turn texts into vectors.

        Parameters
        ----------
        texts : sequence of str of length N

        Returns
        -------
        float32 ndarray of shape (N, H)
        """
        return self._encoder.encode(texts, progress=True)


def name_models(uris: Sequence[str]) -> list[str]:
    """Choose short names: the last parts of paths, as many as tell them apart.

    Parameters
    ----------
    uris : sequence of str

    Returns
    -------
    list of str

    Examples
    --------
    >>> name_models(["models/minilm", "old/models/minilm", "glove.txt"])
    ['models/minilm', 'old/models/minilm', 'glove.txt']
    """
    split = [redact(uri).rstrip("/").split("/") for uri in uris]
    for length in range(1, max(map(len, split), default=0) + 1):
        names = ["/".join(parts[-length:]) for parts in split]
        clashing = {name for name in names if names.count(name) > 1}
        if not clashing:
            break
    return names if split else []


def open_model(uri: str, name: str, *, device: str = "auto") -> EmbeddingModel:
    """Open whatever a name names.

    Parameters
    ----------
    uri : str
        A model that `lakevec.pipeline.model.artifact.load` reads, or a Sentence Transformer.
    name : str
        What the report shall call it.
    device : str, default="auto"
        torch device of a Sentence Transformer.

    Returns
    -------
    EmbeddingModel

    Raises
    ------
    ModelError
        If it is neither.
    """
    folder = Path(uri).expanduser()
    if folder.is_dir() and _is_teacher(folder):
        return open_teacher(uri, name, device=device)
    try:
        return StaticEmbeddingModel(name, load(uri).table)
    except ModelError:
        if not hub.is_hub_name(uri):
            raise
    return open_teacher(uri, name, device=device)


def open_teacher(teacher: str, name: str, *, device: str = "auto") -> SentenceTransformerModel:
    """Load a Sentence Transformer.

    Parameters
    ----------
    teacher : str
        Folder or hub id.
    name : str
        What the report shall call it.
    device : str, default="auto"

    Returns
    -------
    SentenceTransformerModel

    Raises
    ------
    SetupError
        If torch or another package of the extra ``distill`` is missing.
    TeacherError
        If it can't be loaded.
    """
    with requires_extra("distill", "to evaluate a Sentence Transformer"):
        from lakevec.pipeline.distillation.sentence_encoder import SentenceEncoder
    encoder = SentenceEncoder(teacher, TeacherOptions(device=device))
    return SentenceTransformerModel(name, encoder, encoder.fingerprint)


def _is_teacher(folder: Path) -> bool:
    """Tell a transformer from a table: by its modules, or by what kind of model its configuration names."""
    if (folder / MANIFEST_NAME).exists():
        return False
    try:
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        return any(str(module["type"]).endswith(".Transformer") for module in modules)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError):
        return False
    return kind not in (None, "model2vec")
