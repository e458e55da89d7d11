"""A rerun with nothing new, found without Spark: the input's files are those that Spark's checkpoint lists.

It answers only what it can prove: the settings, the model and all files, with their times, are those of the
last run, which ended well. In all other cases Spark's streaming finds what is new.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from lakevec import __version__
from lakevec.jobs.embedding.plan import RunPlan
from lakevec.jobs.embedding.run_record import build_record, describe_heads
from lakevec.jobs.spark.java_options import read_users_properties
from lakevec.jobs.spark.overlap import GLOB, expand_glob, read_option
from lakevec.pipeline.output.commit_log import InputBatch
from lakevec.pipeline.output.file_entry import FileEntry
from lakevec.pipeline.output.output_folder import OpenOutput
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.storage import absolute_uri, canonical_uri, is_local_path

# Options that choose files by more than their places.
_CHOOSING = ("pathGlobFilter", "modifiedBefore", "modifiedAfter")
# Spark 4.3's property that changes which names are hidden.
_HIDING = "ignoredpathsegmentregex"
# Path and modification time, in milliseconds, of a file.
Files = dict[str, int]


class _NotProvenError(Exception):
    """Spark must decide."""


@dataclass(frozen=True)
class NothingNew:
    """What `build_record` needs of a run that found nothing new; compare `EmbedContext`."""

    plan: RunPlan
    output: OpenOutput
    spark_version: str
    embeddings: dict[str, str]
    entries: list[FileEntry] = field(default_factory=list)
    micro_batches: int = 0
    rows_read: int = 0
    details: dict[str, Any] = field(default_factory=dict)


def finish_unchanged(plan: RunPlan, output: OpenOutput) -> dict[str, Any] | None:
    """Record a run that has nothing to do; return None if Spark must decide whether it has.

    Parameters
    ----------
    plan : RunPlan
    output : OpenOutput

    Returns
    -------
    dict or None
        The content of ``run.json``.
    """
    if "PYSPARK_GATEWAY_PORT" in os.environ:  # YARN takes a job of spark-submit without a session as failed
        return None
    last, metadata = output.last_record(), output.read_metadata()
    if metadata is None or output.was_cut_off or not _repeats(plan, last) or not output.state.rows_read:
        return None
    try:
        for path in plan.settings.input:
            _check_input(plan, output, path)
    except (_NotProvenError, OSError, ValueError, LookupError, TypeError):
        return None
    plan.timer.start_embedding()
    record = build_record(NothingNew(plan, output, str(last.get("spark", "")), metadata.columns))
    output.finish(record)
    return record


def _repeats(plan: RunPlan, last: Mapping[str, Any]) -> bool:
    """Return whether the last run ended well and had the same versions, model and settings."""
    settings = plan.settings
    is_plain = settings.format != "table" and settings.key is None and settings.table_format == "parquet"
    has_choice = any(read_option(settings.option, name, "") for name in _CHOOSING)
    model, spark_version = last.get("model"), None
    with suppress(PackageNotFoundError):
        spark_version = version("pyspark")
    return (
        is_plain
        and not has_choice
        and not settings.full_refresh
        and _HIDING not in read_users_properties(settings.conf).lower()
        and last.get("status") in ("done", "nothing new")
        and (last.get("lakevec"), last.get("spark")) == (__version__, spark_version)
        and last.get("settings") == plan.settings.to_record()
        and isinstance(model, dict)
        and model.get("fingerprint") == plan.artifact.table.fingerprint
        and last.get("heads", {}) == describe_heads(plan.heads)
    )


def _check_input(plan: RunPlan, output: OpenOutput, path: str) -> None:
    """Raise an error unless the files of an input are those that its stream has read."""
    settings, given = plan.settings, absolute_uri(path).rstrip("/")
    root = absolute_uri(settings.checkpoint) if settings.checkpoint else ""
    folder = f"{root}/{output.generation}" if root else output.checkpoint
    if not (is_local_path(given) and is_local_path(folder)):
        raise _NotProvenError
    uri = canonical_uri(given)
    [source] = [known for known in output.state.inputs.values() if known.uri == redact(uri)]
    is_same = (source.format, source.option) == (settings.format, settings.to_record()["option"])
    has_skipped = any(file.input == source.input for file in output.state.skipped.values())
    if not source.query or not is_same or has_skipped:
        raise _NotProvenError
    is_recursive = any(read_option(settings.option, name, "") for name in ("recursiveFileLookup", "basePath"))
    if _read_files(Path(canonical_uri(folder)) / source.input, source) != _list(uri, is_deep=is_recursive):
        raise _NotProvenError


def _read_files(checkpoint: Path, source: InputBatch) -> Files:
    """Return the files of a checkpoint whose last batch is complete and is the commit log's last."""
    query = json.loads((checkpoint / "metadata").read_text())["id"]
    last = {max(_numbers(checkpoint / name)) for name in ("offsets", "commits")} | {source.batch}
    offset = json.loads(_lines(checkpoint / "offsets" / str(source.batch))[-1])["logOffset"]
    is_complete = bool(_lines(checkpoint / "commits" / str(source.batch)))
    is_last = len(last) == 1 and offset == max(_numbers(checkpoint / "sources" / "0"))
    if query != source.query or not (is_complete and is_last):
        raise _NotProvenError
    found: Files = {}
    for line in _entries(checkpoint / "sources" / "0", offset):
        entry = json.loads(line)
        name = unquote(entry["path"])
        if not name.startswith("file:///"):
            raise _NotProvenError
        found[name.removeprefix("file://")] = int(entry["timestamp"])
    return found


