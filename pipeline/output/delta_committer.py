"""Delta Lake: each commit is one transaction of Delta's log, written by `deltalake` without a JVM.

Tasks write straight to the table's folder, since readers see only files that Delta's log lists. So no file is
renamed; an object store would copy it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pyarrow as pa

from lakevec.pipeline.errors import CommitError, DamagedOutputError, requires_extra
from lakevec.pipeline.output.commit_log import Commit, Snapshot, StoredFile
from lakevec.pipeline.output.committer import Committer, Run
from lakevec.pipeline.output.file_entry import FileEntry
from lakevec.pipeline.output.partitions import partition_values
from lakevec.pipeline.output.staging import Staging
from lakevec.pipeline.output.table_metadata import (
    CURRENT,
    NEXT,
    TableMetadata,
    read_generation,
    state_folder,
    write_generation,
)
from lakevec.pipeline.storage import Location, absolute_uri, canonical_uri, is_local_path

_FOLDER = "_delta_log"


class DeltaCommitter(Committer):
    """Leave files where tasks wrote them, and list them in Delta's log."""

    fixed = ("table_format", "partition_by")

    def __init__(self, run: Run, generation: str = "", *, is_refresh: bool = False) -> None:
        super().__init__(run, generation, is_refresh=is_refresh)
        self.pointer = NEXT if is_refresh else CURRENT
        self._table = DeltaLog(run.uri, run.location, self.generation)
        self._schema = ""
        self._is_created = False

    @property
    def staging(self) -> Location:
        """The output itself: readers see only what Delta's log lists."""
        return self.target

    def recover(self) -> Committer:
        """Finish a refresh whose transaction is in Delta's log; undo any other."""
        following = read_generation(self.target, NEXT)
        if not following:
            return self
        refresh = DeltaCommitter(self.run, following, is_refresh=True)
        if refresh._table.version() is not None:
            refresh._end()
            return refresh
        (self.run.own / NEXT).delete()
        for name in refresh.log.state.all_files:
            (self.target / name).delete()
        state_folder(self.target, following).delete()
        return self

    def begin(self, metadata: TableMetadata, schema: str) -> None:
        """Create the table. Raise an error if another program changed an existing one."""
        self._schema = schema
        if not self._table.exists():
            self._table.create(schema, metadata.partition_by)
            self._is_created = True
        elif not self.is_refresh and self._table.files() != set(self.log.state.files):
            raise DamagedOutputError(
                f"another program changed Delta table {self.run.uri!r}",
                got="Delta's log and lakevec's commit log list different files",
                expected="the files of lakevec's own runs; OPTIMIZE rewrites them, VACUUM is fine",
                remedy="restore the table's version, or rewrite the output with --full-refresh",
            )

    def apply(self, commit: Commit) -> None:
        """Write the commit's transaction, unless a refresh is under way or Delta's log has it."""
        if not self.is_refresh:
            self._table.append(commit, self.log.before_last)

    def end_refresh(self) -> None:
        """Replace all files in one transaction."""
        self._table.replace(self.log.state, self._schema, self.run.id)
        self.run.on_step("delta replaced")
        self._end()

    def _end(self) -> None:
        """Remove the old generation's state; its files stay for Delta's time travel."""
        old = read_generation(self.target)
        write_generation(self.target, self.generation)
        (self.run.own / NEXT).delete()
        if old != self.generation:
            state_folder(self.target, old).delete()
        self.is_refresh, self.pointer = False, CURRENT

    def clean(self, staging: Staging, grace_s: float) -> None:
        """Remove a run's uncommitted files from the table's folder, and its staging folder."""
        files = self.log.state.all_files
        if following := read_generation(self.target, NEXT):
            files |= DeltaCommitter(self.run, following).log.state.all_files
        staging.note_committed(name for name, file in files.items() if file.run == staging.run)
        if staging.age_s >= grace_s:
            staging.remove_uncommitted(self.target, files)
            staging.remove()

    def forget(self) -> None:
        """Remove the table that `begin` created."""
        if self._is_created:
            (self.target / _FOLDER).delete()


