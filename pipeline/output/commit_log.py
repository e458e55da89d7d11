"""The commit log of an output: one file per commit, and snapshots of the content after earlier commits.

Layout, below the state folder of a generation::

    log/000000000041.json         commit 41
    log/000000000040.state.json   snapshot after commit 40

A commit is valid as soon as its file exists. After every `SNAPSHOT_EVERY` commits the log writes a snapshot
and removes older files, so its length stays bounded.
"""

from __future__ import annotations

import contextlib
import uuid
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from lakevec.pipeline.errors import CommitError, DamagedOutputError
from lakevec.pipeline.output.file_entry import Counts, FileEntry, check_name, merge_counts
from lakevec.pipeline.storage import Location

SNAPSHOT_EVERY = 20


def _check_entry(entry: FileEntry) -> FileEntry:
    check_name(entry.name)
    return entry


FileName = Annotated[str, AfterValidator(check_name)]
CheckedEntry = Annotated[FileEntry, AfterValidator(_check_entry)]
# A plain word, since it names a folder.
RunId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InputFile(_Record):
    """An input file that a run skipped because it can't be read."""

    input: str = Field(description="id of the input that lists the file")
    path: str
    bytes: int
    modified: str = Field(description="modification time that Spark reports")
    reason: str


class InputBatch(_Record):
    """The input rows of a commit: one micro-batch of a stream, or the whole input (batch -1)."""

    input: str
    batch: int = -1
    query: str = ""
    uri: str = ""
    format: str = ""
    option: dict[str, str] = Field(default_factory=dict)


class StoredFile(_Record):
    """The recorded rows, size and checksum of an output file, and the run that wrote it.

    `texts` is the number of texts whose first chunk is in the file; None if the file has a row per text.
    """

    rows: int
    bytes: int
    sha256: str = ""
    run: str = Field(default="", description="empty for a file that another program wrote")
    texts: int | None = None

    @property
    def input_rows(self) -> int:
        """Rows of the input that the file stands for."""
        return self.rows if self.texts is None else self.texts


class Others(_Record):
    """The files that other programs removed from a table, and those that they wrote."""

    removed: list[FileName] = Field(default_factory=list)
    added: dict[FileName, StoredFile] = Field(default_factory=dict)

    def __bool__(self) -> bool:
        """Return whether other programs changed anything."""
        return bool(self.removed or self.added)


class Commit(_Record):
    """A change of an output: files added and files removed.

    Parameters
    ----------
    number : int
        Position in the log, from 0.
    run : str
        The run that made the commit.
    wave : InputBatch
        The rows of the input that the commit holds.
    rows_read : int
        Rows that Spark read for the commit.
    added : list of FileEntry
        Files with rows, and files with quarantined rows.
    removed : list of str
        Names of files whose rows the commit replaces.
    skipped : list of InputFile
        Input files that this commit records as unreadable.
    retaken : list of str
        Paths of input files that an earlier commit skipped and this one holds.
    others : Others or None
        What other programs changed in the table before this commit.
    """

    number: int
    run: RunId
    wave: InputBatch
    rows_read: int
    added: list[CheckedEntry]
    removed: list[FileName] = Field(default_factory=list)
    skipped: list[InputFile] = Field(default_factory=list)
    retaken: list[str] = Field(default_factory=list)
    others: Others | None = None

    def to_json(self) -> str:
        """Return the commit as JSON."""
        # Earlier versions refuse the unknown key, so write it only where it is needed.
        return self.model_dump_json(indent=1, exclude_none=True, exclude=set() if self.others else {"others"})


