"""Command lines: the options, help and errors of each command, from its settings class."""

from __future__ import annotations

import argparse
import inspect
import re
import types
import typing
from typing import Any, NoReturn, TypeVar

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from lakevec import __version__
from lakevec.pipeline.errors import SettingsError
from lakevec.pipeline.redaction import MASK, is_secret
from lakevec.pipeline.settings.base import COMMAS, POSITIONAL, Settings, describe, has_flag
from lakevec.pipeline.settings.loading import load_settings

S = TypeVar("S", bound=Settings)
_METAVARS = {int: "N", float: "X"}


class _Parser(argparse.ArgumentParser):
    """An argument parser that raises SettingsError."""

    def error(self, message: str) -> NoReturn:
        # An unrecognized argument may be part of a secret.
        known, unrecognized, words = message.partition("unrecognized arguments: ")
        shown = " ".join(_mask_values(words.split(" "))) if unrecognized else ""
        raise SettingsError(f"{known}{unrecognized}{shown}", remedy=f"see {self.prog} --help")


def parse(kind: type[S], words: list[str], name: str) -> tuple[S, bool, bool]:
    """Parse command-line arguments; return settings, ``verbose`` and ``dry_run``."""
    given = vars(make_parser(kind, name).parse_args(words))
    config, verbose, dry_run = (given.pop(key, None) for key in ("config", "verbose", "dry_run"))
    overrides = {key: _collect(kind.model_fields[key], key, value) for key, value in given.items()}
    return load_settings(kind, config, overrides), bool(verbose), bool(dry_run)


def make_parser(kind: type[Settings], name: str) -> argparse.ArgumentParser:
    """Make a command's parser: an option for each setting, and the options of all commands."""
    parser = _Parser(
        prog=f"lakevec {name}",
        description=re.sub(r"^(Examples?)\n-+$", r"\1:", inspect.getdoc(kind) or "", flags=re.MULTILINE),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    for title, fields in kind.groups():
        group = parser.add_argument_group(title) if title else parser
        for field_name, field in fields.items():
            _add_option(group, field_name, field)
    group = parser.add_argument_group("All commands")
    group.add_argument("--config", metavar="FILE", help="YAML file of these settings. Options override it.")
    group.add_argument("--dry-run", action="store_true", help="Describe the run, and stop.")
    group.add_argument("--verbose", action="store_true", help="Show Spark's log and full tracebacks.")
    group.add_argument("--version", action="version", version=f"lakevec {__version__}")
    return parser


def _add_option(parser: Any, name: str, field: FieldInfo) -> None:
    """Add the option of one settings field."""
    text = describe(field)
    if field.default is not PydanticUndefined and field.default is not None:
        shown = {True: "yes", False: "no"}[field.default] if field.annotation is bool else field.default
        text += f" (default: {shown})"
    text = text.replace("%", "%%")
    if has_flag(field, POSITIONAL):
        # Optional for argparse, since the configuration file may set it.
        parser.add_argument(name, nargs="?", metavar=name.upper(), help=text)
    else:
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, help=text, **_parsing(field.annotation, name.upper()))


def _parsing(annotation: Any, metavar: str) -> dict[str, Any]:
    """Return the arguments of ``add_argument`` for a type."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _parsing(parts[0], metavar)
    if origin in (types.UnionType, typing.Union):
        kinds = [kind for kind in parts if kind is not type(None)]
        # If several types are possible, the settings' validation chooses.
        return _parsing(kinds[0] if len(kinds) == 1 else str, metavar)
    if origin is typing.Literal:
        return {"choices": parts}
    if origin is list:
        return {"metavar": metavar, **_parsing(parts[0], metavar), "action": "extend", "nargs": "+"}
    if origin is dict:
        return {"metavar": "KEY=VALUE", "action": "extend", "nargs": "+"}
    if annotation is bool:
        return {"action": argparse.BooleanOptionalAction}
    return {"type": annotation, "metavar": _METAVARS.get(annotation, metavar)}


def _collect(field: FieldInfo, key: str, value: Any) -> Any:
    """Turn the values of a repeated option into a list or mapping."""
    if typing.get_origin(field.annotation) is dict:
        pairs = [word.partition("=") for word in value]
        for word, (_, equals, _) in zip(value, pairs, strict=True):
            if not equals:
                is_shown = "".join(_mask_values(value)) == "".join(value) and not is_secret(word, "x")
                shown = repr(word) if is_shown else "a word without ="
                raise SettingsError(f"--{key.replace('_', '-')}", got=shown, expected="KEY=VALUE")
        return {left: right for left, _, right in pairs}
    if has_flag(field, COMMAS):
        return [name for word in value for name in word.split(",") if name]
    return value


def _mask_values(words: list[str]) -> list[str]:
    """Mask the values that follow the name of a secret."""
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
