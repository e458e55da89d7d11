"""Load a model: a published one with every hash checked, or one of another library.

``docs/artifact.md`` specifies the folder. Nothing in it is ever unpickled or executed.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
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
from lakevec.pipeline.model.safe_files import read_document, read_regular
from lakevec.pipeline.model.table import StaticTable, check_dimensions
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.storage import Location

if TYPE_CHECKING:
    from lakevec.pipeline.encoding.encoder import Encoder
    from lakevec.pipeline.encoding.options import EncodeOptions

MANIFEST_NAME = "lakevec.json"
FORMAT_NAME = "lakevec-model"
BIGRAMS_NAME = "bigrams.safetensors"
_MAJOR_VERSION = "1"
_TABLE_FILES = ("model.safetensors", "tokenizer.json")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_REMEDY = "restore the folder from where it was published"


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


def format_version(table: StaticTable) -> str:
    """Return the lowest version of the format that can hold a table, so that earlier readers can read it."""
    return f"{_MAJOR_VERSION}.{1 if table.position_scale is None and table.bigrams is None else 2}"


def _load_place(place: Location, name: str, *, links_within: Path | None) -> Artifact:
    """Read a published folder, or a folder or file of another library."""
    if (place / MANIFEST_NAME).exists():
        return _load_published(place, name, links_within)
    foreign = read_foreign(place, name)
    return Artifact(foreign.table, redact(name), foreign.to_provenance())


def _load_published(folder: Location, name: str, links_within: Path | None) -> Artifact:
    """Read a published folder; its files may be links only into `links_within`."""
    manifest = _read_manifest(folder, f"model {name!r}")
    content = {
        file: _read_checked(folder / file, entry, links_within) for file, entry in manifest["files"].items()
    }
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
    if table.fingerprint != manifest["fingerprint"]:
        raise ModelError(
            f"model {name!r}: {MANIFEST_NAME} does not describe this table",
            got=table.fingerprint,
            expected=str(manifest["fingerprint"]),
            remedy=_REMEDY,
        )
    return Artifact(table, redact(name), manifest["provenance"], manifest["quality"], is_checked=True)


def _read_bigrams(content: bytes | None) -> Bigrams | None:
    if content is None:
        return None
    tensors = safetensors.numpy.load(content)
    return Bigrams(tensors["pairs"], tensors["embeddings"], tensors.get("weights"))


def _read_manifest(folder: Location, model: str) -> dict[str, Any]:
    """Read and check ``lakevec.json``."""
    with rephrase(ModelError, f"{model}: {MANIFEST_NAME} can't be read", on=(OSError, ValueError)):
        manifest = read_document(folder / MANIFEST_NAME)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT_NAME:
        raise ModelError(f"{model}: {MANIFEST_NAME}", expected=f'"format": "{FORMAT_NAME}"')
    if "format_version" not in manifest:
        raise ModelError(
            f"{model} is incomplete",
            got="a folder whose publishing is under way or was interrupted",
            remedy="wait for the publishing to end, or delete the folder and publish again",
        )
    version = str(manifest["format_version"])
    if version.split(".")[0] != _MAJOR_VERSION:
        raise ModelError(
            f"{model} has another format version",
            got=version,
            expected=f"{_MAJOR_VERSION}.x",
            remedy="use the version of lakevec that published it, or publish it again",
        )
    _check_manifest(manifest, f"{model}: {MANIFEST_NAME}")
    return manifest


def _check_manifest(manifest: dict[str, Any], where: str) -> None:
    """Check the types that readers rely on, and that every file name stays inside the folder."""
    manifest.setdefault("provenance", {})
    manifest.setdefault("quality", {})
    kinds = {"files": dict, "normalize": bool, "fingerprint": str, "provenance": dict, "quality": dict}
    _check_types(manifest, kinds, where)
    parts = dict.fromkeys(("teacher", "source", "recipe", "vocabulary", "hub"), dict)
    _check_types({key: {} for key in parts} | manifest["provenance"], parts, where)
    for name, entry in manifest["files"].items():
        if not _FILE_NAME.fullmatch(name):
            what = f"{where} lists a file outside the folder"
            raise ModelError(what, got=repr(name), expected="plain file names")
        if not isinstance(entry, dict) or not {"bytes", "sha256"} <= entry.keys():
            raise ModelError(f"{where}: {name}", expected="its bytes and sha256")
    if missing := [name for name in _TABLE_FILES if name not in manifest["files"]]:
        raise ModelError(f"{where} does not list {missing[0]}")


def _check_types(values: Mapping[str, Any], kinds: Mapping[str, type], where: str) -> None:
    for key, kind in kinds.items():
        if not isinstance(value := values.get(key), kind):
            raise ModelError(f"{where}: {key!r}", got=type(value).__name__, expected=kind.__name__)


def _read_checked(file: Location, entry: dict[str, Any], links_within: Path | None) -> bytes:
    """Read one file of the model and compare it with its entry."""
    is_link = file.is_local and Path(file.path).is_symlink()
    if is_link and not (links_within and Path(file.path).resolve().is_relative_to(links_within.resolve())):
        raise ModelError(f"{file.path} is a link", expected="a regular file", remedy=_REMEDY)
    damaged = partial(ModelError, f"{file.path} is damaged", remedy=_REMEDY)
    with rephrase(ModelError, f"{file.path} can't be read", on=OSError, remedy=_REMEDY):
        size = file.filesystem.get_file_info(file.path).size
        # Compare sizes first, so that an oversized file is not read into memory.
        if size is not None and size != entry["bytes"]:
            raise damaged(got=f"{size} bytes", expected=f"{entry['bytes']}")
        content = read_regular(file)
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise damaged(got="another sha256 than recorded")
    return content


def _to_arrow(texts: Sequence[str | None]) -> pa.Array:
    if isinstance(texts, str):
        raise DataError("texts", got="one string", expected="a list of texts", remedy="pass [text]")
    try:
        return pa.array(texts, type=pa.large_string(), from_pandas=True)
    except (pa.ArrowException, TypeError, UnicodeError) as error:
        # Name the error's type only, since its message may quote a text.
        raise DataError("texts", got=type(error).__name__, expected="valid UTF-8 strings or None") from None
