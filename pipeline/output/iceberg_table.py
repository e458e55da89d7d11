"""An output's table in an Iceberg catalog: its commits, made with `pyiceberg`.

A property of the table names the last commit, since snapshots expire. It changes in the same step as the
table's content. So lakevec never adds a commit's files twice, whatever others do with the table.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from lakevec.pipeline.errors import (
    CommitError,
    DamagedOutputError,
    OutputError,
    SetupError,
    library_errors,
    requires_extra,
)
from lakevec.pipeline.output.commit_log import Commit, Snapshot, StoredFile
from lakevec.pipeline.output.field_ids import FieldIds
from lakevec.pipeline.output.file_entry import QUARANTINE, FileEntry
from lakevec.pipeline.output.iceberg_files import Describer, TableFiles, read_files
from lakevec.pipeline.output.iceberg_schema import change_schema, find_field_ids, to_iceberg
from lakevec.pipeline.output.table_metadata import TableMetadata
from lakevec.pipeline.output.validation import THREADS
from lakevec.pipeline.storage import Location, absolute_uri, canonical_uri, is_local_path

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table, Transaction

# Generation and number of the last commit; the number is -1 before the first.
_LAST = "lakevec.last-batch"
_TRIES = 8
_RETRIES = "commit.retry.num-retries"


class ReplacedFilesError(CommitError):
    """Files that a commit replaces are not in the table any more; nothing was committed."""


class IcebergTable:
    """The table of an output.

    Parameters
    ----------
    uri : str
        The output. The table's files are named by it, without credentials.
    location : Location
        The output, where tasks write.
    metadata : TableMetadata
        It names the generation, the partition columns, the catalog and the table there.
    """

    def __init__(self, uri: str, location: Location, metadata: TableMetadata) -> None:
        self.name = metadata.table
        self.place = _place(uri)
        self._location = location
        self._generation = metadata.generation
        self._partition_by = metadata.partition_by
        self._catalog = open_catalog(metadata.catalog)

    def exists(self) -> bool:
        """Return whether the catalog has the table."""
        with _iceberg_errors(self.name):
            return bool(self._catalog.table_exists(self.name))

    def create(self, schema: str) -> None:
        """Create the table without rows, and its namespace if the catalog lacks that.

        Raises
        ------
        OutputError
            If the catalog puts its tables elsewhere.
        """
        from pyiceberg.exceptions import NoSuchNamespaceError
        from pyiceberg.partitioning import PartitionField, PartitionSpec
        from pyiceberg.transforms import IdentityTransform

        columns, namespace = to_iceberg(schema), self.name.rpartition(".")[0]
        fields = [
            PartitionField(columns.find_field(name).field_id, 1000 + number, IdentityTransform(), name)
            for number, name in enumerate(self._partition_by)
        ]
        with _iceberg_errors(self.name):
            try:
                self._catalog.load_namespace_properties(namespace)
            except NoSuchNamespaceError:
                self._catalog.create_namespace(namespace)
            table = self._catalog.create_table(
                self.name,
                columns,
                location=self.place,
                partition_spec=PartitionSpec(*fields),
                properties={_LAST: f"{self._generation} -1"},
            )
            if table.location().rstrip("/") != self.place:
                self._catalog.drop_table(self.name)
        self._check_place(table)

    def drop(self) -> None:
        """Remove the table from the catalog."""
        with _iceberg_errors(self.name):
            self._catalog.drop_table(self.name)

    def check(self, number: int | None) -> None:
        """Raise an error unless lakevec can write to the table.

        Parameters
        ----------
        number : int or None
            The generation's last commit, -1 before the first. None for a refresh, which replaces any.
        """
        table = self._load()
        self._check_place(table)
        if number is not None:
            self._check_last(table, number)
        self._check_partitions(table)

    def field_ids(self, schema: str, *, is_refresh: bool) -> FieldIds:
        """Return the ids for columns of files; a refresh may change the columns at its end."""
        wanted, table = to_iceberg(schema), self._load()
        return find_field_ids(
            wanted, change_schema(table.transaction(), wanted) if is_refresh else table.schema()
        )

    def lacks(self, number: int) -> bool:
        """Return whether a commit is the next one of the table."""
        return self.exists() and _last(self._load()) == (self._generation, number - 1)

    def version(self) -> int | None:
        """Return the number of this generation's last visible commit; None before the first."""
        if not self.exists():
            return None
        generation, number = _last(self._load())
        return number if generation == self._generation and number >= 0 else None

    def files(self) -> TableFiles:
        """Return all files that readers see."""
        return self._files(self._load())

    def append(self, commit: Commit) -> None:
        """Add and remove a commit's files in one snapshot, unless the table has it.

        Raises
        ------
        ReplacedFilesError
            If another program has rewritten the files to remove.
        """
        added = {entry.name: entry for entry in commit.added if not entry.is_quarantine}
        self._commit(commit.number, commit.run, added, commit.removed)

    def replace(self, snapshot: Snapshot, schema: str, ids: FieldIds, run: str) -> None:
        """Replace all files by those of a snapshot, in one step with the schema.

        Raises
        ------
        CommitError
            If another program changed the columns, so that `ids`, which the files have, are not theirs.
        """

        def change_columns(transaction: Transaction) -> None:
            wanted = to_iceberg(schema)
            if find_field_ids(wanted, change_schema(transaction, wanted)) != ids:
                raise CommitError(
                    f"another program changed columns of Iceberg table {self.name!r} meanwhile",
                    remedy="the table is as it was; run again",
                )

        self._commit(snapshot.number, run, snapshot.files, None, change_columns)

    def _commit(
        self,
        number: int,
        run: str,
        added: Mapping[str, FileEntry | StoredFile],
        removed: Sequence[str] | None,
        change_columns: Callable[[Transaction], None] = lambda transaction: None,
    ) -> None:
        """Make a snapshot, unless the table has it; `removed` is None for all files."""
        from pyiceberg.exceptions import CommitFailedException, ValidationException

        summary = {
            "lakevec.run-id": run,
            "lakevec.batch": str(number),
            "lakevec.generation": self._generation,
        }
        for attempt in range(_TRIES):
            table = self._load()
            generation, last = _last(table)
            if generation == self._generation and last >= number:
                return
            if removed is not None:
                self._check_last(table, number - 1)
            self._check_partitions(table)
            with _iceberg_errors(self.name):
                try:
                    with table.transaction() as transaction:
                        change_columns(transaction)
                        transaction.set_properties({_LAST: f"{self._generation} {number}"})
                        self._change_files(table, transaction, added, removed, summary)
                    return
                except (CommitFailedException, ValidationException):
                    # Another program changed the table meanwhile; nothing of this try is in it.
                    if attempt == _TRIES - 1:
                        raise
            time.sleep(0.1 * 2**attempt)

    def _change_files(
        self,
        table: Table,
        transaction: Transaction,
        added: Mapping[str, FileEntry | StoredFile],
        removed: Sequence[str] | None,
        summary: dict[str, str],
    ) -> None:
        from pyiceberg.expressions import AlwaysTrue

        new = self._describe(transaction, added)
        # Files of quarantined rows are not in the table.
        gone = {name for name in removed or () if not name.startswith(QUARANTINE)}
        present = {}
        if removed is None:
            present = self._files(table).files
            gone = set(present)
        elif gone:
            present = self._files(table).whole
        update = transaction.update_snapshot(snapshot_properties=summary)
        if not gone:
            with update.merge_append() as append:
                for file in new:
                    append.append_data_file(file)
            return
        if missing := gone - present.keys():
            raise ReplacedFilesError(
                f"another program rewrote Iceberg table {self.name!r} meanwhile",
                got=f"{len(missing)} files that are gone, or have rows marked as deleted",
                remedy="nothing of this micro-batch was committed; run again",
            )
        with update.overwrite() as overwrite:
            # Without a predicate, it finds no file of a table without partitions.
            overwrite.delete_by_predicate(AlwaysTrue())
            for name in gone:
                overwrite.delete_data_file(present[name])
            for file in new:
                overwrite.append_data_file(file)

    def _describe(
        self, transaction: Transaction, added: Mapping[str, FileEntry | StoredFile]
    ) -> list[DataFile]:
        """Describe files for the table's manifests, with the statistics of their footers."""
        describe = Describer(transaction.table_metadata, self._location, self.place)
        for name in list(added)[:1]:  # all files of a run have the same columns
            describe.check_columns(name)
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(lambda item: describe(item[0], item[1].bytes), added.items()))

    def _files(self, table: Table) -> TableFiles:
        with _iceberg_errors(self.name):
            return read_files(table, self.place)

    def _load(self) -> Table:
        from pyiceberg.exceptions import NoSuchTableError

        with _iceberg_errors(self.name):
            try:
                table = self._catalog.load_table(self.name)
            except NoSuchTableError:
                raise _changed(
                    self.name, "no such table in the catalog", "the table of this output"
                ) from None
        # pyiceberg's own second try would not look at the last commit. This stays in memory.
        table.metadata.properties[_RETRIES] = "0"
        return table

    def _check_last(self, table: Table, number: int) -> None:
        if (last := _last(table)) != (self._generation, number):
            generation, found = last
            raise _changed(
                self.name,
                f"batch {found} of generation {generation or 'unknown'} as the last",
                f"batch {number} of generation {self._generation}, as in the output's log",
            )

    def _check_partitions(self, table: Table) -> None:
        columns = table.schema()
        fields = [(columns.find_column_name(f.source_id), str(f.transform)) for f in table.spec().fields]
        if fields != [(name, "identity") for name in self._partition_by]:
            raise _changed(
                self.name,
                f"partitions by {', '.join(f'{kind}({name})' for name, kind in fields) or 'nothing'}",
                f"identity of {', '.join(self._partition_by) or 'nothing'}",
                remedy="undo the change, or embed into another table",
            )

    def _check_place(self, table: Table) -> None:
        if table.location().rstrip("/") != self.place:
            raise OutputError(
                f"Iceberg table {self.name!r} has another place than --output",
                got=table.location(),
                expected=self.place,
                remedy="choose another --table, or the table's place as --output",
            )


