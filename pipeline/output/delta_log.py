"""The log of a Delta table, read and written by `deltalake` without a JVM."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pyarrow as pa
import pyarrow.compute as pc

from lakevec.pipeline.errors import CommitError, library_errors, requires_extra
from lakevec.pipeline.output.commit_log import Commit, Snapshot, StoredFile
from lakevec.pipeline.output.file_entry import FileEntry
from lakevec.pipeline.output.partitions import partition_values
from lakevec.pipeline.storage import Location, absolute_uri, canonical_uri, is_local_path

FOLDER = "_delta_log"
# Metadata of the first vector column in Delta's schema. A table that is restored to an earlier
# generation has that generation's schema again.
_GENERATION = "lakevec.generation"
_RUN = "lakevec.run"
# Features that older versions of Delta's protocol imply, and this program meets.
_FEATURES_OF_VERSION = {5: {"columnMapping"}, 6: {"columnMapping", "identityColumns"}}
_MARKS = "deletionVectors"
# Entries of Delta's log to read at first.
_HISTORY = 100
# A VACUUM has two entries in Delta's log.
_SHORT = {"VACUUM START": "", "VACUUM END": "VACUUM"}


@dataclass(frozen=True)
class TableVersion:
    """One version of a Delta table.

    Parameters
    ----------
    number : int or None
        The generation's last commit in Delta's log; None before the first.
    generation : str
        The generation that the schema names; empty in tables of earlier versions of lakevec.
    bytes : dict of str to int
        Size of each file that readers see, by its name below the table.
    columns : tuple of dict
        Columns as in Spark's and Delta's JSON.
    partition_by : tuple of str
    properties : dict of str to str
    features : frozenset of str
        Features of Delta's protocol that a writer must support.
    has_deletion_vectors : bool
        Whether rows of a file are marked as deleted.
    misplaced : str
        A file whose folders name other partition values than Delta's log; empty if there is none.
    schema : pyarrow.Schema
        Columns of the table's files.
    """

    number: int | None
    generation: str
    bytes: dict[str, int]
    columns: tuple[dict[str, Any], ...]
    partition_by: tuple[str, ...]
    properties: dict[str, str]
    features: frozenset[str]
    has_deletion_vectors: bool
    misplaced: str
    schema: pa.Schema


@dataclass(frozen=True)
class Operations:
    """What other programs did since lakevec's last transaction, as far as Delta's log is kept.

    Parameters
    ----------
    names : dict of str to int
        Number of each operation, such as ``OPTIMIZE``.
    rows_deleted : int
        Rows that deletes report.
    """

    names: dict[str, int] = field(default_factory=dict)
    rows_deleted: int = 0


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
        self._generation = generation
        self._application = f"lakevec:{generation}"
        self._uri, self._options = _for_deltalake(uri)
        with requires_extra("delta", "--table-format delta"):
            import deltalake
            import deltalake.transaction
        self._library: Any = deltalake

    def exists(self) -> bool:
        """Return whether the table exists."""
        return bool((self._location / FOLDER).list())

    def create(self, schema: str, partition_by: Sequence[str]) -> None:
        """Create a table without rows."""
        with _delta_errors():
            self._library.DeltaTable.create(
                self._uri,
                self._library.Schema.from_json(schema),
                partition_by=list(partition_by),
                storage_options=self._options,
            )

    def mark(self, schema: str, column: str) -> str:
        """Name the generation in a column's metadata; return the schema as Delta's JSON."""
        marked = json.loads(schema)
        for each in marked["fields"]:
            if each["name"] == column:
                each["metadata"] = {**each["metadata"], _GENERATION: self._generation}
        return json.dumps(marked)

    def version(self) -> int | None:
        """Return the number of this generation's last visible commit; None before the first."""
        if not self.exists():
            return None
        with _delta_errors():
            number: int | None = self._table().transaction_version(self._application)
        return number

    def read(self) -> TableVersion:
        """Read the newest version of the table."""
        with _delta_errors():
            table = self._table()
            metadata = table.metadata()
            columns = tuple(json.loads(table.schema().to_json())["fields"])
            arrow = pa.schema(table.schema().to_arrow())
            partition_by = tuple(metadata.partition_columns)
            return TableVersion(
                number=table.transaction_version(self._application),
                generation=next(filter(None, (each["metadata"].get(_GENERATION) for each in columns)), ""),
                bytes=_sizes(table),
                columns=columns,
                partition_by=partition_by,
                properties=dict(metadata.configuration),
                features=_features(table.protocol()),
                has_deletion_vectors=_has_deletion_vectors(table),
                misplaced=_find_misplaced(table, partition_by),
                schema=pa.schema([each for each in arrow if each.name not in partition_by]),
            )

    def operations(self) -> Operations:
        """Return what other programs did since this program's last transaction."""
        names: Counter[str] = Counter()
        deleted = 0
        with _delta_errors():
            for entry in _newest_operations(self._table()):
                name = entry.get("operation", "unknown")
                names[_SHORT.get(name, name)] += 1
                metrics = entry.get("operationMetrics", {})
                # delta-rs and Spark spell it differently.
                deleted += int(metrics.get("num_deleted_rows") or metrics.get("numDeletedRows") or 0)
        return Operations({name: number for name, number in names.items() if name}, deleted)

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
        with _delta_errors():
            table = self._table()
            version = table.transaction_version(self._application)
            if version is not None and version >= number:
                return
            # A DELETE by a deletion vector keeps the file's name.
            if removed and (_has_deletion_vectors(table) or not removed.keys() <= _sizes(table).keys()):
                raise CommitError(
                    f"another program rewrote files of Delta table {self._uri!r} during this run",
                    remedy="nothing of this micro-batch was committed; run again",
                )
            columns = table.metadata().partition_columns
            table.create_write_transaction(
                self._actions(added, removed, columns),
                "append" if schema is None else "overwrite",
                table.schema() if schema is None else self._library.Schema.from_json(schema),
                columns,
                commit_properties=self._library.transaction.CommitProperties(
                    custom_metadata={_RUN: run},
                    app_transactions=[self._library.transaction.Transaction(self._application, number)],
                ),
            )

    def _actions(
        self,
        added: Mapping[str, FileEntry | StoredFile],
        removed: Mapping[str, StoredFile],
        columns: Sequence[str],
    ) -> list[Any]:
        transaction, now = self._library.transaction, int(time.time() * 1000)
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
        return actions + [
            transaction.RemoveAction(name, True, now, file.bytes, partition_values(name, columns))
            for name, file in removed.items()
        ]

    def _table(self) -> Any:
        return self._library.DeltaTable(self._uri, storage_options=self._options)


