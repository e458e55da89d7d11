"""An output: the state that earlier runs left, and the commits of this run under its lease.

Layout of an output. Parquet readers skip every name that begins with ``_``::

    OUTPUT/part-00000-....parquet            rows
    OUTPUT/_SUCCESS                          written when a run ends
    OUTPUT/_delta_log/, OUTPUT/metadata/     of a Delta table, of an Iceberg table
    OUTPUT/_lakevec/run.json                 the last run: settings, model, counts, timings
    OUTPUT/_lakevec/current.json             the generation that readers see
    OUTPUT/_lakevec/GENERATION/output.json   properties of all rows, see `table_metadata`
    OUTPUT/_lakevec/GENERATION/log/          one file per commit, see `commit_log`
    OUTPUT/_lakevec/GENERATION/checkpoint/   Spark's checkpoints, one per input
    OUTPUT/_lakevec/staging/RUN/             files of task attempts before their commit
    OUTPUT/_lakevec/quarantine/              rows that can't be embedded
    OUTPUT/_lakevec/lease/                   the claim of the active run

One file of the log commits a micro-batch. If the driver dies before it writes that file, it leaves a staging
folder and no rows. If it dies afterwards, the next run completes the commit first.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from pyarrow import ArrowException
from pyarrow import fs as pafs

from lakevec.pipeline.errors import CommitError, LakevecError, OutputError, describe_failure, rephrase
from lakevec.pipeline.output.atomic_swap import clean_swap, complete_swap, find_unfinished_swap
from lakevec.pipeline.output.commit_log import Commit, Snapshot
from lakevec.pipeline.output.committer import Committer, Run
from lakevec.pipeline.output.delta_committer import DeltaCommitter
from lakevec.pipeline.output.field_ids import FieldIds
from lakevec.pipeline.output.file_entry import OWN_FOLDER
from lakevec.pipeline.output.iceberg_committer import IcebergCommitter
from lakevec.pipeline.output.lease import Lease
from lakevec.pipeline.output.parquet_committer import ParquetCommitter
from lakevec.pipeline.output.staging import Staging, stagings
from lakevec.pipeline.output.table_changes import TableChanges
from lakevec.pipeline.output.table_metadata import (
    CURRENT,
    TableMetadata,
    is_foreign,
    read_metadata,
    remove_leftovers,
    state_folder,
    write_generation,
)
from lakevec.pipeline.output.validation import check_counts, check_footers, check_total
from lakevec.pipeline.storage import Location, absolute_uri, locate, strip_user_info

_COMMITTERS: dict[str, type[Committer]] = {
    "parquet": ParquetCommitter,
    "delta": DeltaCommitter,
    "iceberg": IcebergCommitter,
}


class OutputFolder:
    """An output without its lease, which a run can inspect and open.

    Parameters
    ----------
    uri : str
        Folder or URI of the output.
    run_id : str
        Id of the run, part of the names of its staging folder and files.
    on_step : callable, optional
        Called with the name of each finished step.
    """

    def __init__(self, uri: str, run_id: str, *, on_step: Callable[[str], None] = lambda step: None) -> None:
        self._uri = uri
        self._run_id = run_id
        self._on_step = on_step
        self.location = locate(uri, error=OutputError)
        if self.location.is_local:
            # Without symbolic links, so that an output and its siblings lie on one disk.
            self.location = replace(self.location, path=os.path.realpath(self.location.path))
        self._own = self.location / OWN_FOLDER

    @property
    def is_begun(self) -> bool:
        """Whether earlier runs wrote the output, an interrupted swap included."""
        return (self._own / CURRENT).exists() or find_unfinished_swap(self.location) is not None

    def inspect(self) -> None:
        """Raise OutputError if the folder is neither empty nor an output of lakevec; change nothing."""
        with rephrase(
            OutputError, f"can't look at output {self._uri!r}", on=OSError, describe=describe_failure
        ):
            foreign = is_foreign(self.location)
        if foreign and not self.is_begun:
            raise OutputError(
                f"output {self._uri!r} exists and was not written by this version of lakevec",
                expected="a new or empty folder, or an output to continue",
                remedy="choose another --output, or delete this one if no run is using it",
            )

    @contextmanager
    def open(self, *, grace_s: float) -> Iterator[OpenOutput]:
        """Take the lease, then complete the commits and remove the files of killed runs.

        Parameters
        ----------
        grace_s : float
            Seconds to keep staging files of dead runs, whose tasks may outlive their driver.

        Raises
        ------
        BusyError
            If another run holds the lease.
        """
        is_new = self.location.type() != pafs.FileType.Directory
        with self._lease() as lease:
            run = Run(self._run_id, self._uri, self.location, lease, self._on_step)
            opened = OpenOutput(run, is_new=is_new)
            self._on_step("leased")
            try:
                opened.recover(grace_s)
                self._on_step("recovered")
                yield opened
            except BaseException as error:
                with suppress(OSError, ArrowException, LakevecError):
                    opened.abandon()
                if isinstance(error, OSError | ArrowException) and not isinstance(error, ConnectionError):
                    raise _unwritable(self._uri, error) from error
                raise
            opened.close()

    @contextmanager
    def _lease(self) -> Iterator[Lease]:
        """Take the lease; complete an interrupted swap under it."""
        unfinished = find_unfinished_swap(self.location)
        lease = Lease((unfinished or self.location) / OWN_FOLDER, self._run_id, self._uri)
        try:
            with lease:
                if unfinished is not None:
                    with lease.moving_to(self._own):
                        complete_swap(self.location, unfinished)
                yield lease
        finally:
            if unfinished is not None:
                # If the swapping run is alive after all, it has moved our claim along with the folder.
                with suppress(OSError, ArrowException):
                    (self._own / "lease" / lease.claim.name).delete()


class OpenOutput:
    """An output while this run holds its lease.

    Parameters
    ----------
    run : Run
    is_new : bool
        Whether the folder did not exist before this run.

    Attributes
    ----------
    has_begun : bool
        Whether `begin` has accepted the run.
    was_cut_off : bool
        Whether the last run died before its end.
    served : Snapshot
        The content that readers see; differs from `state` while a refresh is under way.
    """

    def __init__(self, run: Run, *, is_new: bool) -> None:
        self._run = run
        self._is_new = is_new
        self._staging = Staging(run.own, run.id)
        self._was_begun = (run.own / CURRENT).exists()
        self._committer: Committer = ParquetCommitter(run, "none")
        self.has_begun = False
        self.was_cut_off = False
        self.served = Snapshot()

    @property
    def state(self) -> Snapshot:
        """The committed content."""
        return self._committer.log.state

    @property
    def location(self) -> Location:
        """The output, or the folder that will replace it."""
        return self._committer.target

    @property
    def staging(self) -> Location:
        """The folder that tasks write files to."""
        return self._committer.staging

    @property
    def field_ids(self) -> FieldIds:
        """Ids for the columns of files, after `begin`; empty if the format has none."""
        return self._committer.field_ids

    @property
    def generation(self) -> str:
        """The generation that this run writes."""
        return self._committer.generation

    @property
    def changes(self) -> TableChanges:
        """What other programs changed in the table since the last commit; nothing before `begin`."""
        return self._committer.changes

    @property
    def checkpoint(self) -> str:
        """Folder for Spark's checkpoints, as a URI without credentials."""
        root = folder_uri(self._run.uri, self._run.location)
        if self._committer.target.path != self._run.location.path:
            root = f"{root.rpartition('/')[0]}/{self._committer.target.name}"
        return f"{root}/{OWN_FOLDER}/{self.generation}/checkpoint"

    def read_metadata(self) -> TableMetadata | None:
        """Return the properties that all rows share; None for a new output."""
        return read_metadata(self._run.location)

    def check_can_replace(self) -> None:
        """Refuse to replace files if the storage can't do so in one step."""
        self._committer.check_can_replace()

    def adopt(self, metadata: TableMetadata) -> None:
        """Take into `state` what other programs changed; `begin` does so unless it begins a refresh.

        Parameters
        ----------
        metadata : TableMetadata
            From `read_metadata`.
        """
        self._committer.adopt(metadata)
        self.served = self.state

    def begin(self, metadata: TableMetadata, schema: str, *, refresh: bool = False) -> None:
        """Prepare for commits of rows that share `metadata`.

        Parameters
        ----------
        metadata : TableMetadata
            This method sets its generation.
        schema : str
            All columns in Delta's JSON.
        refresh : bool, default=False
            Write all rows again, and replace the old output at the end.

        Raises
        ------
        OutputError
            If the output holds rows with other metadata.
        """
        stored = self.read_metadata()
        if stored is None or refresh:
            committer = _COMMITTERS[metadata.table_format](self._run, is_refresh=stored is not None)
            if stored is not None:
                committer.check_can_refresh(stored, metadata)
            self._committer = committer
            named = metadata.model_copy(update={"generation": committer.generation})
            named.write(state_folder(committer.target, committer.generation))
            write_generation(committer.target, committer.generation, committer.pointer)
        elif differences := list(stored.differences(metadata)):
            raise OutputError(
                f"output {self._run.uri!r} holds rows of another kind",
                got="; ".join(differences),
                remedy="choose another --output, or rewrite the output with --full-refresh",
            )
        self._committer.begin(metadata, schema)
        if not self._committer.is_refresh:
            self.served = self.state  # other programs may have changed it
        self.has_begun = True
        self._run.on_step("begun")

    def commit(self, commit: Commit) -> None:
        """Check the tasks' files, log the commit, and make it visible to readers.

        Parameters
        ----------
        commit : Commit
            Its number follows that of `state`.

        Raises
        ------
        CommitError
            If rows or bytes differ from what the tasks reported, or another run writes to the output.
        """
        run = self._run
        run.on_step("embedded")
        check_counts(commit, run.uri)
        check_footers(self.staging, commit.added, run.uri)
        if commit.number == 0:
            self._committer.check_alone()
        run.on_step("checked")
        run.lease.check()
        self._committer.commit(commit)
        if not self._committer.is_refresh:
            self.served = self.state
        run.on_step("applied")
        check_total(self.state, run.uri)
        self._committer.log.compact()
        run.on_step("compacted")

    def finish(self, record: dict[str, Any]) -> None:
        """End the run: make a refresh visible, and write `record` to ``run.json``."""
        if self._committer.is_refresh:
            self._run.lease.check()
            self._committer.end_refresh()
            self.served = self.state
            self._run.on_step("switched")
        self._committer.mark_success()
        # Last: without this record the next run treats this one as interrupted.
        self.write_record(record)
        self._run.on_step("recorded")

    def count_table(self) -> dict[str, int]:
        """Count the table's rows, files and bytes, if others changed what `state` doesn't know."""
        with suppress(LakevecError):  # no reason to fail after the last commit
            return self._committer.count()
        return {}

    def last_record(self) -> dict[str, Any]:
        """Return the last run's ``run.json``; empty if it can't be read."""
        try:
            record = json.loads((self._run.own / "run.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def write_record(self, record: dict[str, Any]) -> None:
        """Write ``run.json``; raise CommitError if that fails."""
        content = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
        try:
            (self._run.own / "run.json").write_atomic(content.encode())
        except OSError as error:
            raise _unwritable(self._run.uri, error) from error

    def recover(self, grace_s: float) -> None:
        """Complete the last commit and remove files of dead runs; `open` calls this."""
        clean_swap(self._run.location)
        if (stored := self.read_metadata()) is not None:
            self._committer = _COMMITTERS[stored.table_format](self._run, stored.generation).recover()
            if (last := self._committer.log.last) is not None:
                self._committer.complete(last)
                self.was_cut_off = not self._has_ended()
        remove_leftovers(self._run.location)
        for staging in stagings(self._run.own):
            self._committer.clean(staging, grace_s)
        self._staging.begin()
        self.served = self.state

    def _has_ended(self) -> bool:
        record = self.last_record()
        total = record.get("total")
        commits = total.get("commits") if isinstance(total, dict) else None
        return record.get("status") != "failed" and commits == self.state.number + 1

    def close(self) -> None:
        """Remove the run's staging folder; `open` calls this at the end of a run."""
        self._staging.remove()

    def abandon(self) -> None:
        """Remove this run's uncommitted files, and its output if that is new and has no rows."""
        # Read it again: the run may have failed between the log's file and our state.
        self._committer.log.read()
        last = self._committer.log.last
        if (
            last is not None
            and last.run == self._run.id
            and any((self._staging.folder / entry.name).exists() for entry in last.added)
        ):
            return  # the next run completes the commit
        if self._staging.folder.exists():
            self._committer.clean(self._staging, grace_s=-1.0)
        if self._committer.is_refresh:
            clean_swap(self._run.location)
        if self._was_begun or self.state.rows_read:
            return
        self._committer.forget()
        for name in sorted(self._run.own.names() - {"lease"}):
            (self._run.own / name).delete()
        self._run.lease.give_back()
        self._run.own.delete_if_empty()
        if self._is_new:
            self._run.location.delete_if_empty()


def folder_uri(uri: str, location: Location) -> str:
    """Return the URI of a folder for Spark, without credentials and query."""
    if location.is_local:
        return location.path
    return strip_user_info(absolute_uri(uri).partition("?")[0]).rstrip("/")


def _unwritable(uri: str, error: Exception) -> CommitError:
    return CommitError(
        f"can't read or write output {uri!r}",
        got=describe_failure(error),
        remedy="check its permissions and free space, then run again; committed rows stay",
    )
