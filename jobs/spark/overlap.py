"""Refuse inputs that hold the output: the next run would read what this one wrote."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple

from lakevec.pipeline.errors import InputError
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.storage import absolute_uri, canonical_uri

# What Hadoop takes for a pattern.
GLOB = re.compile(r"[\[\]{}*?\\]")
HOW_TO_ESCAPE = r"in a name that is no pattern write \ before each of [ ] { } * ?"
_MOST_EXPANSIONS = 10_000
_ROOT = re.compile(r"[\w+.-]+:(?://[^/]*)?")
_HDFS = re.compile(r"((?:view|webhd|swebhd|hd)fs):(?://([^/:]*)(?::(\d+))?)?")
_SQL_ON_FILES = re.compile(r"\s*`?(?P<format>\w+)`?\s*\.\s*`(?P<path>.+)`\s*", re.DOTALL)


class FilesOfSql(NamedTuple):
    """Files that SQL names as a table."""

    format: str
    path: str


def sql_on_files(table: str) -> FilesOfSql | None:
    """Split a table name such as ``parquet.`lake/docs``` into format and path; None for other names.

    Examples
    --------
    >>> sql_on_files("parquet.`lake/docs`")
    FilesOfSql(format='parquet', path='lake/docs')
    """
    found = _SQL_ON_FILES.fullmatch(table)
    return FilesOfSql(found["format"].lower(), found["path"].replace("``", "`")) if found else None


def refuse_overlap(
    inputs: Sequence[str],
    option: Mapping[str, str],
    places: Mapping[str, str | None],
    *,
    format: str,
    is_partitioned: bool = False,
) -> None:
    """Refuse inputs that can reach a place that the run writes to, however they are written.

    Parameters
    ----------
    inputs : sequence of str
        Paths, URIs or patterns; of tables only files named by SQL are checked.
    option : mapping of str to str
        Reader options.
    places : mapping of str to (str or None)
        Places that the run writes to, by their flag, as in ``{"--output": "lake/vectors"}``.
    format : str
        Format of the input.
    is_partitioned : bool, default=False
        Whether the run writes partition folders, which Spark finds below a plain folder.
    """
    is_recursive = read_option(option, "recursiveFileLookup", "").lower() == "true"
    for name in inputs:
        path = name
        if format == "table":
            files = sql_on_files(name)
            if files is None:
                continue
            path = files.path
        for flag, place in places.items():
            if place is None:
                continue
            how = _reach(path, place, is_recursive=is_recursive, is_partitioned=is_partitioned)
            if how:
                raise InputError(
                    f"input {redact(path)!r} holds {flag} {redact(place)!r}",
                    got=f"{how}, which would read what the run writes",
                    expected="inputs and outputs that don't overlap",
                    remedy=f"choose another {flag}, or a narrower --input",
                )


def refuse_files_of_output(files: Iterable[str], output: str) -> None:
    """Refuse files that lie in the output, whatever link or table led to them."""
    place = _parts(absolute_uri(output))
    folders: dict[str, str] = {}
    for file in files:
        folder, _, name = file.rpartition("/")
        if folder not in folders:
            folders[folder] = canonical_uri(absolute_uri(folder or "/"))
        real = f"{folders[folder]}/{name}"
        if Path(real).is_symlink():
            real = str(Path(real).resolve())
        parts = _parts(real)
        if len(parts) > len(place) and all(map(_is_same, parts, place)):
            raise InputError(
                "the input holds files of the output",
                got=redact(file),
                expected="inputs and outputs that don't overlap",
                remedy="choose another --output, or a narrower --input",
            )


def refuse_partitions_above(inputs: Sequence[str], output: str, files: Callable[[], Iterable[str]]) -> None:
    """Refuse an output below partition folders, which no reader could read any more.

    `files` returns the input's files; it is called only if the output lies below an input.
    """
    place = _parts(absolute_uri(output))
    for name in inputs:
        root = _parts(absolute_uri(name))
        if GLOB.search(name) or len(root) >= len(place) or not all(map(_is_same, root, place)):
            continue
        if any("=" in part for file in files() for part in _parts(file)[len(root) : -1]):
            raise InputError(
                f"input {redact(name)!r} holds --output {redact(output)!r}",
                got="partition folders in the input, which Spark can't read with other folders beside them",
                expected="inputs and outputs that don't overlap",
                remedy="choose another --output",
            )


def read_option(option: Mapping[str, str], name: str, default: str) -> str:
    """Look up a reader option, ignoring case as Spark does."""
    return next((value for key, value in option.items() if key.lower() == name.lower()), default)


def _reach(name: str, place: str, *, is_recursive: bool, is_partitioned: bool) -> str:
    """Describe how an input reaches a place; empty if it doesn't."""
    output = _parts(absolute_uri(place))
    for path in _expand_braces(canonical_uri(absolute_uri(name))):
        parts = _split(path)
        common = min(len(parts), len(output))
        if not all(
            _is_same(part, other) or _matches(part, other)
            for part, other in zip(parts[:common], output[:common], strict=True)
        ):
            continue
        if len(parts) > len(output):
            return "a place inside it"
        if len(parts) == len(output):
            return "a pattern that matches it" if GLOB.search(path) else "the same place"
        below = output[len(parts) :]
        if is_recursive:
            return "recursiveFileLookup"
        if is_partitioned or all("=" in part for part in below):
            return "partition folders"
    return ""