class Snapshot(_Record):
    """The content of an output after a commit.

    Parameters
    ----------
    number : int, default=-1
        The last commit.
    inputs : dict of str to InputBatch
        The last micro-batch of each input.
    files : dict of str to StoredFile
        Files with rows.
    quarantine : dict of str to StoredFile
        Files with rows that could not be embedded.
    rows_read : int
        Rows that all commits read.
    rows_removed : int
        Input rows of the files that commits replaced.
    rows_others : int
        Input rows of files that other programs added to the table, less those of files that they removed.
    counts : dict of str to dict of str to int
        Counts of all commits for each text column, such as nulls and tokens.
    skipped : dict of str to InputFile
        Skipped input files, by path.
    """

    number: int = -1
    inputs: dict[str, InputBatch] = Field(default_factory=dict)
    files: dict[FileName, StoredFile] = Field(default_factory=dict)
    quarantine: dict[FileName, StoredFile] = Field(default_factory=dict)
    rows_read: int = 0
    rows_removed: int = 0
    rows_others: int = 0
    counts: Counts = Field(default_factory=dict)
    skipped: dict[str, InputFile] = Field(default_factory=dict)

    @property
    def all_files(self) -> dict[str, StoredFile]:
        """Files of the output, and files in quarantine."""
        return self.files | self.quarantine

    @property
    def rows(self) -> int:
        """Rows of the output."""
        return sum(file.rows for file in self.files.values())

    @property
    def input_rows(self) -> int:
        """Rows of the input that the output holds: fewer than `rows` if texts have several chunks."""
        return sum(file.input_rows for file in self.files.values())

    @property
    def rows_quarantined(self) -> int:
        """Rows of the quarantine files."""
        return sum(file.rows for file in self.quarantine.values())

    @property
    def bytes(self) -> int:
        """Size of the output's files, without quarantine."""
        return sum(file.bytes for file in self.files.values())

    def to_json(self) -> str:
        """Return the snapshot as JSON."""
        return self.model_dump_json(exclude_none=True, exclude=set() if self.rows_others else {"rows_others"})

    def has(self, wave: InputBatch) -> bool:
        """Return whether a commit has this micro-batch, the last one of its input."""
        known = self.inputs.get(wave.input)
        return known is not None and 0 <= wave.batch == known.batch

    def check_follows(self, wave: InputBatch) -> None:
        """Raise DamagedOutputError unless a micro-batch repeats or follows the last one of its input."""
        known = self.inputs.get(wave.input)
        batch, query = (known.batch, known.query) if known else (-1, wave.query)
        if wave.batch not in (batch, batch + 1) or (batch >= 0 and wave.query != query):
            raise DamagedOutputError(
                "Spark's checkpoint belongs to another output",
                got=f"batch {wave.batch} of query {wave.query}",
                expected=f"batch {batch + 1} of query {query}",
                remedy="give the --checkpoint that the output was written with, or use --full-refresh",
            )

    def changed_by(self, others: Others) -> Snapshot:
        """Return the snapshot after other programs changed the table; a second time changes nothing."""
        removed = {name: self.files[name] for name in others.removed if name in self.files}
        added = {name: file for name, file in others.added.items() if name not in self.files}
        files = {name: file for name, file in self.files.items() if name not in removed}
        rows = sum(file.input_rows for file in added.values())
        rows -= sum(file.input_rows for file in removed.values())
        return self.model_copy(update={"files": files | added, "rows_others": self.rows_others + rows})

    def after(self, commit: Commit) -> Snapshot:
        """Return the snapshot after `commit`."""
        if commit.others:
            return self.changed_by(commit.others).after(commit.model_copy(update={"others": None}))
        known = self.all_files
        removed, retaken = set(commit.removed), set(commit.retaken)
        files = {name: file for name, file in self.files.items() if name not in removed}
        quarantine = dict(self.quarantine)
        for entry in commit.added:
            kept = {name: getattr(entry, name) for name in ("rows", "bytes", "sha256", "texts")}
            stored = StoredFile(**kept, run=commit.run)
            (quarantine if entry.is_quarantine else files)[entry.name] = stored
        skipped = {path: file for path, file in self.skipped.items() if path not in retaken}
        wave, before = commit.wave, self.inputs.get(commit.wave.input)
        if before is not None and before.batch > wave.batch:  # a retry of skipped files
            wave = before
        return Snapshot.model_construct(  # its parts are validated already
            number=commit.number,
            inputs={**self.inputs, wave.input: wave},
            files=files,
            quarantine={name: file for name, file in quarantine.items() if name not in removed},
            rows_read=self.rows_read + commit.rows_read,
            rows_removed=self.rows_removed + sum(known[name].input_rows for name in removed),
            rows_others=self.rows_others,
            counts=merge_counts([self.counts, *(entry.counts for entry in commit.added)]),
            skipped={**skipped, **{file.path: file for file in commit.skipped}},
        )


