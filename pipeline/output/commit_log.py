"""The log of an output: one file a commit, folded into a state that says what the output holds.

Layout, below the state folder of a generation::

    log/000000000041.json         commit 41
    log/000000000040.state.json   everything up to commit 40

A commit is valid as soon as its file is there. Each `_EVERY` commits the state is written out and what is
older goes, so the log is as long after ten thousand runs as after fifty.
"""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections import Counter
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from lakevec.pipeline.errors import CommitError, DamagedOutputError
from lakevec.pipeline.output.file_entry import Counts, FileEntry, check_name
from lakevec.pipeline.storage import Location

_EVERY = 20
# What file systems say that know no hard links.
NO_LINKS = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM, errno.ENOSYS, errno.EMLINK)
_T = TypeVar("_T", bound=BaseModel)


FileName = Annotated[str, AfterValidator(check_name)]
# A plain word, since a folder is named by it.
RunId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class InputFile(BaseModel):
    """An input file that was left out because it can't be read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: str = Field(description="name of the input that lists it")
    path: str
    bytes: int
    modified: str = Field(description="time of the last change, as Spark tells it")
    reason: str


class InputBatch(BaseModel):
    """What a commit holds the rows of: a batch of a stream, or everything at once (batch -1)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: str
    batch: int = -1
    query: str = ""
    uri: str = ""
    format: str = ""
    option: dict[str, str] = Field(default_factory=dict)


class StoredFile(BaseModel):
    """What is promised about a file of the output."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: int
    bytes: int
    sha256: str = ""
    run: str = ""


class Commit(BaseModel):
    """One step of an output: files that come, files that go.

    Parameters
    ----------
    number : int
        Place in the log, from 0.
    run : str
        Who made it.
    wave : InputBatch
        Which part of the input it holds.
    rows_read : int
        Rows that Spark read for it.
    added : list of FileEntry
        Files of rows, and of rows in quarantine.
    removed : list of str
        Names of files whose rows it replaces.
    skipped : list of InputFile
        Input files that can't be read, known from here on.
    retaken : list of str
        Paths of input files that were skipped before and are not any more.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: int
    run: RunId
    wave: InputBatch
    rows_read: int
    added: list[FileEntry]
    removed: list[FileName] = Field(default_factory=list)
    skipped: list[InputFile] = Field(default_factory=list)
    retaken: list[str] = Field(default_factory=list)

    @field_validator("added")
    @classmethod
    def _are_ours(cls, added: list[FileEntry]) -> list[FileEntry]:
        for entry in added:
            check_name(entry.name)
        return added

    @property
    def rows(self) -> int:
        """Rows of the output that it adds."""
        return sum(entry.rows for entry in self.added if not entry.is_quarantine)

    @property
    def quarantined(self) -> int:
        """Rows that it puts into quarantine."""
        return sum(entry.rows for entry in self.added if entry.is_quarantine)


class Snapshot(BaseModel):
    """What an output holds after its last commit.

    Parameters
    ----------
    number : int, default=-1
        The last commit.
    inputs : dict of str to InputBatch
        The last wave of each input.
    files : dict of str to StoredFile
        Files of rows.
    quarantine : dict of str to StoredFile
        Files of rows that could not be embedded.
    rows_read : int
        Rows that were ever read.
    rows_removed : int
        Rows of files that were replaced.
    counts : dict of str to dict of str to int
        What was ever seen in each text column.
    skipped : dict of str to InputFile
        Input files that are left out, by path.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: int = -1
    inputs: dict[str, InputBatch] = Field(default_factory=dict)
    files: dict[FileName, StoredFile] = Field(default_factory=dict)
    quarantine: dict[FileName, StoredFile] = Field(default_factory=dict)
    rows_read: int = 0
    rows_removed: int = 0
    counts: Counts = Field(default_factory=dict)
    skipped: dict[str, InputFile] = Field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows of the output."""
        return sum(file.rows for file in self.files.values())

    @property
    def rows_quarantined(self) -> int:
        """Rows in quarantine."""
        return sum(file.rows for file in self.quarantine.values())

    @property
    def bytes(self) -> int:
        """Bytes of the output's files."""
        return sum(file.bytes for file in self.files.values())

    def has(self, wave: InputBatch) -> bool:
        """Say whether a wave is committed already."""
        known = self.inputs.get(wave.input)
        return known is not None and 0 <= wave.batch == known.batch

    def check_follows(self, wave: InputBatch) -> None:
        """Make sure that a wave is the one behind the last of its input, or that one again.

        Raises
        ------
        CommitError
            If the checkpoint that it comes from is not the one that the output was written with.
        """
        known = self.inputs.get(wave.input)
        batch, query = (known.batch, known.query) if known else (-1, wave.query)
        if wave.batch not in (batch, batch + 1) or (batch >= 0 and wave.query != query):
            raise DamagedOutputError(
                "Spark's checkpoint belongs to another output",
                got=f"batch {wave.batch} of query {wave.query}",
                expected=f"batch {batch + 1} of query {query}",
                remedy="give the --checkpoint that the output was written with, or use --full-refresh",
            )

    def after(self, commit: Commit) -> Snapshot:
        """Return the state once `commit` is done."""
        known = self.files | self.quarantine
        gone, retaken = set(commit.removed), set(commit.retaken)
        files = {name: file for name, file in self.files.items() if name not in gone}
        quarantine = dict(self.quarantine)
        counts = {column: Counter(seen) for column, seen in self.counts.items()}
        for entry in commit.added:
            stored = StoredFile(rows=entry.rows, bytes=entry.bytes, sha256=entry.sha256, run=commit.run)
            (quarantine if entry.is_quarantine else files)[entry.name] = stored
            for column, seen in entry.counts.items():
                counts.setdefault(column, Counter()).update(seen)
        kept = {path: file for path, file in self.skipped.items() if path not in retaken}
        wave, before = commit.wave, self.inputs.get(commit.wave.input)
        if before is not None and before.batch > wave.batch:  # files that were skipped before
            wave = before
        return Snapshot.model_construct(  # all of it was validated before
            number=commit.number,
            inputs={**self.inputs, wave.input: wave},
            files=files,
            quarantine={name: file for name, file in quarantine.items() if name not in gone},
            rows_read=self.rows_read + commit.rows_read,
            rows_removed=self.rows_removed + sum(known[name].rows for name in gone),
            counts={column: dict(seen) for column, seen in counts.items()},
            skipped={**kept, **{file.path: file for file in commit.skipped}},
        )


