"""All errors that lakevec raises on purpose.

Every message has the shape *what; got; expected; what to do*. None holds a user's text or a secret.

::

    LakevecError                exit code 1
    ├── UsageError              exit code 2: nothing was started
    │   ├── SettingsError       a configuration file or an option
    │   ├── SetupError          something is not installed
    │   ├── ModelError          a model folder: missing, damaged, not ours
    │   ├── TeacherError        a teacher that can't be distilled
    │   ├── InputError          input paths, format, columns
    │   └── OutputError         an output that exists or can't be written
    ├── DataError               invalid data, found while the run reads them
    │   └── UnreadableFileError an input file that can't be read
    ├── FidelityError           a table whose fidelity to its teacher is too low
    ├── CommitError             written files that differ from their tasks' reports
    │   └── DamagedOutputError  exit code 2: an output that another program changed
    └── BusyError               exit code 3: another run writes to the output
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from lakevec.pipeline.redaction import redact


class LakevecError(Exception):
    """Base of all errors that lakevec raises on purpose.

    Parameters
    ----------
    what : str
        The problem and its place.
    got, expected, remedy : str, optional
        The value found, the values allowed, and the user's next step.

    Attributes
    ----------
    got : str
        As given; it may hold a secret until another error shows it.

    Examples
    --------
    >>> str(LakevecError("dimensions", got="500", expected="at most 384", remedy="lower it"))
    'dimensions: got 500; expected at most 384; lower it'
    """

    exit_code = 1

    def __init__(self, what: str, *, got: str = "", expected: str = "", remedy: str = "") -> None:
        self.got = got
        facts = [f"got {got}" if got else "", f"expected {expected}" if expected else "", remedy]
        details = "; ".join(fact for fact in facts if fact)
        super().__init__(redact(f"{what}: {details}" if details else what))


def one_line(reason: object, limit: int = 300) -> str:
    """Return text, such as another library's error, on one line of at most `limit` characters."""
    return " ".join(str(reason).split())[:limit]


def describe_failure(error: Exception) -> str:
    """Describe an error of a file system or a store; other errors by type only, since they may quote a file.

    Examples
    --------
    >>> describe_failure(PermissionError(13, "Permission denied")), describe_failure(ValueError("a,b"))
    ('PermissionError, Permission denied', 'ValueError')
    """
    kind = type(error).__name__
    if not isinstance(error, OSError):
        return kind
    # Stores' errors have no strerror; pyarrow's text names the place and the store's own code.
    reason = one_line(error.strerror or error)
    return f"{kind}, {reason}" if reason else kind


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Suggest the known name that is closest to a misspelled one, ignoring case.

    Examples
    --------
    >>> did_you_mean("Txet", ["text", "id"])
    "did you mean 'text'?"
    """
    by_case = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), by_case, n=1)
    return f"did you mean {by_case[near[0]]!r}?" if near else otherwise


class UsageError(LakevecError):
    """The command can't start with these arguments."""

    exit_code = 2


class SettingsError(UsageError):
    """A configuration file or an option is invalid."""


class SetupError(UsageError):
    """A package or program that this command needs is missing."""


class ModelError(UsageError):
    """A model folder is missing, damaged or not a lakevec model."""


class TeacherError(UsageError):
    """A teacher can't be loaded or distilled."""


class InputError(UsageError):
    """An input path, format or column is invalid."""


class OutputError(UsageError):
    """An output exists already or can't be written."""


class DataError(LakevecError):
    """The data contain something that can't be processed."""


class UnreadableFileError(DataError):
    """An input file can't be read.

    Parameters
    ----------
    path : str
        The file, as Spark names it.
    told : str, default=""
        Spark's whole message, which may hold secrets.
    """

    def __init__(self, path: str, told: str = "") -> None:
        self.told = told
        super().__init__(
            "an input file can't be read",
            got=path,
            expected="a readable file of the --format given",
            remedy="repair or remove it, or leave it out with --on-bad-file skip; then run again",
        )


class FidelityError(LakevecError):
    """A table's fidelity to its teacher is below the threshold; nothing was published."""


class BusyError(LakevecError):
    """Another run writes to the same output; try again later."""

    exit_code = 3


class CommitError(LakevecError):
    """Files differ from what their tasks reported, or can't be committed."""


class DamagedOutputError(CommitError):
    """Another program changed an output, so that no run can continue it."""

    exit_code = 2


@contextmanager
def rephrase(
    kind: type[LakevecError],
    what: str,
    *,
    on: type[Exception] | tuple[type[Exception], ...] = Exception,
    describe: Callable[[Exception], object] | None = None,
    expected: str = "",
    remedy: str = "",
) -> Iterator[None]:
    """Turn another library's errors into one of ours that quotes them on one line.

    With the default `on`, the message names the error's class, too, since its text may be a bare key.

    Parameters
    ----------
    kind : type
        Class of the new error.
    what, expected, remedy : str
        As in `LakevecError`.
    on : type or tuple of types, default=Exception
        Errors to catch. Those of lakevec always pass.
    describe : callable, optional
        Replaces the quoted text, such as `describe_failure`.
    """
    try:
        yield
    except LakevecError:
        raise
    except on as reason:
        named = f"{type(reason).__name__}, {reason}" if on is Exception else reason
        got = describe(reason) if describe else named
        raise kind(what, got=one_line(got), expected=expected, remedy=remedy) from None


@contextmanager
def requires_extra(extra: str, doing: str) -> Iterator[None]:
    """Turn a failed import into a `SetupError` that names the package and how to install it.

    Parameters
    ----------
    extra : str
        Extra of lakevec that brings the package.
    doing : str
        Subject of the message, as in "tuning" or "--metrics".
    """
    try:
        yield
    except ImportError as error:
        raise SetupError(
            f"{doing} needs {error.name or 'a package'}, which is not installed",
            remedy=f"pip install 'lakevec[{extra}]'",
        ) from None


@contextmanager
def library_errors(message: str) -> Iterator[None]:
    """Report any error of another library as CommitError with its type only: its text may hold a secret.

    Parameters
    ----------
    message : str
        What can't be done.
    """
    try:
        yield
    except LakevecError:
        raise
    except Exception as error:  # of a database, a web service or a store
        raise CommitError(
            message,
            got=type(error).__name__,
            remedy="run again; lakevec writes a logged commit only once",
        ) from error
