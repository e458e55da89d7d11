"""Load a model: a published one with every hash checked, or one of another library.

``docs/artifact.md`` specifies the folder. Nothing in it is ever unpickled or executed.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
import safetensors.numpy

from lakevec.pipeline.errors import DataError, ModelError, rephrase
from lakevec.pipeline.model import hub
from lakevec.pipeline.model.bigrams import Bigrams
from lakevec.pipeline.model.formats.detection import read_foreign
from lakevec.pipeline.model.published_folder import FolderFormat, check_types, read_listed
from lakevec.pipeline.model.table import StaticTable, check_dimensions
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.storage import Location

if TYPE_CHECKING:
    from lakevec.pipeline.encoding.encoder import Encoder
    from lakevec.pipeline.encoding.options import EncodeOptions

MANIFEST_NAME = "lakevec.json"
BIGRAMS_NAME = "bigrams.safetensors"
FORMAT = FolderFormat(
    "model", "table", "lakevec-model", 1, MANIFEST_NAME, ("model.safetensors", "tokenizer.json")
)


@dataclass(frozen=True, eq=False)
class Artifact:
    """A model that `load` has read.

    Parameters
    ----------
    table : StaticTable
        Rows, tokenizer and flags: everything that changes a vector.
    uri : str
        Where the model was read from, without credentials.
    provenance : dict
        Teacher, recipe and package versions, as recorded by `publish`.
    quality : dict
        Figures measured before publishing.
    is_checked : bool, default=False
        Whether every hash equals the published one.

    Examples
    --------
    >>> model = load("models/minilm")  # doctest: +SKIP
    >>> model.encode(["parse a date", None]).shape  # doctest: +SKIP
    (2, 256)
    """

    table: StaticTable
    uri: str
    provenance: dict[str, Any] = field(default_factory=dict)
    quality: dict[str, Any] = field(default_factory=dict)
    is_checked: bool = False

    def encode(
        self,
        texts: Sequence[str | None] | pa.Array | pa.ChunkedArray,
        *,
        max_tokens: int | None = None,
        dimensions: int | None = None,
    ) -> np.ndarray:
        """Embed texts.

        Parameters
        ----------
        texts : sequence of str or None, or pyarrow string array, of length N
        max_tokens : int, optional
            Embed only the first `max_tokens` known tokens of a text. Default: all.
        dimensions : int, optional
            Width D of the vectors, made of the table's first columns. Default: all columns.

        Returns
        -------
        float32 ndarray of shape (N, D)
            Zeros for a null and for a text without a known token.

        Raises
        ------
        DataError
            If a value is no text or no valid UTF-8.
        SettingsError
            If `max_tokens` or `dimensions` is below 1, or the table has fewer columns than `dimensions`.

        Notes
        -----
        The same text gives the same bits, whatever the other texts are. The encoder is made at the first call
        for each choice of options and kept with the artifact, but not pickled. Threads may share an artifact;
        see `lakevec.Encoder`.
        """
        if not isinstance(texts, pa.Array | pa.ChunkedArray):
            texts = _to_arrow(texts)
        return self._encoder(max_tokens, dimensions).encode(texts).vectors

    def _encoder(self, max_tokens: int | None, dimensions: int | None) -> Encoder:
        # Imported here, so that reading a model loads no kernels.
        from lakevec.pipeline.encoding.encoder import Encoder
        from lakevec.pipeline.encoding.options import EncodeOptions

        options = EncodeOptions(max_tokens, dimensions=check_dimensions(dimensions, self.table.dimensions))
        with _making_encoder:
            encoders = _encoders.setdefault(self, {})
            if options not in encoders:
                encoders[options] = Encoder(self.table, options)
            return encoders[options]


_encoders: WeakKeyDictionary[Artifact, dict[EncodeOptions, Encoder]] = WeakKeyDictionary()
_making_encoder = threading.Lock()


def load(model: str, *, revision: str | None = None) -> Artifact:
    r"""Load a model: a published one with every hash checked, or one of another library.

    Parameters
    ----------
    model : str
        Folder or URI of a published model, or of a model2vec, Sentence Transformers, GloVe, word2vec, BPEmb
        or WordLlama model; or ``hf://organisation/name`` for such a folder on the Hugging Face hub.
    revision : str, optional
        Branch, tag or commit of a hub model.

    Returns
    -------
    Artifact

    Raises
    ------
    ModelError
        If there is no model, its format is unknown, or a file differs from its recorded size, sha256 or
        fingerprint. The message names the file.
    SetupError
        If the model is on the hub and huggingface-hub is not installed.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "vectors.txt")
    ...     size = file.write_text("north 0 1\neast 1 0\n")
    ...     load(str(file)).encode(["North east", None])
    array([[0.5, 0.5],
           [0. , 0. ]], dtype=float32)
    """
    with rephrase(ModelError, f"model {model!r} can't be read", on=(OSError, pa.ArrowException)):
        found = hub.find("model", model, revision=revision, error=ModelError)
        artifact = _load_place(found.place, model, links_within=found.cache)
    if found.commit is None:
        return artifact
    commit = {"name": found.hub_name, "commit": found.commit}
    return replace(artifact, provenance={**artifact.provenance, "hub": commit})


def _load_place(place: Location, name: str, *, links_within: Path | None) -> Artifact:
    """Read a published folder, or a folder or file of another library."""
    if (place / MANIFEST_NAME).exists():
        return _load_published(place, name, links_within)
    foreign = read_foreign(place, name)
    return Artifact(foreign.table, redact(name), foreign.to_provenance())


def _load_published(folder: Location, name: str, links_within: Path | None) -> Artifact:
    """Read a published folder; its files may be links only into `links_within`."""
    manifest = FORMAT.read_manifest(folder, f"model {name!r}")
    _check_manifest(manifest, f"model {name!r}: {MANIFEST_NAME}")
    content = read_listed(folder, manifest, links_within)
    with rephrase(ModelError, f"model {name!r}: tensors or tokenizer can't be read"):
        tensors = safetensors.numpy.load(content["model.safetensors"])
        table = StaticTable(
            embeddings=tensors["embeddings"],
            tokenizer_json=content["tokenizer.json"].decode(),
            normalize=manifest["normalize"],
            weights=tensors.get("weights"),
            mapping=tensors.get("mapping"),
            pools_unknown=manifest.get("pools_unknown", False) is True,
            position_scale=manifest.get("position_scale"),
            bigrams=_read_bigrams(content.get(BIGRAMS_NAME)),
        )
    FORMAT.check_fingerprint(f"model {name!r}", table.fingerprint, manifest)
    return Artifact(table, redact(name), manifest["provenance"], manifest["quality"], is_checked=True)


def _read_bigrams(content: bytes | None) -> Bigrams | None:
    if content is None:
        return None
    tensors = safetensors.numpy.load(content)
    expected = {"pairs", "embeddings", "scales"}
    if set(tensors) != expected:
        got, wanted = (", ".join(sorted(names)) for names in (tensors, expected))
        raise ModelError("tensors of bigrams", got=got, expected=wanted, remedy="tune the model again")
    return Bigrams(**tensors)


def _check_manifest(manifest: dict[str, Any], where: str) -> None:
    """Check the types that readers of models rely on."""
    check_types(manifest, {"normalize": bool}, where)
    parts = dict.fromkeys(("teacher", "source", "recipe", "vocabulary", "hub"), dict)
    check_types({key: {} for key in parts} | manifest["provenance"], parts, where)


def _to_arrow(texts: Sequence[str | None]) -> pa.Array:
    if isinstance(texts, str):
        raise DataError("texts", got="one string", expected="a list of texts", remedy="pass [text]")
    try:
        return pa.array(texts, type=pa.large_string(), from_pandas=True)
    except (pa.ArrowException, TypeError, UnicodeError) as error:
        # Name the error's type only, since its message may quote a text.
        raise DataError("texts", got=type(error).__name__, expected="valid UTF-8 strings or None") from None