class DeltaLog:
    """Delta's log of an output. Each generation has its own application id there.

    Parameters
    ----------
    uri : str
        The output, credentials included.
    location : Location
    generation : str
        Part of the application id. A commit's number is the version of its transaction.
    """

    def __init__(self, uri: str, location: Location, generation: str) -> None:
        self._location = location
        self._application = f"lakevec:{generation}"
        self._uri, self._options = _for_deltalake(uri)
        with requires_extra("delta", "--table-format delta"):
            import deltalake
            import deltalake.transaction
        self._library: Any = deltalake

    def exists(self) -> bool:
        """Return whether the table exists."""
        return bool((self._location / _FOLDER).list())

    def create(self, schema: str, partition_by: Sequence[str]) -> None:
        """Create a table without rows."""
        with _delta_errors():
            self._library.DeltaTable.create(
                self._uri,
                self._library.Schema.from_json(schema),
                partition_by=list(partition_by),
                storage_options=self._options,
            )

    def version(self) -> int | None:
        """Return the number of this generation's last visible commit; None before the first."""
        if not self.exists():
            return None
        with _delta_errors():
            number: int | None = self._table().transaction_version(self._application)
        return number

    def files(self) -> set[str]:
        """Return the names of all files that readers see."""
        with _delta_errors():
            actions = pa.table(self._table().get_add_actions(flatten=False))
        return {unquote(path) for path in actions["path"].to_pylist()}

    def append(self, commit: Commit, before: Snapshot) -> None:
        """Add and remove a commit's files in one transaction; `before` has the sizes of removed files."""
        added = {entry.name: entry for entry in commit.added if not entry.is_quarantine}
        removed = {name: before.files[name] for name in commit.removed if name in before.files}
        self._write(commit.number, commit.run, added, removed)

    def replace(self, snapshot: Snapshot, schema: str, run: str) -> None:
        """Replace all files by those of a snapshot in one transaction."""
        self._write(snapshot.number, run, snapshot.files, {}, schema)

    def _write(
        self,
        number: int,
        run: str,
        added: Mapping[str, FileEntry | StoredFile],
        removed: Mapping[str, StoredFile],
        schema: str | None = None,
    ) -> None:
        """Write a transaction, unless Delta's log has it; with a schema, replace the whole table."""
        version = self.version()
        if version is not None and version >= number:
            return
        transaction, now = self._library.transaction, int(time.time() * 1000)
        with _delta_errors():
            table = self._table()
            columns = table.metadata().partition_columns
            actions = [
                transaction.AddAction(
                    name,
                    file.bytes,
                    partition_values(name, columns),
                    now,
                    True,
                    json.dumps({"numRecords": file.rows}),
                )
                for name, file in added.items()
            ]
            actions += [
                transaction.RemoveAction(name, True, now, file.bytes, partition_values(name, columns))
                for name, file in removed.items()
            ]
            table.create_write_transaction(
                actions,
                "append" if schema is None else "overwrite",
                table.schema() if schema is None else self._library.Schema.from_json(schema),
                columns,
                commit_properties=transaction.CommitProperties(
                    custom_metadata={"lakevec.run": run},
                    app_transactions=[transaction.Transaction(self._application, number)],
                ),
            )

    def _table(self) -> Any:
        return self._library.DeltaTable(self._uri, storage_options=self._options)


@contextmanager
def _delta_errors() -> Iterator[None]:
    """Report the library's errors by type only, since their text may hold an endpoint."""
    from deltalake.exceptions import DeltaError

    try:
        yield
    except (DeltaError, OSError) as error:
        raise CommitError(
            "the Delta table can't be read or written",
            got=type(error).__name__,
            remedy="run again; lakevec writes a logged commit only once",
        ) from error


def _for_deltalake(uri: str) -> tuple[str, dict[str, str]]:
    """Split pyarrow's URI into deltalake's plain URI and storage options.

    Examples
    --------
    >>> _for_deltalake("s3://key:secret@lake/out?region=eu-west-1")[1]["AWS_REGION"]
    'eu-west-1'
    """
    absolute = absolute_uri(uri)
    if is_local_path(absolute):
        return Path(canonical_uri(absolute)).as_uri(), {}
    parts = urlsplit(absolute)
    if not parts.netloc or parts.scheme not in ("s3", "s3a", "s3n"):
        return absolute, {}
    query = dict(parse_qsl(parts.query))
    options = {}
    if parts.username:
        options["AWS_ACCESS_KEY_ID"] = unquote(parts.username)
        options["AWS_SECRET_ACCESS_KEY"] = unquote(parts.password or "")
    if region := query.get("region"):
        options["AWS_REGION"] = region
    if endpoint := query.get("endpoint_override"):
        scheme = query.get("scheme", "https")
        options["AWS_ENDPOINT_URL"] = endpoint if "://" in endpoint else f"{scheme}://{endpoint}"
        options["AWS_ALLOW_HTTP"] = str(scheme == "http").lower()
    return f"s3://{parts.hostname}{parts.path}", options
