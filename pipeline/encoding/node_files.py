"""Share one copy of a table among all workers of a node.

Each Python worker would unpickle a plain broadcast into its own memory. Here the first worker of a node
writes the shipped bytes to a folder named by the model's fingerprint. All workers map that file, so the
operating system keeps one copy of its pages. Machine code is shipped, too, so that workers need not compile.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lakevec.pipeline.encoding.bigram_table import BigramTable
from lakevec.pipeline.encoding.encoder import Encoder, TableRows
from lakevec.pipeline.encoding.kernels.compilation import keep_machine_code, lacks_machine_code, machine_code
from lakevec.pipeline.encoding.options import EncodeOptions
from lakevec.pipeline.errors import DataError
from lakevec.pipeline.local_files import file_sha256, private_folder, provide_folder
from lakevec.pipeline.model.bigrams import Bigrams
from lakevec.pipeline.model.table import StaticTable

Fetch = Callable[[], dict[str, bytes]]
_TABLE_FILE = "embeddings.npy"
_SETTINGS_FILE = "table.json"
_BIGRAM_FILES = {name: f"bigram_{name}.npy" for name in ("pairs", "embeddings", "scales")}


@dataclass(frozen=True)
class NodeFiles:
    """Files for every node: their names and checksums, small enough for every task to carry.

    Two are equal if their fingerprints are.

    Parameters
    ----------
    fingerprint : str
        ``sha256:`` and 64 digits. It names the node's copy.
    sha256 : dict of str to str
        Name and hexadecimal sha256 of each file of the node's copy.
    machine_code : dict of str to str
        The same for Numba's cache files of the encoder's loops, which go to its cache folders.
    node_dir : str or None
        Parent folder of copies; see `lakevec.pipeline.local_files.private_folder`.
    fetch : callable
        Returns the bytes of all files; only the first workers of a node call it.
    """

    fingerprint: str
    sha256: dict[str, str] = field(compare=False)
    machine_code: dict[str, str] = field(compare=False)
    node_dir: str | None = field(compare=False)
    fetch: Fetch = field(compare=False)

    def provide(self) -> Path:
        """Return the folder of the node's copy; write missing or damaged files first."""
        folder = private_folder(self.node_dir) / self.fingerprint.removeprefix("sha256:")
        fetch = cache(self._fetch_intact)
        if lacks_machine_code(self.machine_code):
            keep_machine_code({name: fetch()[name] for name in self.machine_code})

        def write(staged: Path) -> None:
            for name in self.sha256:
                (staged / name).write_bytes(fetch()[name])

        def is_intact() -> bool:
            try:
                return all(file_sha256(folder / name) == digest for name, digest in self.sha256.items())
            except FileNotFoundError:
                return False

        return provide_folder(folder, write, is_intact)

    def _fetch_intact(self) -> dict[str, bytes]:
        files = self.fetch()
        if digests(files) != {**self.sha256, **self.machine_code}:
            raise DataError(
                f"model {self.fingerprint} was damaged on its way to the node", remedy="run again"
            )
        return files


def pack_table(table: StaticTable, *, node_dir: str | None = None) -> NodeFiles:
    """Pack a table for `open_encoder`, with the machine code compiled on this machine."""
    return pack_files(table.fingerprint, table_files(table), node_dir)


def table_files(table: StaticTable) -> dict[str, bytes]:
    """Return name and content of each file of a table's copy."""
    settings: dict[str, Any] = {
        "tokenizer_json": table.tokenizer_json,
        "normalize": table.normalize,
        "unknown_token_id": table.unknown_token_id,
    }
    # Plain tables keep the file of earlier versions, which may run on the same node.
    if table.position_scale is not None:
        settings["position_scale"] = table.position_scale
    files = {_TABLE_FILE: _to_npy(table.token_rows())}
    if table.bigrams is not None:
        # In the order of the hash table, so that workers map the rows and copy nothing.
        arranged = BigramTable(table.bigrams, table.rows).bigrams
        settings["bigrams"] = True
        files |= {file: _to_npy(getattr(arranged, name)) for name, file in _BIGRAM_FILES.items()}
    return files | {_SETTINGS_FILE: json.dumps(settings).encode()}


def _to_npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def open_encoder(folder: Path, options: EncodeOptions) -> Encoder:
    """Open an encoder on a node's copy; map the table read-only."""
    settings = json.loads((folder / _SETTINGS_FILE).read_text(encoding="utf-8"))
    bigrams = None
    if settings.pop("bigrams", False):
        bigrams = Bigrams(**{name: _map(folder / file) for name, file in _BIGRAM_FILES.items()})
    return Encoder(TableRows(_map(folder / _TABLE_FILE), **settings, bigrams=bigrams), options)


def _map(file: Path) -> np.ndarray:
    return np.asarray(np.load(file, mmap_mode="r", allow_pickle=False))


def pack_files(fingerprint: str, files: dict[str, bytes], node_dir: str | None) -> NodeFiles:
    """Pack files by name, with the machine code compiled on this machine."""
    code = machine_code()
    return NodeFiles(fingerprint, digests(files), digests(code), node_dir, lambda: files | code)


def digests(files: dict[str, bytes]) -> dict[str, str]:
    """Return name and hexadecimal sha256 of each file."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
