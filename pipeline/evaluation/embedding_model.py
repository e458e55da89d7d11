"""What is evaluated: anything that turns texts into vectors, behind one small protocol."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from lakevec.pipeline.encoding.encoder import Encoder, warm_up
from lakevec.pipeline.errors import OutputError
from lakevec.pipeline.model.table import StaticTable


class EmbeddingModel(Protocol):
    """Anything that turns texts into vectors."""

    @property
    def name(self) -> str:
        """What the report calls it."""

    @property
    def fingerprint(self) -> str:
        """A string that is another one wherever a vector is another one."""

    @property
    def dimensions(self) -> int:
        """Output width, D."""

    @property
    def parameters(self) -> int:
        """How many numbers the model holds."""

    @property
    def size_bytes(self) -> int:
        """What these numbers take on disk."""

    def prepare(self) -> None:
        """Do what is done once, before the first text."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Turn texts into vectors, float32 ndarray of shape (N, D)."""


class StaticEmbeddingModel:
    """An embedding table as a model to evaluate.

    Parameters
    ----------
    name : str
    table : StaticTable
    """

    def __init__(self, name: str, table: StaticTable) -> None:
        self.name = name
        self.fingerprint = table.fingerprint
        self.dimensions = table.dimensions
        tensors = table.tensors().values()
        self.parameters = sum(tensor.size for tensor in tensors)
        self.size_bytes = sum(tensor.nbytes for tensor in tensors)
        self._table = table
        self._encoder = Encoder(table)

    def prepare(self) -> None:
        """Compile what the texts may need, and forget those that were seen."""
        warm_up(self._table)
        self._encoder = Encoder(self._table)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Turn texts into vectors.

        Parameters
        ----------
        texts : sequence of str of length N

        Returns
        -------
        float32 ndarray of shape (N, D)
            Zeros for a text without a known token.
        """
        return self._encoder.encode(pa.array(texts, pa.large_string())).vectors


def encode_distinct(model: EmbeddingModel, texts: Sequence[str], cache: VectorCache | None) -> np.ndarray:
    """Turn texts into vectors, every distinct text once.

    Parameters
    ----------
    model : EmbeddingModel
    texts : sequence of str of length N
    cache : VectorCache or None
        Where vectors of earlier runs lie.

    Returns
    -------
    float32 ndarray of shape (N, D)
    """
    places: dict[str, int] = {}
    rows = np.array([places.setdefault(text, len(places)) for text in texts])
    distinct = list(places)
    vectors = cache.encode(model, distinct) if cache is not None else model.encode(distinct)
    found: np.ndarray = np.asarray(vectors, dtype=np.float32)[rows]
    return found


class VectorCache:
    """Vectors that are dear to compute, kept in a local folder from run to run.

    Parameters
    ----------
    folder : Path
        Made where it is not there.

    Raises
    ------
    OutputError
        If it can't be made.

    Notes
    -----
    One ``.npy`` file for each model and list of texts, named by a hash of both; the texts themselves are
    not kept. A file that is damaged or of another shape is computed again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"cache {str(folder)!r} can't be made",
                got=str(error.strerror),
                remedy="choose another --cache",
            ) from None

    def encode(self, model: EmbeddingModel, texts: Sequence[str]) -> np.ndarray:
        """Turn texts into vectors, or find those of an earlier run.

        Parameters
        ----------
        model : EmbeddingModel
        texts : sequence of str of length N

        Returns
        -------
        float32 ndarray of shape (N, D)
        """
        file = self._folder / f"{_digest(model.fingerprint, texts)}.npy"
        kept = _read_array(file)
        if kept is not None and kept.shape == (len(texts), model.dimensions) and kept.dtype == np.float32:
            return kept
        vectors = np.asarray(model.encode(texts), dtype=np.float32)
        beside = file.with_name(f".{uuid.uuid4().hex}.npy")
        np.save(beside, vectors, allow_pickle=False)
        beside.replace(file)
        return vectors


def _digest(fingerprint: str, texts: Sequence[str]) -> str:
    digest = hashlib.sha256(fingerprint.encode())
    for text in texts:
        content = text.encode()
        # The length before each text: no two lists are the same bytes.
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest()


def _read_array(file: Path) -> np.ndarray | None:
    try:
        array: np.ndarray = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return array
