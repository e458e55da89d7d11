"""From settings models to command lines: every job's options, help and error text come from one place."""

from __future__ import annotations

import argparse
import sys
import traceback
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar

from pydantic_core import PydanticUndefined

from lakevec import __version__
from lakevec.pipeline.errors import LakevecError, SettingsError, describe_failure
from lakevec.pipeline.redaction import MASK, is_secret, redact, remember
from lakevec.pipeline.settings import Settings, is_positional
from lakevec.pipeline.settings.loading import load_settings

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Call(Generic[S]):
    """A job's settings and how it shall behave.

    Parameters
    ----------
    settings : Settings
        Effective settings: defaults, then the file, then the command line.
    verbose : bool
        Whether to show Spark's log and full tracebacks.
    dry_run : bool
        Whether to stop after saying what would be done.
    """

    settings: S
    verbose: bool
    dry_run: bool


class _Parser(argparse.ArgumentParser):
    """An argument parser that reports errors as lakevec does."""

    def error(self, message: str) -> NoReturn:
        # Of words that no option takes, some may be the rest of a secret.
        known, unrecognized, words = message.partition("unrecognized arguments: ")
        shown = " ".join(_without_values(words.split(" "))) if unrecognized else ""
        raise SettingsError(f"{known}{unrecognized}{shown}", remedy=f"see {self.prog} --help")


def run_job(
    kind: type[S], body: Callable[[Call[S]], None], argv: Sequence[str] | None, *, name: str, summary: str
) -> int:
    """Parse a command line, run the job, and turn errors into one line and an exit code.

    Parameters
    ----------
    kind : type
        The job's settings.
    body : callable
        The job; gets a `Call`.
    argv : sequence of str or None
        Words of the command line; None takes the process's.
    name : str
        Word of the job: ``lakevec NAME``.
    summary : str
        First lines of ``--help``.

    Returns
    -------
    int
        0 done, 1 failed, 2 usage or configuration, 3 another run is at work.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    verbose = "--verbose" in words
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _show_redacted
    try:
        body(_parse(kind, words, name, summary))
    except LakevecError as error:
        if verbose:
            print(redact(traceback.format_exc()), file=sys.stderr)
        print(_one_line(f"lakevec {name}: {error}"), file=sys.stderr)
        return error.exit_code
    except Exception as error:
        # Its text may hold what a row or a file holds; the place says enough to look for.
        if verbose:
            print(redact(traceback.format_exc()), file=sys.stderr)
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{'/'.join(frame.filename.split('/')[-2:])}:{frame.lineno} in {frame.name}"
        told = f"unexpected {describe_failure(_first_cause(error))} at {place}"
        print(
            _one_line(f"lakevec {name}: {redact(told)}; run with --verbose for the traceback"),
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print(f"lakevec {name}: interrupted", file=sys.stderr)
        return 1
    return 0


def _show_redacted(
    kind: type[BaseException], error: BaseException, trace: types.TracebackType | None
) -> None:
    """Print the traceback of an error that nobody expected, as Python does, without secrets."""
    print(redact("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)


def _without_values(words: list[str]) -> list[str]:
    """Mask words that follow the name of a secret."""
    shown: list[str] = []
    is_hidden = False
    for word in words:
        name, equals, value = word.partition("=")
        if name.startswith("-") or equals:
            is_hidden = is_secret(name, value or "x")
            shown.append(f"{name}={MASK}" if is_hidden and equals else word)
        else:
            shown.append(MASK if is_hidden else word)
    return shown


def _first_cause(error: Exception) -> Exception:
    """Return what the system reported, if that is behind an error, else the error."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    return cause or error


def _one_line(message: str) -> str:
    """Write out line ends, terminal codes and halves of characters, which names in files may hold."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in message)


def _parse(kind: type[S], words: list[str], name: str, summary: str) -> Call[S]:
    parser = _Parser(
        prog=f"lakevec {name}",
        description=summary,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    for field_name, field in kind.model_fields.items():
        _add_option(parser, field_name, field)
    parser.add_argument(
        "--config", default=None, metavar="FILE", help="YAML file of these settings; options win over it"
    )
    parser.add_argument(
        "--dry-run", action="store_true", default=False, help="say what would be done, and stop"
    )
    parser.add_argument(
        "--verbose", action="store_true", default=False, help="show Spark's log and full tracebacks"
    )
    parser.add_argument("--version", action="version", version=f"lakevec {__version__}")
    given = vars(parser.parse_args(words))
    config, verbose, dry_run = given.pop("config"), given.pop("verbose"), given.pop("dry_run")
    overrides = {key: _gather(kind, key, value) for key, value in given.items()}
    settings = load_settings(kind, config, overrides)
    for value in settings.model_dump().values():
        remember(value)
    return Call(settings, verbose, dry_run)


def _add_option(parser: argparse.ArgumentParser, name: str, field: Any) -> None:
    """Add the option of one settings field."""
    flag = f"--{name.replace('_', '-')}"
    base = _base_type(field.annotation)
    text = str(field.description)
    if field.default is not PydanticUndefined and field.default is not None:
        shown = {True: "yes", False: "no"}[field.default] if base is bool else field.default
        text += f" (default: {shown})"
    text = text.replace("%", "%%")
    if is_positional(field):
        # Not required here: it may stand in the file.
        parser.add_argument(name, nargs="?", metavar=name.upper(), help=text)
    elif base is bool:
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, help=text)
    elif base in (list, dict):
        metavar = "KEY=VALUE" if base is dict else name.upper()
        element = _element_type(field.annotation)
        choices = typing.get_args(element) if typing.get_origin(element) is typing.Literal else None
        kind = int if element is int else str
        parser.add_argument(
            flag, action="extend", nargs="+", metavar=metavar, type=kind, choices=choices, help=text
        )
    elif typing.get_origin(base) is typing.Literal:
        parser.add_argument(flag, choices=typing.get_args(base), help=text)
    else:
        parser.add_argument(
            flag, type=base, metavar={int: "N", float: "X"}.get(base, name.upper()), help=text
        )


def _base_type(annotation: Any) -> Any:
    """Strip Annotated and Optional: what one value on the command line is."""
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        kinds = [kind for kind in typing.get_args(annotation) if kind is not type(None)]
        # Where a word may be of several kinds, the settings' own validation tells which.
        return _base_type(kinds[0]) if len(kinds) == 1 else str
    origin = typing.get_origin(annotation)
    return origin if origin in (list, dict) else annotation


def _element_type(annotation: Any) -> Any:
    """Return what a list's elements are; a string where it is no list."""
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) is list else str


def _gather(kind: type[Settings], key: str, value: Any) -> Any:
    """Turn the words of a repeated option into the list or mapping that is meant."""
    base = _base_type(kind.model_fields[key].annotation)
    if base is dict:
        pairs = [word.partition("=") for word in value]
        for word, (_, equals, _) in zip(value, pairs, strict=True):
            if not equals:
                is_told = "".join(_without_values(value)) == "".join(value) and not is_secret(word, "x")
                shown = repr(word) if is_told else "a word without ="
                raise SettingsError(f"--{key.replace('_', '-')}", got=shown, expected="KEY=VALUE")
        return {left: right for left, _, right in pairs}
    if key == "keep":
        return [name for word in value for name in word.split(",") if name]
    return value
