"""Models to evaluate: tables and Sentence Transformers behind one interface."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa

from lakevec.pipeline.encoding.encoder import Encoder, warm_up
from lakevec.pipeline.encoding.stored_vectors import VectorType, read_back
from lakevec.pipeline.errors import DataError, ModelError, describe_failure, rephrase, requires_extra
from lakevec.pipeline.local_files import replace_file, texts_sha256
from lakevec.pipeline.model import hub
from lakevec.pipeline.model.artifact import MANIFEST_NAME, load
from lakevec.pipeline.model.sentence_transformer_files import read_json_object, read_modules
from lakevec.pipeline.model.table import StaticTable
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.storage import Location, locate

if TYPE_CHECKING:
    from lakevec.pipeline.distillation.sentence_encoder import SentenceEncoder

_BYTES_PER_PARAMETER = 4


class EmbeddingModel(Protocol):
    """Anything that turns texts into vectors.

    Attributes
    ----------
    name, source : str
        Name in the report, and that of the model it was made from, which differs for a variant.
    fingerprint : str
        Differs between models if any of their vectors differ.
    dimensions, parameters, size_bytes : int
        Output width D; count of the model's numbers; their size on disk.
    vector_type : VectorType
        As what its vectors are stored and read back before they are compared.
    query_model : EmbeddingModel or None
        For binary vectors, the same model without rounding, for queries.
    """

    name: str
    source: str
    fingerprint: str
    dimensions: int
    parameters: int
    size_bytes: int
    vector_type: VectorType
    query_model: EmbeddingModel | None

    def prepare(self) -> None:
        """Do all one-time work before the first text."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Embed N texts: float32 of shape (N, D)."""


class StaticEmbeddingModel:
    """An embedding table to evaluate. A text without a known token gets zeros."""

    def __init__(self, name: str, table: StaticTable, vector_type: VectorType = VectorType.FLOAT32) -> None:
        tensors = [*table.tensors().values()]
        if table.bigrams is not None:
            tensors += table.bigrams.tensors().values()
        self.name = self.source = name
        self.fingerprint = table.fingerprint
        self.dimensions = table.dimensions
        self.parameters = sum(tensor.size for tensor in tensors)
        self.size_bytes = sum(tensor.nbytes for tensor in tensors)
        self.vector_type = vector_type
        is_binary = vector_type is VectorType.BINARY
        self.query_model: EmbeddingModel | None = StaticEmbeddingModel(name, table) if is_binary else None
        self._table = table
        self._encoder = Encoder(table)

    def make_variant(self, dimensions: int | None, vector_type: str | None) -> StaticEmbeddingModel:
        """Return the model of the first columns, with vectors of another type; its name says both."""
        parts = [self.name, *map(str, filter(None, (dimensions, vector_type)))]
        kind = VectorType(vector_type or self.vector_type)
        variant = StaticEmbeddingModel(" ".join(parts), self._table.cut(dimensions), kind)
        variant.source = self.source
        return variant

    def prepare(self) -> None:
        """Compile the kernels, and empty the token cache."""
        warm_up(self._table)
        self._encoder = Encoder(self._table)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Embed N texts: float32 of shape (N, D)."""
        vectors = self._encoder.encode(pa.array(texts, pa.large_string())).vectors
        return read_back(vectors, self.vector_type)


class SentenceTransformerModel:
    """A Sentence Transformer to evaluate."""

    def __init__(self, name: str, encoder: SentenceEncoder) -> None:
        self.name = self.source = name
        self.fingerprint = encoder.fingerprint
        self.dimensions = encoder.width
        self.parameters = encoder.parameters
        self.size_bytes = _BYTES_PER_PARAMETER * encoder.parameters
        self.vector_type = VectorType.FLOAT32
        self.query_model: EmbeddingModel | None = None
        self._encoder = encoder

    def prepare(self) -> None:
        """Embed one text, since the first takes longer."""
        self._encoder.encode(["one"])

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Embed N texts: float32 of shape (N, H)."""
        return self._encoder.encode(texts, progress=True)


def encode_distinct(model: EmbeddingModel, texts: Sequence[str], cache: Path | None = None) -> np.ndarray:
    """Embed N texts, each distinct text once: float32 of shape (N, D).

    Parameters
    ----------
    model : EmbeddingModel
    texts : sequence of str of length N
    cache : pathlib.Path or None
        Local folder that keeps vectors for later runs. Tables don't use it: they embed faster than a disk
        reads.

    Raises
    ------
    DataError
        If the model returns vectors that are not finite.
    """
    places: dict[str, int] = {}
    rows = [places.setdefault(text, len(places)) for text in texts]
    distinct = list(places)
    if cache is None or isinstance(model, StaticEmbeddingModel):
        vectors = model.encode(distinct)
    else:
        vectors = _encode_cached(model, distinct, cache)
    if not np.isfinite(vectors).all():
        raise DataError(f"model {model.name!r} returned vectors that are NaN or infinite")
    found: np.ndarray = np.asarray(vectors, dtype=np.float32)[rows]
    return found