_T = TypeVar("_T", Commit, Snapshot)


class CommitLog:
    """The log of one generation of an output.

    Parameters
    ----------
    folder : Location
        State folder of the generation.

    Attributes
    ----------
    state : Snapshot
        The content after the last commit; empty before the first.
    last : Commit or None
    before_last : Snapshot
        The content before `last`; empty if the log begins with that commit. What other programs changed
        before that commit is in it.

    Raises
    ------
    DamagedOutputError
        If a file of the log is missing or damaged.
    """

    def __init__(self, folder: Location) -> None:
        self._log = folder / "log"
        self._others = Others()
        self.read()

    def read(self) -> None:
        """Read the log again."""
        self.before_last = Snapshot()
        names = [name for name in self._log.names() if not name.startswith(".")]
        states = sorted(_number(name) for name in names if name.endswith(".state.json"))
        commits = sorted(_number(name) for name in names if not name.endswith(".state.json"))
        self.state = self._load(Snapshot, states[-1]) if states else Snapshot()
        self.last = self._load(Commit, states[-1]) if states and states[-1] in commits else None
        for number in commits:
            if number <= self.state.number:
                continue
            if number != self.state.number + 1:
                raise _broken(f"no commit {self.state.number + 1} before commit {number}")
            self.last = self._load(Commit, number)
            self.before_last = self.state.changed_by(self.last.others or Others())
            if unknown := set(self.last.removed) - self.before_last.all_files.keys():
                raise _broken(f"commit {number} removes {len(unknown)} unknown files")
            self.state = self.before_last.after(self.last)

    def adopt(self, others: Others) -> None:
        """Take into the state what other programs changed; the next commit records it."""
        self._others = others
        self.state = self.state.changed_by(others)

    def append(self, commit: Commit) -> None:
        """Write the file that makes a commit valid; raise CommitError if another run wrote this commit."""
        if self._others:
            commit = commit.model_copy(update={"others": self._others})
        state = self.state.after(commit)
        content = commit.to_json().encode() + b"\n"
        if not _create(self._log / _name(commit.number), content):
            raise CommitError(
                "another run wrote to this output meanwhile",
                got=f"its commit {commit.number}",
                remedy="nothing of this micro-batch was committed; run again",
            )
        self.last, self.before_last, self.state = commit, self.state, state
        self._others = Others()

    def undo(self) -> None:
        """Remove the last commit, which no reader has seen."""
        if self.last is not None:
            (self._log / _name(self.last.number)).delete()
            self.read()

    def compact(self) -> None:
        """After every `SNAPSHOT_EVERY` commits, write a snapshot and remove older files."""
        if (self.state.number + 1) % SNAPSHOT_EVERY:
            return
        state = self._log / _name(self.state.number, state=True)
        state.write_atomic(self.state.to_json().encode())
        for name in sorted(self._log.names()):
            # A killed process left hidden files half-written.
            if name.startswith(".") or _number(name) < self.state.number:
                (self._log / name).delete()

    def _load(self, kind: type[_T], number: int) -> _T:
        name = _name(number, state=kind is Snapshot)
        try:
            found = kind.model_validate_json((self._log / name).read_bytes())
        except (OSError, ValidationError) as error:
            raise _broken(f"{type(error).__name__} from log/{name}") from None
        if found.number != number:
            raise _broken(f"another number in log/{name}")
        return found


def _create(file: Location, content: bytes) -> bool:
    """Write a new file; return False if it exists."""
    if file.is_local:
        beside = file.parent / f".{file.name}.{uuid.uuid4().hex[:8]}"
        beside.filesystem.create_dir(beside.parent.path, recursive=True)
        beside.write_bytes(content)
        try:
            # Unlike a rename, a link never replaces a file.
            if beside.link_to(file):
                return True
        except FileExistsError:
            return False
        finally:
            with contextlib.suppress(OSError):
                beside.delete()
    if file.exists():
        return False
    file.write_atomic(content)
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
        expected="the files that earlier runs wrote",
        remedy="restore the _lakevec folder, or start over with --full-refresh",
    )
