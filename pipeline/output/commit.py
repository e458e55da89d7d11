"""From staging to output: check what the tasks wrote, then move it where readers look.

Layout of an output, in which Parquet readers skip every name that begins with ``_``::

    OUTPUT/part-00000-....parquet     rows
    OUTPUT/_SUCCESS                   written last
    OUTPUT/_lakevec/manifest.json     files of the run, written before the first of them is moved
    OUTPUT/_lakevec/run.json          settings, model, counts, timings
    OUTPUT/_lakevec/staging/RUN/      files of task attempts until they are moved
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import pyarrow.parquet as pq
from pyarrow import ArrowException
from pyarrow import fs as pafs

from pipeline.errors import CommitError, OutputError
from pipeline.location import Location, locate, without_credentials
from pipeline.output.manifest import FileEntry

OWN_FOLDER = "_lakevec"
_FOOTER_THREADS = 16


class OutputFolder:
    """The output of one run, from the first check to the last rename.

    Parameters
    ----------
    uri : str
        Folder or URI of the output.
    run_id : str
        Name of the run; its staging folder carries it.
    """

    def __init__(self, uri: str, run_id: str) -> None:
        self._uri = without_credentials(uri)
        self._location = locate(uri, error=OutputError)
        self._own = self._location / OWN_FOLDER
        self._staging = self._own / "staging" / run_id
        self._moved: list[Location] = []
        self._made: list[Location] = []
        self._written: list[Location] = []
        self._existed = False

    @property
    def staging(self) -> Location:
        """Where tasks write."""
        return self._staging

    def refuse_existing(self) -> None:
        """Check, before anything runs, that the output is free.

        Raises
        ------
        OutputError
            If there is a file, or a folder that is not empty, or the place can't be reached.
        """
        try:
            kind = self._location.type()
            taken = kind == pafs.FileType.File or bool(self._location.list())
        except OSError as error:
            raise OutputError(f"can't look at output {self._uri!r}", got=str(error)) from None
        self._existed = kind == pafs.FileType.Directory
        if taken:
            raise OutputError(
                f"output {self._uri!r} exists",
                expected="a new or empty folder",
                remedy="choose another --output, or delete this one if no run is using it",
            )

    def commit(self, entries: Sequence[FileEntry], *, rows_read: int, record: dict[str, Any]) -> None:
        """Check the tasks' files against their footers and move them to the output.

        Parameters
        ----------
        entries : sequence of FileEntry
            What the successful task attempts wrote.
        rows_read : int
            Rows that Spark read for them.
        record : dict
            Content of ``run.json``.

        Raises
        ------
        CommitError
            If rows or bytes are not what the tasks said, or somebody else wrote to the output meanwhile.
            `abandon` removes what is there then.
        """
        self._check_counts(entries, rows_read)
        with ThreadPoolExecutor(_FOOTER_THREADS) as pool:
            list(pool.map(self._check_footer, entries))
        self._check_alone()
        self._write_json("manifest.json", {"files": [asdict(entry) for entry in entries]})
        for folder in _parents(entries):
            self._location.filesystem.create_dir((self._location / folder).path)
            self._made.append(self._location / folder)
        for entry in entries:
            target = self._location / entry.name
            self._location.filesystem.move((self._staging / entry.name).path, target.path)
            self._moved.append(target)
        self._write_json("run.json", record)
        self._location.filesystem.delete_dir((self._own / "staging").path)
        (self._location / "_SUCCESS").write_bytes(b"")

    def abandon(self) -> None:
        """Remove everything that this run wrote; an output that was not there before is gone again."""
        for file in (*self._moved, *self._written):
            file.filesystem.delete_file(file.path)
        for folder in reversed(self._made):
            if not folder.list():
                folder.filesystem.delete_dir(folder.path)
        for folder in (self._staging, self._own / "staging", self._own):
            beneath = folder.list()
            if folder.type() == pafs.FileType.Directory and (folder is self._staging or not beneath):
                folder.filesystem.delete_dir(folder.path)
        there = self._location.type() == pafs.FileType.Directory
        if there and not self._existed and not self._location.list():
            self._location.filesystem.delete_dir(self._location.path)

    def _check_counts(self, entries: Sequence[FileEntry], rows_read: int) -> None:
        written = sum(entry.rows for entry in entries)
        if written != rows_read:
            raise CommitError(
                f"output {self._uri!r}: rows read and rows written differ",
                got=f"{written} rows written",
                expected=str(rows_read),
                remedy="nothing was committed; run again",
            )

    def _check_footer(self, entry: FileEntry) -> None:
        """Compare a file with what its task said."""
        file = self._staging / entry.name
        try:
            size = file.filesystem.get_file_info(file.path).size
            rows = pq.read_metadata(file.path, filesystem=file.filesystem).num_rows
        except (OSError, ArrowException) as error:
            raise CommitError(
                f"file {entry.name} of output {self._uri!r} can't be read back",
                got=type(error).__name__,
                expected="a file that the driver and all executors see",
                remedy="give an --output on storage that all machines share",
            ) from None
        if (rows, size) != (entry.rows, entry.bytes):
            raise CommitError(
                f"file {entry.name} of output {self._uri!r} is not what its task wrote",
                got=f"{rows} rows, {size} bytes",
                expected=f"{entry.rows} rows, {entry.bytes} bytes",
                remedy="nothing was committed; run again",
            )

    def _check_alone(self) -> None:
        names = [info.base_name for info in self._location.list() if info.base_name != OWN_FOLDER]
        names += [info.base_name for info in self._own.list() if info.base_name != "staging"]
        if names:
            raise CommitError(
                f"output {self._uri!r} was written by somebody else meanwhile",
                got=f"{len(names)} new names",
                remedy="nothing was committed; choose another --output",
            )

    def _write_json(self, name: str, value: dict[str, Any]) -> None:
        file = self._own / name
        file.write_bytes((json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())
        self._written.append(file)


def _parents(entries: Sequence[FileEntry]) -> list[str]:
    """Return the folders of partitioned files, each behind the one it lies in."""
    found = set()
    for entry in entries:
        parts = entry.name.split("/")[:-1]
        found |= {"/".join(parts[:depth]) for depth in range(1, len(parts) + 1)}
    return sorted(found)
