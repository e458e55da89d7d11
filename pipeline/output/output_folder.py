"""From staging to output: check what the tasks wrote, log it, then put it where readers look.

Layout of an output, in which Parquet readers skip every name that begins with ``_``::

    OUTPUT/part-00000-....parquet            rows
    OUTPUT/_SUCCESS                          written when a run ends
    OUTPUT/_lakevec/run.json                 the last run: settings, model, counts, timings
    OUTPUT/_lakevec/current.json             which generation the output is in
    OUTPUT/_lakevec/GENERATION/output.json   what all rows share
    OUTPUT/_lakevec/GENERATION/log/          one file a commit, see `history`
    OUTPUT/_lakevec/GENERATION/checkpoint/   Spark's, one for each input
    OUTPUT/_lakevec/staging/RUN/             files of task attempts until they are moved
    OUTPUT/_lakevec/quarantine/              rows that could not be embedded
    OUTPUT/_lakevec/lease/                   the claim of the run that is at work

A wave is committed by one file of the log. A run that is killed before it leaves nothing but its staging
folder; one that is killed behind it leaves moves to be done, and the next run does them.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from pyarrow import ArrowException
from pyarrow import fs as pafs

from lakevec.pipeline.errors import (
    CommitError,
    DamagedOutputError,
    LakevecError,
    OutputError,
    describe_failure,
)
from lakevec.pipeline.output.atomic_swap import (
    beside,
    check_can_swap,
    clean_swap,
    complete_swap,
    find_unfinished_swap,
    swap,
)
from lakevec.pipeline.output.commit_log import Commit, CommitLog, Snapshot
from lakevec.pipeline.output.delta_committer import DeltaCommitter
from lakevec.pipeline.output.file_entry import OWN_FOLDER, read_record
from lakevec.pipeline.output.generation import (
    CURRENT,
    NEXT,
    read_generation,
    remove_leftovers,
    state_folder,
    write_generation,
)
from lakevec.pipeline.output.lease import Lease
from lakevec.pipeline.output.moving import SUCCESS, link_output, move_files
from lakevec.pipeline.output.staging import Staging, stagings
from lakevec.pipeline.output.table_metadata import TableMetadata, read_metadata
from lakevec.pipeline.output.validation import check_counts, check_footers, check_total
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.storage import Location, absolute_uri, locate, strip_user_info


class OutputFolder:
    """An output, from the first look at it to the last rename.

    Parameters
    ----------
    uri : str
        Folder or URI of the output.
    run_id : str
        Name of the run; its staging folder and its files carry it.
    on_step : callable, optional
        Called with the name of each step that is done.
    """

    def __init__(self, uri: str, run_id: str, *, on_step: Callable[[str], None] = lambda step: None) -> None:
        self._uri = redact(uri)
        self._location = _followed(locate(uri, error=OutputError))
        self._own = self._location / OWN_FOLDER
        self._run = run_id
        self._on_step = on_step
        self._lease = Lease(self._own, run_id, self._uri)
        self._delta: DeltaCommitter | None = None
        self._full_uri = uri
        self._schema = ""
        self._existed = self._was_begun = self._made_delta = False
        # Whether `begin` has found the run fit to write.
        self.is_open = False
        # Whether no run has come to its end since the last commit.
        self.was_cut_off = False
        # What readers see while a refresh is building something else.
        self.served = Snapshot()
        # Where rows and state go: the output itself, or what will take its place.
        self._target = self._location
        self._generation = ""
        self._is_refresh = False
        self._staging = Staging(self._own, run_id)
        self._history = CommitLog(self._state_folder("none"))

    @property
    def staging(self) -> Location:
        """Where tasks write: with Delta, whose readers know their files from its log, in place."""
        return self._target if self._delta is not None else self._staging.folder

    @property
    def state(self) -> Snapshot:
        """What is committed."""
        return self._history.state

    @property
    def location(self) -> Location:
        """The output, or what will take its place."""
        return self._target

    @property
    def generation(self) -> str:
        """The output's life that is written to."""
        return self._generation

    @property
    def checkpoint(self) -> str:
        """Folder for Spark's checkpoints, as a URI without credentials."""
        root = self._location.path
        if not self._location.is_local:
            root = strip_user_info(absolute_uri(self._full_uri).partition("?")[0]).rstrip("/")
        if self._target is not self._location:
            root = f"{root.rpartition('/')[0]}/{self._target.name}"
        return f"{root}/{OWN_FOLDER}/{self._generation}/checkpoint"

    @property
    def is_begun(self) -> bool:
        """Whether earlier runs wrote the output, an interrupted swap included."""
        return (self._own / CURRENT).exists() or find_unfinished_swap(self._location) is not None

    def look(self) -> None:
        """Check, before anything runs, that the output is free or one of ours; nothing is changed.

        Raises
        ------
        OutputError
            If there is a file, or a folder of somebody else, or the place can't be reached.
        """
        try:
            kind = self._location.type()
            names = [info.base_name for info in self._location.list()] if kind != pafs.FileType.File else []
        except OSError as error:
            raise OutputError(f"can't look at output {self._uri!r}", got=str(error)) from None
        self._existed = kind == pafs.FileType.Directory
        self._was_begun = self.is_begun
        foreign = kind == pafs.FileType.File or set(names) - {OWN_FOLDER}
        if foreign and not self._was_begun:
            raise OutputError(
                f"output {self._uri!r} exists and was not written by this version of lakevec",
                expected="a new or empty folder, or an output to go on with",
                remedy="choose another --output, or delete this one if no run is using it",
            )

    @contextmanager
    def held(self, *, grace_s: float) -> Iterator[None]:
        """Hold the lease; what a killed run left is finished or cleaned first.

        Parameters
        ----------
        grace_s : float
            How long staging folders of dead runs are left alone, for tasks that outlive their driver.

        Raises
        ------
        BusyError
            If another run holds the lease.
        """
        with self._leased():
            self._was_begun = self.is_begun  # as it is now that nobody else can begin it
            self._on_step("leased")
            try:
                self._recover(grace_s)
                self.served = self._history.state
                self._on_step("recovered")
                yield
            except BaseException as error:
                with suppress(OSError, ArrowException, LakevecError):
                    self._abandon()
                if isinstance(error, OSError | ArrowException) and not isinstance(error, ConnectionError):
                    raise self._no_write(error) from error
                raise
            self._staging.remove()

    @contextmanager
    def _leased(self) -> Iterator[None]:
        """Take the lease where the output lies, and complete an interrupted swap under it."""
        unfinished = find_unfinished_swap(self._location)
        if unfinished is None:
            with self._lease:
                yield
            return
        claim = self._lease.claim
        self._lease = Lease(unfinished / OWN_FOLDER, self._run, self._uri)
        try:
            with self._lease:
                with self._lease.moving_to(self._own):
                    complete_swap(self._location, unfinished)
                yield
        finally:
            # If the run that swaps is alive after all, it has moved our claim along with the folder.
            with suppress(OSError, ArrowException):
                claim.delete()

    def is_other_model(self, contract: TableMetadata) -> bool:
        """Say whether a run differs from those before in nothing but what its vectors are."""
        known = read_metadata(self._state_folder(read_generation(self._target)))
        return known.is_other_model(contract)

    @property
    def key(self) -> str | None:
        """Column of which an output that is begun holds every value once."""
        return read_metadata(self._state_folder(read_generation(self._location))).key

    def check_can_rewrite(self) -> None:
        """Refuse to replace some of an output's files where that can't be done in one step.

        Raises
        ------
        OutputError
        """
        if self._delta is None and not self._location.is_local:
            raise OutputError(
                f"rows of output {self._uri!r} can't be replaced",
                got="Parquet on a store that can't switch between old and new files in one step",
                expected="--table-format delta there, or a local or mounted file system",
                remedy="write a new --output as such",
            )
        if self._delta is None:
            check_can_swap(self._location, self._uri, "replacing rows")

    def begin(self, contract: TableMetadata, schema: str, *, refresh: bool = False) -> None:
        """Open the output for waves that keep to the contract.

        Parameters
        ----------
        contract : TableMetadata
            Its generation is chosen here.
        schema : str
            All columns as Delta's JSON, for a table format that wants to know them.
        refresh : bool, default=False
            Whether to write everything anew, and put it in the old output's place in the end.

        Raises
        ------
        OutputError
            If the contract is not the one that the output was begun with.
        """
        self._schema = schema
        if self.is_begun and not refresh:
            self._refuse_mixing(contract)
        elif self.is_begun:
            self._begin_refresh(contract)
        else:
            self._start_generation(contract)
        self._history = CommitLog(self._state_folder(self._generation))
        self._history.read()
        if not self._is_refresh:
            write_generation(self._target, self._generation)
        if contract.table_format == "delta":
            self._begin_delta(contract, schema)
        self.is_open = True
        self._on_step("begun")

    def commit(self, commit: Commit) -> None:
        """Check the tasks' files against their footers, log them, and put them where readers look.

        Parameters
        ----------
        commit : Commit
            Numbered behind `state`.

        Raises
        ------
        CommitError
            If rows or bytes are not what the tasks said, or another run writes to the output.
        """
        self._on_step("embedded")
        check_counts(commit, self._uri)
        check_footers(self.staging, commit.added, self._uri)
        if commit.number == 0:
            self._check_alone()
        self._on_step("checked")
        self._lease.check()
        if commit.removed and self._delta is None:
            self._rewrite(commit)
        else:
            before = self._history.state
            self._history.append(commit)
            self._on_step("logged")
            self._apply(commit, before)
        if not self._is_refresh:
            self.served = self._history.state
        self._on_step("applied")
        check_total(self._history.state, self._uri)
        self._history.compact()
        self._on_step("compacted")

    def finish(self, record: dict[str, Any]) -> None:
        """End the run: switch to what a refresh has built, write ``_SUCCESS`` and ``run.json``.

        Parameters
        ----------
        record : dict
            Content of ``run.json``.
        """
        if self._is_refresh:
            self._lease.check()
            self._switch()
            self.served = self._history.state
            self._on_step("switched")
        if self._delta is None:
            (self._location / SUCCESS).write_bytes(b"")
        # Last, since a run that is not recorded as done is finished by the next one.
        self.write_record(record)
        self._on_step("recorded")

    def last_record(self) -> dict[str, Any]:
        """Return the ``run.json`` of the last run; empty where there is none that can be read."""
        return read_record(self._location)

    def write_record(self, record: dict[str, Any]) -> None:
        """Write ``run.json``.

        Raises
        ------
        CommitError
            If it can't be written.
        """
        content = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
        try:
            (self._own / "run.json").write_atomic(content.encode())
        except OSError as error:
            raise self._no_write(error) from error

    def _no_write(self, error: Exception) -> CommitError:
        return CommitError(
            f"can't read or write output {self._uri!r}",
            got=describe_failure(error),
            remedy="check its permissions and free space, then run again; what is committed stays",
        )

    def leave(self) -> None:
        """Give up an output that nothing was written to, so that somebody else can write it."""
        self._abandon()

    # Beginning

    def _refuse_mixing(self, contract: TableMetadata) -> None:
        self._generation = read_generation(self._target)
        known = read_metadata(self._state_folder(self._generation))
        if differences := list(known.differences(contract)):
            raise OutputError(
                f"output {self._uri!r} holds rows of another kind",
                got="; ".join(differences),
                remedy="choose another --output, or write everything anew with --full-refresh",
            )

    def _begin_refresh(self, contract: TableMetadata) -> None:
        """Begin a generation that no reader sees."""
        current = read_metadata(self._state_folder(read_generation(self._target)))
        is_delta = "delta" in (current.table_format, contract.table_format)
        if current.table_format != contract.table_format or (
            is_delta and current.partition_by != contract.partition_by
        ):
            raise OutputError(
                f"output {self._uri!r} is a table of another format or with other partitions",
                got=f"{contract.table_format}, partitions ({', '.join(contract.partition_by)})",
                expected=f"{current.table_format}, partitions ({', '.join(current.partition_by)})",
                remedy="choose another --output",
            )
        self._is_refresh = True
        if not is_delta:
            check_can_swap(self._location, self._uri, "--full-refresh")
            self._target = beside(self._location, "next")
        self._start_generation(contract)
        write_generation(self._target, self._generation, NEXT if is_delta else CURRENT)

    def _start_generation(self, contract: TableMetadata) -> None:
        self._generation = uuid.uuid4().hex[:12]
        contract.model_copy(update={"generation": self._generation}).write(
            self._state_folder(self._generation)
        )

    def _begin_delta(self, contract: TableMetadata, schema: str) -> None:
        """Make the table, or make sure that nobody else has changed it."""
        self._open_delta()
        assert self._delta is not None  # noqa: S101
        if not self._delta.exists():
            self._delta.create(schema, contract.partition_by)
            self._made_delta = True
        elif not self._is_refresh and self._delta.files() != set(self._history.state.files):
            raise DamagedOutputError(
                f"Delta table {self._uri!r} was changed by somebody else",
                got="files in Delta's log that no run wrote, or the other way round",
                expected="the files of lakevec's own runs; OPTIMIZE rewrites them, VACUUM is fine",
                remedy="restore the table's version, or write everything anew with --full-refresh",
            )

    def _open_delta(self) -> None:
        self._delta = DeltaCommitter(self._full_uri, self._location, self._generation)

    def _state_folder(self, generation: str) -> Location:
        return state_folder(self._target, generation)

    def _check_alone(self) -> None:
        """Make sure that nobody else wrote to an output since it was found free."""
        if self._delta is not None:
            return
        names = [info.base_name for info in self._target.list() if info.base_name != OWN_FOLDER]
        if names:
            raise CommitError(
                f"output {self._uri!r} was written by somebody else meanwhile",
                got=f"{len(names)} new names",
                remedy="nothing was committed; choose another --output",
            )

    # Putting files where readers look

    def _apply(self, commit: Commit, before: Snapshot) -> None:
        """Do what a logged commit says, or what of it is not done yet."""
        if self._delta is None:
            staging = Staging(self._own, commit.run).folder
            move_files(commit, staging, self._target, on_move=lambda: self._on_step("moved"))
        elif not self._is_refresh:
            self._delta.append(commit, before)

    def _rewrite(self, commit: Commit) -> None:
        """Build the output that `commit` describes beside this one, of hard links, and switch to it."""
        successor = beside(self._location, "next")
        successor.delete()
        staged = {entry.name: self.staging / entry.name for entry in commit.added}
        link_output(self._location, self._history.state.after(commit), staged, successor)
        history = CommitLog(successor / OWN_FOLDER / self._generation)
        history.read()
        history.append(commit)
        self._copy_lease(successor)
        self._on_step("built")
        self._lease.check()
        swap(self._location)
        self._history.read()
        self._on_step("switched")

    def _switch(self) -> None:
        """Make what a refresh has built the output."""
        if self._delta is not None:
            self._delta.replace(self._history.state, self._schema, self._run)
            self._on_step("delta replaced")
            self._end_delta_refresh()
            return
        self._copy_lease(self._target)
        (self._target / SUCCESS).write_bytes(b"")
        self._on_step("built")
        swap(self._location)
        self._target = self._location
        self._is_refresh = False

    def _end_delta_refresh(self) -> None:
        """Forget the old generation; its files stay as long as Delta's readers may travel back to them."""
        old = read_generation(self._target)
        write_generation(self._target, self._generation)
        (self._own / NEXT).delete()
        if old != self._generation:
            self._state_folder(old).delete()
        self._is_refresh = False

    def _copy_lease(self, successor: Location) -> None:
        """Let the claim be there before the folder that it speaks for is."""
        claim = self._lease.claim
        (successor / OWN_FOLDER / "lease" / claim.name).write_atomic(claim.read_bytes())

    # After a crash

    def _recover(self, grace_s: float) -> None:
        """Finish the last commit, and clean up behind runs that are dead, since the lease is ours."""
        clean_swap(self._location)
        if self.is_begun:
            self._generation = read_generation(self._target)
            contract = read_metadata(self._state_folder(self._generation))
            if contract.table_format == "delta":
                self._recover_delta_refresh()
                self._open_delta()
            self._history = CommitLog(self._state_folder(self._generation))
            self._history.read()
            if (last := self._history.last) is not None:
                self._apply(last, self._history.before_last)
                self.was_cut_off = not self._has_ended()
        remove_leftovers(self._location)
        for staging in stagings(self._own):
            self._clean_staging(staging, grace_s)
        self._staging.begin()

    def _has_ended(self) -> bool:
        record = self.last_record()
        total = record.get("total")
        commits = total.get("commits") if isinstance(total, dict) else None
        return record.get("status") != "failed" and commits == self._history.state.number + 1

    def _recover_delta_refresh(self) -> None:
        """End a refresh whose transaction is in Delta's log: it has happened. Forget any other."""
        following = read_generation(self._target, NEXT)
        if not following:
            return
        if DeltaCommitter(self._full_uri, self._location, following).version() is not None:
            self._generation = following
            self._end_delta_refresh()
            return
        folder = self._state_folder(following)
        history = CommitLog(folder)
        history.read()
        (self._own / NEXT).delete()
        for name in (*history.state.files, *history.state.quarantine):
            (self._location / name).delete()
        folder.delete()

    def _clean_staging(self, staging: Staging, grace_s: float) -> None:
        """Remove what a run staged, or left among Delta's files, once its tasks can't be alive."""
        if self._delta is not None:
            staging.note_committed(self._all_states())
        if staging.age_s < grace_s:
            return
        if self._delta is not None:
            staging.remove_strays(self._location, self._all_states())
        staging.remove()

    def _all_states(self) -> Iterator[Snapshot]:
        """Tell all that the output holds, a refresh in the making included."""
        yield self._history.state
        if following := read_generation(self._location, NEXT):
            history = CommitLog(self._state_folder(following))
            history.read()
            yield history.state

    def _abandon(self) -> None:
        """Remove what this run did not commit; an output that was not there before is gone again."""
        # As the disk has it: what ended the run may have come between the log and what we know of it.
        self._history.read()
        last = self._history.last
        if (
            last is not None
            and last.run == self._run
            and any((self._staging.folder / entry.name).exists() for entry in last.added)
        ):
            return  # the next run moves what is committed
        if self._staging.folder.exists():
            self._clean_staging(self._staging, grace_s=-1.0)
        if self._is_refresh:
            clean_swap(self._location)
        if self._was_begun or self._history.state.rows_read:
            return
        is_ours = not self._existed
        if self._made_delta:
            (self._location / "_delta_log").delete()
        for info in self._own.list():
            if info.base_name != "lease":
                (self._own / info.base_name).delete()
        self._lease.give_back()
        for folder in (self._own, self._location) if is_ours else (self._own,):
            if folder.exists() and not folder.list():
                folder.delete()


def _followed(location: Location) -> Location:
    """Follow symbolic links, so that what lies beside the output lies on its disk."""
    return replace(location, path=os.path.realpath(location.path)) if location.is_local else location
