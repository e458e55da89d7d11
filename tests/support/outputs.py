"""Outputs of given vectors, written and committed without Spark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lakevec.pipeline.encoding.encoder import Encoded, EncodingCounts
from lakevec.pipeline.encoding.stored_vectors import VectorType, to_arrow_columns
from lakevec.pipeline.output.parquet_writer import FileLayout, TaskParquetWriter
from lakevec.pipeline.output.stored_output import StoredOutput, read_output
from tests.support.commits import a_commit, a_run

# Each row's vector; None for null.
Vectors = Sequence[np.ndarray | None]


def make_output(
    folder: Path, files: Mapping[str, tuple[Mapping[str, Any], Vectors]], **changes: Any
) -> StoredOutput:
    """Commit a file for each entry of `files`: its folder, and the columns and vectors of its rows."""
    kind = VectorType(changes.get("vector_type", "float32"))
    some = next(vector for _, vectors in files.values() for vector in vectors if vector is not None)
    has_ids = any("id" in columns for columns, _ in files.values())
    promised = {**({"id": "string"} if has_ids else {}), "v": "array<float>"}
    if kind is VectorType.BINARY:
        promised["v"] = "binary"
    promised |= changes.pop("schema_of_files", {})
    contract = {"dimensions": len(some), "schema_of_files": promised, **changes}
    with a_run(folder, "r", **contract) as output:
        entries = []
        for number, (place, (columns, vectors)) in enumerate(files.items()):
            is_plain = changes.get("table_format") == "delta"
            layout = FileLayout(("v",), "zstd", {}, compact=kind is VectorType.FLOAT16, plain_binary=is_plain)
            is_null = np.array([vector is None for vector in vectors])
            matrix = np.array([some * 0 if vector is None else vector for vector in vectors], np.float32)
            tokens = np.ones(len(vectors), np.int32) if changes.get("store") == "sum" else None
            encoded = Encoded(matrix, is_null, EncodingCounts(rows=len(vectors)), tokens)
            batch = pa.record_batch({**columns, **to_arrow_columns(encoded, "v", kind)})
            with TaskParquetWriter(output.staging, f"part-{number}-r", layout) as writer:
                writer.write(batch, {"id": {"rows": len(vectors)}}, folder=place)
                entries += writer.close()
        output.commit(a_commit(output, "r", entries))
    return read_output(str(folder))
