"""Checks of a commit: the rows read, the rows written and the rows in the files' footers must agree."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pyarrow.parquet as pq
from pyarrow import ArrowException

from lakevec.pipeline.errors import CommitError, describe_failure, rephrase
from lakevec.pipeline.output.commit_log import Commit, Snapshot
from lakevec.pipeline.output.file_entry import FileEntry
from lakevec.pipeline.storage import Location

THREADS = 16
_RUN_AGAIN = "nothing of this micro-batch was committed; run again"


def check_counts(commit: Commit, uri: str) -> None:
    """Raise CommitError if tasks wrote fewer or more rows than Spark read; the message names `uri`."""
    written = sum(entry.rows for entry in commit.added)
    if written != commit.rows_read:
        raise CommitError(
            f"output {uri!r}: rows read and rows written differ",
            got=f"{written} rows written",
            expected=str(commit.rows_read),
            remedy=_RUN_AGAIN,
        )


def check_footers(staging: Location, entries: Sequence[FileEntry], uri: str) -> None:
    """Raise CommitError if a file can't be read, or if its rows or bytes differ from its task's entry."""
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(partial(_check_footer, staging, uri), entries))


def _check_footer(staging: Location, uri: str, entry: FileEntry) -> None:
    file = staging / entry.name
    with rephrase(
        CommitError,
        f"file {entry.name} of output {uri!r} can't be read back",
        on=(OSError, ArrowException),
        describe=describe_failure,
        expected="a file that the driver and all executors see",
        remedy="choose an --output on storage that all machines share",
    ):
        size = file.filesystem.get_file_info(file.path).size
        rows = pq.read_metadata(file.path, filesystem=file.filesystem).num_rows
    if (rows, size) != (entry.rows, entry.bytes):
        raise CommitError(
            f"file {entry.name} of output {uri!r} is not what its task wrote",
            got=f"{rows} rows, {size} bytes",
            expected=f"{entry.rows} rows, {entry.bytes} bytes",
            remedy=_RUN_AGAIN,
        )


def check_total(state: Snapshot, uri: str) -> None:
    """Raise CommitError if the files' rows differ from the rows of all commits; the message names `uri`."""
    rows = state.rows + state.rows_quarantined
    if rows != state.rows_read - state.rows_removed + state.rows_others:
        others = f", {state.rows_others:+} by other programs" if state.rows_others else ""
        raise CommitError(
            f"output {uri!r}: its rows don't add up",
            got=f"{rows} rows in files",
            expected=f"{state.rows_read} read, {state.rows_removed} of them replaced{others}",
            remedy="check it with lakevec verify",
        )