def _newest_operations(table: Any) -> Iterator[dict[str, Any]]:
    """Yield the operations after this program's last transaction, the newest first."""
    limit = _HISTORY
    while True:
        entries = table.history(limit)
        for number, entry in enumerate(entries):
            if _RUN in entry or entry.get("operation") == "CREATE TABLE":
                yield from entries[:number]
                return
        if len(entries) < limit:  # Delta removes old entries
            yield from entries
            return
        limit *= 2


def _sizes(table: Any) -> dict[str, int]:
    """Return the size of each file that readers see."""
    actions = pa.table(table.get_add_actions(flatten=False))
    names = map(unquote, actions["path"].to_pylist())
    return dict(zip(names, actions["size_bytes"].to_pylist(), strict=True))


def _find_misplaced(table: Any, partition_by: Sequence[str]) -> str:
    """Return a file whose folders name other partition values than Delta's log; empty if there is none."""
    if not partition_by:
        return ""
    actions = pa.table(table.get_add_actions(flatten=False)).combine_chunks()
    names = [unquote(name) for name in actions["path"].to_pylist()]
    found = []
    for name in names:
        try:
            found.append(partition_values(name, partition_by))
        except ValueError:
            return name
    for column in partition_by:
        stored = pc.struct_field(actions["partition"], column)
        if pa.types.is_temporal(stored.type):
            continue  # Python has no dates after 9999
        for name, values, value in zip(names, found, stored.to_pylist(), strict=True):
            # Delta takes an empty string for null. NaN differs from itself.
            if value == value and _convert(values[column] or None, stored.type) != value:
                return name
    return ""


def _convert(value: str | None, kind: pa.DataType) -> Any:
    """Return a partition value of a folder as Python has it; NaN if it can't be of that type."""
    try:
        return pa.array([value], pa.string()).cast(kind)[0].as_py()
    except pa.ArrowInvalid:
        return math.nan


def _features(protocol: Any) -> frozenset[str]:
    implied = _FEATURES_OF_VERSION.get(protocol.min_writer_version, ())
    return frozenset(protocol.writer_features or implied)


def _has_deletion_vectors(table: Any) -> bool:
    if _MARKS not in _features(table.protocol()):
        return False
    marks = pa.RecordBatchReader.from_stream(table.deletion_vectors())
    return any(batch.num_rows for batch in marks)


def _delta_errors() -> AbstractContextManager[None]:
    return library_errors("the Delta table can't be read or written")


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