def open_catalog(name: str) -> Catalog:
    """Open a catalog of pyiceberg's configuration: ``.pyiceberg.yaml``, or ``PYICEBERG_CATALOG__NAME__*``.

    Raises
    ------
    OutputError
        If it isn't configured or can't be reached.
    """
    with requires_extra("iceberg", "--table-format iceberg"):
        from pyiceberg.catalog import load_catalog
        from pyiceberg.utils.config import Config

        # Read it again, since pyiceberg reads the environment once, when it is imported.
        properties: dict[str, Any] = dict(Config().get_catalog_config(name) or {})
    if not properties:
        raise OutputError(
            f"Iceberg catalog {name!r} is not configured",
            expected=f"properties in .pyiceberg.yaml, or in PYICEBERG_CATALOG__{name.upper()}__URI and so on",
            remedy="configure it as pyiceberg's documentation says",
        )
    try:
        return load_catalog(name, **properties)
    except ImportError as error:
        raise SetupError(
            f"Iceberg catalog {name!r} needs {error.name or 'a package'}, which is not installed",
            remedy="install pyiceberg with the extra of that catalog, such as pyiceberg[glue]",
        ) from None
    except Exception as error:  # of a database, a web service or a cloud; it may quote a password
        raise OutputError(
            f"Iceberg catalog {name!r} can't be opened",
            got=type(error).__name__,
            remedy="check its properties, and whether it can be reached",
        ) from error