def _entries(log: Path, last: int) -> Iterator[str]:
    """Yield the entries of Spark's log of files: those of the last compact file, and of all after it."""
    compact = max((int(file.stem) for file in log.glob("*.compact")), default=-1)
    if compact >= 0:
        yield from _lines(log / f"{compact}.compact")
    for number in range(compact + 1, last + 1):
        yield from _lines(log / str(number))


def _lines(file: Path) -> list[str]:
    """Return the lines of a file of Spark's checkpoint, without the version."""
    version, *lines = file.read_text(encoding="utf-8").rstrip("\n").split("\n")
    if version != "v1":
        raise _NotProvenError
    return lines


def _numbers(folder: Path) -> list[int]:
    return [int(file.name.removesuffix(".compact")) for file in folder.iterdir() if file.name[0] != "."]


def _list(uri: str, *, is_deep: bool) -> Files:
    """List all files that Spark may find at a path or pattern; it finds no others."""
    places = expand_glob(uri) if GLOB.search(uri) else [Path(uri)]
    found = [(place, file, modified) for place in places for file, modified in _walk(place)]
    # Spark reads files of subfolders only if one of the subfolders names a partition.
    is_deep = is_deep or any("=" in str(file.relative_to(place).parent) for place, file, _ in found)
    return {str(file): modified for place, file, modified in found if is_deep or place in (file, file.parent)}


def _walk(place: Path) -> Iterator[tuple[Path, int]]:
    """Yield the visible files of a folder, or a file itself, with their times."""
    entries = list(place.iterdir()) if place.is_dir() else [place]
    for entry in entries:
        if _is_hidden(entry.name):
            continue
        if not entry.is_dir():
            yield entry, entry.stat().st_mtime_ns // 10**6
        elif entry.is_symlink():  # it may lead back
            raise _NotProvenError
        else:
            yield from _walk(entry)


def _is_hidden(name: str) -> bool:
    """Return whether Spark skips a name."""
    if name.startswith(("_metadata", "_common_metadata")):
        return False
    return (name.startswith("_") and "=" not in name) or name.startswith(".") or name.endswith("._COPYING_")
