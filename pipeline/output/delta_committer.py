"""Delta's log as the word on which files are an output's: one transaction a commit.

Tasks write where Delta's readers look, since those see only what the log names; nothing is renamed, which on
an object store would be a copy. The library is `deltalake`, which needs no JVM.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pyarrow as pa

from lakevec.pipeline.errors import CommitError, SetupError
from lakevec.pipeline.output.commit_log import Commit, Snapshot
from lakevec.pipeline.output.partitions import partition_values
from lakevec.pipeline.storage import Location, absolute_uri, canonical_uri, is_local_path

_FOLDER = "_delta_log"


class DeltaCommitter:
    """The Delta table in an output's folder, as one generation of the output writes it.

    Parameters
    ----------
    uri : str
        The output, credentials included.
    location : Location
        The same.
    generation : str
        The application id of its transactions; their version is the commit's number.
    """

    def __init__(self, uri: str, location: Location, generation: str) -> None:
        self._location = location
        self._application = f"lakevec:{generation}"
        self._uri, self._options = _for_deltalake(uri)
        self._library = _import()

    def exists(self) -> bool:
        """Say whether there is a table."""
        return bool((self._location / _FOLDER).list())

    def create(self, schema: str, partition_by: Sequence[str]) -> None:
        """Make a table without rows."""
        with _translated():
            self._library.DeltaTable.create(
                self._uri,
                self._library.Schema.from_json(schema),
                partition_by=list(partition_by),
                storage_options=self._options,
            )

    def version(self) -> int | None:
        """Return the last commit of this generation that readers see; None before the first."""
        if not self.exists():
            return None
        with _translated():
            found: int | None = self._table().transaction_version(self._application)
        return found

    def files(self) -> set[str]:
        """Return the names of all files that readers see."""
        with _translated():
            actions = pa.table(self._table().get_add_actions(flatten=False))
        return {unquote(path) for path in actions["path"].to_pylist()}

    def append(self, commit: Commit, before: Snapshot) -> None:
        """Let readers see a commit; one that they see already is left as it is.

        Parameters
        ----------
        commit : Commit
        before : Snapshot
            What is known about the files that it removes.
        """
        version = self.version()
        if version is not None and version >= commit.number:
            return
        with _translated():
            table = self._table()
            now = int(time.time() * 1000)
            schema = table.schema()
            names = table.metadata().partition_columns
            actions = self._additions(commit, names, now)
            remove = self._library.transaction.RemoveAction
            actions += [
                remove(name, True, now, before.files[name].bytes, partition_values(name, names))
                for name in commit.removed
                if name in before.files
            ]
            table.create_write_transaction(
                actions,
                "append",
                schema,
                names,
                commit_properties=self._properties(commit.number, commit.run),
            )

    def replace(self, state: Snapshot, schema: str, run: str) -> None:
        """Let readers see the files of a generation and no others, in one step.

        Parameters
        ----------
        state : Snapshot
            The generation's last.
        schema : str
            Its columns, as Delta's JSON.
        run : str
            Who asks.
        """
        version = self.version()
        if version is not None and version >= state.number:
            return
        with _translated():
            table = self._table()
            names = table.metadata().partition_columns
            now = int(time.time() * 1000)
            actions = [
                self._add(name, file.bytes, file.rows, names, now) for name, file in state.files.items()
            ]
            table.create_write_transaction(
                actions,
                "overwrite",
                self._library.Schema.from_json(schema),
                names,
                commit_properties=self._properties(state.number, run),
            )

    def _additions(self, commit: Commit, names: list[str], now: int) -> list[Any]:
        return [
            self._add(entry.name, entry.bytes, entry.rows, names, now)
            for entry in commit.added
            if not entry.is_quarantine
        ]

    def _add(self, name: str, size: int, rows: int, names: list[str], now: int) -> Any:
        stats = json.dumps({"numRecords": rows})
        return self._library.transaction.AddAction(
            name, size, partition_values(name, names), now, True, stats
        )

    def _properties(self, number: int, run: str) -> Any:
        transaction = self._library.transaction
        return transaction.CommitProperties(
            custom_metadata={"lakevec.run": run},
            app_transactions=[transaction.Transaction(self._application, number)],
        )

    def _table(self) -> Any:
        return self._library.DeltaTable(self._uri, storage_options=self._options)


def _import() -> Any:
    try:
        import deltalake
        import deltalake.transaction
    except ImportError:
        raise SetupError(
            "--table-format delta needs the library deltalake", remedy="pip install 'lakevec[delta]'"
        ) from None
    return deltalake


class _translated:  # noqa: N801
    """Turn the library's errors into one line; its messages may hold an endpoint, never a row."""

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        from deltalake.exceptions import DeltaError

        if isinstance(error, DeltaError | OSError):
            raise CommitError(
                "the Delta table can't be read or written",
                got=type(error).__name__,
                remedy="run again; what is logged already is not written twice",
            ) from error


def _for_deltalake(uri: str) -> tuple[str, dict[str, str]]:
    """Say in deltalake's words what a URI of pyarrow's says.

    Parameters
    ----------
    uri : str

    Returns
    -------
    str
        Without credentials and options.
    dict of str to str
        Storage options.

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
    asked = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    options = {}
    if parts.username:
        options["AWS_ACCESS_KEY_ID"] = unquote(parts.username)
        options["AWS_SECRET_ACCESS_KEY"] = unquote(parts.password or "")
    if "region" in asked:
        options["AWS_REGION"] = asked["region"]
    if "endpoint_override" in asked:
        scheme = asked.get("scheme", "https")
        endpoint = asked["endpoint_override"]
        options["AWS_ENDPOINT_URL"] = endpoint if "://" in endpoint else f"{scheme}://{endpoint}"
        options["AWS_ALLOW_HTTP"] = str(scheme == "http").lower()
    return f"s3://{parts.hostname}{parts.path}", options
