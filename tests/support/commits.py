"""Runs that commit small files, without Spark."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakevec.pipeline.output.commit_log import Commit, InputBatch
from lakevec.pipeline.output.file_entry import FileEntry
from lakevec.pipeline.output.lease import Lease
from lakevec.pipeline.output.output_folder import OpenOutput, OutputFolder
from lakevec.pipeline.output.parquet_writer import FileLayout, TaskParquetWriter
from lakevec.pipeline.output.table_metadata import TableMetadata

LAYOUT = FileLayout(embedding_columns=("v",), compression="zstd", metadata={})
SCHEMA = json.dumps(
    {
        "type": "struct",
        "fields": [
            {"name": "id", "type": "string", "nullable": True, "metadata": {}},
            {
                "name": "v",
                "type": {"type": "array", "elementType": "float", "containsNull": True},
                "nullable": True,
                "metadata": {},
            },
        ],
    }
)


def contract(**changes: Any) -> TableMetadata:
    plain: dict[str, Any] = {
        "generation": "",
        "fingerprint": "sha256:one",
        "dimensions": 1,
        "columns": {"id": "v"},
        "vector_type": "float32",
        "max_tokens": None,
        "schema_of_files": {"id": "string", "v": "array<float>"},
        "partition_by": (),
        "key": None,
        "table_format": "parquet",
    }
    return TableMetadata(**plain | changes)


def write(output: OpenOutput, name: str, ids: list[str], folder: str = "") -> FileEntry:
    vectors = pa.array([[float(len(word))] for word in ids], pa.list_(pa.float32()))
    layout = replace(LAYOUT, field_ids=output.field_ids)
    with TaskParquetWriter(output.staging, name, layout) as files:
        files.write(pa.record_batch({"id": ids, "v": vectors}), {"id": {"rows": len(ids)}}, folder=folder)
        (entry,) = files.close()
    return entry


def a_commit(output: OpenOutput, run: str, added: list[FileEntry], **changes: Any) -> Commit:
    number = output.state.number + 1
    rows = sum(entry.rows for entry in added)
    plain = {
        "number": number,
        "run": run,
        "wave": InputBatch(input="i", batch=number, query="q"),
        "rows_read": rows,
        "added": added,
    }
    return Commit(**plain | changes)


def die_at(step: str, on_step: Callable[[], object] = lambda: None) -> Callable[[str], None]:
    """Return a listener of a run's steps that calls `on_step` at each, and kills the run at one."""

    def listen(name: str) -> None:
        on_step()
        if name == step:
            raise Killed

    return listen


@contextmanager
def a_run(
    folder: Path, run: str, *, refresh: bool = False, on_step: Any = lambda step: None, **changes: Any
) -> Iterator[OpenOutput]:
    found = OutputFolder(str(folder), run, on_step=on_step)
    found.inspect()
    with found.open(grace_s=0.0) as output:
        output.begin(contract(**changes), SCHEMA, refresh=refresh)
        yield output


def kill_run(
    folder: Path,
    step: str,
    work: Callable[[OpenOutput], None],
    *,
    see: Callable[[], Any] = list,
    **changes: Any,
) -> list[Any]:
    """Let a run die at a step, and leave what it made; return what `see` saw at each step."""
    seen: list[Any] = []
    on_step = die_at(step, lambda: seen.append(see()))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(OpenOutput, "abandon", lambda self: None)
        patched.setattr(Lease, "give_back", lambda self: None)
        with pytest.raises(Killed), a_run(folder, "dead", on_step=on_step, **changes) as output:
            work(output)
    return seen


def ids_in(folder: Path) -> list[str]:
    """What a reader sees that lists the folder."""
    files = [file for file in folder.glob("*.parquet") if not file.name.startswith((".", "_"))]
    return sorted(word for file in files for word in pq.read_table(file)["id"].to_pylist())


def names_below(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the run's own cleaning is done. The fault harness kills for real."""
