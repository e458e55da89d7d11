"""The console script ``lakevec``: the table of commands, and the function that runs one."""

from __future__ import annotations

import importlib
import os
import select
import sys
import traceback
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import yaml

from lakevec import __version__
from lakevec.jobs.options import parse
from lakevec.pipeline.errors import LakevecError, SettingsError, describe_failure, did_you_mean
from lakevec.pipeline.redaction import redact, remember
from lakevec.pipeline.settings.base import Settings

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Command:
    """A command: its name, the module with its ``SETTINGS`` and ``run``, and its line of help."""

    name: str
    module: str
    help: str


COMMANDS = (
    Command("benchmark", "benchmark", "measure lakevec and its peers on this machine"),
    Command("convert", "convert", "read and write the models of other libraries"),
    Command("count", "count", "count the tokens and words of text columns exactly"),
    Command("demo", "demo", "distil, embed and search the docstrings of installed packages"),
    Command("distill", "distill", "turn a Sentence Transformer into an embedding table"),
    Command("doctor", "doctor", "report what is installed here and what is missing"),
    Command("embed", "embed", "embed text columns of a lake into Parquet, incrementally"),
    Command("evaluate", "evaluate", "measure models on public tasks and on your own rows"),
    Command("export", "export", "write an output's vectors for a vector store"),
    # Not inspect.py: spark-submit puts this folder on the path, where it would hide Python's own module.
    Command("inspect", "inspect_model", "show a model, and check a published one"),
    Command("mine", "mine", "choose frequent words of a lake as a model's vocabulary"),
    Command("search", "search", "find the rows of an output that are nearest to a text"),
    Command("train-head", "train_head", "train a head that labels texts by their vectors"),
    Command("tune", "tune", "fit a table to its teacher on rows of the lake"),
    Command("verify", "verify", "check an output against its log"),
)


@dataclass(frozen=True)
class RunContext:
    """Options of a command besides its settings.

    Parameters
    ----------
    verbose : bool, default=False
        Show Spark's log and full tracebacks.
    dry_run : bool, default=False
        Describe the run, and stop.
    """

    verbose: bool = False
    dry_run: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``lakevec COMMAND ...``; return its exit code, or 2 if there is no such command."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return 0 if words else 2
    if words[0] == "--version":
        print(f"lakevec {__version__}")
        return 0
    names = [command.name for command in COMMANDS]
    if words[0] not in names:
        error = SettingsError(
            f"unknown command {words[0]!r}",
            expected=f"one of {', '.join(names)}",
            remedy=did_you_mean(words[0], names),
        )
        print(f"lakevec: {error}", file=sys.stderr)
        return error.exit_code
    return run_command(words[0], words[1:])


def run_command(name: str, argv: Sequence[str] | None = None) -> int:
    """Run one command with its arguments, by default the process's; return its exit code."""
    module = load_command(name)
    return run_job(module.SETTINGS, module.run, argv, name=name)


def load_command(name: str) -> types.ModuleType:
    """Import a command's module late: `embed` must not import the packages that only `distill` uses."""
    [command] = [command for command in COMMANDS if command.name == name]
    return importlib.import_module(f"lakevec.jobs.{command.module}")


def run_job(
    kind: type[S], body: Callable[[S, RunContext], None], argv: Sequence[str] | None, *, name: str
) -> int:
    """Parse a command line, run a command, and turn errors into one line and an exit code.

    Parameters
    ----------
    kind : type
        Settings class of the command.
    body : callable
        The command's ``run``.
    argv : sequence of str or None
        Arguments after the command's name. Default: the process's.
    name : str
        The command's name, for messages.

    Returns
    -------
    int
        0 done, 1 failed, 2 wrong usage or configuration, 3 another run is writing to the output.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _show_redacted
    try:
        settings, verbose, dry_run = parse(kind, words, name)
        for value in settings.model_dump().values():
            remember(value)
        body(settings, RunContext(verbose, dry_run))
        sys.stdout.flush()
    except KeyboardInterrupt:
        print(f"lakevec {name}: interrupted", file=sys.stderr)
        return 1
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _drop_unread():
            return 1
        if "--verbose" in words:
            print(redact(traceback.format_exc()), file=sys.stderr)
        message = str(error) if isinstance(error, LakevecError) else _unexpected(error)
        print(_printable(f"lakevec {name}: {message}"), file=sys.stderr)
        return error.exit_code if isinstance(error, LakevecError) else 1
    return 0


def format_settings(settings: Settings, *, full: bool = False) -> str:
    """Return the settings that differ from their defaults, or all, as YAML with masked secrets."""
    record = settings.to_record()
    if not full:
        fields = settings.fields()
        record = {
            name: value
            for name, value in record.items()
            if getattr(settings, name) != fields[name].get_default(call_default_factory=True)
        }
    shown = yaml.safe_dump(record, sort_keys=False, allow_unicode=True, width=1000)
    return "settings:\n" + "".join(f"  {line}\n" for line in shown.splitlines()).rstrip("\n")


def _usage() -> str:
    commands = "\n".join(f"  {command.name:<10} {command.help}" for command in COMMANDS)
    usage = "usage: lakevec COMMAND [options]"
    return f"{usage}\n\ncommands:\n{commands}\n\nRun 'lakevec COMMAND --help' for the options of a command."


def _unexpected(error: Exception) -> str:
    """Describe an unexpected error by type and place, since its message may quote rows or files."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{'/'.join(frame.filename.split('/')[-2:])}:{frame.lineno} in {frame.name}"
    return redact(
        f"unexpected {describe_failure(cause or error)} at {place}; run with --verbose for the traceback"
    )


def _printable(message: str) -> str:
    """Escape line ends, terminal codes and lone surrogates, which file names may contain."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in message)


def _drop_unread() -> bool:
    """Return whether the reader of stdout has gone, as after ``| head``. Then drop the rest of the output."""
    try:
        stdout = sys.stdout.fileno()
    except OSError:  # not a file
        return False
    poll = select.poll()
    poll.register(stdout, 0)
    if not any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), stdout)
    return True


def _show_redacted(
    kind: type[BaseException], error: BaseException, trace: types.TracebackType | None
) -> None:
    """Print the traceback of an uncaught error as Python does, without secrets."""
    print(redact("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
