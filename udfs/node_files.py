"""One copy of a table per node: shipped once, laid down as a file, mapped by every worker.

A plain broadcast is unpickled by every Python worker into memory of its own. Here the broadcast only carries
bytes to a node; the first worker there writes them to a folder named by the model's fingerprint, and all
workers map that file, so that the kernel keeps one copy of its pages for all of them. The machine code of the
encoder's loops travels with the table, so that workers need not compile.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lakevec.pipeline.corpus.text_counter import TextCounter
from lakevec.pipeline.encoding.encoder import Encoder, Store
from lakevec.pipeline.encoding.kernels.compilation import keep_machine_code, lacks_machine_code, machine_code
from lakevec.pipeline.errors import DataError
from lakevec.pipeline.local_files import file_sha256, install_folder, mark_used, private_folder, remove_unused
from lakevec.pipeline.model.table import StaticTable

_TABLE_FILE = "embeddings.npy"
_SETTINGS_FILE = "table.json"


@dataclass(frozen=True)
class NodeFiles:
    """A table's name and check sums: all that a task carries.

    Parameters
    ----------
    fingerprint : str
        The model's fingerprint.
    sha256 : dict of str to str
        Name and hexadecimal sha256 of each file of the node's copy.
    machine_code : dict of str to str
        The same of each file of machine code, which lies where numba looks for it.
    node_dir : str or None
        Folder for copies on every node; None takes the first there is of YARN's ``LOCAL_DIRS`` and the
        system's folder for temporary files.
    """

    fingerprint: str
    sha256: dict[str, str]
    machine_code: dict[str, str]
    node_dir: str | None = None

    def open(
        self,
        fetch: Callable[[], dict[str, bytes]],
        *,
        max_tokens: int | None = None,
        store: Store = "mean",
    ) -> Encoder:
        """Return an encoder on the node's copy, laying the copy down first where there is none.

        Parameters
        ----------
        fetch : callable
            Returns the files' bytes; called only by the first workers of a node.
        max_tokens : int, optional
        store : {"mean", "sum"}, default="mean"
            Both are passed to the encoder.

        Returns
        -------
        Encoder
            Its table is a read-only mapping of the file.

        Raises
        ------
        DataError
            If the shipped bytes are not the model's.
        """
        folder = self._provide(fetch)
        settings = json.loads((folder / _SETTINGS_FILE).read_text(encoding="utf-8"))
        table = np.load(folder / _TABLE_FILE, mmap_mode="r", allow_pickle=False)
        return Encoder(
            np.asarray(table),
            settings["tokenizer_json"],
            normalize=settings["normalize"],
            unknown_token_id=settings["unknown_token_id"],
            max_tokens=max_tokens,
            store=store,
        )

    def open_counter(self, fetch: Callable[[], dict[str, bytes]], *, longest_phrase: int = 1) -> TextCounter:
        """Return a counter by the node's copy of a tokenizer, as `pack_tokenizer` made it.

        Parameters
        ----------
        fetch : callable
            As for `open`.
        longest_phrase : int, default=1
            Passed to the counter.

        Returns
        -------
        TextCounter

        Raises
        ------
        DataError
            If the shipped bytes are not the driver's.
        """
        settings = json.loads((self._provide(fetch) / _SETTINGS_FILE).read_text(encoding="utf-8"))
        return TextCounter(
            settings["tokenizer_json"], settings["unknown_token_id"], longest_phrase=longest_phrase
        )

    def _provide(self, fetch: Callable[[], dict[str, bytes]]) -> Path:
        """Return the folder of the node's copy, which is there then, as is the machine code."""
        folder = self._folder()
        is_intact = self._is_intact(folder)
        if not is_intact or lacks_machine_code(self.machine_code):
            files = fetch()
            self._check(files)
            keep_machine_code({name: files[name] for name in self.machine_code})
            if not is_intact:
                install_folder(
                    folder, lambda staged: self._write(staged, files), lambda: self._is_intact(folder)
                )
                remove_unused(folder.parent)
        mark_used(folder)
        return folder

    def _folder(self) -> Path:
        """Name the copy's folder."""
        return private_folder(self.node_dir) / self.fingerprint.removeprefix("sha256:")

    def _is_intact(self, folder: Path) -> bool:
        """Check the copy's sums; a cut-off or damaged copy counts as none."""
        try:
            return all(file_sha256(folder / name) == digest for name, digest in self.sha256.items())
        except FileNotFoundError:
            return False

    def _check(self, files: dict[str, bytes]) -> None:
        if _digests(files) != {**self.sha256, **self.machine_code}:
            raise DataError(
                f"model {self.fingerprint} was damaged on its way to the node", remedy="run again"
            )

    def _write(self, folder: Path, files: dict[str, bytes]) -> None:
        for name in self.sha256:
            (folder / name).write_bytes(files[name])


def pack_table(table: StaticTable, *, node_dir: str | None = None) -> tuple[NodeFiles, dict[str, bytes]]:
    """Prepare a table for shipping, with what was compiled on this machine.

    Parameters
    ----------
    table : StaticTable
    node_dir : str, optional
        See `NodeFiles`.

    Returns
    -------
    NodeFiles
        What tasks carry.
    dict of str to bytes
        The files to ship once.
    """
    buffer = io.BytesIO()
    np.save(buffer, table.dense_rows(), allow_pickle=False)
    settings = {
        "tokenizer_json": table.tokenizer_json,
        "normalize": table.normalize,
        "unknown_token_id": table.unknown_token_id,
    }
    files = {_TABLE_FILE: buffer.getvalue(), _SETTINGS_FILE: json.dumps(settings).encode()}
    compiled = machine_code()
    node_table = NodeFiles(table.fingerprint, _digests(files), _digests(compiled), node_dir)
    return node_table, {**files, **compiled}


def pack_tokenizer(
    tokenizer_json: str, unknown_token_id: int | None, *, node_dir: str | None = None
) -> tuple[NodeFiles, dict[str, bytes]]:
    """Prepare a tokenizer without a table for shipping, with what was compiled on this machine.

    Parameters
    ----------
    tokenizer_json : str
    unknown_token_id : int or None
    node_dir : str, optional
        See `NodeFiles`.

    Returns
    -------
    NodeFiles
        What tasks carry, for `NodeFiles.open_counter`.
    dict of str to bytes
        The files to ship once.
    """
    settings = {"tokenizer_json": tokenizer_json, "unknown_token_id": unknown_token_id}
    files = {_SETTINGS_FILE: json.dumps(settings).encode()}
    compiled = machine_code()
    digests = _digests(files)
    fingerprint = f"sha256:{digests[_SETTINGS_FILE]}"
    return NodeFiles(fingerprint, digests, _digests(compiled), node_dir), {**files, **compiled}


def _digests(files: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