class CommitLog:
    """The log of one generation of an output.

    Parameters
    ----------
    folder : Location
        Snapshot folder of the generation.
    """

    def __init__(self, folder: Location) -> None:
        self._log = folder / "log"
        self.state = Snapshot()
        self.last: Commit | None = None
        # What `last` found; unknown, and so empty, where the log begins with it.
        self.before_last = Snapshot()

    def read(self) -> None:
        """Read the state; nothing there is the state before the first commit.

        Raises
        ------
        CommitError
            If a file of the log is missing or damaged.
        """
        names = [info.base_name for info in self._log.list() if not info.base_name.startswith(".")]
        states = sorted(_number(name) for name in names if name.endswith(".state.json"))
        commits = sorted(_number(name) for name in names if not name.endswith(".state.json"))
        self.state = self._load(Snapshot, states[-1]) if states else Snapshot()
        self.last = None
        if states and states[-1] in commits:
            self.last = self._load(Commit, states[-1])
        for number in (number for number in commits if number > self.state.number):
            if number != self.state.number + 1:
                raise _broken(f"no commit {self.state.number + 1} before commit {number}")
            self.last, self.before_last = self._load(Commit, number), self.state
            if unknown := set(self.last.removed) - {*self.state.files, *self.state.quarantine}:
                raise _broken(f"{len(unknown)} unknown files that commit {number} removes")
            self.state = self.state.after(self.last)

    def append(self, commit: Commit) -> None:
        """Write a commit; from then on it holds.

        Parameters
        ----------
        commit : Commit

        Raises
        ------
        CommitError
            If somebody else wrote that commit.
        """
        state = self.state.after(commit)
        content = commit.model_dump_json(indent=1).encode() + b"\n"
        if not _create(self._log / _name(commit.number), content):
            raise CommitError(
                "another run wrote to this output meanwhile",
                got=f"its commit {commit.number}",
                remedy="nothing of this wave was committed; run again",
            )
        self.last, self.before_last, self.state = commit, self.state, state

    def compact(self) -> None:
        """Write the state out if it is time to, and remove what it makes superfluous."""
        if (self.state.number + 1) % _EVERY:
            return
        state = self._log / _name(self.state.number, state=True)
        state.write_atomic(self.state.model_dump_json().encode())
        for info in self._log.list():
            is_old = not info.base_name.startswith(".") and _number(info.base_name) < self.state.number
            # Hidden ones are what a killed process was about to write.
            if is_old or info.base_name.startswith("."):
                (self._log / info.base_name).delete()

    def _load(self, kind: type[_T], number: int) -> _T:
        name = _name(number, state=kind is Snapshot)
        try:
            found = kind.model_validate_json((self._log / name).read_bytes())
        except (OSError, ValidationError) as error:
            raise _broken(f"{type(error).__name__} from log/{name}") from None
        if found.number != number:  # type: ignore[attr-defined]
            raise _broken(f"another number in log/{name}")
        return found


def _create(file: Location, content: bytes) -> bool:
    """Write a file that must not be there yet; say whether it was not."""
    if not file.is_local:
        if file.exists():
            return False
        file.write_atomic(content)
        return True
    file.filesystem.create_dir(file.parent.path, recursive=True)
    beside = file.parent / f".{file.name}.{uuid.uuid4().hex[:8]}"
    beside.write_bytes(content)
    try:
        os.link(beside.path, file.path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if file.exists():
            return False
        file.write_atomic(content)
    finally:
        with contextlib.suppress(OSError):
            beside.delete()
    return True


def _name(number: int, *, state: bool = False) -> str:
    return f"{number:012d}.state.json" if state else f"{number:012d}.json"


def _number(name: str) -> int:
    number = name.partition(".")[0]
    if not (number.isascii() and number.isdigit()):
        raise _broken(f"the unknown file log/{name}")
    return int(number)


def _broken(got: str) -> DamagedOutputError:
    return DamagedOutputError(
        "the log of an output is damaged",
        got=got,
        expected="what earlier runs wrote",
        remedy="restore the _lakevec folder, or start over with --full-refresh",
    )
