"""A model as a pipeline's graph carries it: by name. Workers read it and share one copy per machine."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from lakevec.pipeline.encoding.encoder import Encoder, warm_up_texts
from lakevec.pipeline.encoding.node_files import NodeFiles, digests, open_encoder, table_files
from lakevec.pipeline.encoding.options import EncodeOptions
from lakevec.pipeline.errors import ModelError
from lakevec.pipeline.model.artifact import load

_opening = threading.Lock()


@dataclass(frozen=True)
class WorkerModel:
    """A model that only workers can read, such as a folder in their container image.

    Parameters
    ----------
    model : str
        A path or URI that `lakevec.load` accepts on a worker.
    fingerprint : str
        The model's fingerprint, as ``lakevec inspect`` shows it. Workers refuse any other model.

    Examples
    --------
    >>> WorkerModel("/models/minilm", "sha256:5f2c...")
    WorkerModel(model='/models/minilm', fingerprint='sha256:5f2c...')
    """

    model: str
    fingerprint: str


@dataclass(frozen=True)
class SharedModel:
    """A model's name, its fingerprint, the digests of a machine's copy, if known, and the columns to use."""

    model: str
    fingerprint: str
    sha256: tuple[tuple[str, str], ...] | None = None
    dimensions: int | None = None

    def __reduce__(self) -> tuple[Callable[..., SharedModel], tuple[object, ...]]:
        """Pickle by the values, as jsonpickle needs it for a frozen class."""
        sha256 = dict(self.sha256) if self.sha256 else None
        return _restore, (self.model, self.fingerprint, sha256, self.dimensions)

    @classmethod
    def of(cls, model: str | WorkerModel, dimensions: int | None = None) -> SharedModel:
        """Read and check a model now, unless only workers can; use only its first columns."""
        EncodeOptions(dimensions=dimensions)  # refuses a wrong number before the pipeline runs
        if isinstance(model, WorkerModel):
            return cls(model.model, model.fingerprint, dimensions=dimensions)
        # Workers may run in another folder.
        name = model if "://" in model else str(Path(model).absolute())
        table = load(name).table
        sha256 = digests(table_files(table.cut(dimensions)))
        return cls(name, table.fingerprint, tuple(sha256.items()), dimensions)

    def open(self, max_tokens: int | None) -> Encoder:
        """Return this process's encoder, which all its threads share; write the machine's copy if needed."""
        with _opening:
            return _open(self, max_tokens)

    def _read(self) -> dict[str, bytes]:
        table = load(self.model).table
        if table.fingerprint != self.fingerprint:
            raise ModelError(
                f"model {self.model!r} is another one than the pipeline was built with",
                got=table.fingerprint,
                expected=self.fingerprint,
                remedy="publish a model under a new name, and build the pipeline again",
            )
        return table_files(table.cut(self.dimensions))


def prepare(model: str) -> None:
    """Write this machine's copy of a model's table, and compile the kernels.

    Workers do both at their first batch. In the build of a container image, it saves them the time, and all
    containers of a machine map the image's copy.

    Parameters
    ----------
    model : str
        A path, URI or id that `lakevec.load` accepts.

    Examples
    --------
    >>> prepare("/models/minilm")  # doctest: +SKIP
    """
    SharedModel.of(model).open(None).encode(warm_up_texts())


def _restore(
    model: str, fingerprint: str, sha256: dict[str, str] | None, dimensions: int | None = None
) -> SharedModel:
    return SharedModel(model, fingerprint, tuple(sha256.items()) if sha256 else None, dimensions)


@lru_cache(maxsize=4)  # a pipeline uses one model; some compare several
def _open(shared: SharedModel, max_tokens: int | None) -> Encoder:
    fetch = shared._read
    sha256 = dict(shared.sha256 or ())
    if not sha256:
        files = shared._read()
        sha256, fetch = digests(files), lambda: files
    # Machine code isn't shipped: it would be a part of the graph, and runners limit its size.
    name = shared.fingerprint if shared.dimensions is None else f"{shared.fingerprint}-{shared.dimensions}"
    copy = NodeFiles(name, sha256, {}, None, fetch)
    return open_encoder(copy.provide(), EncodeOptions(max_tokens))
