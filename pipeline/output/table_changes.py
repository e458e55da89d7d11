"""What other programs changed in a Delta table, and whether lakevec can go on with it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import ArrowException

from lakevec.pipeline.chunk_columns import CHUNK_INDEX
from lakevec.pipeline.errors import DamagedOutputError, describe_failure, rephrase
from lakevec.pipeline.output.commit_log import Others, Snapshot, StoredFile
from lakevec.pipeline.output.delta_log import DeltaLog, Operations, TableVersion
from lakevec.pipeline.output.file_entry import check_name
from lakevec.pipeline.output.table_metadata import TableMetadata
from lakevec.pipeline.output.validation import THREADS
from lakevec.pipeline.storage import Location

# Features that `deltalake` writes, and that ask nothing of the files that lakevec adds.
_FEATURES = {
    "appendOnly",
    "changeDataFeed",
    "checkConstraints",
    "columnMapping",
    "deletionVectors",
    "generatedColumns",
    "invariants",
    "timestampNtz",
    "v2Checkpoint",
}
# Metadata of columns whose values a writer must compute or check.
_RULES = ("delta.generationExpression", "delta.identity.", "delta.invariants")
_MAPPING = "delta.columnMapping.mode"
_CONSTRAINTS = "delta.constraints."
_APPEND_ONLY = "delta.appendOnly"
_MODEL = b"lakevec.model"


@dataclass(frozen=True)
class TableChanges:
    """What other programs changed since lakevec's last commit, and what a run must know of their table.

    Parameters
    ----------
    others : Others
        Files that they removed or wrote.
    rows_removed : int
        Rows of the removed files.
    operations : Operations
        What they did, as Delta's log tells it.
    columns : tuple of dict
        Their columns, as in Spark's JSON, added at any time.
    schema : pyarrow.Schema or None
        Columns of all files, which may lack some. None if lakevec wrote all files, and all columns.
    """

    others: Others = field(default_factory=Others)
    rows_removed: int = 0
    operations: Operations = field(default_factory=Operations)
    columns: tuple[dict[str, Any], ...] = ()
    schema: pa.Schema | None = None

    def to_record(self) -> dict[str, Any]:
        """Return what ``run.json`` says of it; empty if others changed nothing."""
        if not (self.others or self.operations.names):
            return {}
        return {
            "operations": self.operations.names,
            "rows_deleted": self.operations.rows_deleted,
            "files_removed": len(self.others.removed),
            "rows_removed": self.rows_removed,
            "files_added": len(self.others.added),
            "rows_added": sum(file.rows for file in self.others.added.values()),
            "columns": [column["name"] for column in self.columns],
        }


def describe_changes(record: Mapping[str, Any]) -> str:
    """Describe `TableChanges.to_record` on one line.

    Examples
    --------
    >>> describe_changes({"operations": {"OPTIMIZE": 1}, "rows_deleted": 0, "files_removed": 2,
    ...                   "rows_removed": 8, "files_added": 1, "rows_added": 8, "columns": []})
    'OPTIMIZE; 2 files of 8 rows replaced by 1 file of 8 rows'
    """
    parts = [
        ", ".join(
            f"{number} x {name}" if number > 1 else name for name, number in record["operations"].items()
        )
    ]
    removed, added = (
        f"{_count(record[f'files_{what}'], 'file')} of {_count(record[f'rows_{what}'], 'row')}"
        for what in ("removed", "added")
    )
    if record["files_removed"] and record["files_added"]:
        parts.append(f"{removed} replaced by {added}")
    elif record["files_removed"]:
        parts.append(f"{removed} removed")
    elif record["files_added"]:
        parts.append(f"{added} added")
    if record["columns"]:
        parts.append(f"their columns: {', '.join(record['columns'])}")
    return "; ".join(filter(None, parts))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def find_changes(
    log: DeltaLog, table: TableVersion, state: Snapshot, metadata: TableMetadata, location: Location
) -> TableChanges:
    """Compare a table with lakevec's commit log; read the footers of other programs' files.

    Parameters
    ----------
    log : DeltaLog
    table : TableVersion
    state : Snapshot
        The content that lakevec knows.
    metadata : TableMetadata
    location : Location
        The table.

    Raises
    ------
    DamagedOutputError
        If a file of the table can't be read, or holds vectors of another model.
    """
    removed = sorted(state.files.keys() - table.bytes.keys())
    names = sorted(table.bytes.keys() - state.files.keys())
    with ThreadPoolExecutor(THREADS) as pool:
        read = pool.map(partial(_read_counts, location, metadata), names)
        added = {
            name: StoredFile(rows=rows, bytes=table.bytes[name], texts=texts)
            for name, (rows, texts) in zip(names, read, strict=True)
        }
    others = Others(removed=removed, added=added)
    columns = tuple(each for each in table.columns if each["name"] not in metadata.schema_of_files)
    is_foreign = bool(added or columns) or not all(file.run for file in state.files.values())
    return TableChanges(
        others,
        sum(state.files[name].rows for name in removed),
        log.operations() if others or columns else Operations(),
        columns,
        table.schema if is_foreign else None,
    )


def _read_counts(location: Location, metadata: TableMetadata, name: str) -> tuple[int, int | None]:
    """Return the rows of a file that another program wrote, and its texts if each row is a chunk."""
    texts = None
    with (
        rephrase(
            DamagedOutputError,
            f"file {name} of the Delta table can't be read",
            on=(OSError, ArrowException),
            describe=describe_failure,
            expected="a Parquet file, since Delta's log lists it",
            remedy="restore the file or the table, or rewrite the output with --full-refresh",
        ),
        (location / name).filesystem.open_input_file((location / name).path) as stream,
    ):
        file = pq.ParquetFile(stream)
        if metadata.chunk_tokens is not None:
            numbers = file.read(columns=[CHUNK_INDEX]).columns
            texts = sum(pc.sum(pc.equal(each, 0)).as_py() or 0 for each in numbers)
    footer = file.metadata
    model = (footer.metadata or {}).get(_MODEL, b"").decode(errors="replace")
    if model and model != metadata.fingerprint:
        raise DamagedOutputError(
            f"file {name} of the Delta table holds vectors of another model",
            got=model,
            expected=metadata.fingerprint,
            remedy="restore the table to a version of this output, or rewrite it with --full-refresh",
        )
    return footer.num_rows, texts


def find_limits(table: TableVersion, partition_by: Sequence[str], *, replaces: bool) -> Iterator[str]:
    """Yield each reason why lakevec can't write to a table, not even anew.

    Parameters
    ----------
    table : TableVersion
    partition_by : sequence of str
        Partition columns of the output.
    replaces : bool
        Whether the run may remove files.
    """
    if unknown := sorted(table.features - _FEATURES):
        yield f"table feature {', '.join(unknown)}"
    if (mode := table.properties.get(_MAPPING, "none")) != "none":
        yield f"columns mapped by {mode} (renamed or dropped)"
    yield from (f"constraint {name}" for name in table.properties if name.startswith(_CONSTRAINTS))
    if replaces and table.properties.get(_APPEND_ONLY) == "true":
        yield f"property {_APPEND_ONLY}"
    if table.partition_by != tuple(partition_by):
        yield f"partitions ({', '.join(table.partition_by)}), not ({', '.join(partition_by)})"


def find_obstacles(
    table: TableVersion, state: Snapshot, metadata: TableMetadata, schema: str = ""
) -> Iterator[str]:
    """Yield each reason why lakevec can't continue its output in a table.

    Parameters
    ----------
    table : TableVersion
    state : Snapshot
        The content that lakevec knows.
    metadata : TableMetadata
    schema : str, default=""
        The output's columns in Delta's JSON. Without it, only their names are compared.
    """
    yield from find_limits(table, metadata.partition_by, replaces=metadata.key is not None)
    known = state.number if state.number >= 0 else None
    if table.number != known:
        yield f"another table: its log holds {_show(table.number)}, lakevec's log {_show(known)}"
    elif table.generation and table.generation != metadata.generation:
        yield f"generation {table.generation} of the output, not {metadata.generation}"
    if table.has_deletion_vectors:
        yield "rows marked by deletion vectors (REORG TABLE ... APPLY (PURGE) removes them)"
    yield from _compare_columns(table, metadata, schema)
    if table.misplaced:
        yield f"file {table.misplaced}, which is not in the folder of its partition"
    for name in table.bytes:
        try:
            check_name(name)
        except ValueError:
            yield f"file {name}, whose name is hidden or unsafe"
            return


def _compare_columns(table: TableVersion, metadata: TableMetadata, schema: str) -> Iterator[str]:
    columns = {each["name"]: each for each in table.columns}
    wanted = {each["name"]: each["type"] for each in json.loads(schema)["fields"]} if schema else {}
    for name in metadata.schema_of_files:
        if name not in columns:
            yield f"no column {name!r}"
        elif name in wanted and _plain(columns[name]["type"]) != _plain(wanted[name]):
            kind, expected = (json.dumps(_plain(each)) for each in (columns[name]["type"], wanted[name]))
            yield f"column {name!r} of type {kind}, not {expected}"
    for name, column in columns.items():
        rules = [rule for rule in column["metadata"] if rule.startswith(_RULES)]
        if rules or not column["nullable"]:
            yield f"column {name!r}, which {'has ' + rules[0] if rules else 'must not be null'}"


def _plain(kind: Any) -> Any:
    """Return a type of Delta's JSON without the metadata of nested columns."""
    if not isinstance(kind, dict):
        return kind
    plain = {name: _plain(value) for name, value in kind.items() if name != "metadata"}
    if "fields" in kind:
        plain["fields"] = [_plain(each) for each in kind["fields"]]
    return plain


def _show(number: int | None) -> str:
    return "no commit" if number is None else f"commit {number}"