def _parts(uri: str) -> list[str]:
    return _split(canonical_uri(uri))


def _split(uri: str) -> list[str]:
    """Split a place into its root and its names; several slashes are one."""
    root = _ROOT.match(uri)
    start = root.end() if root else 0
    return [uri[:start], *(part for part in uri[start:].split("/") if part)]


def _is_same(part: str, other: str) -> bool:
    """Compare two names, or two roots: HDFS reports a host and a port where a URI may have named neither."""
    if part == other:
        return True
    root, root_there = _HDFS.fullmatch(part.lower()), _HDFS.fullmatch(other.lower())
    if root is None or root_there is None:
        return False
    (scheme, host, port), (scheme_there, host_there, port_there) = root.groups(), root_there.groups()
    is_one_host = host == host_there and not (port and port_there)
    return scheme == scheme_there and (not host or not host_there or is_one_host)


def _matches(part: str, name: str) -> bool:
    """Match one name with one part of a pattern, by Hadoop's rules."""
    return part == name or bool(GLOB.search(part) and _to_regex(part).fullmatch(name))


def _to_regex(part: str) -> re.Pattern[str]:
    """Translate a pattern without braces."""
    regex, place = "", 0
    while place < len(part):
        sign = part[place]
        closing = part.find("]", place + 1)
        if sign == "\\" and place + 1 < len(part):
            place += 1
            regex += re.escape(part[place])
        elif sign == "[" and closing > 0:
            inside = part[place + 1 : closing]
            is_negated = inside.startswith(("^", "!"))
            signs = re.escape(inside[is_negated:]).replace(r"\-", "-")
            regex += f"[{'^' if is_negated else ''}{signs}]"
            place = closing
        else:
            regex += {"*": ".*", "?": "."}.get(sign, re.escape(sign))
        place += 1
    try:
        return re.compile(regex, re.DOTALL)
    except re.error:
        raise InputError(
            "input is no pattern that Hadoop reads",
            got=repr(part),
            expected="brackets as in [abc] or [a-c]",
            remedy=HOW_TO_ESCAPE,
        ) from None


def _expand_braces(pattern: str) -> list[str]:
    """Write out {a,b}; a pattern of too many alternatives stands for everything that it may match."""
    expanded = list(islice(_alternatives(pattern), _MOST_EXPANSIONS + 1))
    return expanded if len(expanded) <= _MOST_EXPANSIONS else [re.sub(r"\{.*\}", "*", pattern)]


def _alternatives(pattern: str) -> Iterator[str]:
    start = _find(pattern, "{", 0)
    if start < 0:
        yield pattern
        return
    ends, depth, place = [start], 0, start
    while place < len(pattern):
        sign = pattern[place]
        depth += (sign == "{") - (sign == "}")
        if (sign == "," and depth == 1) or (sign == "}" and depth == 0):
            ends.append(place)
            if sign == "}":
                break
        place += 1 + (sign == "\\")
    else:  # never closed
        yield pattern
        return
    for first, last in pairwise(ends):
        yield from _alternatives(pattern[:start] + pattern[first + 1 : last] + pattern[place + 1 :])


def _find(pattern: str, sign: str, place: int) -> int:
    """Find a sign that no backslash escapes."""
    while place < len(pattern) and pattern[place] != sign:
        place += 1 + (pattern[place] == "\\")
    return place if place < len(pattern) else -1
