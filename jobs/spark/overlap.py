"""Refuse inputs that contain the output: the next run would read this run's vectors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice, product
from pathlib import Path
from typing import NamedTuple

from lakevec.pipeline.errors import InputError
from lakevec.pipeline.storage import absolute_uri, canonical_uri

# Characters that make a path a glob pattern in Hadoop.
GLOB = re.compile(r"[\[\]{}*?\\]")
HOW_TO_ESCAPE = r"to name a file literally, write \ before each of [ ] { } * ?"
_MAX_EXPANSIONS = 10_000
# In these a backslash escapes the next character.
_INNERMOST_BRACES = re.compile(r"((?:[^\\]|\\.)*?)\{((?:[^{}\\]|\\.)*)\}", re.DOTALL)
_ALTERNATIVE = re.compile(r"(?:^|,)((?:[^,\\]|\\.)*)", re.DOTALL)
_GLOB_PART = re.compile(r"\\(?P<escaped>.)|\[(?P<negated>[!^]?)(?P<inside>[^\]]*)\]|.", re.DOTALL)
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
    """Raise InputError if an input, however it is written, can reach a place that the run writes to.

    Parameters
    ----------
    inputs : sequence of str
        Paths, URIs or patterns. Among tables, only files named by SQL are checked.
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
    paths = inputs
    if format == "table":
        paths = [files.path for name in inputs if (files := sql_on_files(name)) is not None]
    for path, (flag, place) in product(paths, places.items()):
        if place is None:
            continue
        if how := _reach(path, place, is_recursive=is_recursive, is_partitioned=is_partitioned):
            raise _overlap(
                f"input {path!r} holds {flag} {place!r}",
                f"{how}, which would read what the run writes",
                f"choose another {flag}, or a narrower --input",
            )


def refuse_files_of_output(files: Iterable[str], output: str) -> None:
    """Raise InputError for files inside the output, even if a link or table leads to them."""
    place = _parts(output)
    for file in files:
        if _is_below(_parts(file), place):
            remedy = "choose another --output, or a narrower --input"
            raise _overlap("the input holds files of the output", file, remedy)


def refuse_partitions_above(inputs: Sequence[str], output: str, files: Callable[[], Iterable[str]]) -> None:
    """Raise InputError for an output among an input's partition folders: Spark can't read the two together.

    `files` lists the input's files. It is called only if the output lies below an input.
    """
    place = _parts(output)
    for name in inputs:
        root = _parts(name)
        if GLOB.search(name) or not _is_below(place, root):
            continue
        if any("=" in part for file in files() for part in _parts(file)[len(root) : -1]):
            raise _overlap(
                f"input {name!r} holds --output {output!r}",
                "partition folders in the input, which Spark can't read with other folders beside them",
                "choose another --output",
            )


def expand_glob(pattern: str) -> list[Path]:
    """Return the local paths that a glob of Hadoop matches; `pattern` is an absolute path."""
    found: set[Path] = set()
    for path in _expand_braces(pattern):
        places = [Path("/")]
        for part in _split(path)[1:]:
            if GLOB.search(part):
                regex = _to_regex(part)
                inside = [file for place in places if place.is_dir() for file in place.iterdir()]
                places = [file for file in inside if regex.fullmatch(file.name)]
            else:
                places = [place / part for place in places]
        found.update(filter(Path.exists, places))
    return sorted(found)


def _overlap(what: str, got: str, remedy: str) -> InputError:
    return InputError(what, got=got, expected="inputs and outputs that don't overlap", remedy=remedy)


def read_option(option: Mapping[str, str], name: str, default: str) -> str:
    """Look up a reader option, ignoring case as Spark does."""
    return next((value for key, value in option.items() if key.lower() == name.lower()), default)


def _reach(name: str, place: str, *, is_recursive: bool, is_partitioned: bool) -> str:
    """Describe how an input reaches a place; empty if it doesn't."""
    output = _parts(place)
    for path in _expand_braces(canonical_uri(absolute_uri(name))):
        parts = _split(path)
        if not all(
            _is_same(part, other) or _to_regex(part).fullmatch(other)
            for part, other in zip(parts, output, strict=False)
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


def _parts(name: str) -> list[str]:
    """Split the canonical URI of a place; local links are followed."""
    return _split(canonical_uri(absolute_uri(name)))


def _is_below(place: list[str], folder: list[str]) -> bool:
    return len(place) > len(folder) and all(map(_is_same, place, folder))


def _split(uri: str) -> list[str]:
    """Split a URI into its root and its names; treat repeated slashes as one."""
    root = _ROOT.match(uri)
    start = root.end() if root else 0
    return [uri[:start], *(part for part in uri[start:].split("/") if part)]


def _is_same(part: str, other: str) -> bool:
    """Compare two names or roots. HDFS reports a host and port even if the URI names neither."""
    if part == other:
        return True
    root, other_root = _HDFS.fullmatch(part.lower()), _HDFS.fullmatch(other.lower())
    if root is None or other_root is None:
        return False
    (scheme, host, port), (other_scheme, other_host, other_port) = root.groups(), other_root.groups()
    is_one_host = host == other_host and not (port and other_port)
    return scheme == other_scheme and (not host or not other_host or is_one_host)


def _to_regex(part: str) -> re.Pattern[str]:
    """Translate one part of a Hadoop glob without braces."""

    def translate(found: re.Match[str]) -> str:
        if found["inside"] is None:
            return {"*": ".*", "?": "."}.get(found[0], re.escape(found["escaped"] or found[0]))
        characters = re.escape(found["inside"]).replace(r"\-", "-")
        return f"[{'^' if found['negated'] else ''}{characters}]"

    try:
        return re.compile(_GLOB_PART.sub(translate, part), re.DOTALL)
    except re.error:
        raise InputError(
            "input is not a pattern that Hadoop can read",
            got=repr(part),
            expected="brackets as in [abc] or [a-c]",
            remedy=HOW_TO_ESCAPE,
        ) from None


def _expand_braces(pattern: str) -> list[str]:
    """Expand {a,b}; replace the braces by * if there are too many alternatives."""
    expanded = list(islice(_alternatives(pattern), _MAX_EXPANSIONS + 1))
    return expanded if len(expanded) <= _MAX_EXPANSIONS else [re.sub(r"\{.*\}", "*", pattern)]


def _alternatives(pattern: str) -> Iterator[str]:
    found = _INNERMOST_BRACES.match(pattern)
    if found is None:
        yield pattern
        return
    for alternative in _ALTERNATIVE.findall(found[2]):
        yield from _alternatives(found[1] + alternative + pattern[found.end() :])
