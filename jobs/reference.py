"""Writes ``docs/configuration.md`` and ``conf/*.yaml`` from the settings, for ``make configuration``."""

from __future__ import annotations

import textwrap
import typing
from pathlib import Path
from typing import Any

import yaml
from pydantic.fields import FieldInfo

from lakevec.jobs import cli
from lakevec.pipeline.settings.base import Settings, describe

_SETTINGS = {command.name: cli.load_command(command.name).SETTINGS for command in cli.COMMANDS}
# Commands that have settings of their own.
COMMANDS: dict[str, type[Settings]] = {name: kind for name, kind in _SETTINGS.items() if kind.model_fields}
# Commands for schedules have a file of all their settings.
WITH_FILE = ("count", "distill", "embed", "evaluate", "mine", "train-head", "tune")
_HEAD = """\
# Configuration

Every setting of every command. An option is `--key-name`; a YAML file given with `--config` uses `key_name`.
The command line overrides the file. For each command that schedules run, `conf/` holds a file with all its
settings.

`lakevec` generates this page from the settings: edit `pipeline/settings/`, then run `make configuration`.
"""


def configuration_page() -> str:
    """Return ``docs/configuration.md``."""
    parts = [_HEAD]
    for command, kind in COMMANDS.items():
        summary = str(kind.__doc__).partition("\n")[0]
        parts.append(f"## lakevec {command}\n\n{summary}\n")
        for title, fields in kind.groups():
            rows = "\n".join(_row(name, field) for name, field in fields.items())
            heading = f"**{title}**\n\n" if title else ""
            parts.append(f"{heading}| setting | values | default | |\n|---|---|---|---|\n{rows}\n")
    return "\n".join(parts)


def configuration_file(command: str) -> str:
    """Return ``conf/COMMAND.yaml``: every setting with its description and default."""
    lines = [
        f"# Settings of `lakevec {command} --config {command}.yaml`, with their defaults.",
        "# The command line overrides them. Settings without a default are commented out.",
    ]
    for name, field in COMMANDS[command].fields().items():
        lines += ["", *textwrap.wrap(describe(field), 116, initial_indent="# ", subsequent_indent="# ")]
        if field.is_required():
            lines.append(f"# {name}: {_dump(*(field.examples or []))}")
        else:
            lines.append(f"{name}: {_dump(field.get_default(call_default_factory=True))}")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write all files below the current folder."""
    Path("docs/configuration.md").write_text(configuration_page(), encoding="utf-8")
    for command in WITH_FILE:
        Path(f"conf/{command}.yaml").write_text(configuration_file(command), encoding="utf-8")


def _row(name: str, field: FieldInfo) -> str:
    default = "required"
    if not field.is_required():
        default = f"`{_dump(field.get_default(call_default_factory=True))}`"
    text = describe(field).replace("|", "\\|")
    return f"| `{name}` | {_values(field.annotation)} | {default} | {text} |"


def _dump(value: object) -> str:
    """Write a value as YAML on one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("...\n").strip()


def _values(annotation: Any) -> str:
    """Name the values of a type, as YAML knows them."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _values(arguments[0])
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is list:
        return f"list of {_values(arguments[0])}"
    if origin is dict:
        return "mapping"
    if arguments:
        return " or ".join(_values(part) for part in arguments if part is not type(None))
    names = {str: "text", int: "integer", float: "number", bool: "`true`, `false`"}
    return names[annotation]


if __name__ == "__main__":
    main()
