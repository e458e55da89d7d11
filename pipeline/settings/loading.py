"""Load settings from a YAML file and the command line, and explain their errors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from lakevec.pipeline.errors import SettingsError, did_you_mean
from lakevec.pipeline.redaction import redact, redact_values
from lakevec.pipeline.settings.base import POSITIONAL, Settings, describe, has_flag

S = TypeVar("S", bound=Settings)

_LONGEST_VALUE = 200


class _Loader(yaml.SafeLoader):
    """YAML without aliases. With aliases, ten lines can stand for billions of values."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(
                problem="an alias; expected every value written out", problem_mark=event.start_mark
            )
        return super().compose_node(parent, index)


def load_settings(kind: type[S], file: str | None, overrides: dict[str, Any]) -> S:
    """Build a command's settings from a YAML file and the command line. The command line overrides the file.

    Raises
    ------
    SettingsError
        If the file can't be read, a key is unknown or missing, or a value is not allowed.
    """
    from_file = _read_yaml(file) if file else {}
    try:
        return kind.model_validate(kind.merge(from_file, overrides))
    except ValidationError as error:
        problem = error.errors()[0]
        if not problem["loc"]:  # a rule about several keys
            raise SettingsError(problem["msg"].removeprefix("Value error, ")) from None
        key = str(problem["loc"][0])
        source = Path(file).name if file and key in from_file and key not in overrides else "options"
        raise _settings_error(kind, source, key, dict(problem)) from None


def _read_yaml(file: str) -> dict[str, Any]:
    """Read a YAML mapping; an empty file is an empty mapping."""
    try:
        content = yaml.load(Path(file).read_text(encoding="utf-8"), _Loader)  # noqa: S506  (_Loader is safe)
    except FileNotFoundError:
        raise SettingsError(
            f"configuration file {file!r} does not exist", remedy="give --config an existing YAML file"
        ) from None
    # PyYAML raises all of these, for example for "2020-13-45", "!!bool maybe" or a thousand brackets.
    except (OSError, yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as error:
        raise SettingsError(
            f"configuration file {file!r} is not readable YAML", got=_describe(error)
        ) from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise SettingsError(
            f"configuration file {file!r}",
            got=type(content).__name__,
            expected="a mapping of setting names to values",
        )
    return content


def _describe(error: Exception) -> str:
    """Describe an error and its place, but quote nothing of the file, which may hold secrets."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        found = ", ".join(part for part in (error.context, error.problem) if part)
        # Single characters and YAML's own tokens, such as '<scalar>', stay.
        found = re.sub(r"'[^']*'|\"[^\"]*\"", _hide_quoted, found)
        return f"{found}, in line {mark.line + 1}, column {mark.column + 1}" if mark else found
    reason = error.strerror if isinstance(error, OSError) else None
    return reason or type(error).__name__


def _hide_quoted(found: re.Match[str]) -> str:
    return found[0] if len(found[0]) <= len("'x'") or found[0][1] == "<" else "'...'"


def _settings_error(kind: type[Settings], source: str, key: str, problem: dict[str, Any]) -> SettingsError:
    """Turn an error of pydantic into a SettingsError."""
    if problem["type"] == "extra_forbidden":
        known = sorted(kind.model_fields)
        return SettingsError(
            f"{source}: unknown key {key!r}",
            expected=f"one of {', '.join(known)}",
            remedy=did_you_mean(key, known),
        )
    if problem["type"] == "missing":
        field = kind.model_fields[key]
        option = key.upper() if has_flag(field, POSITIONAL) else f"--{key.replace('_', '-')}"
        [first, *_] = describe(field).rstrip(".").split(". ")
        return SettingsError(
            f"{source}: {key!r} is missing",
            expected=first[:1].lower() + first[1:],
            remedy=f"give {option} or put {key!r} into the configuration file",
        )
    message = problem["msg"].removeprefix("Value error, ")
    return SettingsError(f"{source}: {key!r} is not allowed: {message}", got=_show(key, problem["input"]))


def _show(key: str, value: object) -> str:
    """Show a refused value, or only its type if it may hold secrets or is huge."""
    if key in ("conf", "option"):
        return type(value).__name__
    try:
        shown = redact(repr(redact_values(value)))
    except ValueError:  # an integer of thousands of digits
        return type(value).__name__
    return shown if len(shown) <= _LONGEST_VALUE else f"{shown[:_LONGEST_VALUE]}..."