def _encode_cached(model: EmbeddingModel, texts: list[str], cache: Path) -> np.ndarray:
    """Embed texts, or read their vectors from a file named by model and texts; replace a damaged file."""
    file = cache / f"{texts_sha256([model.fingerprint, *texts])}.npy"
    with suppress(OSError, ValueError, EOFError):
        kept: np.ndarray = np.load(file, allow_pickle=False)
        if kept.shape == (len(texts), model.dimensions) and kept.dtype == np.float32:
            return kept
    vectors = np.asarray(model.encode(texts), dtype=np.float32)
    content = io.BytesIO()
    np.save(content, vectors, allow_pickle=False)
    replace_file(file, content.getvalue())
    return vectors


def name_models(uris: Sequence[str]) -> list[str]:
    """Shorten the models' paths to as few last parts as make all names different.

    Examples
    --------
    >>> name_models(["models/minilm", "old/models/minilm", "glove.txt"])
    ['models/minilm', 'old/models/minilm', 'glove.txt']
    """
    split = [redact(uri).rstrip("/").split("/") for uri in uris]
    for length in range(1, max(map(len, split), default=0) + 1):
        names = ["/".join(parts[-length:]) for parts in split]
        if len(set(names)) == len(names):
            break
    return names if split else []


def open_model(uri: str, name: str, *, device: str = "auto") -> EmbeddingModel:
    """Open a table of any known format, or a Sentence Transformer.

    Parameters
    ----------
    uri : str
        Folder, URI or hub name.
    name : str
        Name in the report.
    device : str, default="auto"
        torch device of a Sentence Transformer.

    Raises
    ------
    ModelError
        If it is neither.
    """
    folder = Path(uri).expanduser()
    with rephrase(ModelError, f"model {uri!r} can't be read", on=OSError, describe=describe_failure):
        is_teacher = folder.is_dir() and _is_sentence_transformer(locate(str(folder), error=ModelError))
    if is_teacher:
        return open_teacher(uri, name, device=device)
    try:
        return StaticEmbeddingModel(name, load(uri).table)
    except ModelError:
        if not hub.is_hub_name(uri):
            raise
    return open_teacher(uri, name, device=device)


def make_variants(
    models: Sequence[EmbeddingModel], dimensions: Sequence[int], vector_types: Sequence[str]
) -> list[EmbeddingModel]:
    """Return each table with each number of columns and each type of vectors; other models stay as they are.

    Parameters
    ----------
    models : sequence of EmbeddingModel
    dimensions : sequence of int
        Empty for all columns. A table leaves out numbers above its width; if none is left, it keeps all.
    vector_types : sequence of str
        Empty for float32.

    Raises
    ------
    SettingsError
        If the widest table has fewer columns.
    """
    tables = [model for model in models if isinstance(model, StaticEmbeddingModel)]
    widest = max(tables, key=lambda table: table.dimensions, default=None)
    kinds: list[str | None] = [*dict.fromkeys(vector_types)] or [None]
    found: list[EmbeddingModel] = []
    for model in models:
        if not isinstance(model, StaticEmbeddingModel):
            found.append(model)
            continue
        # The widest table takes all numbers, so it refuses one that no table has.
        fits = [width for width in dict.fromkeys(dimensions) if model is widest or width <= model.dimensions]
        widths: list[int | None] = [*fits] or [None]
        found += [model.make_variant(width, kind) for width in widths for kind in kinds]
    return found


def open_teacher(teacher: str, name: str, *, device: str = "auto") -> SentenceTransformerModel:
    """Load a Sentence Transformer, a folder or a hub name; this imports torch."""
    with requires_extra("distill", "to evaluate a Sentence Transformer"):
        from lakevec.pipeline.distillation.options import TeacherOptions
        from lakevec.pipeline.distillation.sentence_encoder import SentenceEncoder
    return SentenceTransformerModel(name, SentenceEncoder(teacher, TeacherOptions(device=device)))


def name_teacher(uri: str) -> str:
    """Return the name of a hub id or folder; of a folder called ``model``, the name of its parent."""
    path = Path(uri).expanduser()
    if not path.is_dir():
        return redact(uri)
    resolved = path.resolve()
    return resolved.parent.name if resolved.name == "model" else resolved.name


def _is_sentence_transformer(folder: Location) -> bool:
    """Tell a transformer from a table by its modules, else by the model type in its configuration."""
    if (folder / MANIFEST_NAME).exists():
        return False
    with suppress(ModelError):
        if (modules := read_modules(folder, error=ModelError)) is not None:
            return any(module.kind == "Transformer" for module in modules)
    with suppress(ModelError):
        config = read_json_object(folder / "config.json", error=ModelError)
        return config.get("model_type") not in (None, "model2vec")
    return False