def check_catalog(catalog: str, name: str) -> None:
    """Raise an error before the run if the catalog can't be opened or the name can't be a table's."""
    if not all(name.split(".")) or "." not in name:
        raise OutputError(f"--table {name!r}", expected="a namespace and a name, such as db.docs")
    with _iceberg_errors(name):
        open_catalog(catalog).table_exists(name)


def _last(table: Table) -> tuple[str, int]:
    """Return generation and number of the last commit; empty and -1 if lakevec made none."""
    generation, _, number = table.properties.get(_LAST, "").partition(" ")
    return generation, int(number or -1)


def _place(uri: str) -> str:
    """Return an output's name in Iceberg's metadata, without credentials.

    Iceberg takes names literally, without escapes.
    """
    absolute = absolute_uri(uri)
    if not is_local_path(absolute):
        return canonical_uri(absolute.partition("?")[0])
    place = canonical_uri(absolute)
    if found := {"?", "#"} & set(place):
        raise OutputError(
            f"output {uri!r} can't be an Iceberg table",
            got=f"{min(found)} in its name",
            expected="a name that can be a part of a URI",
            remedy="choose another --output",
        )
    return f"file://{place}"


def _changed(name: str, got: str, expected: str, remedy: str = "") -> DamagedOutputError:
    return DamagedOutputError(
        f"another program changed Iceberg table {name!r}",
        got=got,
        expected=expected,
        remedy=remedy or "undo the change, or rewrite the output with --full-refresh",
    )


def _iceberg_errors(name: str) -> AbstractContextManager[None]:
    return library_errors(f"Iceberg table {name!r} can't be read or written")
