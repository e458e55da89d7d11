"""``lakevec export``: write an output's vectors for a vector store, without Spark."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from lakevec.jobs.cli import RunContext, run_command
from lakevec.jobs.output_model import open_vectors
from lakevec.pipeline.errors import DataError, InputError, OutputError
from lakevec.pipeline.reading import vector_export
from lakevec.pipeline.reading.vector_reader import VectorReader
from lakevec.pipeline.settings.models import ExportSettings
from lakevec.pipeline.storage import require_free

SETTINGS = ExportSettings
_WRITERS: dict[str, Callable[[VectorReader, list[str], Path], int]] = {
    "lance": vector_export.export_lance,
    "pgvector-copy": vector_export.export_pgvector,
    "faiss": vector_export.export_faiss,
}


def run(settings: ExportSettings, context: RunContext) -> None:
    """Write the vectors and columns of an output for a vector store."""
    output, reader, columns = open_vectors(settings)
    if not columns:
        raise InputError(
            f"output {output.uri!r} has nothing but vectors",
            expected="a column that tells its rows apart",
            remedy="embed again with --keep and the name of such a column",
        )
    place = require_free(settings.target, "target", option="--target")
    if not place.is_local:
        raise OutputError(f"target {settings.target!r}", expected="a local folder")
    if not reader.groups:
        raise DataError(f"output {output.uri!r} has no rows", remedy="embed something first")
    if context.dry_run:
        print(f"would write {output.state.rows:,} rows; dry run: nothing was written")
        return
    folder = Path(place.path)
    try:
        written = _WRITERS[settings.to](reader, columns, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    if settings.to == "faiss":
        print(
            f"wrote {written:,} vectors with {', '.join(columns)} of {output.state.rows:,} rows to {folder}"
        )
    else:
        print(f"wrote {written:,} rows with {', '.join([*columns, reader.column])} to {folder}")


if __name__ == "__main__":
    sys.exit(run_command("export"))
